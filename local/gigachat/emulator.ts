/**
 * GigaChat's API, its files and its OAuth server as Sber's reference documents them: they refuse what the real ones refuse, break as
 * they are told, and keep a journal.
 */
import type { JournalEntry } from "./journal.ts";

export type Handler = (request: Request) => Response | Promise<Response>;

/** What goes wrong with a call of that kind. */
export interface GigachatFault {
  on: JournalEntry["what"];
  how:
    /** 429, before anything is done. */
    | "rate_limited"
    /** 401: the token ended earlier than it was to. */
    | "token_expired"
    /** 500, before anything is done. */
    | "broken"
    /** The request is taken in and done, and no answer comes. */
    | "hangs"
    /** It is done, and its answer breaks off in the middle. */
    | "half_answer"
    /** It is done, and the answer is no JSON. */
    | "not_json"
    /** 413, whatever was sent. */
    | "too_large";
  /** How many calls; absent: one. */
  times?: number;
}

export interface StoredFile {
  id: string;
  owner: string;
  filename: string;
  mimeType: string;
  bytes: number;
}

export interface GigachatEmulator {
  /** Authorisation keys, and the scope that each is for. */
  credentials: Map<string, string>;
  models: string[];
  /** How long a token lives, in ms. */
  tokenLifeMs: number;
  /** Milliseconds since 1970. */
  now: () => number;
  tokensIssued: number;
  /** Tokens that are refused though they have not ended. */
  revoked: Set<string>;
  limited: boolean;
  /** Calls with a token that may be under way at once; beyond it 429. Projects of persons have one. */
  callsAtOnce: number;
  /** The bodies of chats. */
  seen: Record<string, unknown>[];
  /** Answers to come, each a choice. */
  next: Record<string, unknown>[];
  faults: GigachatFault[];
  files: Map<string, StoredFile>;
  journal: JournalEntry[];
  handler: Handler;
}

const UUID4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i;
const ROLES = ["system", "user", "assistant", "function"];
const MAX_IMAGE_BYTES = 15 * 1024 * 1024;
const MAX_REQUEST_BYTES = 20 * 1024 * 1024;
/** Not documented; of the order that users report. */
const IMAGE_TOKENS = 1_000;

/** How files of the types that it takes begin. */
const BEGINNINGS: Readonly<Record<string, readonly (readonly number[])[]>> = {
  "image/jpeg": [[0xff, 0xd8, 0xff]],
  "image/png": [[0x89, 0x50, 0x4e, 0x47]],
  "image/tiff": [[0x49, 0x49, 0x2a, 0], [0x4d, 0x4d, 0, 0x2a]],
  "image/bmp": [[0x42, 0x4d]],
};

const refusal = (status: number, message: string) => Response.json({ status, message }, { status });

interface Call {
  owner: string;
  entry: JournalEntry;
}

