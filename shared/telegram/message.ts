import * as z from "zod";

/** What a message says, as eve.telegram_messages keeps it; its file is told apart (attachment.ts). */
export interface ReadMessage {
  /** Telegram's number of the chat; `business:` before it where a business account lets the bot read it. */
  chat: string;
  message_id: number;
  album: string | null;
  /** When it was written or last edited, in seconds since 1970: of two updates the later one stays. */
  version: number;
  /** Seconds since 1970. */
  date: number;
  /** What policies go by, such as `telegram:city_events`. */
  source: string;
  text: string;
  /** Web pages that it links to, each once. */
  links: string[];
  /** For the post's metadata. */
  facts: Record<string, unknown>;
}

export interface DeletedMessages {
  chat: string;
  deleted: number[];
}

const number = z.number().refine(Number.isSafeInteger);
const text = z.string().optional().catch(undefined);
/** Up to the year 9999. */
const seconds = z.int().min(0).max(253_402_300_799);
const named = z.looseObject({ title: text, username: text, first_name: text, last_name: text }).optional()
  .catch(undefined);
const entity = z.looseObject({ type: z.string(), offset: number, length: number, url: text });
const entities = z.array(z.unknown()).optional().catch(undefined);
const chat = z.looseObject({ id: number, type: text, title: text, username: text, first_name: text });

const message = z.looseObject({
  message_id: number,
  date: seconds.catch(0),
  edit_date: seconds.optional().catch(undefined),
  chat,
  text,
  entities,
  caption: text,
  caption_entities: entities,
  media_group_id: text,
  author_signature: text,
  message_thread_id: number.optional().catch(undefined),
  forward_origin: z.looseObject({
    type: text,
    sender_user_name: text,
    chat: named,
    sender_chat: named,
    sender_user: named,
  })
    .optional().catch(undefined),
  reply_to_message: z.looseObject({ message_id: number }).optional().catch(undefined),
});
const deletedMessages = z.looseObject({ chat, message_ids: z.array(number).max(1000) });

/** Telegram's own bound is 4,096 after parsing; a server of one's own may have another. */
const MAX_TEXT_CHARS = 16_000;
const MAX_LINKS = 50;
const MAX_LINK_BYTES = 2_000;
const MAX_LINKS_BYTES = 20_000;
const MAX_NAME_CHARS = 64;
const MAX_ALBUM_CHARS = 100;

/** Null: it is none, or its chat has no number. */
export function readMessage(said: unknown, isBusiness: boolean): ReadMessage | null {
  const found = message.safeParse(said);
  if (!found.success) return null;
  const { data } = found;
  const words = data.text ?? data.caption ?? "";
  const chatName = chatKey(data.chat.id, isBusiness);
  const username = data.chat.type === "channel" || data.chat.type === "supergroup"
    ? data.chat.username
    : undefined;
  const link = addressOf(data.chat.id, username, data.chat.type, data.message_id);
  return {
    chat: chatName,
    message_id: data.message_id,
    album: data.media_group_id?.slice(0, MAX_ALBUM_CHARS) ?? null,
    version: data.edit_date ?? data.date,
    date: data.date,
    source: `telegram:${username === undefined ? chatName : cut(username).toLowerCase()}`,
    text: words.slice(0, MAX_TEXT_CHARS).toWellFormed(),
    links: linksOf(words, (data.text === undefined ? data.caption_entities : data.entities) ?? []),
    facts: withoutAbsent({
      chat: withoutAbsent({
        id: data.chat.id,
        type: data.chat.type && cut(data.chat.type),
        title: data.chat.title && cut(data.chat.title),
        username: username && cut(username),
      }),
      url: link,
      author: data.author_signature && cut(data.author_signature),
      forwarded_from: forwardedFrom(data.forward_origin),
      reply_to: data.reply_to_message?.message_id,
      thread: data.message_thread_id,
      edited_at: data.edit_date === undefined ? undefined : new Date(data.edit_date * 1000).toISOString(),
    }),
  };
}

/** Null: it names no chat. */
export function readDeleted(said: unknown): DeletedMessages | null {
  const found = deletedMessages.safeParse(said);
  if (!found.success) return null;
  return { chat: chatKey(found.data.chat.id, true), deleted: found.data.message_ids };
}

function chatKey(id: number, isBusiness: boolean): string {
  return isBusiness ? `business:${id}` : String(id);
}

/** Where people read it; absent where there is no such address. */
function addressOf(
  id: number,
  username: string | undefined,
  type: string | undefined,
  messageId: number,
): string | undefined {
  if (username !== undefined) return `https://t.me/${encodeURIComponent(cut(username))}/${messageId}`;
  // Numbers of channels and supergroups begin with -100, which their addresses leave out.
  const channel = type === "channel" || type === "supergroup"
    ? /^-100(\d+)$/.exec(String(id))?.[1]
    : undefined;
  return channel === undefined ? undefined : `https://t.me/c/${channel}/${messageId}`;
}

function forwardedFrom(origin: z.output<typeof message>["forward_origin"]): string | undefined {
  if (origin === undefined) return undefined;
  const whom = origin.chat ?? origin.sender_chat ?? origin.sender_user;
  const name = whom?.title ?? origin.sender_user_name ?? whom?.username ??
    [whom?.first_name, whom?.last_name].filter(Boolean).join(" ");
  return cut(name || origin.type || "") || undefined;
}

/** Links as written and behind words; offsets count UTF-16 units, as JavaScript does. */
function linksOf(words: string, all: readonly unknown[]): string[] {
  const links = new Set<string>();
  let bytes = 0;
  for (const each of all) {
    const { data } = entity.safeParse(each);
    if (data === undefined || links.size >= MAX_LINKS) continue;
    const written = data.type === "text_link"
      ? data.url
      : data.type === "url"
      ? words.slice(data.offset, data.offset + data.length)
      : undefined;
    const link = written === undefined ? null : webAddress(written);
    if (link === null || links.has(link) || bytes + link.length > MAX_LINKS_BYTES) continue;
    bytes += link.length;
    links.add(link);
  }
  return [...links];
}

function webAddress(written: string): string | null {
  const trimmed = written.trim();
  if (trimmed === "" || trimmed.length > MAX_LINK_BYTES) return null;
  const whole = /^[a-z][a-z0-9+.-]*:/i.test(trimmed) && !/^[^/:]+:\d/.test(trimmed)
    ? trimmed
    : `https://${trimmed}`;
  if (!URL.canParse(whole)) return null;
  const { href, protocol } = new URL(whole);
  return /^https?:$/.test(protocol) && href.length <= MAX_LINK_BYTES ? href : null;
}

function cut(name: string): string {
  return name.slice(0, MAX_NAME_CHARS).toWellFormed();
}

function withoutAbsent(facts: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined && value !== ""));
}
