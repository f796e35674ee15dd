import * as z from "zod";
import type { Actor } from "../contract/actor.ts";
import { type ObjectToDelete, objectToDelete } from "./media/media.ts";
import { callUnlessRefused } from "./refused.ts";
import type { Transport } from "./transport/transport.ts";

const json = z.record(z.string(), z.unknown());

/** A row of public.chats; the names are those of its columns. */
export const chat = z.object({
  id: z.string(),
  title: z.string().nullable(),
  /** The app's own name for the user whose it is. */
  user_id: z.string().nullable(),
  /** The signed-in user whose it is. */
  owner: z.string().nullable(),
  consumer_id: z.string().nullable(),
  description: z.string().nullable(),
  metadata: json,
  /** The message with which the conversation goes on if nobody says otherwise. */
  leaf_id: z.string().nullable(),
  created_at: z.string(),
  updated_at: z.string(),
  archived_at: z.string().nullable(),
  deleted_at: z.string().nullable(),
  expires_at: z.string().nullable(),
});
export type Chat = z.output<typeof chat>;

export const MESSAGE_ROLES = ["user", "assistant", "system", "tool"] as const;

/** A row of public.messages. */
export const message = z.object({
  id: z.string(),
  chat_id: z.string(),
  /** Null: it begins the conversation. Several messages with one parent are branches. */
  parent_id: z.string().nullable(),
  /** One of MESSAGE_ROLES; in a table made by hand, any word. */
  role: z.string(),
  content: z.string(),
  message_type: z.string(),
  /** What is not text. */
  parts: z.unknown(),
  client_id: z.string().nullable(),
  request_id: z.string().nullable(),
  usage: z.unknown(),
  feedback: z.string().nullable(),
  /**
   * `complete`; `pending`: the answer is being written; `broken_off`: what came before its writing ended early; in a table made by hand,
   * any word.
   */
  state: z.string(),
  created_at: z.string(),
});
export type Message = z.output<typeof message>;

/** A row of public.message_images. */
export const messageImage = z.object({
  id: z.string(),
  message_id: z.string(),
  image_name: z.string().nullable(),
  s3_path: z.string().nullable(),
  /** A lasting address: what it leads to is signed for each reading. */
  s3_url: z.string().nullable(),
  image_type: z.string().nullable(),
  description: z.string().nullable(),
  width: z.number().nullable(),
  height: z.number().nullable(),
  /** Bytes. */
  file_size: z.number().nullable(),
  tenant_id: z.string().nullable(),
  file_sha256: z.string().nullable(),
  created_at: z.string(),
});
export type MessageImage = z.output<typeof messageImage>;

/** A row of public.search_results. */
export const searchResult = z.object({
  id: z.string(),
  chat_id: z.string(),
  message_id: z.string().nullable(),
  block_id: z.string().nullable(),
  page_number: z.number().nullable(),
  block_text: z.string().nullable(),
  /** Where on the page, in parts of its width and height. */
  coords_norm: z.unknown(),
  /** The same in pixels. */
  coords_px: z.unknown(),
  created_at: z.string(),
});
export type SearchResult = z.output<typeof searchResult>;

/** A message with what belongs to it. */
export const wholeMessage = message.extend({
  images: z.array(messageImage),
  search_results: z.array(searchResult),
});
export type WholeMessage = z.output<typeof wholeMessage>;

/** Where the next page begins. */
export const chatCursor = z.object({ created_at: z.string(), id: z.string() });
export type ChatCursor = z.output<typeof chatCursor>;

export const chatShare = z.object({
  id: z.string(),
  created_at: z.string(),
  expires_at: z.string().nullable(),
});
export type ChatShare = z.output<typeof chatShare>;

export const foundMessage = z.object({
  message: message.omit({ parts: true }),
  chat_title: z.string().nullable(),
  /** With the words in `<b>`. */
  excerpt: z.string(),
  rank: z.number(),
});

const file = z.object({ tenant_id: z.string(), sha256: z.string() });
const receipt = z.object({
  erased_at: z.string(),
  chat_id: z.string(),
  messages: z.number(),
  images: z.number(),
  search_results: z.number(),
  shares: z.number(),
  /** Files that its pictures were of. */
  files: z.array(file),
});
export type EraseReceipt = z.output<typeof receipt>;

const exportPage = z.object({
  chat,
  messages: z.array(wholeMessage),
  search_results: z.array(searchResult),
  next: chatCursor.nullable(),
});
export type ExportPage = z.output<typeof exportPage>;

const answerBegun = z.discriminatedUnion("status", [
  z.object({ status: z.literal("present"), question: message, answer: message }),
  z.object({
    status: z.literal("begun"),
    question: message,
    answer: message,
    /** The conversation before the question: its last messages, oldest first. */
    history: z.array(message),
    /** Who is charged; null: the project. */
    consumer_id: z.string().nullable(),
  }),
]);
export type AnswerBegun = z.output<typeof answerBegun>;

