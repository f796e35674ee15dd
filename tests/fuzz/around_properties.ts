/** What holds for everything around the calls of models: files, forms, chats, posts, updates, batches, pages of the web. */
import fc from "fast-check";
import { API_ROUTES, createApiEndpoint } from "../../shared/api/api_endpoint.ts";
import type { ApiRoute } from "../../shared/api/route.ts";
import { anthropicLines } from "../../shared/batches/anthropic_lines.ts";
import {
  type CheckedLine,
  checkedLines,
  type LineCheck,
  MAX_ERRORS,
} from "../../shared/batches/batch_lines.ts";
import { geminiBatchEndpoint, geminiLines } from "../../shared/batches/gemini_lines.ts";
import { openaiLines } from "../../shared/batches/openai_lines.ts";
import { GatewayError } from "../../shared/contract/gateway_error.ts";
import { readPage } from "../../shared/crawl/article.ts";
import { canonicalUrl } from "../../shared/crawl/canonical_url.ts";
import { decodePage } from "../../shared/crawl/charset.ts";
import { linksOf, MAX_LINKS } from "../../shared/crawl/links.ts";
import { parseRobots } from "../../shared/crawl/robots.ts";
import { createChats } from "../../shared/database/chats.ts";
import { createCrawl } from "../../shared/database/posts/crawl.ts";
import { createGraph } from "../../shared/database/posts/graph.ts";
import { SqlFailure, type Transport } from "../../shared/database/transport/transport.ts";
import { createVision } from "../../shared/database/vision.ts";
import { multipartRelated } from "../../shared/endpoints/gemini/files/multipart_related.ts";
import { FormPartCount } from "../../shared/http/form_body.ts";
import { identifyActor } from "../../shared/identity/actor.ts";
import { readLimitsTable } from "../../shared/limits/table.ts";
import { createAddressSigner } from "../../shared/media/signed_address.ts";
import { readMessage } from "../../shared/telegram/message.ts";
import { attachmentOf } from "../../shared/telegram/attachment.ts";
import { createTelegramEndpoint } from "../../shared/telegram/telegram_endpoint.ts";
import { tokenRules } from "../../shared/tokens/token_rules.ts";
import { dhashOf } from "../../shared/vision/dhash/dhash.ts";
import { pictureHeader } from "../../shared/vision/header.ts";
import { NotStripped, withoutMetadata } from "../../shared/vision/strip.ts";
import { jpegOf, pngOf, scene } from "../harness/made_pictures.ts";
import { mediaOver } from "../harness/media_api.ts";
import { bitten, body, cuts, headers, inPieces, oddText, spoilt } from "./arbitraries.ts";
import { functionInProcess, hastyClock, PROJECT, SECRETS } from "./function_in_process.ts";
import { leaks, mustBeEmpty, type Property, property, safe, wrongWith } from "./property.ts";
import * as samples from "./samples.ts";

/** A database that answers everything in one way: none of it gets through, and what it was asked is looked at. */
function database(failure: () => Error): { call: Transport; asked: [string, unknown][] } {
  const asked: [string, unknown][] = [];
  return {
    asked,
    call: (name, args) => {
      asked.push([name, args]);
      return Promise.reject(failure());
    },
  };
}

/** How a database says no: it is away, it does not take a value, it has no such thing. */
const FAILURES: readonly (() => Error)[] = [
  () => new SqlFailure("57P03", "it starts", 503),
  () => new SqlFailure("EV400", "this value is none", 400),
  () => new SqlFailure("23514", "a check", 400),
  () => new TypeError("no connection"),
];

