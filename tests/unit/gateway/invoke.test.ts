import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { Reservation } from "../../../shared/database/admission/reserve.ts";
import { type Diagnosis, ProviderFailure } from "../../../shared/providers/provider.ts";
import { secretHash } from "../../../shared/secrets/key_facts.ts";
import { ANSWER, grant, grantTo, refusal, scriptedGateway, settled } from "./gateway_fixture.ts";

const OVERLOADED: Diagnosis = {
  fault: "nobody",
  retryable: true,
  block: null,
  code: "upstream_unavailable",
};
const BAD_KEY: Diagnosis = {
  fault: "key",
  retryable: true,
  block: { scope: "key", lasts: { until: "forever" }, reason: "key_invalid" },
  code: "key_rejected",
};
const LANE_FULL: Diagnosis = {
  fault: "lane",
  retryable: true,
  block: { scope: "lane", lasts: { forMs: 29_000 }, reason: "upstream_minute_quota" },
  code: "upstream_rate_limited",
};
const CALLERS: Diagnosis = {
  fault: "caller",
  retryable: false,
  block: null,
  code: "upstream_invalid_request",
};

const failing = (diagnosis: Diagnosis, status = 503, message = "said upstream") => () =>
  Promise.reject(new ProviderFailure(diagnosis, message, status));
const firstFails = (diagnosis: Diagnosis) => (_: unknown, attempt: number) =>
  attempt === 1
    ? Promise.reject(new ProviderFailure(diagnosis, "said upstream", 503))
    : Promise.resolve(ANSWER);
const caught = (promise: Promise<unknown>) => promise.then(() => expect.unreachable(), (error) => error);

describe("a request that goes well", () => {
  test("is reserved once, called once, answered, and settled with the tokens really used", async () => {
    const set = scriptedGateway({ reservations: [grant()] });
    const result = await set.invoke({ metadata: { stage: "POEM" } });
    expect(result).toMatchObject({
      model: "gemma-4-31b-it",
      keyAlias: "demo-a",
      attempts: 1,
      waitMs: 0,
      replayed: false,
    });
    expect(set.reserved).toEqual([expect.objectContaining({
      requestId: "r1",
      attempt: 1,
      maxWaitMs: 30_000,
      leaseMs: 180_000,
      consumerId: null,
      metadata: { stage: "POEM" },
      requestHash: null,
    })]);
    expect(set.reserved[0]?.tokens).toBeGreaterThan(0);
    expect(set.calls).toEqual([expect.objectContaining({ model: "gemma-4-31b-it", secret: "secret-a" })]);
    expect(set.settlements).toEqual([expect.objectContaining({
      requestNo: 12,
      attempt: 1,
      outcome: "succeeded",
      final: true,
      dispatched: true,
      inputTokens: 9,
      outputTokens: 3,
      totalTokens: 12,
      usageEstimated: false,
      finishReason: "STOP",
      block: null,
      result: null,
    })]);
    expect(set.clock.asleep).toBe(0);
  });

  test("the answer does not wait for the settlement, which the runtime is told about", async () => {
    const never = Promise.withResolvers<"settled">();
    const set = scriptedGateway({ reservations: [grant()], settle: () => never.promise });
    await set.invoke();
    expect(set.background).toHaveLength(1);
    never.resolve("settled");
    await set.background[0];
  });

  test("a settlement that fails is repeated; one that cannot be had is logged", async () => {
    let tries = 0;
    const set = scriptedGateway({
      reservations: [grant()],
      settle: () =>
        ++tries < 3 ? Promise.reject(new GatewayError("database_unavailable")) : Promise.resolve("settled"),
    });
    await set.invoke();
    await set.clock.advance(10_000);
    await set.background[0];
    expect(tries).toBe(3);
    expect(set.logged).toEqual([]);

    const lost = scriptedGateway({
      reservations: [grant()],
      settle: () => Promise.reject(new GatewayError("database_unavailable")),
    });
    await lost.invoke();
    await lost.clock.advance(60_000);
    await lost.background[0];
    expect(lost.settlements).toHaveLength(15);
    expect(lost.logged).toEqual([[
      "settlement_lost",
      expect.objectContaining({ request_no: 12, attempt: 1 }),
    ]]);
  });

  test("a settlement that hangs is not waited for: it is repeated", async () => {
    let tries = 0;
    const set = scriptedGateway({
      reservations: [grant()],
      settle: () => ++tries === 1 ? new Promise(() => {}) : Promise.resolve("settled"),
    });
    await set.invoke();
    await set.clock.advance(10_000);
    await set.background[0];
    expect(tries).toBe(2);
    expect(set.logged).toEqual([]);
  });

  test("without figures from upstream the books get an estimate, marked as one", async () => {
    const set = scriptedGateway({
      reservations: [grant()],
      generate: () => Promise.resolve({ ...ANSWER, usage: null }),
    });
    const { usage } = await set.invoke();
    expect(usage).toMatchObject({ inputTokens: 10, estimated: true });
    expect(usage.outputTokens).toBeGreaterThan(0);
    expect(set.settlements[0]).toMatchObject({ inputTokens: 10, usageEstimated: true });
  });

  test("a successor serves under its own name", async () => {
    const replaced = grant({ requestedModel: "gemma-3-27b", replaced: true });
    const set = scriptedGateway({ reservations: [replaced] });
    expect(await set.invoke({ models: ["gemma-3-27b"] })).toMatchObject({
      model: "gemma-4-31b-it",
      requestedModel: "gemma-3-27b",
      replaced: true,
    });
    expect(set.calls[0]?.model).toBe("gemma-4-31b-it");
  });

  test("a block by the model's filters comes back as what it is, and is not booked as a success", async () => {
    const verdict = { ok: false, code: "content_blocked", reason: "SAFETY" } as const;
    const set = scriptedGateway({
      reservations: [grant()],
      generate: () => Promise.resolve({ ...ANSWER, verdict }),
    });
    expect(await set.invoke({ idIsClients: true })).toMatchObject({ verdict });
    expect(set.settlements).toEqual([expect.objectContaining({
      outcome: "failed",
      errorCode: "content_blocked",
      errorDetail: "SAFETY",
      inputTokens: 9,
      result: null,
    })]);
  });
});

