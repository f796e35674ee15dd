/**
 * What holds for every request and for every answer of an upstream, as properties: by `npm test` with one seed and a number
 * of cases, and by `npm run fuzz` with another seed for as long as one likes.
 */
import fc from "fast-check";
import { GatewayError } from "../../shared/contract/gateway_error.ts";
import { parseJson } from "../../shared/http/json.ts";
import { createTokenEndpoint } from "../../shared/identity/token_endpoint.ts";
import { MAX_EVENT_CHARS, readEvents } from "../../shared/providers/event_stream.ts";
import { readJsonLines } from "../../shared/providers/json_lines.ts";
import { checkValue } from "../../shared/schema/check.ts";
import { compileSchema } from "../../shared/schema/compile.ts";
import { tokenRules } from "../../shared/tokens/token_rules.ts";
import { bitten, body, cuts, headers, inPieces, spoilt } from "./arbitraries.ts";
import {
  functionInProcess,
  hastyClock,
  PROJECT,
  type ProviderName,
  PROVIDERS,
  SECRETS,
} from "./function_in_process.ts";
import { AROUND } from "./around_properties.ts";
import { leaks, mustBeEmpty, type Property, property, safe, wrongWith } from "./property.ts";
import * as samples from "./samples.ts";

const MODEL = "gemma-4-31b-it";
/** Addresses of llm-invoke, with requests that belong there. */
export const ROUTES: [string, readonly unknown[]][] = [
  ["", samples.NATIVE],
  ["/openai/v1/chat/completions", samples.CHAT],
  ["/openai/v1/responses", samples.RESPONSES],
  ["/openai/v1/embeddings", samples.OPENAI_EMBEDDINGS],
  ["/anthropic/v1/messages", samples.MESSAGES],
  ["/anthropic/v1/messages/count_tokens", samples.MESSAGES],
  [`/v1beta/models/${MODEL}:generateContent`, samples.GENERATE],
  [`/v1beta/models/${MODEL}:streamGenerateContent?alt=sse`, samples.GENERATE],
  [`/v1/models/${MODEL}:streamGenerateContent`, samples.GENERATE],
  [`/v1beta/models/${MODEL}:countTokens`, samples.GENERATE],
  ["/v1beta/models/gemini-embedding-001:embedContent", samples.GEMINI_EMBEDDINGS],
  ["/v1beta/models/gemini-embedding-001:batchEmbedContents", samples.GEMINI_EMBEDDINGS],
];

const HEADERS = [
  "x-eve-request-id",
  "x-eve-class",
  "x-eve-mode",
  "x-eve-max-wait-ms",
  "x-eve-capture",
  "x-eve-cache-ttl",
  "traceparent",
  "tracestate",
  "x-server-timeout",
  "x-goog-api-client",
  "content-length",
  "content-type",
  "x-forwarded-for",
  "cf-connecting-ip",
  "accept-encoding",
  "authorization",
  "x-goog-api-key",
  "anthropic-version",
  "anthropic-beta",
];
const VALUES = [
  "",
  "batch",
  "wait",
  "no_wait",
  "-1",
  "1e9",
  "NaN",
  "true",
  "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  "Bearer x.y.z",
  "Bearer eyJhbGciOiJub25lIn0.e30.",
  "Basic ::::",
  "::1",
  "fe80::1%eth0, 1.2.3.4",
  "application/json",
];

interface Upstream {
  status: number;
  headers: Record<string, string>;
  bytes: Uint8Array<ArrayBuffer>;
  cuts: number[];
  /** The connection breaks after the last piece. */
  breaks: boolean;
}