function apiInProcess(failure: () => Error) {
  const logged: string[] = [];
  const log = (...line: unknown[]) => void logged.push(JSON.stringify(line));
  const { call, asked } = database(failure);
  const now = () => 1_800_000_000_000;
  const baseUrl = `${PROJECT.url}/functions/v1/api`;
  const addresses = createAddressSigner({ baseUrl, secrets: [SECRETS.project], now });
  let ids = 0;
  const receive = createApiEndpoint({
    functionName: "api",
    clock: hastyClock(),
    newId: () => `id-${++ids}`,
    log,
    open: () => ({
      identify: (request) =>
        identifyActor(request, {
          project: PROJECT,
          apiKey: PROJECT.publishableKeys.default,
          tokens: tokenRules(PROJECT.url, [{ kid: "now", key: new Uint8Array(32).fill(7) }]),
          access: {
            authenticate: () => Promise.resolve({ status: "refused", code: "credential_invalid" }),
            noteRefusal: () => Promise.resolve(null),
          },
          fetch: () => Promise.resolve(new Response("{}", { status: 401 })),
          place: "api",
        }),
      confirmToken: () => Promise.resolve(),
      media: mediaOver(call, { addresses, now, log }),
      addresses,
      chats: createChats(call),
      vision: createVision(call),
      graph: createGraph(call),
      crawl: createCrawl(call),
      wake: () => Promise.resolve(),
      secretKey: SECRETS.project,
      callModels: () => Promise.reject(new GatewayError("database_unavailable")),
      baseUrl,
      maxBodyBytes: 1_000_000,
      background: () => {},
    }),
  });
  return { receive, logged, asked };
}

async function apiFaults(
  failure: () => Error,
  path: string,
  init: RequestInit & { headers: Record<string, string> },
  credential: Record<string, string> = { apikey: SECRETS.project },
): Promise<string[]> {
  const { receive, logged } = apiInProcess(failure);
  const response = await receive(
    new Request(`http://gateway/api${path}`, { ...init, headers: safe({ ...init.headers, ...credential }) }),
  );
  const text = await response.text();
  return [
    // What the gateway says of itself it says in one form, at all of these.
    ...(response.status === 302 ? [] : wrongWith("", response, text)),
    ...leaks([...response.headers].join("\n"), text, ...logged),
  ];
}

const withJson = API_ROUTES.filter(({ body }) => body !== undefined && body !== "file");
const filled = (path: string, value: string) => path.replace(/\{\w+\}/g, encodeURIComponent(value));
const ID = "00000000-0000-4000-8000-000000000000";
/** A part of a path: as it should be, or not. */
const pathPart = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(ID, "0".repeat(64), "a/b.png", "default") },
  { weight: 1, arbitrary: oddText.filter((text) => text.isWellFormed() && !/^\.{0,2}$/.test(text)) },
);

const apiBodies = property(
  "a body at any address of the function api",
  400,
  fc.asyncProperty(
    fc.constantFrom(...withJson).chain((route) =>
      fc.tuple(fc.constant(route), body(samples.API[`${route.method} ${route.path}`] ?? samples.ANY_API))
    ),
    pathPart,
    fc.constantFrom(...FAILURES),
    async ([route, bytes], value, failure) =>
      mustBeEmpty(
        await apiFaults(failure, filled(route.path, value), {
          method: route.method.toUpperCase(),
          body: bytes,
          headers: { "content-type": "application/json" },
        }),
      ),
  ),
);

const namesOf = ({ query }: ApiRoute) => query === undefined ? [] : Object.keys(query.shape);
const apiQueries = property(
  "a query at any address of the function api",
  400,
  fc.asyncProperty(
    fc.constantFrom(...API_ROUTES).chain((route) =>
      fc.tuple(
        fc.constant(route),
        fc.array(fc.tuple(fc.constantFrom(...namesOf(route), "__proto__", "key", "a"), oddText), {
          maxLength: 6,
        }),
      )
    ),
    pathPart,
    fc.constantFrom(...FAILURES),
    async ([route, query], value, failure) => {
      const search = query.map(([name, text]) => `${name}=${encodeURIComponent(text.toWellFormed())}`).join(
        "&",
      );
      mustBeEmpty(
        await apiFaults(failure, `${filled(route.path, value)}?${search}`, {
          method: route.method.toUpperCase(),
          headers: {},
        }),
      );
    },
  ),
);

