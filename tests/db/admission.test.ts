/** Admission as a caller sees it: G1, G2, G3, G6 and G7, and the choice of key, on the real PostgreSQL. */
import { beforeEach, describe, expect, test } from "vitest";
import { addKey, addModel, cancel, clearLedger, reserve, reserveMany, settle } from "../harness/admission.ts";
import { admissionDatabase } from "../harness/admission_database.ts";

const { sql, clock } = await admissionDatabase();

/** Reserves `count` times at once, each over its own connection. */
const rush = (count: number, options = {}, name = "r") =>
  Promise.all(Array.from({ length: count }, (_, n) => reserve(sql, `${name}${n}`, options)));
const statuses = (answers: { status: string }[]) =>
  answers.reduce<Record<string, number>>(
    (sum, { status }) => ({ ...sum, [status]: (sum[status] ?? 0) + 1 }),
    {},
  );

describe("[G1.limits] limits", () => {
  test("200 callers at once get exactly the 30 starts of the minute, the rest a clean refusal", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 30 });
    const answers = await rush(200);
    expect(statuses(answers)).toEqual({ granted: 30, refused: 170 });
    for (const refusal of answers.filter((answer) => answer.status === "refused")) {
      expect(refusal).toMatchObject({ code: "rate_limited", limit: "rpm" });
      expect(refusal.retry_after_ms).toBeGreaterThanOrEqual(60_000);
    }
    // Each is written down: the first ones row by row, the others counted.
    expect(
      await sql`
        select ((select count(*) from eve.refusals) + (select sum(times) from eve.refusal_counts))::int as n`,
    ).toEqual([{ n: 170 }]);
  });

  test("200 callers at once fill two projects to the last start", async () => {
    await addKey(sql, "a", { project: "one" });
    await addKey(sql, "b", { project: "two" });
    await addModel(sql, "m", { rpm: 30 });
    expect(statuses(await rush(200))).toEqual({ granted: 60, refused: 140 });
  });

  test("a burst around the edge of a minute is held to one minute's limit", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 30 });
    await clock.set("2026-11-18T12:00:59Z");
    expect(statuses(await rush(40, {}, "before"))).toEqual({ granted: 30, refused: 10 });
    await clock.set("2026-11-18T12:01:01Z");
    expect(statuses(await rush(40, {}, "after"))).toEqual({ refused: 40 });
    await clock.set("2026-11-18T12:01:59.249Z");
    expect(statuses(await rush(1, {}, "early"))).toEqual({ refused: 1 });
    await clock.set("2026-11-18T12:01:59.250Z");
    expect(statuses(await rush(40, {}, "next"))).toEqual({ granted: 30, refused: 10 });
  });

  test("two keys of one project share its limit", async () => {
    await addKey(sql, "a", { project: "shared" });
    await addKey(sql, "b", { project: "shared" });
    await addModel(sql, "m", { rpm: 10 });
    const answers = await rush(30);
    expect(statuses(answers)).toEqual({ granted: 10, refused: 20 });
    const used = new Set(
      answers.filter((answer) => answer.status === "granted").map((answer) => answer.key.alias),
    );
    expect([...used].sort()).toEqual(["a", "b"]);
  });

  test("tokens a minute are input tokens of all starts in any 60 seconds", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { tpm: 1000 });
    expect(await reserve(sql, "r1", { tokens: 600 })).toMatchObject({ status: "granted" });
    expect(await reserve(sql, "r2", { tokens: 401 })).toMatchObject({ status: "refused", limit: "tpm" });
    expect(await reserve(sql, "r3", { tokens: 400 })).toMatchObject({ status: "granted" });
    expect(await reserve(sql, "r4", { tokens: 1 })).toMatchObject({ status: "refused", limit: "tpm" });
  });

  test("[edge.too-large] a prompt that no lane can ever take is refused at once, and coming back does not help", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { tpm: 1000 });
    expect(await reserve(sql, "r", { tokens: 1001, maxWaitMs: 100_000 })).toMatchObject({
      status: "refused",
      code: "prompt_too_large",
      retry_after_ms: null,
    });
  });

  test("the first request under a small cap passes", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 1, tpm: 10, rpd: 1 });
    expect(await reserve(sql, "r", { tokens: 10 })).toMatchObject({ status: "granted", wait_ms: 0 });
  });

  test("an unlimited model is never refused", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m");
    expect(statuses(await rush(100, { tokens: 1_000_000 }))).toEqual({ granted: 100 });
    expect((await reserve(sql, "r")).limits.requests).toMatchObject({ limit: null, remaining: null });
  });

  test("a limit of zero refuses and names itself", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 0 });
    expect(await reserve(sql, "r", { maxWaitMs: 100_000 })).toMatchObject({
      code: "rate_limited",
      retry_after_ms: null,
    });
  });

  test("[edge.limits-changed] limits changed in the table hold for the next reservation, downwards too", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 5 });
    expect(statuses(await rush(5))).toEqual({ granted: 5 });
    await sql`update public.google_ai_model_limits set rpm = 7`;
    expect(statuses(await rush(5, {}, "up"))).toEqual({ granted: 2, refused: 3 });
    await sql`update public.google_ai_model_limits set rpm = 3`;
    await clock.advance(60_250);
    expect(statuses(await rush(5, {}, "down"))).toEqual({ granted: 3, refused: 2 });
  });

  test("one project's own limits replace the model's", async () => {
    await addKey(sql, "a", { project: "paid" });
    await addModel(sql, "m", { rpm: 5, rpd: 10 });
    await sql`insert into eve.quota_overrides (quota_project, model, rpm, rpd) values ('paid', 'm', 50, null)`;
    expect(statuses(await rush(60))).toEqual({ granted: 50, refused: 10 });
  });

  test("the answer has what is left", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 30, tpm: 1000, rpd: 100 });
    await reserve(sql, "r1", { tokens: 100 });
    expect((await reserve(sql, "r2", { tokens: 50 })).limits).toEqual({
      requests: { limit: 30, remaining: 28, reset_ms: 60_250 },
      tokens: { limit: 1000, remaining: 850, reset_ms: 60_250 },
      requests_day: { limit: 100, remaining: 98, reset_ms: 20 * 3_600_000 },
    });
  });
});

