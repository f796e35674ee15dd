import { describe, expect, test } from "vitest";
import { createLedger } from "../../../shared/database/admission/ledger.ts";
import { compileReservation } from "../../../shared/database/admission/reserve.ts";
import type { Settlement } from "../../../shared/database/admission/settle.ts";
import { SqlFailure, type Transport } from "../../../shared/database/transport/transport.ts";
import { reserveInput } from "../../harness/reserve_input.ts";

const ASK = reserveInput({ requestId: "r1", models: ["gemma-3-27b"], tokens: 120 });

const LIMITS = {
  requests: { limit: 30, remaining: 29, reset_ms: 60_000 },
  tokens: { limit: null, remaining: null, reset_ms: null },
  requests_day: { limit: 14_400, remaining: 14_399, reset_ms: 3_600_000 },
};

const GRANTED = {
  status: "granted",
  request_no: 12,
  attempt: 1,
  model: "gemma-4-31b-it",
  requested_model: "gemma-3-27b",
  replaced: true,
  key: { id: "k1", alias: "demo-a", env_var_name: "GOOGLE_API_KEY_DEMO_A", provider: "google" },
  lane_id: 5,
  quota_project: "demo-one",
  wait_ms: 0,
  start_at: "2026-11-21T00:00:00Z",
  lease_until: "2026-11-21T00:03:00Z",
  tokens: 130,
  limits: LIMITS,
  capabilities: { system: true, json: true, tools: false, thinking: true, max_output_tokens: null },
  a_field_of_tomorrow: 1,
};

const SETTLEMENT: Settlement = {
  requestNo: 12,
  attempt: 1,
  outcome: "failed",
  final: false,
  dispatched: true,
  inputTokens: null,
  outputTokens: null,
  thoughtsTokens: null,
  cachedTokens: null,
  totalTokens: null,
  usageEstimated: false,
  upstreamStatus: 429,
  errorCode: "upstream_rate_limited",
  errorDetail: "quota",
  finishReason: null,
  block: { scope: "lane", lasts: { forMs: 29_000 }, reason: "upstream_minute_quota" },
  latencyMs: 40,
  result: null,
};

const answering = (answer: unknown) => createLedger(() => Promise.resolve(answer));
const failing = (error: unknown) => createLedger(() => Promise.reject(error));

test("what is compiled before the first reservation is the schema of a grant", () => {
  expect(compileReservation()).toBe(true);
});

describe("reserve", () => {
  test("calls the function by its arguments' names", async () => {
    const calls: [string, unknown][] = [];
    const transport: Transport = (name, args) => {
      calls.push([name, args]);
      return Promise.resolve(GRANTED);
    };
    await createLedger(transport).reserve({ ...ASK, excludeKeys: ["k2"], metadata: { stage: "poem" } });
    expect(calls).toEqual([["eve_reserve", {
      request_id: "r1",
      models: ["gemma-3-27b"],
      tokens: 120,
      consumer_id: null,
      class: "interactive",
      max_wait_ms: 0,
      max_output_tokens: null,
      attempt: 1,
      exclude_keys: ["k2"],
      avoid_keys: [],
      lease_ms: 180_000,
      token_id: null,
      endpoint: "native",
      trace_id: null,
      metadata: { stage: "poem" },
      request_hash: null,
      counted: null,
      deadline: expect.stringMatching(/^\d{4}-.*Z$/),
      call_id: expect.any(String),
    }]]);
  });

  test("a grant", async () => {
    expect(await answering(GRANTED).reserve(ASK)).toMatchObject({
      status: "granted",
      requestNo: 12,
      model: "gemma-4-31b-it",
      replaced: true,
      key: { id: "k1", alias: "demo-a", source: { kind: "environment", name: "GOOGLE_API_KEY_DEMO_A" } },
      tokens: 130,
      limits: { requests: { limit: 30, remaining: 29, resetMs: 60_000 }, tokens: { limit: null } },
      capabilities: { tools: false, maxOutputTokens: null },
    });
  });

  test("a refusal with and without a time to come back", async () => {
    const refused = {
      status: "refused",
      code: "rate_limited",
      limit: "rpm",
      retry_after_ms: 31_000,
      model: "m",
    };
    expect(await answering({ ...refused, limits: LIMITS }).reserve(ASK)).toMatchObject({
      code: "rate_limited",
      limit: "rpm",
      retryAfterMs: 31_000,
      limits: { requestsDay: { limit: 14_400 } },
    });
    expect(await answering({ status: "refused", code: "no_active_key", retry_after_ms: null }).reserve(ASK))
      .toMatchObject({ code: "no_active_key", retryAfterMs: null, limits: null });
  });

  test("a wish for a count", async () => {
    const { id: _, ...key } = { ...GRANTED.key, env_var_name: null };
    const wish = { status: "count", model: "m", key, tokens_if_not_counted: 172 };
    expect(await answering(wish).reserve({ ...ASK, counted: false })).toEqual({
      status: "count",
      model: "m",
      key: { alias: "demo-a", source: { kind: "environment", name: "" }, provider: "google" },
      tokensIfNotCounted: 172,
    });
  });

  test("a duplicate", async () => {
    const duplicate = {
      status: "duplicate",
      state: "succeeded",
      result: { a: 1 },
      attempts: 1,
      same_request: true,
    };
    expect(await answering(duplicate).reserve(ASK)).toMatchObject({ state: "succeeded", result: { a: 1 } });
  });

  test.each([
    ["nothing", null],
    ["a status of tomorrow", { status: "postponed" }],
    ["a grant without a key", { ...GRANTED, key: undefined }],
    ["a refusal with a code that the error table lacks", { status: "refused", code: "because" }],
  ])("%s is an internal error, never a grant", async (_, answer) => {
    await expect(answering(answer).reserve(ASK)).rejects.toMatchObject({ code: "internal" });
  });
});

