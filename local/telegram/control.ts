/** What people and tests tell the emulator over HTTP: write a message, edit one, and see what it knows. */
import { z } from "zod";
import { fromBase64 } from "../../shared/runtime/base64.ts";
import type { TelegramEmulator } from "./emulator.ts";

const MAX_BODY_BYTES = 64 * 1024 * 1024;
const chat = z.object({
  id: z.int(),
  type: z.enum(["private", "group", "supergroup", "channel"]).default("channel"),
  title: z.string().optional(),
  username: z.string().optional(),
});
const file = z.base64().transform(fromBase64);
const message = z.strictObject({
  text: z.string().max(4_096).optional(),
  /** In base64; more than one make an album. */
  photos: z.array(file).max(10).default([]),
  documents: z.array(z.strictObject({ name: z.string(), mime_type: z.string(), data: file })).max(10).default(
    [],
  ),
  chat: chat.optional(),
  /** An album's parts come from the last one to the first. */
  reversed: z.boolean().default(false),
});
const edit = z.strictObject({ text: z.string().max(4_096).optional(), photo: file.optional() });

const said = (body: unknown, status = 200) => Response.json(body, { status });
const wrong = (message: string) => said({ error: { code: "invalid_request", message } }, 400);

/** Null: it is for the Bot API. */
export function controlled(emulator: TelegramEmulator): (request: Request) => Promise<Response | null> {
  return async (request) => {
    const { pathname } = new URL(request.url);
    const [, rest] = /\/messages(\/.*)?$/.exec(pathname) ?? [];
    if (pathname.includes("/bot") || !pathname.includes("/messages")) return null;
    if (request.method === "GET" && rest === undefined) {
      const { bots, journal, deliveries } = emulator;
      return said({
        bots: bots.map(({ id, username, token, sent }) => ({
          id,
          username,
          sent,
          webhook: deliveries.info(token),
        })),
        journal: journal.slice(-100),
      });
    }
    const body = await bodyOf(request);
    if (request.method === "POST" && rest === undefined) {
      const given = message.safeParse(body);
      if (!given.success) return wrong(z.prettifyError(given.error));
      const { text, photos, documents, chat, reversed } = given.data;
      const sent = emulator.send({
        text,
        photos,
        documents: documents.map(({ name, mime_type, data }) => ({ name, mimeType: mime_type, bytes: data })),
        ...(chat !== undefined && { chat: chat as never }),
        ...(reversed && { order: (all) => all.toReversed() }),
      });
      return said({ chat_id: sent[0]!.chat.id, message_ids: sent.map(({ message_id }) => message_id) }, 201);
    }
    const [, chatId, messageId] = /^\/(-?\d+)\/(\d+)$/.exec(rest ?? "") ?? [];
    if (request.method === "PATCH" && messageId !== undefined) {
      const given = edit.safeParse(body);
      if (!given.success) return wrong(z.prettifyError(given.error));
      const { text, photo } = given.data;
      try {
        const { message_id } = emulator.edit(Number(chatId), Number(messageId), {
          ...(text !== undefined && { text }),
          ...(photo !== undefined && { photos: [photo] }),
        });
        return said({ chat_id: Number(chatId), message_ids: [message_id] });
      } catch (thrown) {
        return wrong(thrown instanceof Error ? thrown.message : String(thrown));
      }
    }
    return said({ error: { code: "not_found", message: `Nothing is served at ${pathname}.` } }, 404);
  };
}

async function bodyOf(request: Request): Promise<unknown> {
  if (Number(request.headers.get("content-length") ?? 0) > MAX_BODY_BYTES) return null;
  return await request.json().catch(() => null);
}