describe("[G1.day] the Pacific day", () => {
  test.each([
    // The day that loses an hour, the day that gains one, and one that does neither.
    ["spring forward", "2026-03-08T12:00:00Z", "2026-03-09T07:00:00Z"],
    ["fall back", "2026-11-01T12:00:00Z", "2026-11-02T08:00:00Z"],
    ["winter", "2026-11-18T12:00:00Z", "2026-11-19T08:00:00Z"],
  ])("ends at midnight in Los Angeles: %s", async (_name, noon, midnight) => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpd: 3 });
    await clock.set(noon);
    expect(statuses(await rush(10))).toEqual({ granted: 3, refused: 7 });
    await clock.set(Date.parse(midnight) - 60_000);
    const refusal = await reserve(sql, "late");
    expect(refusal).toMatchObject({ code: "daily_limit", limit: "rpd" });
    expect(refusal.retry_after_ms).toBeGreaterThanOrEqual(60_000);
    expect(await reserve(sql, "waits", { maxWaitMs: 61_000 })).toMatchObject({
      status: "granted",
      wait_ms: 60_250,
    });
    await clock.set(Date.parse(midnight) + 250);
    expect(statuses(await rush(10, {}, "next"))).toEqual({ granted: 2, refused: 8 });
  });

  test("a lane that is created at midday knows what its keys have used since midnight", async () => {
    const a = await addKey(sql, "a", { project: "one" });
    const b = await addKey(sql, "b", { project: "one" });
    await addModel(sql, "m", { rpd: 10 });
    await sql`
      insert into public.google_ai_usage_counters (api_key_id, model, minute_bucket, day_bucket, rpd_used) values
        (${a}, 'm', '2026-11-18T09:00:00Z', '2026-11-18', 3), (${a}, 'm', '2026-11-18T11:00:00Z', '2026-11-18', 4),
        (${b}, 'm', '2026-11-18T10:00:00Z', '2026-11-18', 2), (${b}, 'm', '2026-11-17T10:00:00Z', '2026-11-17', 9)`;
    expect(statuses(await rush(10))).toEqual({ granted: 4, refused: 6 });
  });

  test("[edge.midnight] nothing starts so close to midnight that Google may count it in the other day", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpd: 100 });
    const midnight = Date.parse("2026-11-19T08:00:00Z");
    await clock.set(midnight - 200);
    expect(await reserve(sql, "r1")).toMatchObject({ status: "refused", limit: "rpd" });
    expect(await reserve(sql, "r2", { maxWaitMs: 1000 })).toMatchObject({ wait_ms: 450 });
  });

  test.each([["just after midnight", 10, 240], ["at the end of the guard", 249, 1], [
    "behind the guard",
    250,
    0,
  ]])(
    "nor so shortly after it: %s",
    async (_, afterMs, waitMs) => {
      await addKey(sql, "a");
      await addModel(sql, "m", { rpd: 100 });
      const midnight = Date.parse("2026-11-19T08:00:00Z");
      await clock.set(midnight - 60_000);
      // A lane that is known, and one of whose books are yesterday's.
      await reserve(sql, "before");
      await clock.set(midnight + afterMs);
      const calls = [{ requestId: "list" }];
      const [listed] = await reserveMany(sql, calls);
      const answer = listed ?? await reserve(sql, "list", { maxWaitMs: 1_000 });
      expect(answer).toMatchObject({ status: "granted", wait_ms: waitMs });
      expect(await reserve(sql, "batch", { class: "batch", maxWaitMs: 1_000 })).toMatchObject(
        waitMs === 0 ? { status: "granted" } : { status: "waiting", wait_ms: waitMs },
      );
    },
  );

  test("what was booked ahead into tomorrow counts tomorrow, once tomorrow is today", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpd: 2 });
    await clock.set("2026-11-19T07:59:30Z");
    await rush(2);
    await rush(2, { maxWaitMs: 60_000 }, "ahead");
    await clock.set("2026-11-19T09:00:00Z");
    expect(await reserve(sql, "r")).toMatchObject({ status: "refused", limit: "rpd" });
  });
});