/** What a message is added with; absent fields have their defaults. */
export interface NewMessage {
  id?: string | undefined;
  role?: (typeof MESSAGE_ROLES)[number] | undefined;
  content?: string | undefined;
  message_type?: string | undefined;
  parts?: unknown;
  /** The same one again adds nothing. */
  client_id?: string | undefined;
  request_id?: string | undefined;
  usage?: unknown;
  /** Null: it begins the conversation. Absent: it goes on at the chat's end. */
  parent_id?: string | null | undefined;
  /** It is a further branch beside this message. */
  edits?: string | undefined;
}

export type Added<Row> = { status: "added" | "present" } & Row;

/**
 * Conversations. Each operation refuses anyone who may not: GatewayError `chat_not_found`, `message_not_found`, `share_not_found` (also for
 * what is somebody else's), `credential_insufficient`, `consumer_disabled`, `token_revoked`.
 */
export interface Chats {
  /** @throws GatewayError also `id_taken` */
  create(actor: Actor, chat: Record<string, unknown>): Promise<{ status: "created" | "present"; chat: Chat }>;
  find(actor: Actor, chatId: string): Promise<Chat>;
  /** Newest first. `archived`, `deleted`: those alone, those not, or (null) both. `limit`: 1 to 100. */
  list(actor: Actor, options: {
    userId: string | null;
    archived: boolean | null;
    deleted: boolean | null;
    after: ChatCursor | null;
    limit: number;
  }): Promise<{ chats: Chat[]; next: ChatCursor | null }>;
  /** What is absent stays. */
  change(actor: Actor, chatId: string, changes: Record<string, unknown>): Promise<Chat>;
  erase(actor: Actor, chatId: string): Promise<EraseReceipt>;
  /** Of files, those that nothing uses any more, marked as deleting. */
  filesLeft(files: readonly z.output<typeof file>[]): Promise<ObjectToDelete[]>;

  /** @throws GatewayError also `id_taken` */
  addMessage(actor: Actor, chatId: string, message: NewMessage): Promise<Added<{ message: Message }>>;
  /** All of a chat, in the order in which they came, or backwards. `limit`: 1 to 100. */
  messages(
    actor: Actor,
    chatId: string,
    options: { after: ChatCursor | null; backwards: boolean; limit: number },
  ): Promise<{ messages: Message[]; next: ChatCursor | null }>;
  /** The last messages of the conversation that ends with a message; null: with the chat's end. `limit`: 1 to 1000. */
  path(
    actor: Actor,
    chatId: string,
    leafId: string | null,
    limit: number,
  ): Promise<{ messages: Message[]; before: string | null }>;
  feedback(actor: Actor, messageId: string, feedback: string | null): Promise<Message>;

  /**
   * Stores a question and the place of its answer. `present`: it was answered before, under this `client_id`.
   * @param payer the consumer that is charged for signed-in users, by name; null: they are refused
   * @throws GatewayError also `request_running`, `id_taken`
   */
  beginAnswer(
    actor: Actor,
    chatId: string,
    question: NewMessage,
    requestId: string,
    payer: string | null,
  ): Promise<AnswerBegun>;
  /** Twice is the same as once; of a chat that is gone it does nothing. */
  endAnswer(
    messageId: string,
    answer: { state: "complete" | "broken_off"; content: string; parts: unknown; usage: unknown },
  ): Promise<void>;

  /** @param address what `s3_url` begins with, for files of ours. @throws GatewayError also `object_not_found`, `id_taken` */
  addImage(
    actor: Actor,
    messageId: string,
    image: Record<string, unknown>,
    address: string,
  ): Promise<Added<{ image: MessageImage }>>;
  images(actor: Actor, messageId: string): Promise<MessageImage[]>;
  /** All or none; those whose ids are there already are left out of the answer. 500 at most. */
  addSearchResults(
    actor: Actor,
    chatId: string,
    results: readonly Record<string, unknown>[],
  ): Promise<SearchResult[]>;
  searchResults(
    actor: Actor,
    chatId: string,
    options: { messageId: string | null; after: ChatCursor | null; limit: number },
  ): Promise<{ results: SearchResult[]; next: ChatCursor | null }>;
  /** The best of a thousand candidates. `limit`: 1 to 100. */
  search(
    actor: Actor,
    query: string,
    options: { chatId: string | null; userId: string | null; limit: number },
  ): Promise<{ found: z.output<typeof foundMessage>[]; candidates: number }>;

  /** A page of a chat with all that belongs to its messages; what belongs to none of them comes with the first. */
  exported(actor: Actor, chatId: string, after: ChatCursor | null): Promise<ExportPage>;

  share(
    actor: Actor,
    chatId: string,
    share: { tokenHash: string; snapshot: unknown; expiresInSeconds: number | null },
  ): Promise<ChatShare>;
  shares(actor: Actor, chatId: string): Promise<ChatShare[]>;
  unshare(actor: Actor, chatId: string, shareId: string): Promise<void>;
  /** For anyone who has the link. */
  shared(
    tokenHash: string,
  ): Promise<{ snapshot: unknown; created_at: string; expires_at: string | null }>;
}