describe("settle", () => {
  const blockSent = async (block: Settlement["block"]) => {
    let sent: unknown;
    const ledger = createLedger((_, args) => {
      sent = args.block;
      return Promise.resolve({ status: "settled" });
    });
    await ledger.settle({ ...SETTLEMENT, block });
    return sent;
  };

  test("a block for a while, until midnight, for good, and none", async () => {
    expect(await blockSent(SETTLEMENT.block)).toEqual({
      scope: "lane",
      for_ms: 29_000,
      reason: "upstream_minute_quota",
    });
    expect(
      await blockSent({
        scope: "lane",
        lasts: { until: "pacific_midnight" },
        reason: "upstream_daily_quota",
      }),
    ).toEqual({
      scope: "lane",
      until: "pacific_midnight",
      reason: "upstream_daily_quota",
    });
    expect(await blockSent(null)).toBeNull();
  });

  test("characters that PostgreSQL does not take are replaced, not lost with the whole settlement", async () => {
    let sent: Record<string, unknown> = {};
    const ledger = createLedger((_, args) => {
      sent = args;
      return Promise.resolve({ status: "settled" });
    });
    await ledger.settle({
      ...SETTLEMENT,
      errorDetail: "a\u0000b\ud800",
      result: { "k\u0000": ["\udc00", 1, null] },
    });
    expect(sent.error_detail).toBe("a\ufffdb\ufffd");
    expect(sent.result).toEqual({ "k\ufffd": ["\ufffd", 1, null] });
  });

  test.each(["settled", "already_settled", "late"])("%s is fine", async (status) => {
    expect(await answering({ status }).settle(SETTLEMENT)).toBe(status);
  });
});

describe("what a failing database means", () => {
  test.each<[string, unknown, string]>([
    ["no connection", new TypeError("error sending request: connection refused"), "database_unavailable"],
    ["a timeout", new DOMException("timed out", "TimeoutError"), "database_unavailable"],
    [
      "no database behind the REST API",
      new SqlFailure("PGRST002", "schema cache", 503),
      "database_unavailable",
    ],
    ["an unavailable REST API", new SqlFailure("", "<h1>502</h1>", 502), "database_unavailable"],
    [
      "a proxy that fails in words of its own",
      new SqlFailure("SUP", "starting up", 500),
      "database_unavailable",
    ],
    ["too many connections", new SqlFailure("53300", "too many clients", 500), "database_unavailable"],
    ["a shutdown", new SqlFailure("57P01", "terminating connection", 500), "database_unavailable"],
    ["a statement timeout", new SqlFailure("57014", "canceling statement", 500), "database_unavailable"],
    ["a deadlock", new SqlFailure("40P01", "deadlock", 500), "database_unavailable"],
    ["no such function", new SqlFailure("PGRST202", "not found", 404), "gateway_misconfigured"],
    ["no right to execute", new SqlFailure("42501", "permission denied", 403), "gateway_misconfigured"],
    ["a key that is not ours", new SqlFailure("", "Invalid API key", 401), "gateway_misconfigured"],
    [
      "our own invalid argument",
      new SqlFailure("EV400", "tokens must be 0 or more", 400),
      "invalid_argument",
    ],
    ["our own unknown reservation", new SqlFailure("EV404", "no reservation", 400), "unknown_reservation"],
    ["anything else", new SqlFailure("23505", "duplicate key", 409), "internal"],
  ])("%s", async (_, thrown, code) => {
    await expect(failing(thrown).reserve(ASK)).rejects.toMatchObject({ code });
  });

  test("what the database said is for the log, except about the caller's own value", async () => {
    const internal = await failing(new SqlFailure("23505", "table eve.secret_table", 409)).reserve(ASK)
      .catch((error) => error);
    expect(internal.publicMessage).not.toContain("secret_table");
    expect(internal.detail).toContain("secret_table");
    await expect(failing(new SqlFailure("EV400", "tokens must be 0 or more", 400)).reserve(ASK)).rejects
      .toMatchObject({ publicMessage: "tokens must be 0 or more" });
  });

  test("a call that hangs is abandoned", async () => {
    const transport: Transport = (_name, _args, signal) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    await expect(createLedger(transport, 20).reserve(ASK)).rejects.toMatchObject({
      code: "database_unavailable",
    });
  });
});