test.each<[string, Record<string, unknown>]>([
  ["a model", { models: ["m".repeat(201)] }],
  ["one of several models", { models: ["m", "n".repeat(9_000)] }],
  ["a model without a name", { models: [""] }],
])("%s longer than what is kept is refused, and leaves no row", async (_, options) => {
  await addKey(sql, "a");
  await addModel(sql, "m");
  await expect(reserve(sql, "r", options)).rejects.toMatchObject({ code: "EV400" });
  expect(await sql`select count(*)::int as n from eve.refusals`).toEqual([{ n: 0 }]);
});

describe("routes", () => {
  const routes = async () => (await sql`select count(*)::int as n from eve.routes`)[0]!.n;
  beforeEach(async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 30 });
    await reserve(sql, "r");
    expect(await routes()).toBe(1);
  });

  test.each<[string, string]>([
    ["a sweep that finds nothing", "select public.eve_sweep()"],
    ["statements that change no row", "update public.google_ai_api_keys set is_active = false where false"],
    ["what is learned about estimates", "update public.google_ai_model_limits set estimate_factor = 1.1"],
  ])("%s leaves them alone", async (_, statement) => {
    await sql.unsafe(statement);
    expect(await routes()).toBe(1);
  });

  test.each<[string, string]>([
    ["a key that is switched off", "update public.google_ai_api_keys set is_active = false"],
    ["a limit that is changed", "update public.google_ai_model_limits set rpm = 5"],
    ["a floor that is changed", "update public.google_ai_model_limits set batch_floor = 0.5"],
    ["an override", "insert into eve.quota_overrides (quota_project, model, rpm) values ('x', 'm', 1)"],
  ])("%s drops them", async (_, statement) => {
    await sql.unsafe(statement);
    expect(await routes()).toBe(0);
  });
});

