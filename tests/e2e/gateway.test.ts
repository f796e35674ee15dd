/** The gateway as its callers meet it: over HTTP, through the real stack, with Google AI played by the emulator. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { LEFT_BEHIND } from "../endpoints/test_gateway.ts";
import { empty } from "../harness/rows.ts";
import { checkBooks, checkLimits, readGrants } from "../harness/checker.ts";
import { moveClock, stopClock } from "../harness/database_clock.ts";
import { until } from "../harness/patience.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

let stack: TestStack;
let sql: postgres.Sql;

beforeAll(async () => {
  stack = await startTestStack({ emulator: { latencyMs: 30 } });
  sql = postgres(stack.databaseUrl, { max: 4, onnotice: () => {} });
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await stack?.stop();
});
beforeEach(async () => {
  await settled();
  await empty(sql, ...LEFT_BEHIND);
  await sql`update public.google_ai_api_keys set is_active = true, blocked_until = null, blocked_reason = null`;
  await moveClock(sql, 0);
  await control("reset", {});
  await fetch(`${stack.emulatorUrl}/__control/faults`, { method: "DELETE" });
});

const control = (path: string, body: unknown) =>
  fetch(`${stack.emulatorUrl}/__control/${path}`, { method: "POST", body: JSON.stringify(body) });
const stats = async () => await (await fetch(`${stack.emulatorUrl}/__control/stats`)).json();

/** Waits until nothing is in flight: answers go out before they are settled. */
const settled = () => until(async () => await inFlight() === 0, "a reservation is still open");
async function inFlight(): Promise<number> {
  const [row] = await sql`select count(*)::int as n from eve.inflight`;
  return row!.n;
}

const ask = (body: Record<string, unknown>, init?: RequestInit) =>
  stack.invoke("llm-invoke", { model: "gemma-4-31b-it", prompt: "Hello", ...body }, init);

describe("a call", () => {
  test("answers, says what is left, and leaves its record", async () => {
    const response = await ask({ request_id: "first", metadata: { post: 7 } });
    expect(response.status).toBe(200);
    const body = await response.json();
    expect(body).toMatchObject({
      request_id: "first",
      model: "gemma-4-31b-it",
      text: expect.stringMatching(/./),
      finish_reason: "STOP",
      attempts: 1,
      wait_ms: 0,
      key_alias: expect.stringMatching(/^demo-/),
    });
    expect(response.headers.get("x-ratelimit-limit-requests")).toBe("30");
    expect(response.headers.get("x-ratelimit-remaining-requests")).toBe("29");
    expect(response.headers.get("x-ratelimit-reset-requests")).toMatch(/^(1m0|60)/);
    expect(response.headers.get("x-ratelimit-limit-tokens")).toBe("16000");
    await settled();
    expect(await sql`select state, metadata, attempts, total_tokens from eve.requests`).toEqual([
      { state: "succeeded", metadata: { post: 7 }, attempts: 1, total_tokens: body.usage.total_tokens },
    ]);
    expect(await sql`select outcome, input_tokens from eve.attempts`).toEqual([
      { outcome: "succeeded", input_tokens: body.usage.input_tokens },
    ]);
    expect(await sql`select model, request_id, total_tokens from public.token_usage`).toEqual([
      { model: "gemma-4-31b-it", request_id: "first", total_tokens: body.usage.total_tokens },
    ]);
  });

  test("asked twice with one request_id calls Google once and gets one answer", async () => {
    const first = await (await ask({ request_id: "same" })).json();
    await settled();
    const again = await ask({ request_id: "same" });
    expect(again.status).toBe(200);
    expect((await again.json()).text).toBe(first.text);
    expect(await sql`select sum(starts)::int as n from eve.lane_buckets`).toEqual([{ n: 1 }]);
  });

  test("honours a response schema", async () => {
    const response = await ask({
      prompt: "Концерт 14 февраля в 19:00 в Доме офицеров, билеты от 600 рублей. Дай JSON.",
      response_schema: {
        type: "object",
        properties: { date: { type: "string" }, price: { type: "string" } },
        required: ["date", "price"],
      },
    });
    expect(JSON.parse((await response.json()).text)).toMatchObject({
      date: expect.any(String),
      price: expect.any(String),
    });
  });

  test("of a model that has left is served by its successor, and says so", async () => {
    const response = await ask({ model: "gemma-3-27b" });
    expect(response.status).toBe(200);
    expect((await response.json()).model).toBe("gemma-4-31b-it");
    expect(response.headers.get("x-eve-model")).toBe("gemma-4-31b-it");
  });
});