describe("waiting", () => {
  test("the call starts at the booked time, not before", async () => {
    const set = scriptedGateway({ reservations: [grant({ waitMs: 5_000 })] });
    const events: string[] = [];
    const call = set.follow({}, ({ type }) => events.push(type));
    await set.clock.advance(4_999);
    expect(set.calls).toHaveLength(0);
    expect(events).toEqual(["queued"]);
    await set.clock.advance(1);
    expect(await call).toMatchObject({ waitMs: 5_000 });
    expect(events).toEqual(["queued", "started"]);
  });

  test("a client that leaves meanwhile gives its slot back at once", async () => {
    const set = scriptedGateway({ reservations: [grant({ waitMs: 5_000 })] });
    const call = caught(set.invoke());
    await set.clock.advance(1_000);
    set.client.abort();
    expect(await call).toMatchObject({ code: "client_closed", status: 499 });
    expect(set.calls).toHaveLength(0);
    expect(set.settlements).toEqual([
      expect.objectContaining({ outcome: "cancelled", dispatched: false, final: true }),
    ]);
    expect(set.clock.asleep).toBe(0);
  });

  test("a client that left during the reservation is not called for", async () => {
    const set = scriptedGateway({ reservations: [grant()] });
    set.client.abort();
    expect(await caught(set.invoke())).toMatchObject({ code: "client_closed" });
    expect(set.calls).toHaveLength(0);
    expect(set.settlements[0]).toMatchObject({ outcome: "cancelled", dispatched: false });
  });

  test("no more wait is asked for than the request has time left", async () => {
    const set = scriptedGateway({ reservations: [refusal()] });
    await caught(set.invoke({ maxWaitMs: 100_000 }, { receivedAt: -100_000 }));
    expect(set.reserved[0]?.maxWaitMs).toBe(38_000);
  });
});

