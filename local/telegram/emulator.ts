/**
 * Telegram's Bot API as its documentation has it (https://core.telegram.org/bots/api), for bots with a webhook: it sends updates to
 * the webhook and sends again what it had no answer to, hands files out, and takes messages. It breaks as it is told, and
 * keeps a journal. Shares no code with the gateway.
 */
import { type Deliveries, deliveries, type DeliveryOptions } from "./deliveries.ts";
import { type JournalEntry, nextFault, type TelegramFault } from "./faults.ts";
import {
  type Chat,
  type EmulatedMessage,
  entitiesOf,
  type MessageToSend,
  type StoredFile,
} from "./messages.ts";

export interface EmulatedBot {
  token: string;
  id: number;
  username: string;
  /** Every message that it sent. */
  sent: Record<string, unknown>[];
}

export interface TelegramEmulatorOptions extends DeliveryOptions {
  /** Tokens, with the bots' names. */
  bots: Readonly<Record<string, string>>;
}

export interface TelegramEmulator {
  handler: (request: Request) => Promise<Response>;
  bots: EmulatedBot[];
  faults: TelegramFault[];
  journal: JournalEntry[];
  deliveries: Deliveries;
  /** What every call of setWebhook is refused with; null: it is not. */
  echo: string | null;
  /** A file that its bots can ask for. */
  addFile(bytes: Uint8Array<ArrayBuffer>, name: string): StoredFile;
  /** Somebody writes in a chat that the first bot is in: an update for each message, an album having several. */
  send(message: MessageToSend): EmulatedMessage[];
  /** Somebody edits a message: its text, or its picture. */
  edit(chatId: number, messageId: number, change: Pick<MessageToSend, "text" | "photos">): EmulatedMessage;
  /** An update of any kind for the first bot. */
  push(update: Record<string, unknown>): number;
  /** Goes on counting after these, as Telegram does for a bot that has had them. */
  countFrom(last: { update: number; message: number }): void;
  stop(): void;
}

const MAX_FILE_BYTES = 20_000_000;
/** How long a file's path is good for. */
const PATH_MS = 3_600_000;
const MAX_REQUEST_BYTES = 64 * 1024 * 1024;
const SECRET = /^[\w-]{1,256}$/;
const LOOPBACK = /^(127\.|localhost$|\[::1\]$)/;
/** Who writes where nobody says. */
export const USUAL_CHAT: Chat = {
  id: -1001000000001,
  type: "channel",
  title: "City events",
  username: "City_Events",
};

const refusal = (code: number, description: string, parameters?: Record<string, unknown>) =>
  Response.json({ ok: false, error_code: code, description, ...(parameters && { parameters }) }, {
    status: code,
  });
const result = (value: unknown) => Response.json({ ok: true, result: value });