describe("limits", () => {
  test("200 callers at once against one lane: 30 answers, 170 clean refusals, and Google refuses none", async () => {
    await sql`update public.google_ai_api_keys set is_active = (key_alias = 'demo-c')`;
    await stopClock(sql);
    // On a busy machine the last of 200 may be decided later than in 7.5 s, and this is about which, not about when.
    await sql`alter function public.eve_reserve set statement_timeout = '60s'`;
    await sql`alter function public.eve_reserve set lock_timeout = '60s'`;
    const responses = await Promise.all(
      Array.from({ length: 200 }, (_, n) => ask({ prompt: `Say ${n}`, mode: "no_wait" })),
    );
    const bodies = await Promise.all(responses.map((response) => response.json()));
    expect(responses.filter((response) => response.status === 200)).toHaveLength(30);
    const refused = responses.filter((response) => response.status === 429);
    expect(refused).toHaveLength(170);
    for (const response of refused) {
      expect(Number(response.headers.get("retry-after"))).toBeGreaterThanOrEqual(50);
    }
    expect(new Set(bodies.filter((body) => body.error).map((body) => body.error.code))).toEqual(
      new Set(["rate_limited"]),
    );
    expect((await stats()).refused.total).toBe(0);
    await settled();
    const grants = await readGrants(sql);
    expect(grants).toHaveLength(30);
    expect(checkLimits(grants, () => ({ rpm: 30, tpm: 16_000, rpd: 14_400 }))).toEqual([]);
    expect(await checkBooks(sql, grants)).toEqual([]);
  });

  test("[native.waiting] a call that waits starts at its time, and Google accepts it", async () => {
    await sql`update public.google_ai_model_limits set rpm = 1 where model = 'gemini-3.5-flash'`;
    await sql`update public.google_ai_api_keys set is_active = (key_alias = 'demo-c')`;
    await stopClock(sql);
    await sql`
      insert into eve.lanes (quota_project, model, span_number, span_starts, span_tokens)
      values ('demo-two', 'gemini-3.5-flash', (eve.clock_ms() - 59000) >> 16, 1, 1)`;
    // As if the lane's one start had been taken 59 s ago.
    await sql`
      insert into eve.lane_buckets (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
      select id, eve.clock_ms() - 59000, 1, 1, 0, 0 from eve.lanes`;
    const response = await ask({ model: "gemini-3.5-flash", max_wait_ms: 5_000 });
    expect(response.status).toBe(200);
    const { wait_ms } = await response.json();
    expect(wait_ms).toBeGreaterThan(900);
    expect(wait_ms).toBeLessThanOrEqual(1_250);
  });
});

describe("a prompt above an even share of the tokens, from batch", () => {
  // More than 16,000 / 30 tokens.
  const PROMPT = "Концерт в парке, вход свободный, начало в семь вечера. ".repeat(60);
  const methods = async (): Promise<string[]> =>
    (await (await fetch(`${stack.emulatorUrl}/__control/requests`)).json())
      .map(({ method }: { method: string }) => method);

  test("[native.class] is counted by Google first, and booked as counted", async () => {
    const response = await ask({ prompt: PROMPT, class: "batch" });
    expect(response.status).toBe(200);
    const { usage } = await response.json();
    expect(usage.input_tokens).toBeGreaterThan(16_000 / 30);
    expect(await methods()).toEqual(["countTokens", "generateContent"]);
    // As it was booked, before the settlement.
    expect(Number(response.headers.get("x-ratelimit-remaining-tokens"))).toBe(16_000 - usage.input_tokens);
    expect((await stats()).admitted.total).toBe(1);
  });

  test.each([
    ["fails", { kind: "status", error: "overloaded", match: { method: "countTokens" }, times: 1 }],
    ["takes too long", { kind: "hang", match: { method: "countTokens" }, times: 1 }],
  ])("is booked with room to spare where counting %s", async (_, fault) => {
    await control("faults", fault);
    const response = await ask({ prompt: PROMPT, class: "batch" });
    expect(response.status).toBe(200);
    const { usage, attempts } = await response.json();
    expect(attempts).toBe(1);
    const booked = 16_000 - Number(response.headers.get("x-ratelimit-remaining-tokens"));
    expect(booked).toBeGreaterThan(usage.input_tokens);
    await settled();
    expect(await sql`select sum(tokens)::int as tokens from eve.lane_buckets`)
      .toEqual([{ tokens: usage.input_tokens }]);
  });

  test("from a person starts at once, uncounted", async () => {
    expect((await ask({ prompt: PROMPT })).status).toBe(200);
    expect(await methods()).toEqual(["generateContent"]);
  });
});