describe("a refusal", () => {
  test("calls nobody, settles nothing, and says which limit and when to come back", async () => {
    const set = scriptedGateway({ reservations: [refusal()] });
    const error = await caught(set.invoke());
    expect(error).toMatchObject({ code: "rate_limited", status: 429, retryable: true, retryAfterMs: 31_000 });
    expect(error.publicMessage).toContain("30 requests a minute");
    expect(error.publicMessage).toContain("31 s");
    expect(error.details).toMatchObject({ limit: "rpm", model: "gemma-4-31b-it" });
    expect(error.limits.requests.limit).toBe(30);
    expect(set.calls).toHaveLength(0);
    expect(set.settlements).toHaveLength(0);
  });

  test.each(
    [
      ["unknown_model", 404],
      ["prompt_too_large", 413],
      ["no_active_key", 503],
      ["daily_limit", 429],
      ["lane_blocked", 429],
      ["budget_exhausted", 429],
      ["consumer_disabled", 403],
      ["token_revoked", 401],
      ["model_not_allowed", 403],
    ] as const,
  )("%s answers %d", async (code, status) => {
    const set = scriptedGateway({
      reservations: [refusal({ code, limit: null, retryAfterMs: null, limits: null })],
    });
    expect(await caught(set.invoke())).toMatchObject({ code, status, retryAfterMs: null, retryable: false });
  });

  test("keys that are only paused are worth coming back for", async () => {
    const set = scriptedGateway({
      reservations: [refusal({ code: "no_active_key", limit: null, retryAfterMs: 600_000 })],
    });
    expect(await caught(set.invoke())).toMatchObject({ status: 503, retryable: true, retryAfterMs: 600_000 });
  });

  test("a prompt that can never pass gets an error with its size and the limit", async () => {
    const set = scriptedGateway({
      reservations: [refusal({ code: "prompt_too_large", limit: "tpm", retryAfterMs: null })],
    });
    const { publicMessage } = await caught(set.invoke());
    expect(publicMessage).toContain("16000 input tokens a minute");
  });
});