export function gigachatEmulator(): GigachatEmulator {
  const tokens = new Map<string, { owner: string; endsAt: number }>();
  let underWay = 0;
  const emulator: GigachatEmulator = {
    credentials: new Map([["Z2lnYTpjaGF0", "GIGACHAT_API_PERS"]]),
    models: ["GigaChat-2", "GigaChat-2-Pro", "Embeddings"],
    tokenLifeMs: 1_800_000,
    now: Date.now,
    tokensIssued: 0,
    revoked: new Set(),
    limited: false,
    callsAtOnce: Infinity,
    seen: [],
    next: [],
    faults: [],
    files: new Map(),
    journal: [],
    handler: async (request) => {
      const { pathname } = new URL(request.url);
      const what = whatOf(request.method, pathname);
      const entry: JournalEntry = { what, at: emulator.now(), status: 0, atOnce: 0, tokenLeftMs: null };
      emulator.journal.push(entry);
      const withToken = what !== "token";
      if (withToken) entry.atOnce = ++underWay;
      try {
        const response = await broken(
          emulator,
          what,
          request.signal,
          () => answered(request, pathname, entry),
        );
        entry.status = response.status;
        return response;
      } finally {
        if (withToken) underWay--;
      }
    },
  };

  async function answered(request: Request, pathname: string, entry: JournalEntry): Promise<Response> {
    if (entry.what === "token") return await oauth(request, entry);
    const token = /^Bearer (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
    const known = tokens.get(token);
    if (known === undefined || known.endsAt <= emulator.now() || emulator.revoked.has(token)) {
      return refusal(401, "Token has expired");
    }
    entry.tokenLeftMs = known.endsAt - emulator.now();
    const call = { owner: known.owner, entry };
    if (entry.what === "models") {
      const data = emulator.models.map((id) => ({ id, object: "model", owned_by: "salutedevices" }));
      return Response.json({ object: "list", data });
    }
    if (emulator.limited || entry.atOnce > emulator.callsAtOnce) return refusal(429, "Too many requests");
    switch (entry.what) {
      case "upload":
        return await stored(emulator, request, call);
      case "list":
        return Response.json({
          object: "list",
          data: [...emulator.files.values()].filter(({ owner }) => owner === call.owner).map(described),
        });
      case "delete":
        return deleted(emulator, pathname.split("/").at(-2)!, call);
      case "chat":
        return completion(emulator, await request.json().catch(() => null), call);
    }
    return refusal(404, "Not Found");
  }

  async function oauth(request: Request, entry: JournalEntry): Promise<Response> {
    const errorResponse = (status: number, code: number, message: string) =>
      Response.json({ code, message }, { status });
    const rqUid = request.headers.get("rquid") ?? "";
    entry.rqUid = rqUid;
    if (!UUID4.test(rqUid)) return errorResponse(400, 1, "RqUID header is not valid");
    const credentials = /^Basic (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1];
    if (credentials === undefined || !/^[\w+/-]+=*$/.test(credentials)) {
      return errorResponse(400, 4, "Can't decode 'Authorization' header");
    }
    const scope = emulator.credentials.get(credentials);
    if (scope === undefined) return errorResponse(401, 6, "credentials doesn't match db data");
    const asked = new URLSearchParams(await request.text()).get("scope");
    if (asked === null || asked === "") return errorResponse(400, 5, "scope is empty");
    if (asked !== scope) return errorResponse(400, 7, "scope from db not fully includes consumed scope");
    emulator.tokensIssued++;
    const token = `eyJ.token-${emulator.tokensIssued}`;
    const endsAt = emulator.now() + emulator.tokenLifeMs;
    tokens.set(token, { owner: credentials, endsAt });
    return Response.json({ access_token: token, expires_at: endsAt });
  }
  return emulator;
}

function whatOf(method: string, pathname: string): JournalEntry["what"] {
  const place = `${method} ${pathname}`;
  if (pathname === "/api/v2/oauth") return "token";
  if (place === "GET /api/v1/models") return "models";
  if (place === "POST /api/v1/chat/completions") return "chat";
  if (place === "POST /api/v1/files") return "upload";
  if (place === "GET /api/v1/files") return "list";
  return /^POST \/api\/v1\/files\/[^/]+\/delete$/.test(place) ? "delete" : "other";
}

/** The answer, as the next fault of its kind spoils it. */
async function broken(
  { faults }: GigachatEmulator,
  what: JournalEntry["what"],
  signal: AbortSignal,
  answer: () => Promise<Response>,
): Promise<Response> {
  const place = faults.findIndex(({ on }) => on === what);
  const fault = faults[place];
  if (fault === undefined) return await answer();
  fault.times = (fault.times ?? 1) - 1;
  if (fault.times <= 0) faults.splice(place, 1);
  switch (fault.how) {
    case "rate_limited":
      return refusal(429, "Too many requests");
    case "token_expired":
      return refusal(401, "Token has expired");
    case "broken":
      return refusal(500, "Internal Server Error");
    case "too_large":
      return refusal(413, "Payload too large");
  }
  const response = await answer();
  const text = await response.text();
  switch (fault.how) {
    case "hangs":
      // Heads came, and that is all: the client has to leave.
      return new Response(hanging(signal), { status: response.status });
    case "half_answer":
      return new Response(text.slice(0, Math.ceil(text.length / 2)), { status: response.status });
    case "not_json":
      return new Response("<html>502</html>", { status: response.status });
  }
}

function hanging(signal: AbortSignal): ReadableStream {
  return new ReadableStream({
    start: (controller) => signal.addEventListener("abort", () => controller.error(signal.reason)),
  });
}

const described = ({ id, filename, bytes }: StoredFile) => ({
  id,
  object: "file",
  bytes,
  created_at: 1_760_000_000,
  filename,
  purpose: "general",
  access_policy: "private",
});

async function stored(
  { files }: GigachatEmulator,
  request: Request,
  { owner, entry }: Call,
): Promise<Response> {
  const form = await request.formData().catch(() => null);
  const file = form?.get("file");
  if (!(file instanceof File)) return refusal(400, "Bad request: no file");
  const bytes = new Uint8Array(await file.arrayBuffer());
  const mimeType = file.type.split(";")[0]!;
  entry.file = { name: file.name, mimeType, bytes: bytes.length };
  if (form!.get("purpose") !== "general") return refusal(400, "Bad request: unknown purpose");
  const beginnings = BEGINNINGS[mimeType];
  if (beginnings === undefined) return refusal(400, `Unsupported mime type ${mimeType}`);
  if (!beginnings.some((beginning) => beginning.every((byte, place) => bytes[place] === byte))) {
    return refusal(400, "File content does not match its mime type");
  }
  if (bytes.length > MAX_IMAGE_BYTES) return refusal(413, "File is too large");
  const id = crypto.randomUUID();
  const kept: StoredFile = { id, owner, filename: file.name, mimeType, bytes: bytes.length };
  files.set(id, kept);
  return Response.json(described(kept));
}

function deleted({ files }: GigachatEmulator, id: string, { owner }: Call): Response {
  if (files.get(id)?.owner !== owner) return refusal(404, "No such file");
  files.delete(id);
  return Response.json({ id, deleted: true, access_policy: "private" });
}

// deno-lint-ignore no-explicit-any -- whatever was sent.
function completion(emulator: GigachatEmulator, body: any, { owner, entry }: Call): Response {
  const invalid = (message: string, status = 422) => refusal(status, message);
  if (body === null) return invalid("Bad request", 400);
  emulator.seen.push(body);
  if (!emulator.models.includes(body.model)) return invalid("No such model", 404);
  if (!Array.isArray(body.messages) || body.messages.length === 0) {
    return invalid("Invalid params: messages must not be empty");
  }
  const images: StoredFile[] = [];
  const inMessages: number[] = [];
  for (const [place, message] of body.messages.entries()) {
    if (!ROLES.includes(message.role)) return invalid(`Invalid params: unknown role ${message.role}`);
    if (message.role === "system" && place > 0) {
      return invalid("Invalid params: system message must be the first message");
    }
    if (typeof message.content !== "string") return invalid("Invalid params: content must be a string");
    if (message.role === "function") {
      try {
        JSON.parse(message.content);
      } catch {
        return invalid("Invalid params: function result is not valid json");
      }
      if (body.messages[place - 1]?.function_call === undefined) {
        return invalid("Invalid params: function result without function call");
      }
    }
    const attachments: string[] = message.attachments ?? [];
    inMessages.push(attachments.length);
    for (const id of attachments) {
      const file = emulator.files.get(id);
      if (file?.owner !== owner) return invalid(`Invalid params: no such file ${id}`, 404);
      images.push(file);
    }
  }
  const bytes = images.reduce((sum, file) => sum + file.bytes, 0);
  if (images.length > 0) entry.images = { inMessages, bytes };
  if (inMessages.some((number) => number > 1)) return invalid("Invalid params: one image in a message");
  if (images.length > 10) return invalid("Invalid params: too many images");
  if (bytes >= MAX_REQUEST_BYTES) return invalid("Payload too large", 413);
  if (images.length > 0 && !/Pro|Max/.test(body.model)) {
    return invalid(`Invalid params: ${body.model} does not take images`);
  }
  if ("tools" in body || "response_format" in body) return invalid("Invalid params: unknown field");
  const prompt_tokens = 21 + images.length * IMAGE_TOKENS;
  const usage = {
    prompt_tokens,
    completion_tokens: 8,
    total_tokens: prompt_tokens + 8,
    precached_prompt_tokens: 0,
  };
  const choice = emulator.next.shift() ?? {
    message: {
      role: "assistant",
      content: images.length > 0 ? seenIn(images) : `Вы сказали: ${body.messages.at(-1).content}`,
    },
    finish_reason: "stop",
  };
  const head = { created: 1_760_000_000, model: `${body.model}:2.0.28.2` };
  if (body.stream !== true) {
    return Response.json({ ...head, object: "chat.completion", choices: [{ index: 0, ...choice }], usage });
  }
  const { content, ...rest } = choice.message as { content: string };
  const pieces = content.match(/.{1,6}/gs) ?? [""];
  return eventStream([
    ...pieces.map((piece) =>
      JSON.stringify({
        ...head,
        object: "chat.completion",
        choices: [{ index: 0, delta: { content: piece, role: "assistant" } }],
      })
    ),
    JSON.stringify({
      ...head,
      object: "chat.completion",
      choices: [{ index: 0, delta: { ...rest, content: "" }, finish_reason: choice.finish_reason }],
      usage,
    }),
    "[DONE]",
  ]);
}

/** Having no JSON mode, it puts a fence around what it was asked for. */
function seenIn(images: readonly StoredFile[]): string {
  const found = {
    description: images.map(({ mimeType, bytes }) => `Картинка ${mimeType}, ${bytes} байт.`).join(" "),
    labels: ["картинка", images[0]!.mimeType.slice(6)],
    objects: [{ name: "картинка", count: images.length }],
    ocr_text: "",
    is_meme: false,
    nsfw: false,
    scene: null,
    confidence: 0.5,
  };
  return "```json\n" + JSON.stringify(found, null, 2) + "\n```";
}

/** Server-sent events, one `data` each. */
function eventStream(data: readonly string[]): Response {
  const text = data.map((each) => `data: ${each}\n\n`).join("");
  return new Response(text, { headers: { "content-type": "text/event-stream" } });
}