describe("[G3.refusals] refusals", () => {
  test("consume nothing: refused calls do not push the next start back", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 1, tpm: 100, rpd: 2 });
    await reserve(sql, "r");
    for (let round = 0; round < 5; round++) {
      await clock.advance(10_000);
      expect(statuses(await rush(10, {}, `storm${round}-`))).toEqual({ refused: 10 });
    }
    await clock.advance(10_250);
    expect(await reserve(sql, "next")).toMatchObject({ status: "granted" });
    expect(await sql`select day_starts from eve.lanes`).toEqual([{ day_starts: 2 }]);
  });

  test("say when to come back, each a time of its own", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 1 });
    await reserve(sql, "r");
    const times = new Set((await rush(50, {}, "x")).map((refusal) => refusal.retry_after_ms));
    expect(times.size).toBeGreaterThan(40);
    expect(Math.min(...times)).toBeGreaterThanOrEqual(60_250);
    expect(Math.max(...times)).toBeLessThan(91_000);
  });

  test("a refused request may come again under its own id", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 1 });
    await reserve(sql, "r1");
    expect(await reserve(sql, "r2")).toMatchObject({ status: "refused" });
    await clock.advance(60_250);
    expect(await reserve(sql, "r2")).toMatchObject({ status: "granted" });
  });

  test("name what is missing", async () => {
    expect(await reserve(sql, "r1")).toMatchObject({ code: "unknown_model", model: "m" });
    await addModel(sql, "m");
    expect(await reserve(sql, "r2")).toMatchObject({ code: "no_active_key" });
    const key = await addKey(sql, "a");
    await sql`update public.google_ai_api_keys set is_active = false where id = ${key}`;
    expect(await reserve(sql, "r3")).toMatchObject({ code: "no_active_key", retry_after_ms: null });
  });

  test.each([
    [{ tokens: -1 }, "tokens"],
    [{ models: [] }, "models"],
    [{ maxWaitMs: -1 }, "max_wait_ms"],
    [{ attempt: 4 }, "attempt"],
    [{ leaseMs: 0 }, "lease_ms"],
    [{ class: "vip" as "batch" }, "class"],
  ])("misuse %j raises EV400 and leaves nothing", async (options, named) => {
    await expect(reserve(sql, "r", options)).rejects.toMatchObject({
      code: "EV400",
      message: expect.stringContaining(named),
    });
    expect(await sql`select count(*)::int as n from eve.inflight`).toEqual([{ n: 0 }]);
  });
});

describe("[G6.settling] settling", () => {
  beforeEach(async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 600, tpm: 1000 });
  });

  test("an over-estimate gives the difference back at once", async () => {
    const grant = await reserve(sql, "r1", { tokens: 900 });
    expect(await reserve(sql, "r2", { tokens: 200 })).toMatchObject({ status: "refused" });
    await settle(sql, grant, { inputTokens: 300 });
    expect(await reserve(sql, "r3", { tokens: 700 })).toMatchObject({ status: "granted" });
    expect(await reserve(sql, "r4", { tokens: 1 })).toMatchObject({ status: "refused" });
  });

  test("an under-estimate holds the next one back", async () => {
    const grant = await reserve(sql, "r1", { tokens: 300 });
    await settle(sql, grant, { inputTokens: 950 });
    expect(await reserve(sql, "r2", { tokens: 100 })).toMatchObject({ status: "refused", limit: "tpm" });
  });

  test("[edge.settled-twice] twice is the same as once", async () => {
    const grant = await reserve(sql, "r1", { tokens: 900 });
    expect(await settle(sql, grant, { inputTokens: 500 })).toEqual({ status: "settled" });
    expect(await settle(sql, grant, { inputTokens: 500 })).toMatchObject({ status: "already_settled" });
    expect(await settle(sql, grant, { inputTokens: 1 })).toMatchObject({ status: "already_settled" });
    expect(await sql`select tokens::int from eve.lane_buckets`).toEqual([{ tokens: 500 }]);
    expect(await sql`select count(*)::int as n from public.token_usage`).toEqual([{ n: 1 }]);
    expect(await sql`select rpm_used, tpm_used, rpd_used from public.google_ai_usage_counters`).toEqual([
      { rpm_used: 1, tpm_used: 500, rpd_used: 1 },
    ]);
  });

  test("fifty settlers of one reservation at once settle it once", async () => {
    const grant = await reserve(sql, "r1", { tokens: 900 });
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => settle(sql, grant, { inputTokens: 500 })),
    );
    expect(statuses(answers)).toEqual({ settled: 1, already_settled: 49 });
    expect(await sql`select tokens::int from eve.lane_buckets`).toEqual([{ tokens: 500 }]);
  });

  test("corrects the place where the call started, not now", async () => {
    const grant = await reserve(sql, "r1", { tokens: 900 });
    await clock.advance(30_000);
    await settle(sql, grant, { inputTokens: 1000 });
    await clock.advance(30_250);
    expect(await reserve(sql, "r2", { tokens: 1000 })).toMatchObject({ status: "granted" });
  });

  test("a failed call stays counted: Google may have counted it", async () => {
    const grant = await reserve(sql, "r1", { tokens: 900 });
    await settle(sql, grant, { outcome: "failed" });
    expect(await reserve(sql, "r2", { tokens: 200 })).toMatchObject({ status: "refused" });
  });

  test("an unknown reservation is an error", async () => {
    await expect(settle(sql, { request_no: 999_999, attempt: 1 })).rejects.toMatchObject({ code: "EV404" });
  });

  test("writes the request, the attempt, the usage and the counters", async () => {
    const grant = await reserve(sql, "r1", { tokens: 100 });
    await settle(sql, grant, { inputTokens: 120, outputTokens: 30 });
    expect(
      await sql`select request_id, state, attempts, input_tokens, output_tokens, total_tokens from eve.requests`,
    )
      .toEqual([{
        request_id: "r1",
        state: "succeeded",
        attempts: 1,
        input_tokens: 120,
        output_tokens: 30,
        total_tokens: 150,
      }]);
    expect(await sql`select outcome, tokens_booked::int, input_tokens from eve.attempts`)
      .toEqual([{ outcome: "succeeded", tokens_booked: 100, input_tokens: 120 }]);
    expect(
      await sql`select model, prompt_tokens, completion_tokens, total_tokens, request_id from public.token_usage`,
    )
      .toEqual([{
        model: "m",
        prompt_tokens: 120,
        completion_tokens: 30,
        total_tokens: 150,
        request_id: "r1",
      }]);
    expect(await sql`select count(*)::int as n from eve.inflight`).toEqual([{ n: 0 }]);
  });
});