describe("an upstream that fails", () => {
  test("a bad key is blocked before the next attempt, which leaves it out", async () => {
    const set = scriptedGateway({ reservations: [grant(), grantTo("b", 2)], generate: firstFails(BAD_KEY) });
    expect(await set.invoke()).toMatchObject({ attempts: 2, keyAlias: "demo-b" });
    expect(set.settlements).toEqual([
      expect.objectContaining({
        attempt: 1,
        outcome: "failed",
        final: false,
        dispatched: true,
        // By its hash the key is known for a new one when its secret is changed.
        block: { ...BAD_KEY.block, secretHash: await secretHash("key-a", "secret-a") },
        errorCode: "key_rejected",
        upstreamStatus: 503,
        errorDetail: "said upstream",
      }),
      expect.objectContaining({ attempt: 2, outcome: "succeeded", final: true }),
    ]);
    expect(set.reserved[1]).toMatchObject({
      attempt: 2,
      excludeKeys: ["key-a"],
      avoidKeys: [],
      requestId: "r1",
    });
  });

  test("the next attempt is reserved only after the block has taken effect", async () => {
    const settling = Promise.withResolvers<"settled">();
    const set = scriptedGateway({
      reservations: [grant(), grantTo("b", 2)],
      generate: firstFails(BAD_KEY),
      settle: ({ final }) => final ? Promise.resolve("settled") : settling.promise,
    });
    const call = set.invoke();
    await settled();
    expect(set.reserved).toHaveLength(1);
    settling.resolve("settled");
    await call;
    expect(set.reserved).toHaveLength(2);
  });

  test("an overload is waited out, and another key preferred", async () => {
    const set = scriptedGateway({
      reservations: [grant(), grantTo("b", 2)],
      generate: firstFails(OVERLOADED),
    });
    const call = set.invoke();
    await set.clock.advance(249);
    expect(set.reserved).toHaveLength(1);
    await set.clock.advance(1);
    expect(await call).toMatchObject({ attempts: 2 });
    expect(set.reserved[1]).toMatchObject({ avoidKeys: ["key-a"], excludeKeys: [] });
  });

  test("after three attempts the last error is the answer, each attempt in the books", async () => {
    const set = scriptedGateway({
      reservations: [grant(), grantTo("b", 2), grantTo("c", 3)],
      generate: failing(OVERLOADED),
    });
    const call = caught(set.invoke());
    await set.clock.advance(10_000);
    expect(await call).toMatchObject({ code: "upstream_unavailable", status: 503, retryable: true });
    expect(set.settlements.map(({ attempt, final }) => [attempt, final])).toEqual([[1, false], [2, false], [
      3,
      true,
    ]]);
  });

  test("what the model says of the request reaches its author; what it says of our keys does not", async () => {
    const callers = scriptedGateway({
      reservations: [grant()],
      generate: failing(CALLERS, 400, "Please use a valid role"),
    });
    expect(await caught(callers.invoke())).toMatchObject({
      code: "upstream_invalid_request",
      status: 400,
      publicMessage: expect.stringContaining("Please use a valid role"),
    });
    const ours = scriptedGateway({
      reservations: [grant(), refusal({ code: "no_active_key" })],
      generate: failing(BAD_KEY, 400, "API key not valid in project 12345"),
    });
    const error = await caught(ours.invoke());
    expect(error.publicMessage).not.toContain("12345");
    expect(error.detail).toContain("12345");
  });

  test("when no further attempt is granted, the error has the time to come back, and the request closed", async () => {
    const set = scriptedGateway({
      reservations: [grant(), refusal({ code: "lane_blocked" })],
      generate: failing(LANE_FULL, 429),
    });
    expect(await caught(set.invoke())).toMatchObject({
      code: "upstream_rate_limited",
      status: 429,
      retryAfterMs: 31_000,
    });
    expect(set.settlements.map(({ attempt, final }) => [attempt, final])).toEqual([[1, false], [1, true]]);
  });

  test("a full lane may be waited for within what is left of the wait", async () => {
    const set = scriptedGateway({
      reservations: [grant({ waitMs: 10_000 }), grant({ attempt: 2, waitMs: 15_000 })],
      generate: firstFails(LANE_FULL),
    });
    const call = set.invoke();
    await set.clock.advance(30_000);
    expect(await call).toMatchObject({ attempts: 2, waitMs: 25_000 });
    expect(set.reserved.map(({ maxWaitMs }) => maxWaitMs)).toEqual([30_000, 20_000]);
  });

  test("a client that leaves during the pause gets no further attempt, and the request is closed", async () => {
    const set = scriptedGateway({ reservations: [grant()], generate: failing(OVERLOADED) });
    const call = caught(set.invoke());
    await set.clock.advance(100);
    set.client.abort();
    expect(await call).toBeInstanceOf(GatewayError);
    expect(set.reserved).toHaveLength(1);
    expect(set.settlements).toEqual([expect.objectContaining({ outcome: "failed", final: true })]);
  });

  test("a fault in the provider itself is settled too, and repeated by nobody", async () => {
    const set = scriptedGateway({
      reservations: [grant()],
      generate: () => Promise.reject(new TypeError("a bug")),
    });
    expect(await caught(set.invoke())).toMatchObject({ code: "internal", status: 500 });
    expect(set.settlements).toEqual([
      expect.objectContaining({ outcome: "failed", final: true, errorCode: "internal" }),
    ]);
  });
});

describe("a secret that is not set", () => {
  test("blocks the key for a while, gives the slot back, and the next key serves", async () => {
    const set = scriptedGateway({ reservations: [grant(), grantTo("b", 2)], secrets: { KEY_B: "secret-b" } });
    expect(await set.invoke()).toMatchObject({ keyAlias: "demo-b", attempts: 2 });
    expect(set.settlements[0]).toMatchObject({
      outcome: "failed",
      final: false,
      dispatched: false,
      errorCode: "secret_missing",
      block: { scope: "key", lasts: { forMs: 600_000 }, reason: "secret_missing" },
    });
    expect(set.reserved[1]).toMatchObject({ excludeKeys: ["key-a"] });
    expect(set.calls).toHaveLength(1);
  });

  test("of every key is the owner's to fix: 503, naming the key", async () => {
    const set = scriptedGateway({
      reservations: [grant(), refusal({ code: "no_active_key", retryAfterMs: null })],
      secrets: {},
    });
    const error = await caught(set.invoke());
    expect(error).toMatchObject({ code: "secret_missing", status: 503 });
    expect(error.publicMessage).toContain("demo-a");
    expect(set.calls).toHaveLength(0);
  });
});