describe("bad input: a code, a status, what to do, and no reservation left", () => {
  afterAll(async () => {
    await sql`update public.google_ai_api_keys set env_var_name = 'GOOGLE_API_KEY_' || upper(replace(key_alias, '-', '_'))`;
  });

  test.each([
    ["wrong JSON", () => ask({}, { body: "{" }), 400, "invalid_json"],
    ["an unknown field", () => ask({ promt: "x" }), 400, "invalid_request"],
    ["an empty prompt", () => ask({ prompt: "" }), 400, "empty_prompt"],
    ["an unknown model", () => ask({ model: "gemma-5" }), 404, "unknown_model"],
    [
      "a prompt above the lane's tokens",
      () => ask({ prompt: "слово ".repeat(20_000) }),
      413,
      "prompt_too_large",
    ],
    ["a body above the cap", () => ask({ prompt: "x".repeat(11 * 1024 * 1024) }), 413, "body_too_large"],
    ["no credential", () => ask({}, { headers: { apikey: "" } }), 401, "credential_missing"],
    [
      "the publishable key",
      () => ask({}, { headers: { apikey: stack.keys.publishable } }),
      403,
      "credential_insufficient",
    ],
    ["a wrong key", () => ask({}, { headers: { apikey: "sb_secret_wrong" } }), 401, "credential_invalid"],
  ])("%s", async (_name, call, status, code) => {
    const response = await call();
    const { error } = await response.json();
    expect({ status: response.status, code: error.code }).toEqual({ status, code });
    expect(error.message).toMatch(/\w+ .+/);
    expect(error.request_id).toBeTruthy();
    expect(await sql`select count(*)::int as n from eve.inflight`).toEqual([{ n: 0 }]);
    expect(await sql`select count(*)::int as n from eve.lane_buckets where starts > 0`).toEqual([{ n: 0 }]);
  });

  test("no active key", async () => {
    await sql`update public.google_ai_api_keys set is_active = false`;
    const response = await ask({});
    expect(response.status).toBe(503);
    expect((await response.json()).error.code).toBe("no_active_key");
  });

  test("[edge.secret-missing] a secret that is missing is that key's error: the next key answers, the key is marked, nothing is spent", async () => {
    await sql`update public.google_ai_api_keys set env_var_name = 'NOT_SET', priority = 1 where key_alias = 'demo-a'`;
    const response = await ask({});
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ attempts: 2 });
    await settled();
    expect(await sql`select blocked_reason from public.google_ai_api_keys where key_alias = 'demo-a'`)
      .toEqual([{ blocked_reason: "secret_missing" }]);
    expect(await sql`select sum(starts)::int as n from eve.lane_buckets`).toEqual([{ n: 1 }]);
    expect(await sql`select kind from eve.alerts`).toEqual([{ kind: "secret_missing" }]);
  });

  test("no key with a secret", async () => {
    await sql`update public.google_ai_api_keys set env_var_name = 'NOT_SET'`;
    const response = await ask({});
    expect(response.status).toBe(503);
    await settled();
    expect(await sql`select coalesce(sum(starts), 0)::int as n from eve.lane_buckets`).toEqual([{ n: 0 }]);
  });
});

describe("[G6.crashes] crashes", () => {
  test("the functions host killed in the middle of 20 calls loses no row and leaves nothing open past its lease", async () => {
    await sql`update public.google_ai_api_keys set env_var_name = 'GOOGLE_API_KEY_' || upper(replace(key_alias, '-', '_'))`;
    await control("faults", { kind: "hang", times: 20 });
    const calls = Array.from(
      { length: 20 },
      (_, n) => ask({ request_id: `killed${n}` }).then((r) => r.status, () => 0),
    );
    // All have reached Google: what is still on its way could be booked again, and leave a fault to a later call.
    await until(async () => (await stats()).faults.byKind.hang === 20 && await inFlight() === 20);
    stack.functions.get("llm-invoke")!.kill("SIGKILL");
    expect((await Promise.all(calls)).every((status) => status !== 200)).toBe(true);
    // It comes back by itself, and serves.
    await until(async () => (await ask({ model: "gemma-4-26b-a4b-it" })).status === 200, "it does not serve");
    expect(await sql`select count(*)::int as n from eve.inflight where request_id like 'killed%'`).toEqual([{
      n: 20,
    }]);
    // Their leases run out: the books close them, and what Google may have counted stays counted.
    await sql`update eve.inflight set lease_until = now() - interval '1 second' where request_id like 'killed%'`;
    expect(await sql`select public.eve_sweep() as swept`).toEqual([{ swept: { expired: 20 } }]);
    expect(
      await sql`select state, count(*)::int as n from eve.requests where request_id like 'killed%' group by 1`,
    )
      .toEqual([{ state: "expired", n: 20 }]);
    // The call that showed it serving again is settled after its answer: not between the two readings.
    await settled();
    const grants = await readGrants(sql);
    expect(grants.filter((grant) => grant.outcome === "expired")).toHaveLength(20);
    expect(await checkBooks(sql, grants)).toEqual([]);
    expect((await stats()).refused.total).toBe(0);
  });

  test("a database that is down is said, and when it is back calls are served", async () => {
    signalDatabase("SIGSTOP");
    try {
      const response = await ask({ mode: "no_wait" });
      expect(response.status).toBe(503);
      expect((await response.json()).error.code).toBe("database_unavailable");
    } finally {
      signalDatabase("SIGCONT");
    }
    await until(async () => (await ask({})).status === 200, "it does not serve");
  });
});

/** The whole server stands still: the postmaster and its backends. */
function signalDatabase(signal: Deno.Signal): void {
  const pid = stack.database.pid!;
  const children = new TextDecoder().decode(
    new Deno.Command("pgrep", { args: ["-P", String(pid)] }).outputSync().stdout,
  );
  for (const id of [pid, ...children.split("\n").filter(Boolean).map(Number)]) Deno.kill(id, signal);
}