export function telegramEmulator(options: TelegramEmulatorOptions): TelegramEmulator {
  const { now } = options;
  const bots = Object.entries(options.bots).map(([token, username]): EmulatedBot => ({
    token,
    username,
    id: Number(token.split(":")[0]),
    sent: [],
  }));
  const first = bots[0]!;
  const faults: TelegramFault[] = [];
  const journal: JournalEntry[] = [];
  const files = new Map<string, StoredFile>();
  const paths = new Map<string, { file: StoredFile; until: number }>();
  const messages = new Map<string, EmulatedMessage>();
  let lastMessage = 0;
  let lastUpdate = 100_000;
  const out = deliveries({ ...options, faults, note });

  function note(entry: Omit<JournalEntry, "at">): void {
    journal.push({ ...entry, at: now() });
  }

  /** As many as there were files before: every update may have had one. */
  let filesBefore = 0;
  function countFrom({ update, message }: { update: number; message: number }): void {
    lastUpdate = Math.max(lastUpdate, update);
    lastMessage = Math.max(lastMessage, message);
    filesBefore = 100 * lastUpdate;
  }

  function addFile(bytes: Uint8Array<ArrayBuffer>, name: string): StoredFile {
    const number = filesBefore + files.size + 1;
    const file = { file_id: `AgACfile${number}`, file_unique_id: `AQADunique${number}`, name, bytes };
    files.set(file.file_id, file);
    return file;
  }

  function push(update: Record<string, unknown>): number {
    const update_id = ++lastUpdate;
    out.add(first.token, { update_id, ...update });
    return update_id;
  }

  function photo(bytes: Uint8Array<ArrayBuffer>) {
    const number = filesBefore + files.size;
    // The small ones come first, and are other files.
    return [90, 320, 1280].map((width) => {
      const content = width === 1280
        ? bytes
        : new Uint8Array([0xff, 0xd8, 0xff, 0xe0, number % 256, width % 256]);
      const { file_id, file_unique_id } = addFile(content, `photos/file_${number}_${width}.jpg`);
      return { file_id, file_unique_id, width, height: width * 3 / 4, file_size: content.length };
    });
  }

  const kindOf = ({ type }: Chat, isEdit: boolean) => {
    const kind = type === "channel" ? "channel_post" : "message";
    return isEdit ? `edited_${kind}` : kind;
  };

  function send(
    { text, photos = [], documents = [], chat = USUAL_CHAT, order = (all) => all, media = {} }: MessageToSend,
  ): EmulatedMessage[] {
    const parts = [
      ...photos.map((bytes) => ({ photo: photo(bytes) })),
      ...documents.map(({ name, mimeType, bytes, sizeBytes = bytes.length }) => {
        const { file_id, file_unique_id } = addFile(bytes, `documents/${name}`);
        return {
          document: { file_id, file_unique_id, file_name: name, mime_type: mimeType, file_size: sizeBytes },
        };
      }),
    ];
    const album = parts.length > 1 ? { media_group_id: `13${String(lastMessage).padStart(15, "0")}` } : {};
    const words = text === undefined
      ? {}
      : parts.length === 0
      ? { text, entities: entitiesOf(text) }
      : { caption: text, caption_entities: entitiesOf(text) };
    const made = (parts.length === 0 ? [media] : parts).map((part, place): EmulatedMessage => ({
      message_id: ++lastMessage,
      date: Math.floor(now() / 1000),
      chat,
      ...(chat.type !== "channel" && { from: { id: 77, is_bot: false, first_name: "Ada" } }),
      ...album,
      ...part,
      // The first of an album has the words.
      ...(place === 0 && words),
    }));
    for (const one of made) messages.set(`${chat.id} ${one.message_id}`, one);
    for (const one of order(made)) push({ [kindOf(chat, false)]: one });
    return made;
  }

  function edit(
    chatId: number,
    messageId: number,
    { text, photos }: Pick<MessageToSend, "text" | "photos">,
  ): EmulatedMessage {
    const known = messages.get(`${chatId} ${messageId}`);
    if (known === undefined) throw new Error(`there is no message ${messageId} in chat ${chatId}`);
    const named = known.photo === undefined && known.document === undefined ? "text" : "caption";
    const edited: EmulatedMessage = {
      ...known,
      // The second of an edit in the same second is later all the same.
      edit_date: Math.max(Math.floor(now() / 1000), (known.edit_date ?? known.date) + 1),
      ...(text !== undefined && {
        [named]: text,
        [named === "text" ? "entities" : "caption_entities"]: entitiesOf(text),
      }),
      ...(photos?.[0] !== undefined && { photo: photo(photos[0]) }),
    };
    messages.set(`${chatId} ${messageId}`, edited);
    push({ [kindOf(known.chat, true)]: edited });
    return edited;
  }

  async function answered(request: Request, what: string): Promise<Response> {
    const url = new URL(request.url);
    const [, isFile, token, rest = ""] = /\/(file\/)?bot([^/]+)\/(.+)$/.exec(url.pathname) ?? [];
    const bot = bots.find((one) => one.token === token);
    if (bot === undefined) return refusal(401, "Unauthorized");
    if (isFile !== undefined) {
      const found = paths.get(decodeURIComponent(rest));
      if (found === undefined || found.until <= now()) return refusal(404, "Not Found");
      return new Response(found.file.bytes, { headers: { "content-type": "application/octet-stream" } });
    }
    const body = await readBody(request, url);
    switch (what) {
      case "getMe":
        return result({ id: bot.id, is_bot: true, first_name: bot.username, username: bot.username });
      case "setWebhook":
        return emulator.echo === null ? setWebhook(bot, body) : refusal(400, emulator.echo);
      case "deleteWebhook":
        out.forget(bot.token, body.drop_pending_updates === true);
        return result(true);
      case "getWebhookInfo":
        return result(out.info(bot.token));
      case "getFile": {
        const file = files.get(String(body.file_id));
        if (file === undefined) {
          return refusal(400, "Bad Request: wrong file_id or the file is temporarily unavailable");
        }
        if (file.bytes.length > MAX_FILE_BYTES) return refusal(400, "Bad Request: file is too big");
        paths.set(file.name, { file, until: now() + PATH_MS });
        const { file_id, file_unique_id, name: file_path } = file;
        return result({ file_id, file_unique_id, file_path, file_size: file.bytes.length });
      }
      case "sendMessage":
        if (typeof body.text !== "string" || body.text === "") {
          return refusal(400, "Bad Request: message text is empty");
        }
        bot.sent.push(body);
        return result({
          message_id: ++lastMessage,
          date: Math.floor(now() / 1000),
          chat: { id: body.chat_id },
          text: body.text,
        });
    }
    return refusal(404, "Not Found");
  }

  function setWebhook(bot: EmulatedBot, body: Record<string, unknown>): Response {
    const url = String(body.url ?? "");
    const isSet = url !== "";
    if (isSet && !URL.canParse(url)) {
      return refusal(400, "Bad Request: bad webhook: invalid webhook URL specified");
    }
    if (isSet && new URL(url).protocol !== "https:" && !LOOPBACK.test(new URL(url).hostname)) {
      return refusal(400, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook");
    }
    const secret = body.secret_token;
    if (secret !== undefined && !(typeof secret === "string" && SECRET.test(secret))) {
      return refusal(400, "Bad Request: secret token contains unallowed characters");
    }
    out.forget(bot.token, body.drop_pending_updates === true);
    if (isSet) {
      out.open(bot.token, {
        url,
        secret: secret as string | undefined,
        allowedUpdates: Array.isArray(body.allowed_updates) ? body.allowed_updates.map(String) : null,
        maxConnections: typeof body.max_connections === "number" ? body.max_connections : 40,
      });
    }
    return result(true);
  }

  const emulator: TelegramEmulator = {
    bots,
    echo: null,
    faults,
    journal,
    deliveries: out,
    addFile,
    send,
    edit,
    push,
    countFrom,
    stop: () => out.stop(),
    async handler(request) {
      const { pathname } = new URL(request.url);
      const what = pathname.includes("/file/bot") ? "download" : pathname.split("/").at(-1)!;
      const fault = nextFault(faults, what);
      const response = fault === null
        ? await answered(request, what)
        : await spoiled(fault, () => answered(request, what), request.signal);
      note({ what, status: response.status });
      return response;
    },
  };
  return emulator;
}

async function spoiled(
  how: TelegramFault["how"],
  answer: () => Promise<Response>,
  signal: AbortSignal,
): Promise<Response> {
  if (how === "rate_limited") return refusal(429, "Too Many Requests: retry after 1", { retry_after: 1 });
  if (how === "broken") return refusal(500, "Internal Server Error");
  const response = await answer();
  const bytes = new Uint8Array(await response.arrayBuffer());
  const headers = { "content-length": String(bytes.length) };
  const hanging = how === "hangs";
  return new Response(
    new ReadableStream({
      start(controller) {
        if (!hanging) controller.enqueue(bytes.subarray(0, Math.ceil(bytes.length / 2)));
        if (!hanging) return controller.error(new Error("the connection broke"));
        signal.addEventListener("abort", () => controller.error(signal.reason));
      },
    }),
    { status: response.status, headers: hanging ? {} : headers },
  );
}

async function readBody(request: Request, url: URL): Promise<Record<string, unknown>> {
  const inQuery = Object.fromEntries(url.searchParams);
  if (request.method === "GET" || request.body === null) return inQuery;
  const length = Number(request.headers.get("content-length") ?? 0);
  if (length > MAX_REQUEST_BYTES) return inQuery;
  const body: unknown = await request.json().catch(() => null);
  return typeof body === "object" && body !== null ? { ...inQuery, ...body } : inQuery;
}