describe("a model that cannot do what is asked", () => {
  test("gives the slot back and says so", async () => {
    const capabilities = { ...grant().capabilities, tools: false };
    const set = scriptedGateway({ reservations: [grant({ capabilities })] });
    const prompt = { contents: [{ parts: [{ text: "?" }] }], tools: [{ functionDeclarations: [] }] };
    expect(await caught(set.invoke({ prompt }))).toMatchObject({ code: "unsupported_feature", status: 400 });
    expect(set.settlements).toEqual([expect.objectContaining({ dispatched: false, final: true })]);
  });

  test("gets the system text in the user's turn", async () => {
    const capabilities = { ...grant().capabilities, system: false };
    const set = scriptedGateway({ reservations: [grant({ capabilities })] });
    await set.invoke({
      prompt: {
        contents: [{ role: "user", parts: [{ text: "?" }] }],
        systemInstruction: { parts: [{ text: "!" }] },
      },
    });
    expect(set.calls[0]?.prompt).toEqual({
      contents: [{ role: "user", parts: [{ text: "!" }, { text: "?" }] }],
    });
  });
});

describe("the end of time", () => {
  const hanging = () => new Promise<never>(() => {});

  test("a client that leaves aborts upstream, and what was sent stays counted", async () => {
    const set = scriptedGateway({ reservations: [grant()], generate: hanging });
    const call = caught(set.invoke());
    await settled();
    set.client.abort();
    expect(await call).toMatchObject({ code: "client_closed" });
    expect(set.calls[0]?.signal.aborted).toBe(true);
    expect(set.settlements).toEqual([
      expect.objectContaining({ outcome: "cancelled", dispatched: true, inputTokens: null }),
    ]);
    expect(set.clock.asleep).toBe(0);
  });

  test("an upstream that hangs is given up after its time, though it ignores the signal", async () => {
    const set = scriptedGateway({ reservations: [grant()], generate: hanging });
    const call = caught(set.invoke());
    await set.clock.advance(120_000);
    expect(await call).toMatchObject({ code: "upstream_timeout", status: 504 });
    expect(set.calls[0]?.signal.aborted).toBe(true);
    expect(set.settlements).toEqual([expect.objectContaining({ outcome: "failed", dispatched: true })]);
  });

  test("the whole request's time counts from its arrival", async () => {
    const set = scriptedGateway({ reservations: [grant()], generate: hanging });
    const call = caught(set.invoke({}, { receivedAt: -130_000 }));
    await set.clock.advance(10_000);
    expect(await call).toMatchObject({ code: "upstream_timeout" });
  });
});

describe("a database that fails", () => {
  const down = () => Promise.reject<Reservation>(new GatewayError("database_unavailable"));

  test("at the reservation: 503, and nobody is called", async () => {
    const set = scriptedGateway({ reservations: [down] });
    expect(await caught(set.invoke())).toMatchObject({
      code: "database_unavailable",
      status: 503,
      retryable: true,
    });
    expect(set.calls).toHaveLength(0);
  });

  test("a reservation is not waited for longer than the settings say", async () => {
    // That it is given up then, and given back: tests/unit/database/reserve_in_time.test.ts.
    const set = scriptedGateway({ reservations: [grant()] });
    await set.invoke();
    expect(set.within).toEqual([8_000]);
  });

  test("before a second attempt: the first one's error is told, and the request closed", async () => {
    const set = scriptedGateway({ reservations: [grant(), down], generate: failing(BAD_KEY) });
    expect(await caught(set.invoke())).toMatchObject({ code: "key_rejected" });
    expect(set.settlements.map(({ attempt, final }) => [attempt, final])).toEqual([[1, false], [1, true]]);
  });

  test("at the settlement between two attempts: no second one, since its block might not hold", async () => {
    const set = scriptedGateway({
      reservations: [grant()],
      generate: failing(BAD_KEY),
      settle: ({ final }) =>
        final ? Promise.resolve("settled") : Promise.reject(new GatewayError("database_unavailable")),
    });
    expect(await caught(set.invoke())).toMatchObject({ code: "key_rejected" });
    expect(set.reserved).toHaveLength(1);
    expect(set.settlements.at(-1)).toMatchObject({ attempt: 1, final: true });
  });
});