const apiPaths = property(
  "any path and method at the function api",
  150,
  fc.asyncProperty(
    fc.array(
      fc.oneof(
        fc.constantFrom(
          "v1",
          "media",
          "chats",
          "blobs",
          "uploads",
          "crawl",
          "pages",
          "vision",
          "..",
          "%00",
          "%zz",
        ),
        fc.string({ unit: "binary", maxLength: 8 }),
      ),
      { maxLength: 6 },
    ),
    fc.constantFrom("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"),
    headers(["range", "content-type", "content-length", "authorization", "apikey", "origin"], [
      "bytes=0-",
      "bytes=-1",
      "multipart/form-data",
      "multipart/form-data; boundary=",
      "-1",
    ]),
    async (parts, method, sent) => {
      const { receive, logged } = apiInProcess(FAILURES[0]!);
      const response = await receive(
        new Request(`http://gateway/api/${parts.join("/").replace(/[?#]/g, "")}`, {
          method,
          headers: safe({ apikey: SECRETS.project, ...sent }),
        }),
      );
      const text = await response.text();
      if (response.status >= 500 && response.status !== 503) throw new Error(`${response.status} ${text}`);
      mustBeEmpty(leaks(text, ...logged));
    },
  ),
);

const FIELDS = ["file", "purpose", "model", "post", "request", "data", "metadata", "kind", "key", "prompt"];
const PICTURE = jpegOf(scene(1, 24, 16));
const part = fc.record({
  name: fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...FIELDS) }, fc.string({ maxLength: 12 })),
  filename: fc.option(
    fc.constantFrom("a.png", "a.jsonl", "a.mp3", "..", "a\\b", "", "é.pdf", "x".repeat(400)),
  ),
  type: fc.constantFrom("", "image/jpeg", "text/plain", "application/jsonl", "application/json", 'a/b; c="d'),
  content: fc.oneof(
    fc.constantFrom<Uint8Array>(PICTURE, new Uint8Array(), new TextEncoder().encode("batch")),
    spoilt([...samples.ANY_API, ...samples.NATIVE]).map((value) =>
      new TextEncoder().encode(JSON.stringify(value) ?? "")
    ),
    fc.uint8Array({ maxLength: 60 }),
  ),
});
type Part = { name: string; filename: string | null; type: string; content: Uint8Array };

/** A form, whole or bitten: what it says its boundary is, and its bytes. */
const form = fc.tuple(
  fc.array(part, { maxLength: 6 }),
  fc.constantFrom("b", "b", "b", "----x", "-", "x".repeat(70), "x".repeat(71), 'a"b'),
).chain(([parts, boundary]) => {
  const whole = fc.constant(written(parts as Part[], boundary));
  return fc.tuple(
    fc.oneof({ weight: 3, arbitrary: whole }, { weight: 1, arbitrary: bitten(whole) }),
    fc.constantFrom(
      `multipart/form-data; boundary=${boundary}`,
      `multipart/form-data; boundary="${boundary}"`,
    ),
  );
});

function written(parts: readonly Part[], boundary: string): Uint8Array<ArrayBuffer> {
  const utf8 = new TextEncoder();
  const pieces = parts.flatMap(({ name, filename, type, content }) => [
    utf8.encode(
      `--${boundary}\r\ncontent-disposition: form-data; name="${name.replace(/[\r\n"]/g, "")}"${
        filename === null ? "" : `; filename="${filename}"`
      }\r\n${type === "" ? "" : `content-type: ${type}\r\n`}\r\n`,
    ),
    content,
    utf8.encode("\r\n"),
  ]);
  return new Uint8Array([...pieces, utf8.encode(`--${boundary}--\r\n`)].flatMap((piece) => [...piece]));
}

const WITH_FORMS: readonly [fn: "api" | "llm-invoke", path: string][] = [
  ["api", "/v1/media"],
  ["api", "/v1/intake/posts"],
  ["api", "/v1/vision/analyze"],
  ["llm-invoke", "/openai/v1/files"],
  ["llm-invoke", `/openai/v1/uploads/upload_${"0".repeat(32)}/parts`],
  ["llm-invoke", "/openai/v1/audio/transcriptions"],
];

const forms = property(
  "a form at every address that takes one",
  400,
  fc.asyncProperty(
    fc.constantFrom(...WITH_FORMS),
    form,
    fc.constantFrom(...FAILURES),
    async ([name, path], [bytes, type], failure) => {
      if (name === "api") {
        const init = { method: "POST", body: bytes, headers: { "content-type": type } };
        return mustBeEmpty(await apiFaults(failure, path, init));
      }
      const fn = functionInProcess("google", () => Promise.resolve(Response.json({}, { status: 503 })));
      const response = await fn.receive(
        new Request(`http://gateway/llm-invoke${path}`, {
          method: "POST",
          body: bytes,
          headers: safe({ "content-type": type, apikey: SECRETS.project }),
        }),
      );
      const text = await response.text();
      mustBeEmpty([...wrongWith(path, response, text), ...leaks(text, ...fn.logged)]);
    },
  ),
);

