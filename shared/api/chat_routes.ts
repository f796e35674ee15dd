import { base64url } from "jose";
import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import {
  chat,
  type ChatCursor,
  chatShare,
  foundMessage,
  message,
  MESSAGE_ROLES,
  messageImage,
  searchResult,
  wholeMessage,
} from "../database/chats.ts";
import { jsonOfAtMost, listOf, textOfBytes } from "../endpoints/validated.ts";
import { answerHeaders } from "../http/answer_headers.ts";
import { jsonResponse } from "../http/json_response.ts";
import { deleteObjects } from "../media/delete.ts";
import { markdownHead, markdownOf, markdownOfResult, snapshotOf } from "../chats/transcript.ts";
import { sha256Of } from "../runtime/sha256.ts";
import { credentialsOf, passedOn } from "./model_call.ts";
import { type ApiContext, type ApiRoute, apiRoute, metadata, tenantId } from "./route.ts";

/** The database's bounds are the same (public.chats and what belongs to it). */
const id = z.uuid();
const title = textOfBytes(2_000).nullable();
const userId = textOfBytes(800);
const description = textOfBytes(16_000).nullable();
const instant = z.iso.datetime({ offset: true });
const smallJson = jsonOfAtMost(4_096, z.unknown());

const limit = (most: number, usual: number) =>
  z.string().regex(/^\d{1,4}$/, `must be 1 to ${most}`).transform(Number).pipe(z.int().min(1).max(most))
    .default(usual);
/** `false`, `true` or `all`, as the database takes it. */
const which = z.enum(["false", "true", "all"]).default("false").transform((said) =>
  said === "all" ? null : said === "true"
);
/** As `next` of the page before gave it. */
const after = z.string().max(100).transform((text, context): ChatCursor => {
  const [created_at = "", row = "", ...more] = text.split(",");
  if (instant.safeParse(created_at).success && id.safeParse(row).success && more.length === 0) {
    return { created_at, id: row };
  }
  context.addIssue("must be `next` of the page before");
  return z.NEVER;
}).optional();
const next = z.string().nullable();
const nextOf = (cursor: ChatCursor | null) => cursor === null ? null : `${cursor.created_at},${cursor.id}`;

const messageFields = z.strictObject({
  id: id.optional(),
  role: z.enum(MESSAGE_ROLES).default("user"),
  content: textOfBytes(1_000_000).default(""),
  message_type: textOfBytes(400).optional(),
  parts: jsonOfAtMost(262_144, listOf(z.record(z.string(), z.unknown()))).optional(),
  /** The sender's name for it: the same one again adds nothing. */
  client_id: textOfBytes(800, 1).optional(),
  request_id: textOfBytes(800).optional(),
  usage: jsonOfAtMost(4_096, z.record(z.string(), z.unknown())).optional(),
  /** Null: it begins the conversation. Absent: it goes on at the chat's end. */
  parent_id: id.nullable().optional(),
  /** It is a further branch beside this message. */
  edits: id.optional(),
});
const newMessage = messageFields.refine(
  ({ parent_id, edits }) => parent_id === undefined || edits === undefined,
  "give parent_id or edits, not both",
);
const newResult = z.strictObject({
  id: id.optional(),
  message_id: id.nullable().optional(),
  block_id: textOfBytes(800).nullable().optional(),
  page_number: z.int().min(-2147483648).max(2147483647).nullable().optional(),
  block_text: textOfBytes(100_000).nullable().optional(),
  coords_norm: smallJson.optional(),
  coords_px: smallJson.optional(),
});
const snapshot = z.object({
  title: z.string().nullable(),
  messages: z.array(z.object({ role: z.string(), content: z.string(), created_at: z.string() })),
});
const LONGEST_SHARE_S = 366 * 86_400;
/** Messages of a conversation that is shared: as many as one question to the database answers. */
const SHARED_MESSAGES = 1_000;
/** A message of a million bytes, each character escaped at worst, with its parts. */
const MAX_MESSAGE_BYTES = 2 * 1024 * 1024;
/** What an export holds in memory at most, in characters: the rest is asked for with `after`. */
const MAX_EXPORT_CHARS = 8_000_000;