/** A 2xx: an answer or a stream of chunks, spoilt. */
function succeeding(answers: readonly unknown[]): fc.Arbitrary<Upstream> {
  const frame = fc.tuple(
    spoilt([...answers, ...samples.ERROR_BODIES]),
    fc.constantFrom("data: ", "data:", "", ": ", "event: x\ndata: "),
    fc.constantFrom("\n\n", "\r\n\r\n", "\n", "\r"),
  );
  const frames = fc.array(frame, { maxLength: 5 }).map((all) =>
    new TextEncoder().encode(
      all.map(([value, head, end]) => `${head}${JSON.stringify(value)}${end}`).join("") + "data: [DONE]\n\n",
    )
  );
  return fc.record({
    status: fc.constantFrom(200, 200, 200, 204, 201),
    headers: fc.constantFrom<Record<string, string>>({ "content-type": "application/json" }, {
      "content-type": "text/event-stream",
    }, {}),
    bytes: fc.oneof(body(answers), body(samples.ERROR_BODIES), bitten(frames), frames),
    cuts,
    breaks: fc.boolean(),
  });
}

/** A refusal that repeats the key, in whatever form. */
const refusing: fc.Arbitrary<Upstream> = fc.record({
  status: fc.constantFrom(301, 302, 400, 401, 403, 404, 408, 409, 413, 429, 500, 502, 503, 504, 418, 599),
  headers: headers(["retry-after", "content-type", "location", "x-ratelimit-reset-requests"], [
    "3",
    "-1",
    "Fri, 31 Dec 1999 23:59:59 GMT",
    "1e99",
    "http://169.254.169.254/",
  ]),
  bytes: spoilt(samples.ERROR_BODIES).map((value) =>
    new TextEncoder().encode(`${JSON.stringify(value)} key=${SECRETS.key}.`)
  ),
  cuts,
  breaks: fc.boolean(),
});

const ANSWERS: Record<ProviderName, readonly unknown[]> = {
  google: samples.GOOGLE_ANSWERS,
  openai: samples.OPENAI_ANSWERS,
  gigachat: samples.OPENAI_ANSWERS,
  yandexgpt: samples.YANDEX_ANSWERS,
};

const upstreamOf = (provider: ProviderName) =>
  fc.oneof({ weight: 4, arbitrary: succeeding(ANSWERS[provider]) }, { weight: 1, arbitrary: refusing });

const WELL: Record<ProviderName, unknown> = {
  google: samples.GOOGLE_ANSWERS[0],
  openai: samples.OPENAI_ANSWERS[0],
  gigachat: samples.OPENAI_ANSWERS[0],
  yandexgpt: samples.YANDEX_ANSWERS[0],
};
/** Answers each call as it is meant to be answered: whole, as a stream, with an embedding. */
function wellAnswering(provider: ProviderName): typeof fetch {
  return ((url: string | URL | Request, init?: RequestInit) => {
    const streams = String(url).includes("streamGenerate") || String(init?.body).includes('"stream":true');
    const answer = String(url).includes("batchEmbed")
      ? embeddingsFor(String(init?.body))
      : String(url).includes("mbed")
      ? samples.GOOGLE_ANSWERS.at(-1)
      : WELL[provider];
    const head = streams && provider !== "yandexgpt" ? "data: " : "";
    const bytes = new TextEncoder().encode(`${head}${JSON.stringify(answer)}\n\n`);
    return fetchOf({ status: 200, headers: {}, bytes, cuts: [], breaks: false })(url, init);
  }) as typeof fetch;
}

/** As many as were asked for. */
function embeddingsFor(body: string): unknown {
  const { requests } = JSON.parse(body) as { requests: unknown[] };
  return { embeddings: requests.map(() => ({ values: [1, 0] })) };
}

/** What a linked picture is. */
const PICTURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);

