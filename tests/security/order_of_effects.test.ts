/** Identity before body before network: what each caller's request sets going, and in which order, told by what was touched. */
import { expect, test } from "vitest";
import { createAdminEndpoint } from "../../shared/admin/admin_endpoint.ts";
import { chargedName } from "../../shared/contract/caller.ts";
import { systemClock as clock } from "../../shared/runtime/clock.ts";
import { GatewayError } from "../../shared/contract/gateway_error.ts";
import { createRouter } from "../../shared/endpoints/router.ts";
import { geminiEndpoint } from "../../shared/endpoints/gemini/endpoint.ts";
import { nativeEndpoint } from "../../shared/endpoints/native/endpoint.ts";
import { anthropicEndpoint } from "../../shared/endpoints/anthropic/endpoint.ts";
import { openaiEndpoint } from "../../shared/endpoints/openai/endpoint.ts";
import { identify } from "../../shared/identity/identify.ts";
import { requireSecretKey } from "../../shared/identity/require_secret_key.ts";
import { createMaintenanceRouter } from "../../shared/maintenance/router.ts";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";
import { signToken } from "../../shared/tokens/sign.ts";
import { tokenRules } from "../../shared/tokens/token_rules.ts";
import { modelsAlone } from "../unit/endpoints/router_fixture.ts";

const PROJECT = {
  url: "http://127.0.0.1:54321",
  secretKeys: { default: "sb_secret_for_tests_only" },
  publishableKeys: { default: "sb_publishable_for_tests" },
};
const TOKENS = tokenRules(PROJECT.url, [{ kid: "now", key: new Uint8Array(32).fill(7) }]);
const SERVICE = await mintConsumerSecret("service");
const VALID = "9b7a3a52-30f7-4a9f-8a44-1f9b0a7c2b22";
const REVOKED = "1b7a3a52-30f7-4a9f-8a44-1f9b0a7c2b23";
const CONSUMER = "5f0c8f1e-7a7e-4bd7-9d0a-0d6a3c9f1a11";

const now = Math.floor(Date.now() / 1000);
const tokenOf = async (tokenId: string) => ({
  authorization: `Bearer ${await signToken({
    tokenId,
    consumerId: CONSUMER,
    scope: { models: null, class: "batch", requests: null, tokens: null },
    issuedAt: now - 3_600,
    expiresAt: now + 3_600,
  }, TOKENS)}`,
});

const ACTORS = {
  "nobody": {},
  "the publishable key": { apikey: PROJECT.publishableKeys.default },
  "an ordinary user": { authorization: "Bearer eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYXV0aGVudGljYXRlZCJ9.c2ln" },
  "a wrong consumer key": { apikey: SERVICE.text.replace(/.$/, (last) => last === "0" ? "1" : "0") },
  "a revoked token": await tokenOf(REVOKED),
  "a notebook's token": await tokenOf(VALID),
  "a consumer's key": { apikey: SERVICE.text },
  "the project's key": { apikey: PROJECT.secretKeys.default },
} satisfies Record<string, Record<string, string>>;
type Actor = keyof typeof ACTORS;

const MODEL = "gemma-4-31b-it";
const LARGE = "x".repeat(400_000);
const LINKS = Array.from({ length: 16 }, (_, n) => ({
  type: "image_url",
  image_url: { url: `https://pictures.example.com/${n}.png` },
}));
const ENDPOINTS: Record<string, { path: string; small: unknown; large: unknown }> = {
  native: {
    path: "",
    small: { model: MODEL, prompt: "Hello" },
    large: { model: MODEL, prompt: LARGE },
  },
  "chat completions": {
    path: "/openai/v1/chat/completions",
    small: { model: MODEL, messages: [{ role: "user", content: "Hello" }] },
    large: { model: MODEL, messages: [{ role: "user", content: LARGE }] },
  },
  responses: {
    path: "/openai/v1/responses",
    small: { model: MODEL, input: "Hello" },
    large: { model: MODEL, input: LARGE },
  },
  messages: {
    path: "/anthropic/v1/messages",
    small: { model: MODEL, max_tokens: 9, messages: [{ role: "user", content: "Hello" }] },
    large: { model: MODEL, max_tokens: 9, messages: [{ role: "user", content: LARGE }] },
  },
  gemini: {
    path: `/v1beta/models/${MODEL}:generateContent`,
    small: { contents: [{ parts: [{ text: "Hello" }] }] },
    large: { contents: [{ parts: [{ text: LARGE }] }] },
  },
};
const linked = { model: MODEL, messages: [{ role: "user", content: LINKS }] };
const linkedMessages = {
  model: MODEL,
  max_tokens: 9,
  messages: [{
    role: "user",
    content: LINKS.map(({ image_url: { url } }) => ({ type: "image", source: { type: "url", url } })),
  }],
};

/** What a request set going, in order; the same thing twice in a row once. */
function recorder() {
  const effects: string[] = [];
  return {
    effects,
    note: (effect: string) => {
      if (effects.at(-1) !== effect) effects.push(effect);
    },
  };
}