describe("the estimate's factor", () => {
  /** 400 calls whose real tokens are the estimate times what `ratio` gives. */
  const teach = async (ratio: (n: number) => number) => {
    await sql`update eve.settings set value = 8 where name = 'learn_one_in'`;
    await addKey(sql, "a");
    await addModel(sql, "m");
    for (let batch = 0; batch < 400; batch += 50) {
      await Promise.all(Array.from({ length: 50 }, async (_, n) => {
        const grant = await reserve(sql, `r${batch + n}`, { tokens: 1000 });
        await settle(sql, grant, { inputTokens: Math.round(1000 * ratio(batch + n)) });
      }));
    }
    const [row] = await sql`select estimate_factor from public.google_ai_model_limits`;
    return row!.estimate_factor as number;
  };

  test("is learned from settled calls", async () => {
    const factor = await teach(() => 1.25);
    expect(factor).toBeGreaterThan(1.15);
    expect(factor).toBeLessThan(1.26);
    expect(await reserve(sql, "next", { tokens: 1000 })).toMatchObject({ tokens: Math.ceil(1000 * factor) });
  });

  test("is not carried away by outliers, nor out of its bounds", async () => {
    expect(await teach((n) => n % 10 === 0 ? 30 : 1)).toBeLessThan(1.2);
    await clearLedger(sql);
    expect(await teach(() => 50)).toBeLessThanOrEqual(2);
  });
});

describe("[G7.cancelling] cancelling", () => {
  test("before dispatch gives back the start, the tokens and the day", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 1, tpm: 100, rpd: 1 });
    const grant = await reserve(sql, "r1", { tokens: 100 });
    await cancel(sql, grant);
    expect(await reserve(sql, "r2", { tokens: 100 })).toMatchObject({ status: "granted" });
  });

  test("the last in the line gives its place in the line back too", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 1 });
    await reserve(sql, "r1");
    const second = await reserve(sql, "r2", { maxWaitMs: 300_000 });
    const third = await reserve(sql, "r3", { maxWaitMs: 300_000 });
    expect([second.wait_ms, third.wait_ms]).toEqual([60_250, 120_500]);
    await cancel(sql, third);
    expect(await reserve(sql, "r4", { maxWaitMs: 300_000 })).toMatchObject({ wait_ms: 120_500 });
  });

  test("twice gives back once", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 2, rpd: 2 });
    const grant = await reserve(sql, "r1");
    await reserve(sql, "r2");
    await cancel(sql, grant);
    await cancel(sql, grant);
    expect(statuses(await rush(5, {}, "x"))).toEqual({ granted: 1, refused: 4 });
  });
});

