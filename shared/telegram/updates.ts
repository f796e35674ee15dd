/** Kinds of updates that become posts, change or delete them: what the webhook asks Telegram for, and eve.telegram_kinds. */
export const UPDATE_KINDS = [
  "message",
  "edited_message",
  "channel_post",
  "edited_channel_post",
  "business_message",
  "edited_business_message",
  "deleted_business_messages",
] as const;
