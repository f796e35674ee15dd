import * as z from "zod";
import { type ChatCursor, chatCursor } from "./chats.ts";
import { callUnlessRefused } from "./refused.ts";
import type { Transport } from "./transport/transport.ts";

const adminChat = z.object({
  id: z.string(),
  user_id: z.string().nullable(),
  owner: z.string().nullable(),
  consumer: z.string().nullable(),
  messages: z.number(),
  stored_bytes: z.number(),
  created_at: z.string(),
  updated_at: z.string(),
  archived_at: z.string().nullable(),
  deleted_at: z.string().nullable(),
  expires_at: z.string().nullable(),
  title: z.string().nullable(),
  description: z.string().nullable(),
});

const tokens = z.number().nullable();
const adminMessage = z.object({
  id: z.string(),
  parent_id: z.string().nullable(),
  role: z.string(),
  state: z.string(),
  created_at: z.string(),
  bytes: z.number(),
  content: z.string().nullable(),
  feedback: z.string().nullable(),
  input_tokens: tokens,
  output_tokens: tokens,
  total_tokens: tokens,
  request_no: z.number().nullable(),
  images: z.array(z.object({
    id: z.string(),
    width: z.number().nullable(),
    height: z.number().nullable(),
    file_size: z.number().nullable(),
    tenant_id: z.string().nullable(),
    file_sha256: z.string().nullable(),
    image_name: z.string().nullable(),
    description: z.string().nullable(),
  })),
});

const listed = z.object({
  /** Whether the owner of the project lets administrators read. Else all that somebody wrote is null. */
  shows_text: z.boolean(),
  chats: z.array(adminChat),
  next: chatCursor.nullable(),
});

const whole = z.object({
  shows_text: z.boolean(),
  chat: adminChat,
  /** Of the whole chat. */
  cost: z.object({
    calls: z.number(),
    input_tokens: z.number(),
    output_tokens: z.number(),
    total_tokens: z.number(),
  }),
  /** In the order in which they came. */
  messages: z.array(adminMessage),
  next: chatCursor.nullable(),
});

/** All chats, as far as an administrator may see them, which the database decides. */
export interface AdminChats {
  /** Newest first. `limit`: 1 to 100. @throws GatewayError `credential_insufficient` for `text` where no text is shown */
  list(
    by: {
      user_id?: string | undefined;
      owner?: string | undefined;
      consumer?: string | undefined;
      text?: string | undefined;
    },
    after: ChatCursor | null,
    limit: number,
  ): Promise<z.output<typeof listed>>;
  /** A page of a chat's messages. `limit`: 1 to 100. @throws GatewayError `chat_not_found` */
  one(chatId: string, after: ChatCursor | null, limit: number): Promise<z.output<typeof whole>>;
}

/** A person waits for it. */
const TIMEOUT_MS = 15_000;

export function createAdminChats(transport: Transport, timeoutMs = TIMEOUT_MS): AdminChats {
  return {
    list: (by, after, limit) =>
      callUnlessRefused(transport, "eve_admin_chats", { by, after, at_most: limit }, listed, timeoutMs),
    one: (chatId, after, limit) =>
      callUnlessRefused(
        transport,
        "eve_admin_chat",
        { chat_id: chatId, after, at_most: limit },
        whole,
        timeoutMs,
      ),
  };
}