describe("a request id that has been seen before", () => {
  const duplicate = (more: Record<string, unknown> = {}) =>
    ({
      status: "duplicate",
      state: "succeeded",
      result: null,
      attempts: 1,
      errorCode: null,
      sameRequest: true,
      ...more,
    }) as Reservation;

  test("gets the same answer again, without a call", async () => {
    const first = scriptedGateway({ reservations: [grant()] });
    const answer = await first.invoke({ idIsClients: true });
    const kept = first.settlements[0]?.result;
    expect(kept).not.toBeNull();

    const second = scriptedGateway({
      reservations: [duplicate({ result: JSON.parse(JSON.stringify(kept)) })],
    });
    expect(await second.invoke({ idIsClients: true })).toEqual({ ...answer, limits: null, replayed: true });
    expect(second.calls).toHaveLength(0);
    expect(second.settlements).toHaveLength(0);
  });

  test("an answer is stored only for a client that chose the id, and only up to a size", async () => {
    const ours = scriptedGateway({ reservations: [grant()] });
    await ours.invoke();
    expect(ours.settlements[0]?.result).toBeNull();

    const long = { candidates: [{ content: { parts: [{ text: "x".repeat(300_000) }] } }] };
    const large = scriptedGateway({
      reservations: [grant()],
      generate: () => Promise.resolve({ ...ANSWER, answer: long }),
    });
    await large.invoke({ idIsClients: true });
    expect(large.settlements[0]?.result).toBeNull();
  });

  test.each<[string, Record<string, unknown>, string]>([
    ["still running", { state: "running" }, "request_running"],
    ["answered, but not kept", {}, "request_finished"],
    ["failed", { state: "failed", errorCode: "upstream_timeout" }, "request_finished"],
    ["expired", { state: "expired" }, "request_finished"],
    ["kept by another version", { result: { version: 2 } }, "request_finished"],
    ["of another prompt", { sameRequest: false, result: {} }, "request_id_reused"],
  ])("%s", async (_, more, code) => {
    const set = scriptedGateway({ reservations: [duplicate(more)] });
    const error = await caught(set.invoke({ idIsClients: true }));
    expect(error).toMatchObject({ code, status: 409, details: { state: more.state ?? "succeeded" } });
    expect(set.calls).toHaveLength(0);
  });

  test("its hash distinguishes repetitions from other requests", async () => {
    const set = scriptedGateway({ reservations: [refusal(), refusal(), refusal()] });
    const prompt = { contents: [{ role: "user", parts: [{ text: "другой" }] }] };
    await caught(set.invoke({ idIsClients: true }));
    await caught(set.invoke({ idIsClients: true }));
    await caught(set.invoke({ idIsClients: true, prompt }));
    const [first, again, other] = set.reserved.map(({ requestHash }) => requestHash);
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    expect(again).toBe(first);
    expect(other).not.toBe(first);
  });
});

test("no secret and no word of the prompt is in the log or in what is settled", async () => {
  const set = scriptedGateway({
    reservations: [grant(), grantTo("b", 2), refusal()],
    generate: failing(BAD_KEY),
  });
  await caught(set.invoke());
  const written = JSON.stringify([set.logged, set.settlements]);
  expect(set.logged.length).toBeGreaterThan(0);
  expect(written).not.toMatch(/secret-[ab]/);
  expect(written).not.toContain("Что сегодня");
});
