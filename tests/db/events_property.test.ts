/** Deliveries under workers that die, freeze, fail and wake up again: nothing is lost, nothing is done twice by who holds a lease. */
import * as fc from "fast-check";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";

const LEASE_MS = 30_000;
const CONSUMERS = ["a", "b", "c"];
/** Tries: one more than there are pauses. */
const PAUSES = [5, 60];
const WORKERS = 4;

let database: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
let workers: postgres.Sql[];
beforeAll(async () => {
  database = await cloneDatabase();
  sql = postgres(database.url, { max: 2, onnotice: () => {} });
  clock = await freezeClock(sql);
  workers = Array.from({ length: WORKERS }, () => postgres(database.url, { max: 1, onnotice: () => {} }));
});
afterAll(async () => {
  for (const worker of workers ?? []) await worker.end({ timeout: 5 });
  await sql?.end({ timeout: 5 });
  await database?.drop();
});
beforeEach(() => clock.set("2026-11-18T12:00:00Z"));

interface Held {
  delivery_id: number;
  lease: string;
  consumer: string;
  event: { id: string };
}

/** What happens, in a round: each worker does one of these at the same time as the others. */
type Step =
  | { do: "emit"; times: number }
  | { do: "claim"; worker: number; most: number }
  /** Ends what the worker holds; one that was frozen may come too late. */
  | { do: "finish"; worker: number; result: "delivered" | "failed" | "gone"; draw: number }
  /** It forgets what it holds. */
  | { do: "die"; worker: number }
  | { do: "pass"; ms: number }
  | { do: "replay" }
  | { do: "drop" };

const worker = fc.nat(WORKERS - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("emit" as const), times: fc.integer({ min: 1, max: 4 }) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant("claim" as const), worker, most: fc.integer({ min: 1, max: 6 }) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("finish" as const),
      worker,
      result: fc.oneof(
        { weight: 5, arbitrary: fc.constant("delivered" as const) },
        { weight: 5, arbitrary: fc.constant("failed" as const) },
        { weight: 1, arbitrary: fc.constant("gone" as const) },
      ),
      draw: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("die" as const), worker }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("pass" as const),
      ms: fc.constantFrom(1_000, 6_000, LEASE_MS - 1, LEASE_MS, 70_000),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: "replay" as const }) },
  { weight: 1, arbitrary: fc.constant({ do: "drop" as const }) },
);

test("nothing is lost, whatever workers do at the same time", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(step, { minLength: 1, maxLength: 6 }), { minLength: 5, maxLength: 25 }),
      play,
    ),
    { numRuns: 25, endOnFailure: true },
  );
});

/** One that came between being chosen and being deleted had its delivery dropped, or sent again, while its letter stayed: 10 of 3,600. */
test("a dead letter that comes while others are dropped goes with its delivery, or stays with it", async () => {
  await empty(sql, "eve.events", "eve.event_consumers", "eve.alerts");
  await sql`insert into eve.event_consumers (name, kind, types, retry_s, max_in_flight) values ('a', 'test', '{eve.x.v1}', '{}', 12)`;
  for (let round = 0; round < 100; round++) {
    await sql`select eve.emit_event('/x', 'eve.x.v1', 'x') from generate_series(1, 12)`;
    const [row] =
      await sql`select public.eve_events_claim('{test}', 12, ${LEASE_MS}) -> 'deliveries' as deliveries`;
    let more = true;
    const dropping = (async () => {
      while (more) await workers[1]!`select public.eve_dead_letters_drop()`;
    })();
    for (const { delivery_id, lease } of row!.deliveries as Held[]) {
      await workers[0]!`select public.eve_event_done(${delivery_id}, ${lease}, 'failed', 'no')`;
    }
    more = false;
    await dropping;
    await hold();
  }
});