export const chatRoutes: readonly ApiRoute[] = [
  apiRoute({
    method: "post",
    path: "/v1/chats",
    tag: "chats",
    summary: "Begins a chat; with an id that is yours already, answers that chat",
    body: z.strictObject({
      id: id.optional(),
      title: title.optional(),
      user_id: userId.optional(),
      description: description.optional(),
      metadata: metadata.optional(),
      expires_at: instant.optional(),
    }),
    answers: {
      200: { description: "It was there already", shape: chat },
      201: { description: "The chat", shape: chat },
    },
    async serve({ dependencies, actor, requestId }, { body }) {
      const { status, chat } = await dependencies.chats.create(actor, body);
      return jsonResponse(status === "created" ? 201 : 200, chat, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/chats",
    tag: "chats",
    summary: "Your chats, newest first",
    query: z.strictObject({
      user_id: userId.optional(),
      archived: which,
      deleted: which,
      after,
      limit: limit(100, 50),
    }),
    answers: { 200: { description: "A page", shape: z.object({ chats: z.array(chat), next }) } },
    async serve({ dependencies, actor, requestId }, { query }) {
      const page = await dependencies.chats.list(actor, {
        userId: query.user_id ?? null,
        archived: query.archived,
        deleted: query.deleted,
        after: query.after ?? null,
        limit: query.limit,
      });
      return jsonResponse(200, { chats: page.chats, next: nextOf(page.next) }, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/chats/search",
    tag: "chats",
    summary: "Messages of your chats that hold all words of `q`, by their stems in Russian or English",
    query: z.strictObject({
      q: z.string().min(1).max(1_000),
      chat_id: id.optional(),
      user_id: userId.optional(),
      limit: limit(100, 20),
    }),
    answers: {
      200: {
        description: "The best of a thousand candidates",
        shape: z.object({ found: z.array(foundMessage), candidates: z.number() }),
      },
    },
    async serve({ dependencies, actor, requestId }, { query }) {
      const found = await dependencies.chats.search(actor, query.q, {
        chatId: query.chat_id ?? null,
        userId: query.user_id ?? null,
        limit: query.limit,
      });
      return jsonResponse(200, { found: found.found, candidates: found.candidates }, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/chats/{id}",
    tag: "chats",
    summary: "A chat",
    answers: { 200: { description: "The chat", shape: chat } },
    serve: async ({ dependencies, actor, requestId }, { path }) =>
      jsonResponse(200, await dependencies.chats.find(actor, idOf(path.id)), requestId),
  }),
  apiRoute({
    method: "patch",
    path: "/v1/chats/{id}",
    tag: "chats",
    summary: "Renames, archives, deletes or restores a chat; what is absent stays",
    body: z.strictObject({
      title: title.optional(),
      user_id: userId.nullable().optional(),
      description: description.optional(),
      metadata: metadata.optional(),
      expires_at: instant.nullable().optional(),
      archived: z.boolean().optional(),
      deleted: z.boolean().optional(),
    }),
    answers: { 200: { description: "The chat", shape: chat } },
    serve: async ({ dependencies, actor, requestId }, { path, body }) =>
      jsonResponse(200, await dependencies.chats.change(actor, idOf(path.id), body), requestId),
  }),
  apiRoute({
    method: "delete",
    path: "/v1/chats/{id}",
    tag: "chats",
    summary:
      "Deletes a chat, to be restored while retention lets it; with `erase=true` for good, with its files",
    query: z.strictObject({ erase: z.enum(["true", "false"]).default("false") }),
    answers: {
      200: {
        description: "The chat, or the receipt of what was erased",
        shape: z.union([
          chat,
          z.object({
            chat_id: z.string(),
            erased_at: z.string(),
            messages: z.number(),
            images: z.number(),
            search_results: z.number(),
            shares: z.number(),
            /** Files that nothing else uses, deleted; those that the store did not delete now go with the next maintenance. */
            files: z.object({ deleted: z.number(), bytes: z.number(), left: z.number() }),
          }),
        ]),
      },
    },
    async serve(context, { path, query }) {
      const { dependencies, actor, requestId } = context;
      const chatId = idOf(path.id);
      return query.erase === "true"
        ? jsonResponse(200, await erased(context, chatId), requestId)
        : jsonResponse(200, await dependencies.chats.change(actor, chatId, { deleted: true }), requestId);
    },
  }),
  apiRoute({
    method: "post",
    path: "/v1/chats/{id}/restore",
    tag: "chats",
    summary: "Takes a deletion back",
    answers: { 200: { description: "The chat", shape: chat } },
    serve: async ({ dependencies, actor, requestId }, { path }) =>
      jsonResponse(200, await dependencies.chats.change(actor, idOf(path.id), { deleted: false }), requestId),
  }),
  apiRoute({
    method: "get",
    path: "/v1/chats/{id}/export",
    tag: "chats",
    summary: "A chat with all that belongs to it, as JSON or Markdown; a long one over several answers",
    query: z.strictObject({ format: z.enum(["json", "markdown"]).default("json"), after }),
    answers: {
      200: {
        description: "The chat; `next` (in Markdown the header `x-eve-next`) where it goes on",
        shape: z.object({
          chat,
          messages: z.array(wholeMessage),
          /** Those that belong to no message. */
          search_results: z.array(searchResult),
          next,
        }),
      },
    },
    serve: (context, { path, query }) => exported(context, idOf(path.id), query),
  }),

  apiRoute({
    method: "post",
    path: "/v1/chats/{id}/messages",
    tag: "messages",
    summary: "Adds a message; with a `client_id` or `id` that is there already, answers that message",
    body: newMessage,
    maxBodyBytes: MAX_MESSAGE_BYTES,
    answers: {
      200: { description: "It was there already", shape: message },
      201: { description: "The message", shape: message },
    },
    async serve({ dependencies, actor, requestId }, { path, body }) {
      const { status, message } = await dependencies.chats.addMessage(actor, idOf(path.id), body);
      return jsonResponse(status === "added" ? 201 : 200, message, requestId);
    },
  }),
  apiRoute({
    method: "post",
    path: "/v1/chats/{id}/answer",
    tag: "messages",
    summary:
      "Asks a model in a chat: a call of the native API with the chat's history, whose question and answer are stored; with `stream` as its events",
    body: z.looseObject({
      client_id: messageFields.shape.client_id,
      parent_id: messageFields.shape.parent_id,
      edits: messageFields.shape.edits,
      message_type: messageFields.shape.message_type,
      history_tokens: z.int().min(0).max(2_000_000).optional(),
      /** The fields of the native API: `model` or `stage`, `prompt`, `stream`, ... */
      prompt: z.string().optional(),
    }),
    maxBodyBytes: MAX_MESSAGE_BYTES,
    answers: {
      200: {
        description: "The answer as the native API gives it, and `chat`: the messages that were stored",
        shape: z.looseObject({
          request_id: z.string(),
          text: z.string(),
          chat: z.object({ chat_id: z.string(), question_id: z.string(), answer_id: z.string() }),
        }),
      },
    },
    serve: (context, { path, body }) => answered(context, idOf(path.id), body),
  }),
  apiRoute({
    method: "get",
    path: "/v1/chats/{id}/messages",
    tag: "messages",
    summary:
      "All messages of a chat by time; with `path` the conversation that ends with that message (`current`: the chat's end)",
    query: z.strictObject({
      path: z.union([z.literal("current"), id]).optional(),
      order: z.enum(["asc", "desc"]).default("asc"),
      after,
      limit: limit(100, 50),
    }),
    answers: {
      200: {
        description:
          "A page. With `path`: oldest first, and `before` is the message with which the page before ends",
        shape: z.union([
          z.object({ messages: z.array(message), next }),
          z.object({ messages: z.array(message), before: z.string().nullable() }),
        ]),
      },
    },
    async serve({ dependencies: { chats }, actor, requestId }, { path, query }) {
      const chatId = idOf(path.id);
      if (query.path !== undefined) {
        const leaf = query.path === "current" ? null : query.path;
        const { messages, before } = await chats.path(actor, chatId, leaf, query.limit);
        return jsonResponse(200, { messages, before }, requestId);
      }
      const page = await chats.messages(actor, chatId, {
        after: query.after ?? null,
        backwards: query.order === "desc",
        limit: query.limit,
      });
      return jsonResponse(200, { messages: page.messages, next: nextOf(page.next) }, requestId);
    },
  }),
  apiRoute({
    method: "patch",
    path: "/v1/messages/{id}",
    tag: "messages",
    summary: "Notes what a reader thinks of a message; its text is never rewritten: add one that `edits` it",
    body: z.strictObject({ feedback: textOfBytes(8_000).nullable() }),
    answers: { 200: { description: "The message", shape: message } },
    serve: async ({ dependencies, actor, requestId }, { path, body }) =>
      jsonResponse(200, await dependencies.chats.feedback(actor, idOf(path.id), body.feedback), requestId),
  }),
  apiRoute({
    method: "post",
    path: "/v1/messages/{id}/images",
    tag: "messages",
    summary:
      "Adds a picture to a message: a file that was uploaded, by `sha256` or `s3_path`, or an address of its own",
    body: z.strictObject({
      id: id.optional(),
      image_name: textOfBytes(2_000).nullable().optional(),
      /** Whose file it is; for the project's secret key, and for users with several tenants. */
      tenant_id: tenantId.optional(),
      sha256: z.string().regex(/^[0-9a-f]{64}$/, "must have 64 hexadecimal digits, in small letters")
        .optional(),
      s3_path: textOfBytes(1_024).nullable().optional(),
      s3_url: textOfBytes(2_048).nullable().optional(),
      image_type: textOfBytes(400).nullable().optional(),
      description: description.optional(),
      width: z.int().min(0).max(2147483647).nullable().optional(),
      height: z.int().min(0).max(2147483647).nullable().optional(),
      file_size: z.int().min(0).nullable().optional(),
    }),
    answers: {
      200: { description: "It was there already", shape: messageImage },
      201: { description: "The picture", shape: messageImage },
    },
    async serve({ dependencies: { chats, baseUrl }, actor, requestId }, { path, body }) {
      const { status, image } = await chats.addImage(actor, idOf(path.id), body, `${baseUrl}/v1/media/`);
      return jsonResponse(status === "added" ? 201 : 200, image, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/messages/{id}/images",
    tag: "messages",
    summary: "The pictures of a message",
    answers: { 200: { description: "All of them", shape: z.object({ images: z.array(messageImage) }) } },
    serve: async ({ dependencies, actor, requestId }, { path }) =>
      jsonResponse(200, { images: await dependencies.chats.images(actor, idOf(path.id)) }, requestId),
  }),

  apiRoute({
    method: "post",
    path: "/v1/chats/{id}/search-results",
    tag: "chats",
    summary: "Adds places that a search found: one, or up to 500 as `results`, all or none",
    body: z.union([z.strictObject({ results: z.array(newResult).min(1).max(500) }), newResult]),
    maxBodyBytes: MAX_MESSAGE_BYTES,
    answers: {
      201: {
        description: "Those that were not there already",
        shape: z.object({ results: z.array(searchResult) }),
      },
    },
    async serve({ dependencies, actor, requestId }, { path, body }) {
      const results = "results" in body ? body.results : [body];
      return jsonResponse(
        201,
        { results: await dependencies.chats.addSearchResults(actor, idOf(path.id), results) },
        requestId,
      );
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/chats/{id}/search-results",
    tag: "chats",
    summary: "Places that searches found for a chat, in the order in which they came",
    query: z.strictObject({ message_id: id.optional(), after, limit: limit(100, 50) }),
    answers: { 200: { description: "A page", shape: z.object({ results: z.array(searchResult), next }) } },
    async serve({ dependencies, actor, requestId }, { path, query }) {
      const page = await dependencies.chats.searchResults(actor, idOf(path.id), {
        messageId: query.message_id ?? null,
        after: query.after ?? null,
        limit: query.limit,
      });
      return jsonResponse(200, { results: page.results, next: nextOf(page.next) }, requestId);
    },
  }),

  apiRoute({
    method: "post",
    path: "/v1/chats/{id}/shares",
    tag: "chats",
    summary: "Keeps a snapshot of the conversation for anyone who has the link, which is told once",
    body: z.strictObject({
      /** Seconds; absent: until it is taken back. */
      expires_in: z.int().min(60).max(LONGEST_SHARE_S).optional(),
    }),
    answers: {
      201: { description: "The link", shape: chatShare.extend({ url: z.string(), messages: z.number() }) },
    },
    async serve({ dependencies: { chats, baseUrl }, actor, requestId }, { path, body }) {
      const chatId = idOf(path.id);
      const chat = await chats.find(actor, chatId);
      const { messages, before } = await chats.path(actor, chatId, null, SHARED_MESSAGES);
      if (before !== null) {
        throw new GatewayError("invalid_request", {
          message:
            `A conversation of more than ${SHARED_MESSAGES} messages cannot be shared: export it instead.`,
        });
      }
      const token = base64url.encode(crypto.getRandomValues(new Uint8Array(24)));
      const share = await chats.share(actor, chatId, {
        tokenHash: await sha256Of(token),
        snapshot: snapshotOf(chat, messages),
        expiresInSeconds: body.expires_in ?? null,
      });
      return jsonResponse(
        201,
        { ...share, url: `${baseUrl}/v1/shared/${token}`, messages: messages.length },
        requestId,
      );
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/chats/{id}/shares",
    tag: "chats",
    summary: "The links of a chat, without their secret parts",
    answers: { 200: { description: "All of them", shape: z.object({ shares: z.array(chatShare) }) } },
    serve: async ({ dependencies, actor, requestId }, { path }) =>
      jsonResponse(200, { shares: await dependencies.chats.shares(actor, idOf(path.id)) }, requestId),
  }),
  apiRoute({
    method: "delete",
    path: "/v1/chats/{id}/shares/{share_id}",
    tag: "chats",
    summary: "Takes a link back",
    answers: { 200: { description: "It is gone", shape: z.object({ deleted: z.literal(true) }) } },
    async serve({ dependencies, actor, requestId }, { path }) {
      await dependencies.chats.unshare(actor, idOf(path.id), idOf(path.share_id));
      return jsonResponse(200, { deleted: true }, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/shared/{token}",
    tag: "chats",
    summary: "A shared conversation, for anyone who has the link: no credential",
    isSigned: true,
    answers: {
      200: {
        description: "The conversation as it was when it was shared",
        shape: snapshot.extend({ shared_at: z.string(), expires_at: z.string().nullable() }),
      },
    },
    async serve({ dependencies, requestId }, { path }) {
      const token = (path.token ?? "").slice(0, 100);
      const shared = await dependencies.chats.shared(await sha256Of(token));
      return jsonResponse(200, {
        ...snapshot.parse(shared.snapshot),
        shared_at: shared.created_at,
        expires_at: shared.expires_at,
      }, requestId);
    },
  }),
];

/** @throws GatewayError `invalid_request` */
function idOf(text: string | undefined): string {
  const parsed = id.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new GatewayError("invalid_request", { message: "The id in the path must be a UUID." });
}

/**
 * The call goes to the function that makes calls, as the same caller; for a signed-in user, whom that function does not know, as the
 * project in that user's name.
 */
async function answered(
  { dependencies, actor, request }: ApiContext,
  chatId: string,
  { client_id, parent_id, edits, message_type, history_tokens, ...call }: Record<string, unknown>,
): Promise<Response> {
  const owner = actor.kind === "user" ? actor.user_id : undefined;
  const chat = { client_id, parent_id, edits, message_type, history_tokens, owner };
  const credentials = credentialsOf(request);
  if (owner !== undefined) {
    delete credentials.authorization;
    credentials.apikey = dependencies.secretKey;
  }
  const answer = await dependencies.callModels(
    JSON.stringify({ ...call, chat_id: chatId, chat }),
    credentials,
    request.signal,
  );
  return passedOn(answer);
}

async function erased({ dependencies, actor }: ApiContext, chatId: string) {
  const { chats, media } = dependencies;
  const { files, ...receipt } = await chats.erase(actor, chatId);
  if (files.length === 0) return { ...receipt, files: { deleted: 0, bytes: 0, left: 0 } };
  const marked = await chats.filesLeft(files);
  try {
    const { objects, bytes, failed } = await deleteObjects(media, marked);
    return { ...receipt, files: { deleted: objects, bytes, left: failed.length } };
  } catch {
    // The chat is gone; the marked files go when maintenance comes to them.
    return { ...receipt, files: { deleted: 0, bytes: 0, left: marked.length } };
  }
}

async function exported(
  { dependencies: { chats }, actor, requestId }: ApiContext,
  chatId: string,
  query: { format: "json" | "markdown"; after?: ChatCursor | undefined },
): Promise<Response> {
  const first = await chats.exported(actor, chatId, query.after ?? null);
  const messages = [...first.messages];
  let next = first.next;
  let size = JSON.stringify(first).length;
  while (next !== null && size < MAX_EXPORT_CHARS) {
    const page = await chats.exported(actor, chatId, next);
    messages.push(...page.messages);
    next = page.next;
    size += JSON.stringify(page.messages).length;
  }
  const { chat, search_results } = first;
  if (query.format === "json") {
    return jsonResponse(200, { chat, messages, search_results, next: nextOf(next) }, requestId);
  }
  const text = (query.after === undefined ? markdownHead(chat) : "") + messages.map(markdownOf).join("") +
    search_results.map((result) => `${markdownOfResult(result)}\n`).join("");
  return new Response(text, {
    headers: answerHeaders(
      "text/markdown; charset=utf-8",
      requestId,
      next === null ? {} : { "x-eve-next": nextOf(next)! },
    ),
  });
}