const partCounts = property(
  "a form has as many parts however it is cut",
  300,
  fc.asyncProperty(form, cuts, ([bytes, type], at) => {
    const counted = (pieces: Uint8Array[]) => {
      try {
        const count = new FormPartCount(type);
        for (const piece of pieces) count.add(piece);
        return "taken";
      } catch (thrown) {
        if (!(thrown instanceof GatewayError)) throw thrown;
        return thrown.code;
      }
    };
    const [whole, cut] = [counted([bytes]), counted(inPieces(bytes, at))];
    if (whole !== cut) throw new Error(`${whole} or ${cut}`);
    return Promise.resolve();
  }),
);

const TYPES = [
  "image/jpeg",
  "image/png",
  "text/plain",
  "application/pdf",
  "",
  "a",
  "a/b; charset=",
  "text/html",
];
const files = property(
  "a file, raw: stored as what it is, or refused",
  300,
  fc.asyncProperty(
    fc.oneof(
      bitten(
        fc.constantFrom<Uint8Array>(PICTURE, pngOf(scene(2, 24, 16)), new TextEncoder().encode("%PDF-1.7")),
      ),
      fc.uint8Array({ maxLength: 200 }).map((bytes) => new Uint8Array(bytes)),
    ),
    fc.constantFrom(...TYPES),
    fc.constantFrom(...FAILURES),
    async (bytes, type, failure) =>
      mustBeEmpty(
        await apiFaults(failure, "/v1/media", {
          method: "POST",
          body: bytes,
          headers: { "content-type": type },
        }),
      ),
  ),
);

const googleUploads = property(
  "a file in Google's way, in one body of two parts",
  300,
  fc.asyncProperty(form, ([bytes, type]) => {
    try {
      multipartRelated(type.replace("form-data", "related"), bytes);
    } catch (thrown) {
      if (!(thrown instanceof GatewayError) || thrown.code !== "invalid_request") throw thrown;
    }
    return Promise.resolve();
  }),
);

const signed = property(
  "an address that nobody has signed opens nothing",
  200,
  fc.asyncProperty(
    fc.constantFrom("GET", "PUT"),
    fc.array(
      fc.tuple(fc.constantFrom("expires", "signature", "sig", "sha256", "size", "type", "token"), oddText),
      {
        maxLength: 6,
      },
    ),
    async (method, query) => {
      const search = query.map(([name, text]) => `${name}=${encodeURIComponent(text.toWellFormed())}`).join(
        "&",
      );
      const { receive, asked } = apiInProcess(FAILURES[0]!);
      const response = await receive(
        new Request(`http://gateway/api/v1/blobs/a/b?${search}`, {
          method,
          ...(method === "PUT" && { body: "x" }),
        }),
      );
      const text = await response.text();
      if (response.status < 400 || response.status >= 500) throw new Error(`${response.status} ${text}`);
      if (asked.length > 0) throw new Error(`the database was asked: ${asked[0]![0]}`);
    },
  ),
);