const TIMEOUT_MS = 15_000;

/** @throws GatewayError as database_error.ts classifies what goes wrong */
export function createChats(transport: Transport, timeoutMs = TIMEOUT_MS): Chats {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    callUnlessRefused(transport, name, args, shape, timeoutMs);
  const added = z.enum(["added", "present"]);
  return {
    create: (actor, input) =>
      ask(
        "eve_chat_create",
        { actor, chat: input },
        z.object({ status: z.enum(["created", "present"]), chat }),
      ),
    find: async (actor, chatId) =>
      (await ask("eve_chat", { actor, chat_id: chatId }, z.object({ chat }))).chat,
    list: (actor, { userId, archived, deleted, after, limit }) =>
      ask(
        "eve_chats",
        { actor, user_id: userId, archived, deleted, after, at_most: limit },
        z.object({ chats: z.array(chat), next: chatCursor.nullable() }),
      ),
    change: async (actor, chatId, changes) =>
      (await ask("eve_chat_change", { actor, chat_id: chatId, changes }, z.object({ chat }))).chat,
    erase: (actor, chatId) => ask("eve_chat_erase", { actor, chat_id: chatId }, receipt),
    filesLeft: (files) => ask("eve_chat_files_left", { files }, z.array(objectToDelete)),
    addMessage: (actor, chatId, input) =>
      ask(
        "eve_message_add",
        { actor, chat_id: chatId, message: input },
        z.object({ status: added, message }),
      ),
    messages: (actor, chatId, { after, backwards, limit }) =>
      ask(
        "eve_messages",
        { actor, chat_id: chatId, after, backwards, at_most: limit },
        z.object({ messages: z.array(message), next: chatCursor.nullable() }),
      ),
    path: (actor, chatId, leafId, limit) =>
      ask(
        "eve_message_path",
        { actor, chat_id: chatId, leaf_id: leafId, at_most: limit },
        z.object({ messages: z.array(message), before: z.string().nullable() }),
      ),
    feedback: async (actor, messageId, feedback) =>
      (await ask(
        "eve_message_feedback",
        { actor, message_id: messageId, feedback },
        z.object({ message }),
      )).message,
    beginAnswer: (actor, chatId, question, requestId, payer) =>
      ask(
        "eve_chat_answer_begin",
        { actor, chat_id: chatId, question, request_id: requestId, payer },
        answerBegun,
      ),
    endAnswer: async (messageId, { state, content, parts, usage }) => {
      await ask(
        "eve_chat_answer_end",
        { message_id: messageId, state, content, parts, usage },
        z.unknown(),
      );
    },
    addImage: (actor, messageId, image, address) =>
      ask(
        "eve_message_image_add",
        { actor, message_id: messageId, image, address },
        z.object({ status: added, image: messageImage }),
      ),
    images: async (actor, messageId) =>
      (await ask(
        "eve_message_images",
        { actor, message_id: messageId },
        z.object({ images: z.array(messageImage) }),
      )).images,
    addSearchResults: async (actor, chatId, results) =>
      (await ask(
        "eve_search_results_add",
        { actor, chat_id: chatId, results },
        z.object({ results: z.array(searchResult) }),
      )).results,
    searchResults: (actor, chatId, { messageId, after, limit }) =>
      ask(
        "eve_search_results",
        { actor, chat_id: chatId, message_id: messageId, after, at_most: limit },
        z.object({ results: z.array(searchResult), next: chatCursor.nullable() }),
      ),
    search: (actor, query, { chatId, userId, limit }) =>
      ask(
        "eve_chat_search",
        { actor, query, chat_id: chatId, user_id: userId, at_most: limit },
        z.object({ found: z.array(foundMessage), candidates: z.number() }),
      ),
    exported: (actor, chatId, after) => ask("eve_chat_export", { actor, chat_id: chatId, after }, exportPage),
    share: async (actor, chatId, { tokenHash, snapshot, expiresInSeconds }) =>
      (await ask(
        "eve_chat_share",
        { actor, chat_id: chatId, token_hash: tokenHash, snapshot, expires_in_s: expiresInSeconds },
        z.object({ share: chatShare }),
      )).share,
    shares: async (actor, chatId) =>
      (await ask("eve_chat_shares", { actor, chat_id: chatId }, z.object({ shares: z.array(chatShare) })))
        .shares,
    unshare: async (actor, chatId, shareId) => {
      await ask("eve_chat_unshare", { actor, chat_id: chatId, share_id: shareId }, z.unknown());
    },
    shared: (tokenHash) =>
      ask(
        "eve_chat_shared",
        { token_hash: tokenHash },
        z.object({ snapshot: z.unknown(), created_at: z.string(), expires_at: z.string().nullable() }),
      ),
  };
}