function fetchOf({ status, headers, bytes, cuts, breaks }: Upstream): typeof fetch {
  return ((url: string | URL | Request) => {
    // GigaChat's access token comes from where the answers come from.
    if (String(url).endsWith("/oauth")) {
      return Promise.resolve(Response.json({ access_token: SECRETS.key, expires_at: 9e15 }));
    }
    if (String(url).endsWith(".png")) {
      return Promise.resolve(new Response(PICTURE, { headers: { "content-type": "image/png" } }));
    }
    if (status === 204) return Promise.resolve(new Response(null, { status, headers: safe(headers) }));
    const pieces = inPieces(bytes, cuts);
    const stream = new ReadableStream<Uint8Array>({
      pull(controller) {
        const next = pieces.shift();
        if (next !== undefined) controller.enqueue(next);
        else if (breaks) controller.error(new TypeError(`connection reset, key=${SECRETS.key}`));
        else controller.close();
      },
    }, { highWaterMark: 0 });
    return Promise.resolve(new Response(stream, { status, headers: safe(headers) }));
  }) as typeof fetch;
}

/** Each sample as it is, and what it is answered with: that the cases begin where requests are answered. */
export async function statusesOfSamples(): Promise<Record<string, number[]>> {
  const found: Record<string, number[]> = {};
  const network = wellAnswering("google");
  const real = globalThis.fetch;
  globalThis.fetch = network;
  try {
    for (const [path, bodies] of ROUTES) {
      found[path] = [];
      for (const sample of bodies) {
        const fn = functionInProcess("google", network);
        const response = await fn.receive(
          new Request(`http://gateway/llm-invoke${path}`, {
            method: "POST",
            body: JSON.stringify(sample),
            headers: { apikey: SECRETS.project },
          }),
        );
        await response.text();
        found[path].push(response.status);
      }
    }
  } finally {
    globalThis.fetch = real;
  }
  return found;
}

/** Sends a request through the function, and says what is wrong with what comes back. */
async function faultsOf(
  provider: ProviderName,
  network: typeof fetch,
  path: string,
  init: { bytes: Uint8Array<ArrayBuffer>; headers: Record<string, string> },
): Promise<string[]> {
  const fn = functionInProcess(provider, network);
  const real = globalThis.fetch;
  globalThis.fetch = network;
  try {
    const sent = safe(init.headers);
    if (!sent.has("authorization") && !sent.has("x-goog-api-key")) sent.set("apikey", SECRETS.project);
    const request = new Request(`http://gateway/llm-invoke${path}`, {
      method: "POST",
      body: init.bytes,
      headers: sent,
    });
    const response = await fn.receive(request);
    const text = await response.text();
    await Promise.all(fn.afterwards);
    return [
      ...wrongWith(path, response, text),
      ...leaks([...response.headers].join("\n"), text, ...fn.logged),
    ];
  } finally {
    globalThis.fetch = real;
  }
}

const requests = ROUTES.map(([path, bodies]) =>
  property(
    `a request to ${path || "/"}`,
    150,
    fc.asyncProperty(
      fc.constantFrom(...PROVIDERS),
      body(bodies),
      fc.oneof({ weight: 3, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: headers(HEADERS, VALUES) }),
      async (provider, bytes, sent) =>
        mustBeEmpty(await faultsOf(provider, wellAnswering(provider), path, { bytes, headers: sent })),
    ),
  )
);

const paths = property(
  "any path and method",
  150,
  fc.asyncProperty(
    fc.array(
      fc.oneof(
        fc.constantFrom(
          "openai",
          "anthropic",
          "v1",
          "v1beta",
          "models",
          "jobs",
          ":",
          "..",
          "%zz",
          "%00",
          "chat",
        ),
        fc.string({ unit: "binary", maxLength: 8 }),
      ),
      { maxLength: 6 },
    ),
    fc.constantFrom("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"),
    headers(HEADERS, VALUES),
    async (parts, method, sent) => {
      const fn = functionInProcess("google", wellAnswering("google"));
      const response = await fn.receive(
        new Request(`http://gateway/llm-invoke/${parts.join("/").replace(/[?#]/g, "")}`, {
          method,
          headers: safe(sent),
        }),
      );
      const text = await response.text();
      if (response.status >= 500) throw new Error(`${response.status} ${text}`);
      mustBeEmpty(leaks(text, ...fn.logged));
    },
  ),
);

