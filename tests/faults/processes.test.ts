/** Parts of the system die, or go away for a while, under load. Nobody lends a hand. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { judgeSite } from "../harness/load/site.ts";
import { TROUBLES } from "../harness/load/troubles.ts";
import { outcomeOf } from "../harness/load/traffic.ts";
import { PATIENCE_MS } from "../harness/patience.ts";
import { type Bench, codesOf, startBench, survives } from "./stack_under_load.ts";

let bench: Bench;
beforeAll(async () => {
  bench = await startBench(1);
});
afterAll(() => bench?.stop());

test("[fault.database-restarted] PostgreSQL is restarted: callers get errors, and the gateway reconnects", async () => {
  const records = await survives(bench, () => TROUBLES.postgres_restarted.run(bench.site));
  expect(Object.keys(codesOf(records))).toEqual(
    expect.not.arrayContaining(["no_active_key", "upstream_unavailable", "worker_unavailable"]),
  );
});

test("[fault.database-restarted] PostgreSQL is killed: what was committed is there", async () => {
  await survives(bench, () => TROUBLES.postgres_killed.run(bench.site));
});

test("[fault.database-gone] the database is gone for ten seconds: what was being answered is settled when it is back", async () => {
  const records = await survives(bench, () => TROUBLES.database_gone.run(bench.site, 10_000), {
    shape: { patienceMs: PATIENCE_MS },
  });
  expect(codesOf(records)).toMatchObject({ database_unavailable: expect.any(Number) });
  // The patient among them got their answers all the same.
  expect(records.filter((one) => one.tries.length > 1 && outcomeOf(one).kind === "answered").length)
    .toBeGreaterThan(0);
});

test("[fault.function-killed] the functions host is killed: its calls are lost and say so, and their leases end them", async () => {
  const records = await survives(bench, () => TROUBLES.worker_killed.run(bench.site), {
    terms: { killed: true },
    stillMs: 3_000,
  });
  expect(bench.stack.functions.get("llm-invoke")!.restarts).toBe(1);
  const failures = records.flatMap(({ tries }) => tries).filter((answer) =>
    answer.kind === "lost" || (answer.kind === "refused" && answer.code === "worker_unavailable")
  );
  expect(failures.length).toBeGreaterThan(0);
  // Afterwards the same load leaves nothing behind.
  const [row] = await bench.site.sql`
    select count(*)::int as n from eve.attempts where outcome = 'expired' and error_code <> 'lease_expired'`;
  expect(row).toEqual({ n: 0 });
});

test.each([
  [
    "a token too many",
    "update eve.requests set input_tokens = input_tokens + 1 where state = 'succeeded'",
    /books: .+ tokens, upstream counted/,
  ],
  [
    "a call that nobody booked",
    "update eve.requests set lane_id = null where state = 'succeeded'",
    /unbooked: /,
  ],
  [
    "an answer that counts as a failure",
    "update eve.requests set state = 'failed' where state = 'succeeded'",
    /was answered, and stands as failed/,
  ],
  ["a budget that is not charged", "update eve.scoped_tokens set tokens_used = 0", /G2: /],
  [
    "a start counted twice",
    "update public.google_ai_usage_counters set rpm_used = rpm_used + 1",
    /usage counters/,
  ],
  ["a window over its limit", "update eve.requests set model = 'gemini-3.5-flash'", /G1: /],
])("the verdict sees %s", async (_, tamper, seen) => {
  const { sql } = bench.site;
  let violations: string[] = [];
  await sql.begin(async (transaction) => {
    await transaction.unsafe(tamper);
    ({ violations } = await judgeSite(
      { ...bench.site, sql: transaction as never },
      bench.traffic,
      bench.terms,
    ));
    throw new Error("undo");
  }).catch((error) => expect(error.message).toBe("undo"));
  expect(violations.join("\n")).toMatch(seen);
});
