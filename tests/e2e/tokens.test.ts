/** Consumers and notebooks as they meet the gateway: over HTTP, with nothing but their own credential. */
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { createAdmin } from "../../shared/database/admin.ts";
import { rpcTransport } from "../../shared/database/transport/rpc_transport.ts";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";
import { empty } from "../harness/rows.ts";
import { moveClock, stopClock } from "../harness/database_clock.ts";
import { until } from "../harness/patience.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

let stack: TestStack;
let sql: postgres.Sql;
let admin: ReturnType<typeof createAdmin>;
let service: string;
let notebook: string;

const MODEL = "gemma-4-31b-it";

beforeAll(async () => {
  stack = await startTestStack({ emulator: { latencyMs: 5 } });
  sql = postgres(stack.databaseUrl, { max: 4, onnotice: () => {} });
  admin = createAdmin(rpcTransport({ url: stack.url, secretKey: stack.keys.secret }));
  service = await add("bot", "service");
  notebook = await add("notes", "notebook", { models: [MODEL], maxClass: "batch" });
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await stack?.stop();
});
beforeEach(async () => {
  await empty(sql, "eve.issue_windows");
});

async function add(name: string, kind: "service" | "notebook", options: Record<string, unknown> = {}) {
  const secret = await mintConsumerSecret(kind);
  await admin.addConsumer({ name, kind, keyId: secret.keyId, proof: secret.proof, ...options });
  return secret.text;
}

const FUNCTIONS = () => `${stack.url}/functions/v1`;