/** A body that tells when it is read, piece by piece, with or without its length in front. */
function request(
  url: string,
  body: unknown,
  headers: Record<string, string>,
  note: (effect: string) => void,
  known: boolean,
) {
  const bytes = new TextEncoder().encode(JSON.stringify(body));
  let at = 0;
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      note("body");
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(at, at += 100_000));
    },
  }, { highWaterMark: 0 });
  return new Request(url, {
    method: "POST",
    body: stream,
    headers: { ...headers, ...(known && { "content-length": String(bytes.length) }) },
  });
}

async function effectsOf(actor: Actor, path: string, body: unknown, known = true) {
  const { effects, note } = recorder();
  const links = {
    maxWaitMs: 1_000,
    clock,
    now: Date.now,
    newId: () => "id",
    resolve: () => {
      note("network");
      return Promise.resolve(["93.184.216.34"]);
    },
    fetch: () => {
      note("network");
      return Promise.resolve(
        new Response(new Uint8Array(4), { headers: { "content-type": "image/png" } }),
      );
    },
  };
  const receive = createRouter({
    functionName: "llm-invoke",
    clock,
    newId: () => crypto.randomUUID(),
    log: () => {},
    open: () => ({
      endpoints: [
        nativeEndpoint({ maxWaitMs: 1_000 }),
        geminiEndpoint({ maxWaitMs: 1_000 }),
        openaiEndpoint(links),
        anthropicEndpoint(links),
      ],
      resolve: modelsAlone,
      identify: (asked) => {
        note("identity");
        return identify(asked, {
          project: PROJECT,
          tokens: TOKENS,
          background: () => {},
          access: {
            authenticate: ({ proof }) =>
              Promise.resolve(
                proof === SERVICE.proof
                  ? { status: "known", consumerId: CONSUMER, name: "bot", kind: "service" }
                  : { status: "refused", code: "credential_invalid" },
              ),
            noteRefusal: () => Promise.resolve(null),
          },
        });
      },
      gateway: {
        invoke: () => {
          note("gateway");
          return Promise.reject(new GatewayError("rate_limited"));
        },
        stream: () => expect.unreachable(),
        embed: () => expect.unreachable(),
        countTokens: () => expect.unreachable(),
        models: (caller) => {
          note("authorisation");
          return caller.tokenId === REVOKED
            ? Promise.reject(new GatewayError("token_revoked"))
            : Promise.resolve([]);
        },
      },
      maxBodyBytes: 10 * 1024 * 1024,
    }),
  });
  const response = await receive(
    request(`http://gateway/llm-invoke${path}`, body, ACTORS[actor], note, known),
  );
  return { effects, status: response.status, body: await response.json() };
}

const STRANGERS = ["nobody", "the publishable key", "an ordinary user", "a wrong consumer key"] as const;
const sizes = ["small", "large"] as const;

test.each(Object.entries(ENDPOINTS))(
  "%s: a stranger's body is not read, whatever its size",
  async (_, endpoint) => {
    for (const actor of STRANGERS) {
      for (const size of sizes) {
        const { effects, status } = await effectsOf(actor, endpoint.path, endpoint[size]);
        expect.soft([401, 403], `${actor}, ${size}`).toContain(status);
        expect.soft(effects, `${actor}, ${size}`).toEqual(["identity"]);
      }
    }
  },
);

test.each(Object.entries(ENDPOINTS))(
  "%s: a token is asked about before a large body is read",
  async (_, endpoint) => {
    const welcome = await effectsOf("a notebook's token", endpoint.path, endpoint.large);
    expect(welcome.effects).toEqual(["identity", "authorisation", "body", "gateway"]);
    const revoked = await effectsOf("a revoked token", endpoint.path, endpoint.large);
    expect(revoked.effects).toEqual(["identity", "authorisation"]);
    expect(revoked.status).toBe(401);
    // Of a length that nobody announced: as soon as it shows.
    const chunked = await effectsOf("a revoked token", endpoint.path, endpoint.large, false);
    expect(chunked.effects).toEqual(["identity", "body", "authorisation"]);
    expect(chunked.status).toBe(401);
  },
);

test.each(Object.entries(ENDPOINTS))("%s: no question is asked where none is needed", async (_, endpoint) => {
  for (const actor of ["a consumer's key", "the project's key"] as const) {
    for (const size of sizes) {
      const { effects } = await effectsOf(actor, endpoint.path, endpoint[size]);
      expect.soft(effects, `${actor}, ${size}`).toEqual(["identity", "body", "gateway"]);
    }
  }
  const small = await effectsOf("a notebook's token", endpoint.path, endpoint.small);
  expect(small.effects).toEqual(["identity", "body", "gateway"]);
});