const upstreams = PROVIDERS.flatMap((provider) =>
  [false, true].map((stream) =>
    property(
      `${stream ? "a stream" : "an answer"} of ${provider}`,
      200,
      fc.asyncProperty(
        upstreamOf(provider),
        fc.constantFrom(
          "",
          "/openai/v1/chat/completions",
          "/openai/v1/responses",
          "/anthropic/v1/messages",
          "gemini",
        ),
        async (upstream, endpoint) => {
          const path = endpoint === "gemini"
            ? `/v1beta/models/${MODEL}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`
            : endpoint;
          const asked = endpoint === ""
            ? { model: MODEL, prompt: "Hello", stream }
            : endpoint === "gemini"
            ? samples.GENERATE[0]
            : {
              ...(endpoint.endsWith("messages")
                ? samples.MESSAGES[0]
                : endpoint.endsWith("responses")
                ? samples.RESPONSES[0]
                : samples.CHAT[0]) as object,
              stream,
            };
          const bytes = new TextEncoder().encode(JSON.stringify(asked));
          mustBeEmpty(await faultsOf(provider, fetchOf(upstream), path, { bytes, headers: {} }));
        },
      ),
    )
  )
);

const embeddings = property(
  "an embedding of google",
  100,
  fc.asyncProperty(upstreamOf("google"), async (upstream) => {
    const bytes = new TextEncoder().encode(JSON.stringify(samples.OPENAI_EMBEDDINGS[0]));
    mustBeEmpty(await faultsOf("google", fetchOf(upstream), "/openai/v1/embeddings", { bytes, headers: {} }));
  }),
);

/** Bytes of a stream, whole or bitten, and where they are cut. */
const streamed = fc.tuple(
  fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.array(
      fc.constantFrom(
        "data: ",
        "data",
        ":",
        "\n",
        "\r",
        "\r\n",
        "{",
        "}",
        "[",
        '"a"',
        "1",
        " ",
        "é",
        "\ufeff",
        "event: x",
      ),
      { maxLength: 60 },
    )
      .map((parts) => new TextEncoder().encode(parts.join(""))),
  ),
  cuts,
);

/** The pieces as a body that counts how often it is asked. */
function counted(pieces: Uint8Array[]) {
  const left = [...pieces];
  const state = { pulls: 0 };
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      state.pulls++;
      const next = left.shift();
      if (next === undefined) controller.close();
      else controller.enqueue(next);
    },
  }, { highWaterMark: 0 });
  return { stream, state };
}

async function allOf<Value>(values: AsyncIterable<Value>): Promise<Value[]> {
  const all: Value[] = [];
  for await (const value of values) all.push(value);
  return all;
}

const decoders = [
  property(
    "server-sent events are the same however they are cut",
    500,
    fc.asyncProperty(streamed, async ([bytes, at]) => {
      const whole = await allOf(readEvents(counted([bytes]).stream, MAX_EVENT_CHARS));
      const { stream, state } = counted(inPieces(bytes, at));
      const cut = await allOf(readEvents(stream, MAX_EVENT_CHARS));
      if (JSON.stringify(whole) !== JSON.stringify(cut)) {
        throw new Error(`${JSON.stringify(whole)} or ${JSON.stringify(cut)}`);
      }
      if (state.pulls > at.length + 2) throw new Error(`asked ${state.pulls} times`);
    }),
  ),
  property(
    "lines of JSON are the same however they are cut",
    500,
    fc.asyncProperty(streamed, async ([bytes, at]) => {
      const read = async (pieces: Uint8Array[]) => {
        try {
          return JSON.stringify(await allOf(readJsonLines(counted(pieces).stream)));
        } catch (thrown) {
          if (!(thrown instanceof SyntaxError)) throw thrown;
          return "no JSON";
        }
      };
      const whole = await read([bytes]);
      const cut = await read(inPieces(bytes, at));
      if (whole !== cut) throw new Error(`${whole} or ${cut}`);
    }),
  ),
  property(
    "bytes are JSON or an error with a code",
    500,
    fc.asyncProperty(body([...samples.NATIVE, ...samples.CHAT]), (bytes) => {
      try {
        parseJson(bytes);
      } catch (thrown) {
        if (!(thrown instanceof GatewayError) || thrown.code !== "invalid_json") throw thrown;
      }
      return Promise.resolve();
    }),
  ),
];