describe("[G6.leases] leases", () => {
  beforeEach(async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 2 });
  });

  test("a caller that died is closed by the next reservation on its lane, and stays counted while it must", async () => {
    await reserve(sql, "dies", { leaseMs: 10_000 });
    await clock.advance(10_001);
    expect(await reserve(sql, "next")).toMatchObject({ status: "granted" });
    expect(await sql`select request_id, state, error_code from eve.requests`)
      .toEqual([{ request_id: "dies", state: "expired", error_code: "lease_expired" }]);
    expect(await reserve(sql, "third")).toMatchObject({ status: "refused" });
    await clock.advance(50_249);
    expect(await reserve(sql, "fourth")).toMatchObject({ status: "granted" });
  });

  test("the sweep closes it where nobody calls", async () => {
    await reserve(sql, "dies", { leaseMs: 10_000 });
    expect(await sql`select public.eve_sweep() as swept`).toEqual([{ swept: { expired: 0 } }]);
    await clock.advance(10_001);
    expect(await sql`select public.eve_sweep() as swept`).toEqual([{ swept: { expired: 1 } }]);
    expect(await sql`select count(*)::int as n from eve.inflight`).toEqual([{ n: 0 }]);
  });

  test("[edge.late-settlement] settling late corrects the counts and harms nothing", async () => {
    const grant = await reserve(sql, "slow", { tokens: 50, leaseMs: 10_000 });
    await clock.advance(10_001);
    await sql`select public.eve_sweep()`;
    expect(await settle(sql, grant, { inputTokens: 70, outputTokens: 5 })).toEqual({ status: "late" });
    expect(await settle(sql, grant, { inputTokens: 70, outputTokens: 5 })).toMatchObject({
      status: "already_settled",
    });
    expect(await sql`select state, input_tokens from eve.requests`).toEqual([{
      state: "succeeded",
      input_tokens: 70,
    }]);
    expect(await sql`select tokens::int from eve.lane_buckets`).toEqual([{ tokens: 70 }]);
  });

  test("a caller that died between two attempts is closed as well", async () => {
    const grant = await reserve(sql, "dies", { leaseMs: 10_000 });
    await settle(sql, grant, { outcome: "failed", final: false });
    await clock.advance(120_001);
    await sql`select public.eve_sweep()`;
    expect(await sql`select request_id, state, attempts from eve.requests`)
      .toEqual([{ request_id: "dies", state: "expired", attempts: 1 }]);
  });
});

describe("[G2.same-request] the same request_id", () => {
  beforeEach(async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 100 });
  });

  test("at once from fifty connections reserves once", async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, () => reserve(sql, "same")));
    expect(statuses(answers)).toEqual({ granted: 1, duplicate: 49 });
    expect(await sql`select sum(starts)::int as n from eve.lane_buckets`).toEqual([{ n: 1 }]);
  });

  test("after the end says how it ended", async () => {
    const grant = await reserve(sql, "same");
    await settle(sql, grant, { outcome: "failed", errorCode: "upstream_error" });
    expect(await reserve(sql, "same")).toMatchObject({
      status: "duplicate",
      state: "failed",
      error_code: "upstream_error",
    });
  });

  test("of another consumer is another request", async () => {
    const [other] =
      await sql`insert into eve.consumers (name, kind) values ('other', 'service') returning id`;
    await reserve(sql, "same");
    expect(await reserve(sql, "same", { consumerId: other!.id })).toMatchObject({ status: "granted" });
  });

  test("carries up to three attempts, each with a reservation", async () => {
    let grant = await reserve(sql, "same");
    for (const attempt of [2, 3]) {
      await settle(sql, grant, { outcome: "failed", final: false });
      expect(await reserve(sql, "same")).toMatchObject({ status: "duplicate", state: "running" });
      grant = await reserve(sql, "same", { attempt });
      expect(grant).toMatchObject({ status: "granted", attempt });
    }
    await settle(sql, grant, { inputTokens: 10 });
    expect(await sql`select attempt, outcome from eve.attempts order by attempt`).toEqual([
      { attempt: 1, outcome: "failed" },
      { attempt: 2, outcome: "failed" },
      { attempt: 3, outcome: "succeeded" },
    ]);
    expect(await sql`select attempts, state from eve.requests`).toEqual([{
      attempts: 3,
      state: "succeeded",
    }]);
    expect(await sql`select sum(starts)::int as n from eve.lane_buckets`).toEqual([{ n: 3 }]);
  });

  test("ends when no attempt follows after all", async () => {
    const grant = await reserve(sql, "same");
    await settle(sql, grant, { outcome: "failed", final: false, errorCode: "upstream_error" });
    expect(await settle(sql, grant, { outcome: "failed", errorCode: "upstream_error" })).toMatchObject({
      status: "settled",
    });
    expect(await sql`select state, error_code from eve.requests`).toEqual([{
      state: "failed",
      error_code: "upstream_error",
    }]);
    expect(await sql`select count(*)::int as n from eve.inflight`).toEqual([{ n: 0 }]);
  });

  test("a second attempt of a request that is not running raises", async () => {
    await expect(reserve(sql, "never", { attempt: 2 })).rejects.toMatchObject({ code: "EV404" });
  });
});