const BOT_SECRET = "a-secret-of-telegrams";
const updates = property(
  "an update of Telegram's is taken or refused, and read or passed over",
  400,
  fc.asyncProperty(body(samples.UPDATES), async (bytes) => {
    const logged: string[] = [];
    const taken: unknown[] = [];
    const unused = () => Promise.reject(new Error("not asked here"));
    const receive = createTelegramEndpoint({
      functionName: "telegram",
      clock: hastyClock(),
      newId: () => "id",
      log: (...line) => void logged.push(JSON.stringify(line)),
      open: () => ({
        bot: { id: 1, secret: BOT_SECRET, api: { call: unused, download: unused } },
        rows: {
          take: (_: number, all: unknown[]) => {
            taken.push(...all);
            return Promise.resolve({ taken: all.length, wake: false });
          },
          // deno-lint-ignore no-explicit-any -- the others are not asked.
        } as any,
        webhookUrl: "http://gateway/telegram",
        authorise: () => Promise.reject(new GatewayError("credential_missing")),
        counting: (_, verify) => verify(),
        wake: () => Promise.resolve(),
        background: () => {},
      }),
    });
    const response = await receive(
      new Request("http://gateway/telegram", {
        method: "POST",
        body: bytes,
        headers: { "x-telegram-bot-api-secret-token": BOT_SECRET },
      }),
    );
    const text = await response.text();
    mustBeEmpty([...wrongWith("", response, text), ...leaks(text, ...logged)]);
    if ((response.status === 200) !== (taken.length === 1)) {
      throw new Error(`${response.status}, ${taken.length}`);
    }
    for (const one of taken as { update: Record<string, unknown> }[]) {
      for (const said of Object.values(one.update)) mustBeEmpty(messageFaults(said));
    }
  }),
);

/** What an update's message becomes: within what the tables take, or nothing. */
function messageFaults(said: unknown): string[] {
  const message = readMessage(said, false);
  if (message === null) return [];
  const found = attachmentOf(said as Record<string, unknown>, ["photo", "thumbnail", "image/*"]);
  const faults: string[] = [];
  if (message.text.length > 16_000 || !message.text.isWellFormed()) faults.push("its text");
  if (message.links.length > MAX_LINKS || message.links.some((link) => !/^https?:/.test(link))) {
    faults.push("links");
  }
  if (message.source.length > 100 || !message.source.startsWith("telegram:")) faults.push(message.source);
  if (JSON.stringify(message.facts).length > 8_000) faults.push("its facts are long");
  if (found !== null && JSON.stringify(found.attachment).length > 8_000) {
    faults.push("its attachment is long");
  }
  return faults;
}

const CHECKS: readonly [string, () => LineCheck, readonly unknown[]][] = [
  ["OpenAI", () => openaiLines("/v1/chat/completions"), samples.OPENAI_LINES],
  ["Gemini", () => geminiLines(geminiBatchEndpoint("gemma-4-31b-it")), samples.GEMINI_LINES],
  ["Anthropic", () => anthropicLines(), samples.ANTHROPIC_LINES],
];

async function checkedIn(pieces: Uint8Array[], check: LineCheck) {
  async function* file() {
    yield* pieces;
  }
  const all = [];
  for await (const line of checkedLines(file(), check)) all.push(line);
  return all;
}

const batches = CHECKS.map(([whose, check, lines]) =>
  property(
    `a file of lines for a batch of ${whose}`,
    200,
    fc.asyncProperty(
      fc.oneof(
        { weight: 3, arbitrary: fc.array(spoilt(lines), { maxLength: 8 }).map(asLines) },
        { weight: 1, arbitrary: bitten(fc.array(spoilt(lines), { maxLength: 8 }).map(asLines)) },
        { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }) },
      ),
      cuts,
      async (bytes, at) => {
        const whole = await checkedIn([bytes], check());
        const cut = await checkedIn(inPieces(bytes, at), check());
        // What is wrong with all of it is all that is told.
        const problemsOf = (all: typeof whole) =>
          JSON.stringify(all.filter(({ line }) => line === null).at(0) ?? all);
        if (problemsOf(whole) !== problemsOf(cut)) throw new Error("another file, since it was cut");
        if (whole.length === 0) throw new Error("nothing is said of it");
        const wrong = whole.filter((line) => "code" in line);
        if (wrong.length > MAX_ERRORS) throw new Error(`${wrong.length} errors`);
        const lines = whole.filter((line): line is CheckedLine => !("code" in line));
        for (const { customId, path, body } of lines) {
          const stored = JSON.stringify({ customId, path, body });
          if (/\\u0000|\\ud[89a-f]/.test(stored)) throw new Error(`not to be stored: ${stored}`);
        }
      },
    ),
  )
);

function asLines(values: readonly unknown[]): Uint8Array {
  return new TextEncoder().encode(values.map((value) => JSON.stringify(value) ?? "").join("\n"));
}

