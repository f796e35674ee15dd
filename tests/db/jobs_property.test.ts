/**
 * Jobs under workers that die, freeze, give back and are killed in the middle of a claim, and callers that cancel, all at once and each over a
 * connection of its own: none is lost, none is completed twice, and what was cancelled is not claimed. Then the check itself: broken
 * versions of the SQL must not pass it.
 */
import fc from "fast-check";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import {
  addConsumer,
  clearJobs,
  type GivenJob,
  type Held,
  jobCalls,
  LEASE_MS,
  miscounted,
} from "../harness/jobs.ts";

/** Runs of the property; EVE_PROPERTY_RUNS asks for more, for a long night. */
const RUNS = Number(Deno.env.get("EVE_PROPERTY_RUNS") ?? 40);
const START = "2026-11-18T12:00:00Z";
/** A job may be lost three times and fail three times, each after a pause of ten minutes at most. */
const ROUNDS_TO_END = 20;
const PAUSE_MS = 600_000;

let db: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
let owners: (string | null)[];
beforeAll(async () => {
  db = await cloneDatabase();
  sql = postgres(db.url, { max: 12, onnotice: () => {} });
  clock = await freezeClock(sql);
  owners = [null, await addConsumer(sql, "a"), await addConsumer(sql, "b")];
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await db?.drop();
});

const step = fc.record({
  take: fc.integer({ min: 1, max: 4 }),
  then: fc.constantFrom("complete", "complete", "fail", "release", "die", "freeze", "kill"),
});
const plan = fc.record({
  jobs: fc.array(fc.record({ owner: fc.nat(2), interactive: fc.boolean(), model: fc.nat(1) }), {
    minLength: 1,
    maxLength: 25,
  }),
  workers: fc.array(fc.array(step, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 5 }),
  cancels: fc.array(fc.nat(24), { maxLength: 5 }),
});
type Plan = typeof plan extends fc.Arbitrary<infer Value> ? Value : never;

/** Everything that is wrong after a run. */
async function play({ jobs, workers, cancels }: Plan): Promise<string[]> {
  await clearJobs(sql);
  await clock.set(START);
  const { submit, complete, fail, release, cancel, sweep } = jobCalls(sql);
  const faults: string[] = [];
  const ids: string[] = [];
  for (const { owner, interactive, model } of jobs) {
    const given: GivenJob = { models: [`m${model}`], class: interactive ? "interactive" : "batch" };
    ids.push((await submit([given], { consumerId: owners[owner]! })).jobs[0].id);
  }
  const completed = new Map<string, number>();
  const cancelled = new Set<string>();
  const ended = ({ done }: { done: string[] }) => {
    for (const id of done) completed.set(id, (completed.get(id) ?? 0) + 1);
  };
  const take = async (most: number, connection = sql) => {
    const before = new Set(cancelled);
    const held: Held[] = await jobCalls(connection).claim(most);
    for (const { id } of held) if (before.has(id)) faults.push(`${id} was cancelled, and claimed later`);
    return held;
  };
  const work = async (steps: Plan["workers"][number]) => {
    const frozen: Held[] = [];
    for (const { take: most, then } of steps) {
      if (then === "kill") {
        await killedWhileClaiming(most);
        continue;
      }
      const held = await take(most);
      if (then === "complete") ended(await complete(held));
      else if (then === "release") await release(held);
      else if (then === "fail") await Promise.all(held.map((one) => fail(one)));
      else if (then === "freeze") frozen.push(...held);
      if (then === "die" || then === "freeze") {
        await clock.advance(LEASE_MS);
        await sweep();
      }
    }
    // It wakes up, and believes that it has done its work.
    ended(await complete(frozen));
  };
  await Promise.all([
    ...workers.map(work),
    ...cancels.map(async (n) => {
      const id = ids[n % ids.length]!;
      if ((await cancel([id])).cancelled === 1) cancelled.add(id);
    }),
  ]);
  for (let round = 0; round < ROUNDS_TO_END; round++) {
    await clock.advance(PAUSE_MS);
    const held = await take(50);
    ended(await complete(held));
    if (held.length === 0 && (await sql`select from eve.jobs where finished_at is null`).length === 0) break;
  }
  for (const { id, state } of await sql`select id, state from eve.jobs`) {
    const times = completed.get(id) ?? 0;
    if (times > 1) faults.push(`${id} was completed ${times} times`);
    if ((state === "succeeded") !== (times === 1)) {
      faults.push(`${id} is ${state}, and was completed ${times} times`);
    }
    if (!["succeeded", "failed", "cancelled"].includes(state)) faults.push(`${id} is ${state} at the end`);
    if (cancelled.has(id) && state !== "cancelled") faults.push(`${id} was cancelled, and is ${state}`);
  }
  if ((await sql`select from eve.jobs`).length !== jobs.length) faults.push("jobs are missing");
  if ((await miscounted(sql)).length > 0) faults.push("the queues are miscounted");
  return faults;
}

/** The connection dies between the claim and its commit. */
async function killedWhileClaiming(most: number): Promise<void> {
  const { promise: closed, resolve: onclose } = Promise.withResolvers<void>();
  const victim = postgres(db.url, { max: 1, onnotice: () => {}, onclose: () => onclose() });
  const connection = await victim.reserve();
  await connection`begin`;
  const [row] = await connection`select pg_backend_pid() as pid`;
  await jobCalls(connection).claim(most);
  await sql`select pg_terminate_backend(${row!.pid})`;
  await closed;
  await victim.end({ timeout: 0 });
}

test("no job is lost, completed twice, or claimed after it was cancelled", async () => {
  await fc.assert(
    fc.asyncProperty(plan, async (run) => {
      expect(await play(run)).toEqual([]);
    }),
    { numRuns: RUNS, endOnFailure: true },
  );
}, 300_000);

describe("the check catches", () => {
  test.each([
    [
      "a completion by who does not hold the job",
      "eve_jobs_complete",
      [["g.id = j.id and g.lease_token = j.lease_token", "g.id = j.id"], [
        "and j.lease_token = g.lease_token",
        "",
      ]],
    ],
    ["a claim of what was cancelled", "eve_jobs_claim", [[
      "j.state = 'queued' and",
      "j.state in ('queued', 'cancelled') and",
    ]]],
    ["jobs that are not returned", "jobs_return_lost", [["j.lease_until <= v_now", "false"]]],
    ["a release that forgets the queue", "jobs_changed", [[
      "select n.queue_id, 1 as jobs",
      "select n.queue_id, 0 as jobs",
    ]]],
  ])("%s", async (_, name, changes) => {
    const [{ definition }] = await sql`
      select pg_get_functiondef(oid) as definition from pg_proc where proname = ${name}` as unknown as [
      { definition: string },
    ];
    let broken = definition;
    for (const [from, to] of changes) {
      expect(broken).toContain(from);
      broken = broken.replaceAll(from!, to!);
    }
    await sql.unsafe(broken);
    try {
      const found = await fc.check(
        fc.asyncProperty(plan, async (run) => {
          // Where an invariant of the table breaks instead, that is caught as well.
          expect(await play(run)).toEqual([]);
        }),
        { numRuns: 200, endOnFailure: true },
      );
      expect(found.failed).toBe(true);
    } finally {
      await sql.unsafe(definition);
    }
  }, 300_000);
});