const SCHEMAS = [samples.NATIVE[1], samples.CHAT[1], samples.GENERATE[1]].map((one) => {
  // deno-lint-ignore no-explicit-any -- the samples' schemas, wherever they are.
  const sample = one as any;
  return sample.response_schema ?? sample.response_format?.json_schema.schema ??
    sample.generation_config.response_schema;
});
const MAX_STEPS = 20_000;
const schemas = property(
  "a schema is refused by its place, or checks any value in counted steps",
  500,
  fc.asyncProperty(
    spoilt(SCHEMAS),
    spoilt([{ title: "a", when: null, tags: ["a"], price: 1 }, []]),
    (schema, value) => {
      let compiled;
      try {
        compiled = compileSchema(schema, "schema");
      } catch (thrown) {
        if (!(thrown instanceof GatewayError) || thrown.code !== "invalid_request") throw thrown;
        return Promise.resolve();
      }
      const { steps } = checkValue(compiled, value, MAX_STEPS);
      // What goes beyond is the one piece of work that was too much: it is counted before it is done.
      if (checkValue(compiled, value, steps).outcome === "given_up" && steps < MAX_STEPS) {
        throw new Error(
          "steps differ",
        );
      }
      return Promise.resolve();
    },
  ),
);

const tokenRequests = property(
  "a request for a token",
  300,
  fc.asyncProperty(
    fc.oneof(
      body(samples.TOKEN_REQUESTS).map((bytes) => ({ bytes, type: "application/json" })),
      fc.dictionary(
        fc.constantFrom("grant_type", "client_secret", "client_id", "scope", "ttl"),
        fc.string({ unit: "binary" }),
      )
        .map((form) => ({
          bytes: new TextEncoder().encode(new URLSearchParams(form).toString()),
          type: "application/x-www-form-urlencoded",
        })),
    ),
    headers(HEADERS, VALUES),
    async ({ bytes, type }, sent) => {
      const logged: string[] = [];
      const receive = createTokenEndpoint({
        functionName: "issue-kaggle-token",
        clock: hastyClock(),
        newId: () => "id",
        log: (...line) => void logged.push(JSON.stringify(line)),
        open: () => ({
          project: PROJECT,
          tokens: tokenRules(PROJECT.url, [{ kid: "now", key: new Uint8Array(32).fill(7) }]),
          access: {
            issueToken: () =>
              Promise.resolve({
                status: "refused",
                code: "invalid_client",
                retryAfterMs: null,
                detail: null,
              }),
            noteRefusal: () => Promise.resolve(null),
          },
        }),
      });
      const response = await receive(
        new Request("http://gateway/issue-kaggle-token", {
          method: "POST",
          body: bytes,
          headers: safe({ "content-type": type, ...sent }),
        }),
      );
      const text = await response.text();
      const { error } = JSON.parse(text);
      if (response.status >= 500 || !/^[a-z_]+$/.test(error)) throw new Error(`${response.status} ${text}`);
      mustBeEmpty(leaks(text, ...logged));
    },
  ),
);

export const PROPERTIES: Property[] = [
  ...requests,
  paths,
  ...upstreams,
  embeddings,
  ...decoders,
  schemas,
  tokenRequests,
  ...AROUND,
];