/** Asks for a token as an OAuth client does; gives the status, the body and the headers. */
async function askToken(
  fields: Record<string, string>,
  headers: Record<string, string> = {},
) {
  const response = await fetch(`${FUNCTIONS()}/issue-kaggle-token`, {
    method: "POST",
    headers,
    body: new URLSearchParams({ grant_type: "client_credentials", ...fields }),
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
}

async function tokenFor(fields: Record<string, string> = {}): Promise<string> {
  const { body } = await askToken({ client_secret: notebook, ...fields });
  expect(body).toHaveProperty("access_token");
  return body.access_token;
}

const ask = (headers: Record<string, string>, body: Record<string, unknown> = {}, query = "") =>
  fetch(`${FUNCTIONS()}/llm-invoke${query}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ model: MODEL, prompt: "Hello", ...body }),
  });

const codeOf = async (response: Response) => [response.status, (await response.json()).error?.code];

describe("[security.token-leak] a token", () => {
  test("is issued in OAuth's form, and kept by no cache", async () => {
    const { status, headers, body } = await askToken({
      client_secret: notebook,
      scope: `model:${MODEL} requests:5`,
      ttl: "300",
    });
    expect(status).toBe(200);
    expect(body).toEqual({
      access_token: expect.stringMatching(/^eyJ[\w-]+\.[\w-]+\.[\w-]+$/),
      token_type: "Bearer",
      expires_in: 300,
      scope: `model:${MODEL} class:batch requests:5`,
    });
    expect(headers.get("cache-control")).toBe("no-store");
    expect(headers.get("pragma")).toBe("no-cache");
  });

  test.each<[string, () => Promise<Response>]>([
    [
      "the password of Basic",
      () => post({ authorization: `Basic ${btoa(`notes:${notebook}`)}` }, "grant_type=client_credentials"),
    ],
    ["Bearer", () => post({ authorization: `Bearer ${notebook}` }, "grant_type=client_credentials")],
    ["JSON", () =>
      post({ "content-type": "application/json" }, {
        grant_type: "client_credentials",
        client_secret: notebook,
        models: [MODEL],
        requests: 3,
      })],
    [
      "JSON beside the publishable key",
      () =>
        post({
          "content-type": "application/json",
          apikey: stack.keys.publishable,
          authorization: `Bearer ${stack.keys.publishable}`,
        }, {
          grant_type: "client_credentials",
          client_id: "notes",
          client_secret: notebook,
        }),
    ],
    [
      "the project's key, for a consumer by name",
      () => post({ apikey: stack.keys.secret }, "grant_type=client_credentials&client_id=notes"),
    ],
  ])("can be asked for with %s", async (_, request) => {
    const response = await request();
    expect(await response.json()).toMatchObject({ token_type: "Bearer" });
  });

  test.each<[string, Record<string, string>]>([
    ["as Bearer", {}],
    ["in x-goog-api-key", {}],
    ["as apikey", {}],
    ["in the query", {}],
  ])("calls a model %s, on its consumer's account and as batch", async (place) => {
    const token = await tokenFor();
    const response = await ({
      "as Bearer": () => ask({ authorization: `Bearer ${token}` }),
      "in x-goog-api-key": () => ask({ "x-goog-api-key": token }),
      "as apikey": () => ask({ apikey: token }),
      "in the query": () => ask({}, {}, `?key=${token}`),
    }[place]!)();
    expect(response.status).toBe(200);
    const { request_id } = await response.json();
    await settled();
    expect(
      await sql`select c.name, r.class, r.token_id is not null as with_token from eve.requests r join eve.consumers c on c.id = r.consumer_id where r.request_id = ${request_id}`,
    ).toEqual([{ name: "notes", class: "batch", with_token: true }]);
  });

  test("is refused what its consumer may not, and what it was narrowed to", async () => {
    const token = await tokenFor();
    expect(await codeOf(await ask({ authorization: `Bearer ${token}` }, { model: "gemini-3.5-flash" })))
      .toEqual([
        403,
        "model_not_allowed",
      ]);
    expect((await askToken({ client_secret: notebook, models: "gemini-3.5-flash" })).body).toMatchObject({
      error: "invalid_scope",
    });
    expect((await askToken({ client_secret: notebook, class: "interactive" })).body).toMatchObject({
      error: "invalid_scope",
    });
  });

  test("ends at the very next call once it is revoked", async () => {
    const token = await tokenFor();
    expect((await ask({ authorization: `Bearer ${token}` })).status).toBe(200);
    const { jti } = JSON.parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/")));
    expect(await admin.revokeTokens({ tokenId: jti, reason: "test" })).toEqual([jti]);
    expect(await codeOf(await ask({ authorization: `Bearer ${token}` }))).toEqual([401, "token_revoked"]);
  });

  test("raced by 50 callers is good for exactly its budget", async () => {
    // Nothing but the budget refuses: neither the lane nor Google.
    await sql`update public.google_ai_model_limits set rpm = null, tpm = null where model = ${MODEL}`;
    await (await fetch(`${stack.emulatorUrl}/__control/limits`, {
      method: "POST",
      body: JSON.stringify([{ model: MODEL, rpm: null, tpm: null }]),
    })).body?.cancel();
    const token = await tokenFor({ requests: "9" });
    const responses = await Promise.all(
      Array.from({ length: 50 }, (_, n) => ask({ authorization: `Bearer ${token}` }, { prompt: `Say ${n}` })),
    );
    const codes = await Promise.all(responses.map(codeOf));
    expect(codes.filter(([status]) => status === 200)).toHaveLength(9);
    expect(codes.filter(([, code]) => code === "budget_exhausted")).toHaveLength(41);
  });
});

describe("nobody else gets one", () => {
  test.each<[string, () => Promise<Response>, number, string]>([
    ["no credential", () => post({}, "grant_type=client_credentials"), 401, "invalid_client"],
    [
      "a wrong secret",
      () => post({}, `grant_type=client_credentials&client_secret=${mistyped(notebook)}`),
      401,
      "invalid_client",
    ],
    [
      "an unknown consumer",
      () =>
        post(
          {},
          `grant_type=client_credentials&client_secret=eve_notebook_${"0".repeat(16)}_${"0".repeat(64)}`,
        ),
      401,
      "invalid_client",
    ],
    [
      "a malformed secret",
      () => post({}, "grant_type=client_credentials&client_secret=eve_notebook_x"),
      401,
      "invalid_client",
    ],
    [
      "another's name",
      () => post({}, `grant_type=client_credentials&client_id=bot&client_secret=${notebook}`),
      401,
      "invalid_client",
    ],
    [
      "the publishable key",
      () => post({ apikey: stack.keys.publishable }, "grant_type=client_credentials&client_id=notes"),
      401,
      "invalid_client",
    ],
    [
      "the publishable key as a secret",
      () => post({}, `grant_type=client_credentials&client_id=notes&client_secret=${stack.keys.publishable}`),
      401,
      "invalid_client",
    ],
    [
      "a service's key",
      () => post({}, `grant_type=client_credentials&client_secret=${service}`),
      400,
      "unauthorized_client",
    ],
    [
      "the project's key for nobody",
      () => post({ apikey: stack.keys.secret }, "grant_type=client_credentials"),
      400,
      "invalid_request",
    ],
    [
      "the project's key for an unknown consumer",
      () => post({ apikey: stack.keys.secret }, "grant_type=client_credentials&client_id=x"),
      401,
      "invalid_client",
    ],
    [
      "two credentials",
      () => post({ apikey: stack.keys.secret }, `grant_type=client_credentials&client_secret=${notebook}`),
      400,
      "invalid_request",
    ],
    ["no grant type", () => post({}, `client_secret=${notebook}`), 400, "invalid_request"],
    [
      "another grant type",
      () => post({}, `grant_type=password&client_secret=${notebook}`),
      400,
      "unsupported_grant_type",
    ],
    [
      "a parameter twice",
      () => post({}, `grant_type=client_credentials&client_secret=${notebook}&ttl=60&ttl=90`),
      400,
      "invalid_request",
    ],
    [
      "another content type",
      () => post({ "content-type": "text/plain" }, "grant_type=client_credentials"),
      400,
      "invalid_request",
    ],
    ["broken JSON", () => post({ "content-type": "application/json" }, "{"), 400, "invalid_request"],
    [
      "a body of a megabyte",
      () => post({}, `grant_type=client_credentials&x=${"x".repeat(1_000_000)}`),
      413,
      "invalid_request",
    ],
    [
      "an unknown scope",
      () => post({}, `grant_type=client_credentials&scope=admin&client_secret=${notebook}`),
      400,
      "invalid_scope",
    ],
    [
      "a life of a week",
      () => post({}, `grant_type=client_credentials&ttl=604800&client_secret=${notebook}`),
      400,
      "invalid_scope",
    ],
  ])("%s", async (_, request, status, error) => {
    const response = await request();
    const body = await response.json();
    expect([response.status, body.error]).toEqual([status, error]);
    expect(body.error_description).toMatch(/^[\x20-\x21\x23-\x5B\x5D-\x7E]{10,}$/);
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(response.headers.get("www-authenticate")).toBe(status === 401 ? 'Basic realm="eve"' : null);
  });

  test("by another method", async () => {
    const response = await fetch(`${FUNCTIONS()}/issue-kaggle-token`);
    await response.body?.cancel();
    expect([response.status, response.headers.get("allow")]).toEqual([405, "POST, OPTIONS"]);
  });

  test("[security.enrolment-leak] a client that asks too often learns when to come back", async () => {
    await stopClock(sql);
    onTestFinished(() => moveClock(sql, 0));
    for (let n = 0; n < 30; n++) await askToken({ client_secret: notebook.slice(0, -2) });
    const { status, headers, body } = await askToken({ client_secret: notebook });
    expect([status, body.error]).toEqual([429, "temporarily_unavailable"]);
    expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
  });
});

describe("a service consumer", () => {
  test.each(["authorization", "apikey", "x-goog-api-key"])("calls with its own key in %s", async (header) => {
    const value = header === "authorization" ? `Bearer ${service}` : service;
    const response = await ask({ [header]: value });
    expect(response.status).toBe(200);
    await response.body?.cancel();
  });

  test("goes on with the old key while the new one is brought out, and no longer", async () => {
    const old = await add("rotated", "service");
    const fresh = await mintConsumerSecret("service", old.split("_")[2]);
    await admin.rotateConsumer("rotated", fresh.proof, 3_600);
    for (const key of [old, fresh.text]) expect((await ask({ apikey: key })).status).toBe(200);
    await admin.rotateConsumer("rotated", fresh.proof, 0);
    expect(await codeOf(await ask({ apikey: old }))).toEqual([401, "credential_invalid"]);
  });

  test("that is off is refused at the next call, and served when it is on again", async () => {
    const key = await add("switched", "service");
    await admin.enableConsumer("switched", false);
    expect(await codeOf(await ask({ apikey: key }))).toEqual([403, "consumer_disabled"]);
    await admin.enableConsumer("switched", true);
    expect((await ask({ apikey: key })).status).toBe(200);
    await admin.removeConsumer("switched");
    expect(await codeOf(await ask({ apikey: key }))).toEqual([401, "credential_invalid"]);
  });
});

test("every issue, use, refusal and revocation is in the audit", async () => {
  const events = await sql`select distinct event from eve.access_log order by event`;
  expect(events.map((row) => row.event)).toEqual([
    "consumer_added",
    "consumer_disabled",
    "consumer_enabled",
    "consumer_removed",
    "consumer_rotated",
    "token_issued",
    "token_revoked",
  ]);
  const places = await sql`select distinct place from eve.access_refusals order by place`;
  expect(places.map((row) => row.place)).toEqual(["issue-kaggle-token", "llm-invoke"]);
  expect(await sql`select code from eve.refusals where token_id is not null group by code order by code`)
    .toEqual([
      { code: "budget_exhausted" },
      { code: "model_not_allowed" },
      { code: "token_revoked" },
    ]);
});

function post(headers: Record<string, string>, body: string | Record<string, unknown>): Promise<Response> {
  return fetch(`${FUNCTIONS()}/issue-kaggle-token`, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
}

/** Another secret under the same id. */
function mistyped(secret: string): string {
  return secret.replace(/.$/, (last) => last === "0" ? "1" : "0");
}

/** Answers go out before they are settled. */
function settled(): Promise<void> {
  return until(async () => {
    const [row] = await sql`select count(*)::int as n from eve.inflight`;
    return row!.n === 0;
  }, "a reservation is still open");
}

test("a stored answer goes to tokens of its scope: not to one without the model, nor to one of batch", async () => {
  const other = "gemini-3.5-flash";
  const secret = await add("two-models", "notebook", { models: [MODEL, other] });
  const scoped = (scope: string) => tokenFor({ client_secret: secret, scope });
  const [one, same, without, machine] = [
    await scoped(`model:${MODEL}`),
    await scoped(`model:${MODEL}`),
    await scoped(`model:${other}`),
    await scoped("class:batch"),
  ];
  const asked = { prompt: "Say who may read this", request_id: "kept-by-scope" };
  const askWith = (token: string) => ask({ authorization: `Bearer ${token}` }, asked);
  const first = await (await askWith(one)).json();
  expect(first.text).toBeTruthy();
  // Kept when it is settled, which is after the answer has gone.
  await expect.poll(async () => (await askWith(one)).headers.get("x-eve-replayed")).toBe("true");
  const replay = await askWith(same);
  expect([replay.headers.get("x-eve-replayed"), (await replay.json()).text]).toEqual(["true", first.text]);
  for (
    const [token, status, code] of [[without, 403, "model_not_allowed"], [
      machine,
      409,
      "request_id_reused",
    ]] as const
  ) {
    const refused = await askWith(token);
    const text = await refused.text();
    expect([refused.status, JSON.parse(text).error.code]).toEqual([status, code]);
    expect(text).not.toContain(first.text);
  }
});

test("requests that make no sense are counted, by code and by who sent them", async () => {
  const send = async (headers: Record<string, string>, path = "", body = "{") => {
    const response = await fetch(`${FUNCTIONS()}/llm-invoke${path}`, { method: "POST", headers, body });
    await response.body?.cancel();
    return response.status;
  };
  for (let n = 0; n < 3; n++) expect(await send({ apikey: service })).toBe(400);
  expect(await send({ apikey: stack.keys.secret }, "", "{}")).toBe(400);
  expect(await send({}, "/v2/nothing")).toBe(404);
  await expect.poll(
    async () =>
      (await sql`select code, subject, sum(times)::int as times from eve.bad_requests group by 1, 2`)
        .map(({ code, subject, times }) => `${code} ${subject} ${times}`),
  ).toEqual(
    expect.arrayContaining(["invalid_json bot 3", "invalid_request project 1", "not_found  1"]),
  );
});

describe("[security.wrong-credentials] wrong secrets from all over an IPv6 /64", () => {
  // Forty guesses within one minute, however long they take here.
  beforeEach(() => stopClock(sql));
  afterEach(() => moveClock(sql, 0));

  /** Each from an address of its own, as the platform's proxy would tell it. */
  const guesses = async (guess: (from: Record<string, string>) => Promise<number>) => {
    const statuses: Record<number, number> = {};
    for (let n = 0; n < 40; n++) {
      const status = await guess({ "cf-connecting-ip": `2001:db8:0:1::${n.toString(16)}` });
      statuses[status] = (statuses[status] ?? 0) + 1;
    }
    expect(statuses).toEqual({ 401: 30, 429: 10 });
  };
  const statusOf = async (response: Response) => {
    await response.body?.cancel();
    return response.status;
  };
  const secret = (name: string) => `${name}_${"0".repeat(16)}_${"0".repeat(64)}`;
  const NEIGHBOUR = { "cf-connecting-ip": "2001:db8:0:1:ffff::1" };

  test.each([
    ["a notebook's, for a token", () => secret("eve_notebook")],
    ["the project's, for a token", () => "sb_secret_" + "0".repeat(31)],
  ])("%s: 30 a minute, and its neighbour gets a token", async (_, wrong) => {
    await empty(sql, "eve.access_refusals");
    await guesses(async (from) =>
      (await askToken({ client_secret: wrong(), client_id: "notes" }, from)).status
    );
    expect((await sql`select from eve.access_refusals`).length).toBeLessThanOrEqual(4);
    expect((await askToken({ client_secret: notebook }, NEIGHBOUR)).status).toBe(200);
    expect((await askToken({ client_secret: stack.keys.secret, client_id: "notes" }, NEIGHBOUR)).status).toBe(
      200,
    );
  });

  test.each([
    ["a service's", () => secret("eve_service")],
    ["the project's", () => "sb_secret_" + "0".repeat(31)],
  ])("%s, to call with: 30 a minute, and its neighbour is served", async (_, wrong) => {
    await empty(sql, "eve.access_refusals");
    await guesses(async (from) => statusOf(await ask({ apikey: wrong(), ...from })));
    expect((await sql`select from eve.access_refusals`).length).toBeLessThanOrEqual(4);
    expect(await statusOf(await ask({ apikey: service, ...NEIGHBOUR }))).toBe(200);
    expect(await statusOf(await ask({ apikey: stack.keys.secret, ...NEIGHBOUR }))).toBe(200);
  });

  test.each([
    ["maintenance", "GET", "/metrics"],
    ["admin", "GET", "/whoami"],
  ])("the project's, at %s: 30 a minute", async (name, method, path) => {
    const at = (apikey: string, from: Record<string, string>) =>
      fetch(`${FUNCTIONS()}/${name}${path}`, { method, headers: { apikey, ...from } });
    await guesses(async (from) => statusOf(await at("sb_secret_" + "0".repeat(31), from)));
    expect(await statusOf(await at(stack.keys.secret, NEIGHBOUR))).not.toBe(429);
  });
});