const pictures = property(
  "a picture is measured, hashed and stripped, or passed over",
  250,
  fc.asyncProperty(
    bitten(
      fc.tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }), fc.boolean()).map(
        ([width, height, png]) => png ? pngOf(scene(3, width, height)) : jpegOf(scene(3, width, height)),
      ),
    ),
    async (bytes) => {
      const header = pictureHeader(bytes);
      if (header !== null) await dhashOf(bytes, header);
      try {
        withoutMetadata(bytes);
      } catch (thrown) {
        if (!(thrown instanceof NotStripped)) throw thrown;
      }
    },
  ),
);

const HTML = [
  "<html><head><title>A</title></head><body><article><h1>A</h1>",
  "<p>Some words, and more of them, so that there is something to read here.</p>",
  "</article></body></html>",
  "<div>",
  "</div>",
  "<p",
  ">",
  "&amp;",
  "&#x0;",
  "&",
  "<!--",
  "-->",
  "<script>",
  "</script>",
  "<svg><title>",
  '<meta charset="x">',
  '<meta property="article:published_time" content="99999">',
  "<template>",
  "<table><tr><td>",
  "\u0000",
  "<a href='http://a/'>",
];
const pages = property(
  "a page of the web is read, or there is nothing to read in it",
  150,
  fc.asyncProperty(
    fc.array(fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...HTML) }, oddText), { maxLength: 30 }),
    fc.oneof(
      fc.constantFrom("text/html", "text/html; charset=windows-1251", "text/html; charset=nothing"),
      oddText,
    ),
    (pieces, type) => {
      const { text } = decodePage(new TextEncoder().encode(pieces.join("")), type);
      const { title, article } = readPage(text);
      const stored = JSON.stringify([title, article]);
      if (/\\u0000|\\ud[89a-f]/.test(stored)) throw new Error(`not to be stored: ${stored}`);
      if (article !== null && new TextEncoder().encode(article.text).length > 200_000) {
        throw new Error("too long");
      }
      parseRobots(text).allows(pieces[0] ?? "/");
      return Promise.resolve();
    },
  ),
);

const addresses = property(
  "a link has one spelling, and the same comes back as it is",
  400,
  fc.asyncProperty(
    fc.array(
      fc.oneof(
        fc.constantFrom(
          "http://",
          "https://a.example",
          "/",
          "//",
          ":80",
          "@",
          "?a=b",
          "&utm_x=1",
          "%41",
          "%",
          ";jsessionid=1",
          "#!a",
          "..",
          "www.google.com/amp/s/",
          ".cdn.ampproject.org/c/s/",
          "xn--",
          "é",
          ")",
          "(",
        ),
        oddText,
      ),
      { maxLength: 8 },
    ),
    (parts) => {
      const text = parts.join("");
      const found = canonicalUrl(text);
      if (found !== null && canonicalUrl(found) !== found) {
        throw new Error(`${found}, and then ${canonicalUrl(found)}`);
      }
      for (const { canonical_url } of linksOf(`See ${text}, and ${text}).`, { links: [text] })) {
        if (canonicalUrl(canonical_url) !== canonical_url) throw new Error(canonical_url);
      }
      return Promise.resolve();
    },
  ),
);

const tables = property(
  "a table of limits is read, or its faults are told by line",
  250,
  fc.asyncProperty(
    fc.array(
      fc.oneof(
        {
          weight: 5,
          arbitrary: fc.constantFrom("Model", "RPM", "TPM", "|", ",", "\t", "\n", '"', "5", "1M", "---"),
        },
        oddText,
      ),
      { maxLength: 40 },
    ),
    (pieces) => {
      const text = pieces.join("");
      const { rows, problems } = readLimitsTable(text);
      const lines = text.split(/\r\n?|\n/).length;
      if ([...rows, ...problems].some(({ line }) => line < 1 || line > lines)) {
        throw new Error("a line that is none");
      }
      if (rows.length === 0 && problems.length === 0) throw new Error("nothing is said of it");
      return Promise.resolve();
    },
  ),
);

export const AROUND: Property[] = [
  apiBodies,
  apiQueries,
  apiPaths,
  forms,
  partCounts,
  files,
  googleUploads,
  signed,
  updates,
  ...batches,
  pictures,
  pages,
  addresses,
  tables,
];
