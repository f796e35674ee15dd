/** Budgets of tokens: input and answer are reserved, real ones replace them, and no number of callers at once spends more. */
import { beforeEach, describe, expect, test } from "vitest";
import { addKey, addModel, type Answer, cancel, reserve, settle } from "../harness/admission.ts";
import { checkBudgets } from "../harness/checker.ts";
import { admissionDatabase } from "../harness/admission_database.ts";

const CALLERS = 40;

const { sql, clock } = await admissionDatabase({ connections: CALLERS });
beforeEach(async () => {
  await addKey(sql, "a");
  await addModel(sql, "m", {});
});

/** A consumer with so many tokens a day, and a token of its with so many in its life. */
async function scopeOf(budget: { day?: number; token?: number }) {
  const [consumer] = await sql`
    insert into eve.consumers (name, kind, tokens_per_day) values ('notebook', 'notebook', ${
    budget.day ?? null
  }) returning id`;
  const consumerId = consumer!.id as string;
  if (budget.token === undefined) return { consumerId };
  const [token] = await sql`
    insert into eve.scoped_tokens (consumer_id, class, tokens_budget, expires_at)
    values (${consumerId}, 'interactive', ${budget.token}, '2027-01-01') returning id`;
  return { consumerId, tokenId: token!.id as string };
}

const used = async () => {
  const [row] = await sql`
    select coalesce((select sum(tokens) from eve.consumer_days), 0)::int as day,
      coalesce((select sum(tokens_used) from eve.scoped_tokens), 0)::int as token`;
  return row as unknown as { day: number; token: number };
};