test.each([
  ["/openai/v1/chat/completions", linked],
  ["/anthropic/v1/messages", linkedMessages],
])(
  "[security.links] pictures behind links are fetched for callers who are welcome, and for nobody else: %s",
  async (path, linked) => {
    for (const actor of STRANGERS) {
      expect.soft((await effectsOf(actor, path, linked)).effects, actor).toEqual(["identity"]);
    }
    const revoked = await effectsOf("a revoked token", path, linked);
    expect(revoked.effects).toEqual(["identity", "body", "authorisation"]);
    expect(revoked.body.error.eve.code).toBe("token_revoked");
    const welcome = await effectsOf("a notebook's token", path, linked);
    expect(welcome.effects).toEqual(["identity", "body", "authorisation", "network", "gateway"]);
    const service = await effectsOf("a consumer's key", path, linked);
    expect(service.effects).toEqual(["identity", "body", "network", "gateway"]);
  },
);

test("one question is enough for a large body with links", async () => {
  const messages = [{ role: "user", content: [...LINKS, { type: "text", text: LARGE }] }];
  const { effects } = await effectsOf("a notebook's token", "/openai/v1/chat/completions", {
    model: MODEL,
    messages,
  });
  expect(effects).toEqual(["identity", "authorisation", "body", "network", "gateway"]);
});

test("the administrators' API reads nobody's body but theirs", async () => {
  const { effects, note } = recorder();
  const receive = createAdminEndpoint({
    functionName: "admin",
    open: () =>
      ({
        identify: () => {
          note("identity");
          return Promise.reject(new GatewayError("credential_insufficient"));
        },
        // deno-lint-ignore no-explicit-any -- nothing else of it may be touched.
      }) as any,
    origins: () => [],
    clock,
    newId: () => "id",
    log: () => {},
  });
  const sent = request("http://gateway/admin/providers/update", { stage_type: LARGE }, {}, note, true);
  expect((await receive(sent)).status).toBe(403);
  expect(effects).toEqual(["identity"]);
});

test("maintenance reads nobody's body but the project's", async () => {
  const { effects, note } = recorder();
  const receive = createMaintenanceRouter({
    functionName: "maintenance",
    open: () =>
      ({
        operations: [],
        authorise: (asked: Request) => {
          note("identity");
          return requireSecretKey(asked, PROJECT);
        },
        // deno-lint-ignore no-explicit-any -- nothing else of it may be touched.
      }) as any,
    clock,
    newId: () => "id",
    log: () => {},
  });
  for (const actor of [...STRANGERS, "a notebook's token", "a consumer's key"] as const) {
    effects.length = 0;
    const sent = request("http://gateway/maintenance/cleanup", { source: LARGE }, ACTORS[actor], note, true);
    expect.soft([401, 403], actor).toContain((await receive(sent)).status);
    expect.soft(effects, actor).toEqual(["identity"]);
  }
});

test("all tokens of a consumer are one caller, and the project is another", () => {
  const notebook = { kind: "notebook", consumerId: CONSUMER, tokenId: VALID, name: "a" } as const;
  expect(chargedName(notebook)).toBe(chargedName({ ...notebook, tokenId: REVOKED }));
  expect(chargedName({ kind: "project", consumerId: null, tokenId: null, name: "default" })).not.toBe(
    CONSUMER,
  );
});

test("large bodies of one token at once: the database is asked about it once, and each gets the answer", async () => {
  const AT_ONCE = 20;
  for (const [actor, status] of [["a notebook's token", 429], ["a revoked token", 401]] as const) {
    let asked = 0;
    let known = 0;
    const allKnown = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<void>();
    const receive = createRouter({
      functionName: "llm-invoke",
      clock,
      newId: () => crypto.randomUUID(),
      log: () => {},
      open: () => ({
        endpoints: [nativeEndpoint({ maxWaitMs: 1_000 })],
        resolve: modelsAlone,
        identify: async (request) => {
          const caller = await identify(request, {
            project: PROJECT,
            tokens: TOKENS,
            background: () => {},
            access: { authenticate: () => expect.unreachable(), noteRefusal: () => Promise.resolve(null) },
          });
          if (++known === AT_ONCE) allKnown.resolve();
          await allKnown.promise;
          return caller;
        },
        gateway: {
          invoke: () => Promise.reject(new GatewayError("rate_limited")),
          stream: () => expect.unreachable(),
          embed: () => expect.unreachable(),
          countTokens: () => expect.unreachable(),
          models: async () => {
            asked++;
            await answer.promise;
            if (actor === "a revoked token") throw new GatewayError("token_revoked");
            return [];
          },
        },
        maxBodyBytes: 10 * 1024 * 1024,
      }),
    });
    const send = () =>
      receive(request("http://gateway/llm-invoke", ENDPOINTS.native!.large, ACTORS[actor], () => {}, true));
    const responses = Promise.all(Array.from({ length: AT_ONCE }, send));
    await allKnown.promise;
    // What needs no answer has been done when a timer rings.
    await clock.sleep(0);
    expect(asked).toBe(1);
    answer.resolve();
    expect(new Set((await responses).map((response) => response.status))).toEqual(new Set([status]));
    expect(asked).toBe(1);
    // The answer holds for that moment: a later request asks again.
    expect((await send()).status).toBe(status);
    expect(asked).toBe(2);
  }
});