async function play(rounds: Step[][]): Promise<void> {
  await empty(sql, "eve.events", "eve.event_consumers", "eve.alerts");
  for (const name of CONSUMERS) {
    await sql`
      insert into eve.event_consumers (name, kind, types, retry_s, max_in_flight)
      values (${name}, 'test', '{eve.x.v1}', ${PAUSES}, 3)`;
  }
  const held: Held[][] = workers.map(() => []);
  /** How often a consumer has had an event from one whose word counted, since it was last sent again. */
  const accepted = new Map<string, number>();
  let emitted = 0;

  const act = async (one: Step): Promise<void> => {
    switch (one.do) {
      case "emit":
        for (let n = 0; n < one.times; n++) {
          if ((await sql`select eve.emit_event('/x', 'eve.x.v1', 'x') as id`)[0]!.id !== null) emitted++;
        }
        return;
      case "claim": {
        const [row] = await workers[one.worker]!`
          select public.eve_events_claim('{test}', ${one.most}, ${LEASE_MS}) -> 'deliveries' as deliveries`;
        held[one.worker]!.push(...row!.deliveries as Held[]);
        return;
      }
      case "finish":
        for (const { delivery_id, lease, consumer, event } of held[one.worker]!.splice(0)) {
          const [row] = await workers[one.worker]!`
            select public.eve_event_done(${delivery_id}, ${lease}, ${one.result}, 'no', draw => ${one.draw}) ->> 'state' as state`;
          if (row!.state !== "delivered") continue;
          const key = `${consumer} ${event.id}`;
          accepted.set(key, (accepted.get(key) ?? 0) + 1);
        }
        return;
      case "die":
        held[one.worker]!.length = 0;
        return;
      case "pass":
        return;
      case "replay":
        await sql`select public.eve_dead_letters_replay()`;
        return;
      case "drop":
        await sql`select public.eve_dead_letters_drop()`;
        return;
    }
  };

  for (const round of rounds) {
    // One thing at a time for each worker, all workers at once.
    const lines = new Map<number, Step[]>();
    for (const one of round) {
      const line = "worker" in one ? one.worker : -1;
      lines.set(line, [...lines.get(line) ?? [], one]);
    }
    await Promise.all([...lines.values()].map(async (line) => {
      for (const one of line) await act(one);
    }));
    for (const one of round) if (one.do === "pass") await clock.advance(one.ms);
    await hold();
  }

  // Everybody is well again, and takes what there is.
  await sql`update eve.event_consumers set is_active = true`;
  for (const line of held) line.length = 0;
  for (;;) {
    await clock.advance(LEASE_MS + 70_000);
    const [row] =
      await sql`select public.eve_events_claim('{test}', 100, ${LEASE_MS}) -> 'deliveries' as deliveries`;
    const last = row!.deliveries as Held[];
    const [waiting] =
      await sql`select count(*)::integer as n from eve.event_deliveries where state = 'pending'`;
    if (last.length === 0 && waiting!.n === 0) break;
    held[0]!.push(...last);
    await act({ do: "finish", worker: 0, result: "delivered", draw: 0 });
  }
  await hold();

  // What arrived arrived once, by the word of who held the lease; nothing has vanished.
  expect([...accepted.values()].every((times) => times === 1)).toBe(true);
  const [{ events }] =
    await sql`select count(*)::integer as events from eve.events where type = 'eve.x.v1'` as unknown as [
      { events: number },
    ];
  expect(events).toBe(emitted);
  const delivered = await sql`
    select d.consumer || ' ' || e.event_id as key from eve.event_deliveries d join eve.events e on e.id = d.event_id
    where d.state = 'delivered'`;
  expect(new Set(delivered.map(({ key }) => key))).toEqual(new Set(accepted.keys()));
}

/** What must be so at any time. */
async function hold(): Promise<void> {
  const [wrong] = await sql`
    select
      (select count(*) from eve.event_deliveries d where d.attempts > ${
    PAUSES.length + 1
  })::integer as tried_too_often,
      (
        select count(*) from eve.event_deliveries d
        full join eve.dead_letters l on l.delivery_id = d.id
        where (d.state = 'dead') is distinct from (l.id is not null)
      )::integer as dead_without_letter,
      (select count(*) from eve.event_deliveries d where d.lease is not null and d.state <> 'pending')::integer as leased_and_ended,
      (
        select count(*) from (select distinct l.consumer from eve.dead_letters l) l
        full join (select a.subject from eve.alerts a where a.kind = 'dead_letters' and a.closed_at is null) a on a.subject = l.consumer
        where a.subject is null or l.consumer is null
      )::integer as alerts_astray`;
  expect(wrong).toEqual({
    tried_too_often: 0,
    dead_without_letter: 0,
    leased_and_ended: 0,
    alerts_astray: 0,
  });
}