describe("[edge.choice-of-key] the choice of key", () => {
  test("five equal keys of five projects share a thousand calls within 5 %", async () => {
    for (const alias of ["a", "b", "c", "d", "e"]) await addKey(sql, alias, { project: alias });
    await addModel(sql, "m", { rpm: 1000 });
    const counts = await spread(1000);
    for (const count of Object.values(counts)) expect(Math.abs(count - 200)).toBeLessThanOrEqual(10);
  });

  test("five equal keys of one project share a thousand calls within 5 %", async () => {
    for (const alias of ["a", "b", "c", "d", "e"]) await addKey(sql, alias, { project: "one" });
    await addModel(sql, "m", { rpm: 10_000 });
    const counts = await spread(1000);
    for (const count of Object.values(counts)) expect(Math.abs(count - 200)).toBeLessThanOrEqual(10);
  });

  async function spread(calls: number): Promise<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const answer of await rush(calls)) counts[answer.key.alias] = (counts[answer.key.alias] ?? 0) + 1;
    expect(Object.keys(counts)).toHaveLength(5);
    return counts;
  }

  test("a lower priority number is used up first", async () => {
    await addKey(sql, "cheap", { priority: 1 });
    await addKey(sql, "dear", { priority: 2 });
    await addModel(sql, "m", { rpm: 3 });
    const aliases = [];
    for (let n = 0; n < 5; n++) aliases.push((await reserve(sql, `r${n}`)).key.alias);
    expect(aliases).toEqual(["cheap", "cheap", "cheap", "dear", "dear"]);
  });

  test("an earlier start beats priority", async () => {
    await addKey(sql, "cheap", { priority: 1 });
    await addKey(sql, "dear", { priority: 2 });
    await addModel(sql, "m", { rpm: 1 });
    await reserve(sql, "r1");
    expect(await reserve(sql, "r2", { maxWaitMs: 100_000 })).toMatchObject({
      wait_ms: 0,
      key: { alias: "dear" },
    });
  });

  test("excluded keys are skipped, avoided ones are used last", async () => {
    const a = await addKey(sql, "a", { project: "one", priority: 1 });
    const b = await addKey(sql, "b", { project: "two", priority: 2 });
    await addModel(sql, "m", { rpm: 100 });
    expect((await reserve(sql, "r1")).key.alias).toBe("a");
    expect((await reserve(sql, "r2", { excludeKeys: [a] })).key.alias).toBe("b");
    expect((await reserve(sql, "r3", { avoidKeys: [a] })).key.alias).toBe("b");
    expect((await reserve(sql, "r4", { avoidKeys: [a, b] })).key.alias).toBe("a");
    expect(await reserve(sql, "r5", { excludeKeys: [a, b] })).toMatchObject({ code: "no_active_key" });
  });

  test("inactive, blocked and nameless keys are never chosen", async () => {
    await addKey(sql, "good", { priority: 9 });
    await sql`
      insert into public.google_ai_api_keys (key_alias, env_var_name, is_active, blocked_until, priority) values
        ('off', 'X', false, null, 1), ('blocked', 'X', true, ${new Date(
      clock.nowMs() + 60_000,
    )}, 1), ('nameless', null, true, null, 1)`;
    await addModel(sql, "m", { rpm: 1000 });
    const used = new Set((await rush(50)).map((answer) => answer.key.alias));
    expect([...used]).toEqual(["good"]);
  });

  test("a model's successor is served, and the answer says so", async () => {
    await addKey(sql, "a");
    await addModel(sql, "new", { rpm: 10 });
    await addModel(sql, "old", { rpm: 10 });
    await sql`update public.google_ai_model_limits set replaced_by = 'new' where model = 'old'`;
    expect(await reserve(sql, "r", { models: ["old"] })).toMatchObject({
      model: "new",
      requested_model: "old",
      replaced: true,
    });
  });

  test("[edge.new-key] a key added while the system runs takes its share at once", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 2 });
    expect(statuses(await rush(3))).toEqual({ granted: 2, refused: 1 });
    await addKey(sql, "b");
    expect(statuses(await rush(3, {}, "more"))).toEqual({ granted: 2, refused: 1 });
  });
});