describe("[G2.tokens] a budget of tokens", () => {
  test.each([["a consumer's day", { day: 1_000 }], ["a token's life", { token: 1_000 }], [
    "both",
    { day: 1_500, token: 1_000 },
  ]])(
    "of %s is never exceeded by forty callers at once, each of whom writes as much as it may",
    async (_, budget) => {
      const scope = await scopeOf(budget);
      let most = 0;
      let answered = 0;
      const caller = async (name: string) => {
        for (let n = 0; n < 6; n++) {
          const grant = await reserve(sql, `${name}.${n}`, { ...scope, tokens: 20 });
          if (grant.status !== "granted") continue;
          answered++;
          most = Math.max(most, (await used()).day, (await used()).token);
          // Half of them say how long they may be at most, and all of them are as long.
          await settle(sql, grant, {
            inputTokens: 20,
            outputTokens: Math.min(grant.max_output_tokens ?? 8_192, 45),
          });
        }
      };
      await Promise.all(Array.from({ length: CALLERS }, (_, n) => caller(`c${n}`)));
      const after = await used();
      expect(Math.max(most, after.day, after.token)).toBeLessThanOrEqual(1_000);
      expect(answered).toBeGreaterThan(1);
      expect(await checkBudgets(sql)).toEqual([]);
    },
  );

  test("is checked with what is booked, the model's factor included", async () => {
    await sql`update public.google_ai_model_limits set estimate_factor = 1.43`;
    const scope = await scopeOf({ token: 100 });
    expect(await reserve(sql, "r1", { ...scope, tokens: 100, maxOutput: 0 })).toMatchObject({
      code: "budget_exhausted",
      limit: "token_tokens",
    });
    expect(await reserve(sql, "r2", { ...scope, tokens: 69, maxOutput: 0 })).toMatchObject({ tokens: 99 });
    expect(await used()).toMatchObject({ token: 99 });
  });

  test.each([
    ["as much as is asked for", 300, null, 300],
    ["the model's own limit where nothing is asked for", null, 700, 700],
    ["the usual limit where the model has none either", null, null, 8_192],
    ["what is left where that is less", 50_000, null, 9_990],
  ])("reserves %s", async (_, asked, own, allowed) => {
    await sql`update public.google_ai_model_limits set max_output_tokens = ${own}`;
    const scope = await scopeOf({ day: 10_000 });
    const grant = await reserve(sql, "r1", { ...scope, tokens: 10, maxOutput: asked });
    expect(grant).toMatchObject({ status: "granted", tokens: 10, max_output_tokens: allowed });
    expect(await used()).toMatchObject({ day: 10 + allowed });
    await settle(sql, grant, { inputTokens: 12, outputTokens: 30 });
    expect(await used()).toMatchObject({ day: 42 });
  });

  test("bounds nothing for a caller without one, and nothing of what has no answer", async () => {
    expect(await reserve(sql, "r1", {})).not.toHaveProperty("max_output_tokens");
    const scope = await scopeOf({ day: 10 });
    expect(await reserve(sql, "r2", { ...scope, tokens: 10, maxOutput: 0 })).not.toHaveProperty(
      "max_output_tokens",
    );
    expect(await used()).toMatchObject({ day: 10 });
  });

  test("that is reserved and not spent is said to be free again soon, and one that is spent after midnight", async () => {
    const scope = await scopeOf({ day: 1_000 });
    const first = await reserve(sql, "r1", { ...scope, tokens: 100 });
    expect(first.max_output_tokens).toBe(900);
    const meanwhile = await reserve(sql, "r2", { ...scope, tokens: 100 });
    expect(meanwhile).toMatchObject({ code: "budget_exhausted", limit: "consumer_tokens" });
    expect(meanwhile.retry_after_ms).toBeLessThan(10_000);
    await settle(sql, first, { inputTokens: 100, outputTokens: 900 });
    const spent = await reserve(sql, "r3", { ...scope, tokens: 1 });
    expect(spent.retry_after_ms).toBeGreaterThanOrEqual(20 * 3_600_000);
  });

  test("of a token that is spent is never whole again", async () => {
    const scope = await scopeOf({ token: 50 });
    await settle(sql, await reserve(sql, "r1", { ...scope, tokens: 10 }), {
      inputTokens: 10,
      outputTokens: 40,
    });
    expect(await reserve(sql, "r2", { ...scope, tokens: 1 })).toMatchObject({ retry_after_ms: null });
  });

  test("has a prompt counted first whose estimate does not fit and whose count may", async () => {
    const scope = await scopeOf({ day: 120 });
    expect(await reserve(sql, "r1", { ...scope, tokens: 100, counted: false })).toMatchObject({
      status: "count",
    });
    expect(await used()).toMatchObject({ day: 0 });
    expect(await reserve(sql, "r1", { ...scope, tokens: 90, counted: true })).toMatchObject({
      status: "granted",
      max_output_tokens: 30,
    });
    expect(await reserve(sql, "r2", { ...scope, tokens: 900, counted: false })).toMatchObject({
      code: "budget_exhausted",
    });
  });

  test.each([
    ["was cancelled before it was sent", (grant: Answer) => cancel(sql, grant), 0],
    [
      "upstream refused",
      (grant: Answer) => settle(sql, grant, { outcome: "failed", upstreamStatus: 503 }),
      100,
    ],
    ["ended nobody knows how", (grant: Answer) => settle(sql, grant, { outcome: "failed" }), 150],
    [
      "told what it took",
      (grant: Answer) => settle(sql, grant, { inputTokens: 90, outputTokens: 0 }),
      90,
    ],
  ])("holds, of a call that %s, what it may have taken", async (_, end, kept) => {
    const scope = await scopeOf({ day: 1_000, token: 2_000 });
    await end(await reserve(sql, "r1", { ...scope, tokens: 100, maxOutput: 50 }));
    expect(await used()).toEqual({ day: kept, token: kept });
    expect(await checkBudgets(sql)).toEqual([]);
  });

  test("holds the whole of a call whose caller died, until it is settled late", async () => {
    const scope = await scopeOf({ day: 1_000 });
    const grant = await reserve(sql, "r1", { ...scope, tokens: 100, maxOutput: 50, leaseMs: 1_000 });
    await clock.advance(2_000);
    await sql`select public.eve_sweep()`;
    expect(await used()).toMatchObject({ day: 150 });
    expect(await checkBudgets(sql)).toEqual([]);
    await settle(sql, grant, { inputTokens: 90, outputTokens: 7 });
    expect(await used()).toMatchObject({ day: 97 });
    expect(await checkBudgets(sql)).toEqual([]);
  });

  test("is taken once for batch that stands in line, and given back when it leaves", async () => {
    await sql`update public.google_ai_model_limits set rpm = 1`;
    const scope = await scopeOf({ day: 1_000 });
    await reserve(sql, "full");
    const batch = { ...scope, class: "batch" as const, tokens: 100, maxOutput: 200, maxWaitMs: 200_000 };
    const waiting = await reserve(sql, "w", batch);
    expect(waiting.status).toBe("waiting");
    expect(await used()).toMatchObject({ day: 300 });
    await clock.advance(waiting.wait_ms);
    const granted = await reserve(sql, "w", { ...batch, requestNo: waiting.request_no });
    expect(granted).toMatchObject({ status: "granted", max_output_tokens: 200 });
    expect(await used()).toMatchObject({ day: 300 });
    const behind = await reserve(sql, "behind", batch);
    expect(await used()).toMatchObject({ day: 600 });
    await cancel(sql, behind);
    expect(await used()).toMatchObject({ day: 300 });
  });

  test("of a repeated attempt is reserved again, and what the first took is kept", async () => {
    const scope = await scopeOf({ day: 1_000 });
    const first = await reserve(sql, "r", { ...scope, tokens: 100, maxOutput: 500 });
    await settle(sql, first, { outcome: "failed", final: false, inputTokens: 100, outputTokens: 300 });
    const second = await reserve(sql, "r", { ...scope, tokens: 100, maxOutput: 900, attempt: 2 });
    expect(second).toMatchObject({ status: "granted", max_output_tokens: 500 });
    await settle(sql, second, { inputTokens: 100, outputTokens: 500 });
    expect(await used()).toMatchObject({ day: 1_000 });
    expect(await checkBudgets(sql)).toEqual([]);
  });
});