describe("[edge.blocked] what upstream said", () => {
  test("a blocked lane starts nothing until then, on this model and project alone", async () => {
    await addKey(sql, "a", { project: "one" });
    await addKey(sql, "b", { project: "two", priority: 200 });
    await addModel(sql, "m", { rpm: 100 });
    const grant = await reserve(sql, "r1");
    await settle(sql, grant, {
      outcome: "failed",
      block: { scope: "lane", for_ms: 29_000, reason: "upstream_minute" },
    });
    expect((await reserve(sql, "r2")).key.alias).toBe("b");
    await sql`update public.google_ai_api_keys set is_active = false where key_alias = 'b'`;
    const refusal = await reserve(sql, "r3");
    expect(refusal).toMatchObject({ code: "lane_blocked", limit: "blocked" });
    expect(refusal.retry_after_ms).toBeGreaterThanOrEqual(29_000);
    expect(await reserve(sql, "r4", { maxWaitMs: 30_000 })).toMatchObject({ wait_ms: 29_000 });
  });

  test("a daily 429 blocks the lane until midnight in Los Angeles", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 100 });
    const grant = await reserve(sql, "r1");
    await settle(sql, grant, {
      outcome: "failed",
      block: { scope: "lane", until: "pacific_midnight", reason: "upstream_day" },
    });
    await clock.set("2026-11-19T07:59:59Z");
    expect(await reserve(sql, "r2")).toMatchObject({ code: "lane_blocked" });
    await clock.set("2026-11-19T08:00:00.250Z");
    expect(await reserve(sql, "r3")).toMatchObject({ status: "granted" });
  });

  test("a bad key is off for good, with its reason and an alert", async () => {
    const bad = await addKey(sql, "bad", { priority: 1 });
    await addKey(sql, "good", { priority: 2 });
    await addModel(sql, "m", { rpm: 100 });
    const grant = await reserve(sql, "r1");
    expect(grant.key.alias).toBe("bad");
    await settle(sql, grant, {
      outcome: "failed",
      final: false,
      block: { scope: "key", until: "forever", reason: "key_invalid" },
    });
    expect(await reserve(sql, "r1", { attempt: 2 })).toMatchObject({
      status: "granted",
      key: { alias: "good" },
    });
    expect(await sql`select is_active, blocked_reason from public.google_ai_api_keys where id = ${bad}`)
      .toEqual([{ is_active: false, blocked_reason: "key_invalid" }]);
    expect(await sql`select kind, severity from eve.alerts where closed_at is null`)
      .toEqual([{ kind: "key_disabled", severity: "critical" }]);
  });

  test("a feature that a model refuses is remembered on its row", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 100 });
    const grant = await reserve(sql, "r1");
    expect(grant.capabilities).toMatchObject({ system: true, json: true });
    const block = { scope: "capability", capability: "json", for_ms: 0, reason: "JSON mode is not enabled" };
    await settle(sql, grant, { outcome: "failed", final: false, block });
    expect((await reserve(sql, "r1", { attempt: 2 })).capabilities).toMatchObject({
      system: true,
      json: false,
    });
  });

  test("a model that a key's project lacks bars that key from that model alone", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 100 });
    await addModel(sql, "other", { rpm: 100 });
    const grant = await reserve(sql, "r1");
    await settle(sql, grant, {
      outcome: "failed",
      block: { scope: "key_model", until: "forever", reason: "model_not_found" },
    });
    expect(await reserve(sql, "r2")).toMatchObject({ code: "no_active_key" });
    expect(await reserve(sql, "r3", { models: ["other"] })).toMatchObject({ status: "granted" });
  });
});
