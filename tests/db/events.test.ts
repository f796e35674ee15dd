/** Events on a real database: written with what they tell of, taken by lease, delivered or put aside. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { addConsumer, clearJobs, jobCalls } from "../harness/jobs.ts";
import { until } from "../harness/patience.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";

let database: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = postgres(database.url, { max: 20, onnotice: () => {} });
  clock = await freezeClock(sql);
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await database?.drop();
});
beforeEach(async () => {
  await empty(sql, "eve.events", "eve.event_consumers", "eve.alerts", "eve.metric_counters");
  await sql`delete from eve.consumers where kind <> 'project'`;
  await clock.set("2026-11-18T12:00:00Z");
});

const LEASE_MS = 60_000;

interface Claimed {
  delivery_id: number;
  lease: string;
  attempt: number;
  consumer: string;
  event: { id: string; type: string; subject: string };
}

/** A consumer of the kind `test`, or of another. */
async function consumer(
  name: string,
  {
    types = ["eve.thing.*", "eve.x.v1"],
    retry = [10, 100],
    inFlight = 100,
    consumerId = null as string | null,
    kind = "test",
  } = {},
) {
  await sql`
    insert into eve.event_consumers (name, kind, types, retry_s, max_in_flight, consumer_id)
    values (${name}, ${kind}, ${types}, ${retry}, ${inFlight}, ${consumerId})`;
}

const emit = async (subject: string, type = "eve.thing.happened.v1", on: postgres.Sql = sql) =>
  (await on`select eve.emit_event('/things', ${type}, ${subject}, '{"id": 1}') as id`)[0]!.id as
    | string
    | null;

async function claim(atMost = 16, on: postgres.Sql = sql): Promise<Claimed[]> {
  const [row] = await on`select public.eve_events_claim('{test}', ${atMost}, ${LEASE_MS}) as answer`;
  return row!.answer.deliveries;
}
const nextDueMs = async () =>
  (await sql`select eve.next_delivery_ms('{test}')::integer as ms`)[0]!.ms as number | null;

async function done(
  { delivery_id, lease }: Pick<Claimed, "delivery_id" | "lease">,
  result: string,
  more: { error?: string; draw?: number; retryAfterMs?: number; rests?: boolean } = {},
  on: postgres.Sql = sql,
): Promise<string> {
  const [row] = await on`
    select public.eve_event_done(
      ${delivery_id}, ${lease}, ${result}, ${more.error ?? null}, null, 5, ${more.draw ?? 1}, ${
    more.retryAfterMs ?? null
  }, ${more.rests ?? false}
    ) as answer`;
  return row!.answer.state;
}

const subjects = (claimed: Claimed[]) => claimed.map(({ event }) => event.subject).sort();
const states = async () =>
  Object.fromEntries(
    (await sql`
      select e.subject, d.state from eve.event_deliveries d join eve.events e on e.id = d.event_id order by e.subject`)
      .map((row) => [row.subject, row.state]),
  );

describe("an event", () => {
  test("is there with what it tells of, and gone with it", async () => {
    await consumer("one");
    await sql.begin(async (transaction) => {
      await emit("undone", undefined, transaction as unknown as postgres.Sql);
      throw new Error("undone");
    }).catch(() => {});
    await emit("kept");
    expect(subjects(await claim())).toEqual(["kept"]);
  });

  test("goes to those who take its type and whom it concerns", async () => {
    const callers = await sql`
      insert into eve.consumers (name, kind) values ('mine', 'service'), ('theirs', 'service') returning id`;
    const [mine, theirs] = callers.map(({ id }) => id as string) as [string, string];
    await consumer("all", { types: ["*"] });
    await consumer("whole", { types: ["eve.thing.happened.v1"] });
    await consumer("beginning", { types: ["eve.thing.*"] });
    await consumer("no_beginning", { types: ["eve.thi.*", "eve.thing.happened.v2"] });
    await consumer("none", { types: [] });
    await consumer("mine", { consumerId: mine });
    await consumer("theirs", { consumerId: theirs });
    await sql`select eve.emit_event('/things', 'eve.thing.happened.v1', 'x', consumer_id => ${mine})`;
    expect((await claim()).map((one) => one.consumer).sort()).toEqual(["all", "beginning", "mine", "whole"]);
  });

  test("that is addressed goes to that one alone, whatever it takes", async () => {
    await consumer("all");
    await consumer("none", { types: [] });
    await sql`select eve.emit_event('/things', 'eve.thing.happened.v1', 'x', to_consumer => 'none')`;
    expect((await claim()).map((one) => one.consumer)).toEqual(["none"]);
  });

  test("that nobody takes is not written", async () => {
    await consumer("other", { types: ["eve.other.*"] });
    expect(await emit("x")).toBeNull();
    expect(await sql`select from eve.events`).toHaveLength(0);
  });

  test("is the same event with the same source and id", async () => {
    await consumer("one");
    const id = "11111111-1111-4111-8111-111111111111";
    for (const source of ["/a", "/a", "/b"]) {
      const [row] =
        await sql`select eve.emit_event(${source}, 'eve.x.v1', ${source}, event_id => ${id}) as id`;
      expect(row!.id).toBe(id);
    }
    expect(subjects(await claim())).toEqual(["/a", "/b"]);
  });

  test.each([
    ["a type without a version", "'/a', 'eve.thing', 'x'"],
    ["data above 16 KiB", `'/a', 'eve.x.v1', 'x', jsonb_build_object('text', repeat('x', 16400))`],
    ["data that is no object", `'/a', 'eve.x.v1', 'x', '[1]'`],
    ["a source that is no path", `'a', 'eve.x.v1', 'x'`],
    ["a traceparent that is none", `'/a', 'eve.x.v1', 'x', traceparent => '00-1-2-3'`],
  ])("with %s is refused", async (_, args) => {
    await consumer("one");
    await expect(sql.unsafe(`select eve.emit_event(${args})`)).rejects.toThrow(
      /check constraint|no type of an event/,
    );
  });
});

describe("a delivery", () => {
  test("is given to one of many who ask at the same time, all of them once", async () => {
    await consumer("one");
    await consumer("two");
    for (let number = 0; number < 60; number++) await emit(`e${number}`);
    const rounds = await Promise.all(Array.from({ length: 15 }, async () => {
      const connection = postgres(database.url, { max: 1, onnotice: () => {} });
      try {
        const mine: Claimed[] = [];
        for (let more = await claim(4, connection); more.length > 0; more = await claim(4, connection)) {
          mine.push(...more);
        }
        return mine;
      } finally {
        await connection.end();
      }
    }));
    const given = rounds.flat().map((one) => `${one.consumer} ${one.event.id}`);
    expect(new Set(given).size).toBe(given.length);
    // Somebody may have looked while others held rows, so the rest is taken here.
    const rest: Claimed[] = [];
    for (let more = await claim(100); more.length > 0; more = await claim(100)) rest.push(...more);
    expect(given.length + rest.length).toBe(120);
    expect(rounds.flat().concat(rest).every(({ attempt }) => attempt === 1)).toBe(true);
  });

  test("is known to be due: at once, at a time, or not at all", async () => {
    await consumer("one");
    expect(await nextDueMs()).toBeNull();
    await emit("x");
    expect(await nextDueMs()).toBe(0);
    const [held] = await claim();
    expect(await nextDueMs()).toBe(LEASE_MS);
    await done(held!, "delivered");
    expect(await nextDueMs()).toBeNull();
  });

  test("that arrived does not come again, even if its event is written again", async () => {
    await consumer("one");
    const id = crypto.randomUUID();
    const again = () => sql`select eve.emit_event('/a', 'eve.x.v1', 'x', event_id => ${id})`;
    await again();
    expect(await done((await claim())[0]!, "delivered")).toBe("delivered");
    await again();
    await clock.advance(86_400_000);
    expect(await claim()).toEqual([]);
  });

  test("whose holder dies is due again when the lease ends, and the one that died changes nothing any more", async () => {
    await consumer("one");
    await emit("x");
    const [frozen] = await claim();
    await clock.advance(LEASE_MS - 1);
    expect(await claim()).toEqual([]);
    expect(await nextDueMs()).toBe(1);
    await clock.advance(1);
    const [second] = await claim();
    expect(second).toMatchObject({ attempt: 2, event: { id: frozen!.event.id } });
    expect(await done(frozen!, "failed")).toBe("lost");
    expect(await done(frozen!, "delivered")).toBe("lost");
    expect(await states()).toEqual({ x: "pending" });
    expect(await done(second!, "delivered")).toBe("delivered");
    expect((await sql`select result from eve.event_attempts order by id`).map((row) => row.result))
      .toEqual(["lost", "delivered"]);
  });

  test("that took longer than its lease counts if nobody has taken it since", async () => {
    await consumer("one");
    await emit("x");
    const [slow] = await claim();
    await clock.advance(LEASE_MS + 1);
    expect(await done(slow!, "delivered")).toBe("delivered");
  });

  test("in work towards a handler is done once: who has lost the lease is undone", async () => {
    await consumer("one");
    await emit("x");
    await sql`create table if not exists public.work_done (event_id uuid)`;
    const [first] = await claim();
    await clock.advance(LEASE_MS);
    const [second] = await claim();
    const work = (held: Claimed) =>
      sql.begin(async (transaction) => {
        await transaction`insert into public.work_done values (${held.event.id})`;
        const state = await done(held, "delivered", {}, transaction as unknown as postgres.Sql);
        if (state === "lost") throw new Error("lost");
      }).then(() => true, () => false);
    expect((await Promise.all([work(first!), work(second!)])).filter(Boolean)).toHaveLength(1);
    expect(await sql`select from public.work_done`).toHaveLength(1);
  });

  test("is tried again at a part of the longest pause, drawn at random, or when the consumer said", async () => {
    await consumer("one", { retry: [10, 100, 1000] });
    await emit("x");
    const fail = async (more: Parameters<typeof done>[2]) => {
      const [held] = await claim();
      expect(await done(held!, "failed", more)).toBe("pending");
      return await nextDueMs();
    };
    expect(await fail({ draw: 0.25 })).toBe(2_500);
    await clock.advance(2_500);
    expect(await fail({ draw: 0 })).toBe(0);
    expect(await fail({ draw: 0.1, retryAfterMs: 3_600_000 })).toBe(3_600_000);
  });

  test("a consumer that asks for rest gets it: nothing else comes, and no try is spent", async () => {
    await consumer("one");
    await consumer("two");
    await emit("a");
    await emit("b");
    const held = await claim(1);
    await done(held[0]!, "failed", { retryAfterMs: 30_000, rests: true, draw: 0 });
    const others = await claim();
    expect(new Set(others.map((one) => one.consumer)).size).toBe(1);
    for (const one of others) await done(one, "delivered");
    expect(await nextDueMs()).toBe(30_000);
    await clock.advance(30_000);
    expect((await claim()).map(({ attempt }) => attempt).sort()).toEqual([1, 2]);
  });

  test("of a slow consumer does not hold up the others", async () => {
    await consumer("slow", { inFlight: 2 });
    for (let number = 0; number < 50; number++) await emit(`e${number}`);
    await consumer("quick");
    await emit("last");
    expect((await claim(16)).map((one) => one.consumer).sort()).toEqual(["quick", "slow", "slow"]);
    expect(await claim(16)).toEqual([]);
  });

  test("a consumer that is gone gets nothing any more, and what waits is dropped", async () => {
    await consumer("one");
    await emit("a");
    await emit("b");
    const [first, second] = await claim();
    // Two tell so at the same time, on connections of their own.
    const answers = await Promise.all([done(first!, "gone"), done(second!, "gone")]);
    expect(answers.sort()).toEqual(["dropped", "lost"]);
    expect(await states()).toEqual({ a: "dropped", b: "dropped" });
    expect(await emit("c")).toBeNull();
    expect(await sql`select kind, subject from eve.alerts where closed_at is null`).toEqual([
      { kind: "webhook_gone", subject: "one" },
    ]);
  });

  test("a consumer that is removed while an event is written is left out, and nothing is undone by it", async () => {
    await consumer("one");
    await consumer("two");
    const id = crypto.randomUUID();
    let emitting: Promise<unknown> | undefined;
    await sql.begin(async (other) => {
      // The same event under way, so that the one that is tried stands between who takes it and their deliveries.
      await other`
        insert into eve.events (event_id, source, type, subject, time, data, consumer_id)
        values (${id}, '/things', 'eve.thing.happened.v1', 'a', now(), '{}', '00000000-0000-0000-0000-000000000000')`;
      emitting = sql`
        select eve.emit_event('/things', 'eve.thing.happened.v1', 'a', event_id => ${id}) as id`.execute();
      await until(async () =>
        (await sql`
          select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
          .length > 0
      );
      await sql`delete from eve.event_consumers where name = 'one'`;
      await other`delete from eve.events where event_id = ${id}`;
    });
    expect(await emitting).toEqual([{ id }]);
    expect(await sql`select consumer from eve.event_deliveries`).toEqual([{ consumer: "two" }]);
  });
});

describe("a dead letter", () => {
  /** Fails all its tries. */
  async function exhaust(tries: number, error = "status 500") {
    let state = "";
    for (let attempt = 1; attempt <= tries; attempt++) {
      const [held] = await claim(1);
      expect(held?.attempt).toBe(attempt);
      state = await done(held!, "failed", { error, draw: 1 });
      if (attempt < tries) await clock.advance(1_000_000);
    }
    return state;
  }
  const letters = () => sql`select * from eve.dead_letters order by id`;
  const open = async () =>
    (await sql`select kind, subject, message from eve.alerts where closed_at is null`).map((row) => ({
      ...row,
    }));

  test("is what is left after the last try, with an alert", async () => {
    await consumer("one");
    const id = await emit("x");
    expect(await exhaust(3)).toBe("dead");
    expect(await letters()).toMatchObject([{
      event_id: id,
      consumer: "one",
      error: "status 500",
      attempts: 3,
      first_failed_at: new Date("2026-11-18T12:00:00Z"),
      last_failed_at: new Date("2026-11-18T12:33:20Z"),
    }]);
    expect(await open()).toEqual([{
      kind: "dead_letters",
      subject: "one",
      message: "Events for one could not be delivered, the last one with: status 500",
    }]);
    expect(await claim()).toEqual([]);
    const [{ list }] = await sql`select public.eve_dead_letters() as list` as unknown as [{ list: unknown }];
    expect(list).toMatchObject({
      dead_letters: [{ type: "eve.thing.happened.v1", subject: "x", receiver: "one" }],
      next_before: null,
    });
  });

  test("comes of a last try that ended without a word, too", async () => {
    await consumer("one", { retry: [] });
    await emit("x");
    await claim();
    await clock.advance(LEASE_MS);
    expect(await claim()).toEqual([]);
    expect(await letters()).toMatchObject([{ error: "the one who tried ended without a word", attempts: 1 }]);
  });

  test("replayed is the same event with all its tries; the alert closes with the last one", async () => {
    await consumer("one", { retry: [] });
    const ids = [await emit("a"), await emit("b")];
    await exhaust(1);
    await exhaust(1);
    const [first] = await letters();
    const [answers] = await sql`select public.eve_dead_letters_replay(${[first!.id]}) as answers`;
    expect(answers!.answers).toEqual({ replayed: 1 });
    expect(await open()).toHaveLength(1);
    const [again] = await claim();
    expect(again).toMatchObject({ attempt: 1, event: { id: ids[0] } });
    await done(again!, "delivered");
    await sql`select public.eve_dead_letters_replay(consumer => 'one')`;
    expect(await open()).toEqual([]);
    expect(await letters()).toEqual([]);
    expect((await claim()).map(({ event }) => event.id)).toEqual([ids[1]]);
  });

  test("replayed by two at the same time is sent once", async () => {
    await consumer("one", { retry: [] });
    await emit("x");
    await exhaust(1);
    const answers = await Promise.all(
      [1, 2, 3].map(async () =>
        (await sql`select public.eve_dead_letters_replay() as answers`)[0]!.answers.replayed
      ),
    );
    expect(answers.sort()).toEqual([0, 0, 1]);
    expect(await claim()).toHaveLength(1);
  });

  test("that comes while the last of the others goes leaves the alert open", async () => {
    await consumer("one", { retry: [] });
    await emit("a");
    await emit("b");
    const [first, second] = await claim();
    await done(first!, "failed");
    const buried = Promise.withResolvers<void>();
    const dropping = Promise.withResolvers<void>();
    const burying = sql.begin(async (transaction) => {
      await done(second!, "failed", {}, transaction as unknown as postgres.Sql);
      buried.resolve();
      await dropping.promise;
    });
    await buried.promise;
    const dropped = sql`select public.eve_dead_letters_drop(${[(await letters())[0]!.id]})`.execute();
    try {
      // It waits for the other, or is over without having waited.
      let over = false;
      dropped.then(() => over = true, () => over = true);
      await until(async () =>
        over || (await sql`
          select from pg_locks
          where not granted and database = (select oid from pg_database where datname = current_database())`)
            .length > 0
      );
    } finally {
      dropping.resolve();
    }
    await Promise.all([burying, dropped]);
    expect(await letters()).toHaveLength(1);
    expect(await open()).toHaveLength(1);
  });

  test("is replayed however many of a consumer that is off came before it", async () => {
    await consumer("off", { retry: [] });
    await sql`select eve.emit_event('/things', 'eve.thing.happened.v1', 'off') from generate_series(1, 1001)`;
    await sql`
      insert into eve.dead_letters (delivery_id, event_id, consumer, error, attempts, first_failed_at, last_failed_at)
      select d.id, e.event_id, d.consumer, 'no', 1, now(), now()
      from eve.event_deliveries d join eve.events e on e.id = d.event_id`;
    await sql`update eve.event_deliveries set state = 'dead', ended_at = now()`;
    await sql`update eve.event_consumers set is_active = false`;
    await consumer("one", { retry: [] });
    await emit("x");
    await exhaust(1);
    const [answers] = await sql`select public.eve_dead_letters_replay() as answers`;
    expect(answers!.answers).toEqual({ replayed: 1 });
    expect((await claim()).map(({ event }) => event.subject)).toEqual(["x"]);
  });

  test("of a consumer that is off stays; dropped it is given up", async () => {
    await consumer("one", { retry: [] });
    await emit("x");
    await exhaust(1);
    await sql`update eve.event_consumers set is_active = false`;
    expect((await sql`select public.eve_dead_letters_replay() as answers`)[0]!.answers).toEqual({
      replayed: 0,
    });
    expect((await sql`select public.eve_dead_letters_drop() as answers`)[0]!.answers).toEqual({ dropped: 1 });
    expect(await states()).toEqual({ x: "dropped" });
    expect(await open()).toEqual([]);
  });
});

describe("a job", () => {
  test("is an event when it ends, once, for its caller and whom it names", async () => {
    const jobs = jobCalls(sql);
    const [mine, theirs] = [await addConsumer(sql, "mine"), await addConsumer(sql, "theirs")];
    await consumer("mine", { types: ["eve.job.*"], consumerId: mine });
    await consumer("theirs", { types: ["eve.job.*"], consumerId: theirs });
    const named = crypto.randomUUID();
    await consumer(`webhook:${named}`, { types: [], consumerId: mine });
    await consumer(`webhook:${crypto.randomUUID()}`, { types: [], consumerId: mine });
    const ids = (await jobs.submit([{ request_id: "a" }, { request_id: "b" }, { request_id: "c" }], {
      consumerId: mine,
    })).jobs.map(({ id }: { id: string }) => id);
    await sql`update eve.jobs set webhook_id = ${named} where id = ${ids[0]}`;
    const held = await jobs.claim(2);
    await jobs.complete([held[0]]);
    await jobs.complete([held[0]]);
    await jobs.fail(held[1], "upstream_unavailable", false);
    await jobs.cancel([ids[2]], mine);
    const answers = await claim(100);
    expect(answers.map((one) => `${one.consumer} ${one.event.type} ${one.event.subject}`).sort()).toEqual([
      `mine eve.job.cancelled.v1 ${ids[2]}`,
      `mine eve.job.failed.v1 ${ids[1]}`,
      `mine eve.job.succeeded.v1 ${ids[0]}`,
      `webhook:${named} eve.job.succeeded.v1 ${ids[0]}`,
    ]);
    expect(answers.find(({ event }) => event.subject === ids[1])!.event).toMatchObject({
      data: {
        job_id: ids[1],
        kind: "llm",
        state: "failed",
        request_id: "b",
        error_code: "upstream_unavailable",
      },
    });
    await clearJobs(sql);
  });
});

describe("an alert", () => {
  test("is an event when it opens and when it closes, once each", async () => {
    await consumer("one", { types: ["eve.alert.*"] });
    const openIt = () => sql`select eve.open_alert('model_vanished', 'm', 'warning', 'm has gone')`;
    await openIt();
    await clock.advance(1_000);
    await openIt();
    await sql`update eve.alerts set closed_at = eve.clock()`;
    await sql`update eve.alerts set closed_at = eve.clock()`;
    const answers = await claim();
    expect(answers.map(({ event }) => [event.type, event.subject])).toEqual([
      ["eve.alert.opened.v1", "model_vanished m"],
      ["eve.alert.closed.v1", "model_vanished m"],
    ]);
    expect(answers[0]!.event).toMatchObject({
      data: { kind: "model_vanished", severity: "warning", subject: "m" },
    });
  });

  test("about dead letters that cannot be delivered either does not repeat for ever", async () => {
    await consumer("one", { types: ["*"], retry: [] });
    await emit("x");
    for (let round = 0; round < 5; round++) {
      for (const held of await claim()) await done(held, "failed");
      await clock.advance(1_000);
    }
    expect(await sql`select from eve.events`).toHaveLength(2);
  });
});

test("what is old goes: deliveries that ended, then their events; what waits and dead letters stay", async () => {
  await consumer("one", { retry: [] });
  for (const subject of ["delivered", "dead", "pending"]) await emit(subject);
  const held = await claim();
  await done(held.find(({ event }) => event.subject === "delivered")!, "delivered");
  await done(held.find(({ event }) => event.subject === "dead")!, "failed");
  await clock.advance(15 * 86_400_000);
  const batch = async (table: string) =>
    (await sql`
      select b.deleted::integer from eve.retention r, eve.retention_batch(r, eve.clock(), null) b where r.table_name = ${table}`)[
      0
    ]!.deleted;
  for (const table of ["eve.dead_letters", "eve.event_deliveries", "eve.events"]) await batch(table);
  expect(Object.keys(await states()).filter((subject) => !subject.startsWith("dead_letters"))).toEqual([
    "dead",
    "pending",
  ]);
  expect(
    (await sql`select subject from eve.events where source = '/things' order by id`).map((row) =>
      row.subject
    ),
  )
    .toEqual(["dead", "pending"]);
  await clock.advance(20 * 86_400_000);
  expect(await batch("eve.dead_letters")).toBe(1);
  expect(await sql`select from eve.alerts where closed_at is null`).toHaveLength(0);
  await batch("eve.event_deliveries");
  await batch("eve.events");
  expect((await sql`select subject from eve.events where source = '/things'`).map((row) => row.subject))
    .toEqual(["pending"]);
});

test("metrics: deliveries by result, the age of the oldest that waits, dead letters", async () => {
  await consumer("one", { retry: [] });
  await consumer("two", { kind: "other" });
  await emit("a");
  await emit("b");
  const [first, second] = await claim();
  await done(first!, "delivered");
  await clock.advance(90_000);
  await done(second!, "failed");
  const [row] = await sql`select public.eve_event_metrics() as metrics`;
  expect(row!.metrics.samples).toEqual([
    ["eve_dead_letters", { consumer: "other" }, 0],
    ["eve_dead_letters", { consumer: "test" }, 1],
    ["eve_dead_letters", { consumer: "webhook" }, 0],
    ["eve_event_oldest_age_seconds", { consumer: "other" }, 90],
    ["eve_event_oldest_age_seconds", { consumer: "test" }, 0],
    ["eve_event_oldest_age_seconds", { consumer: "webhook" }, 0],
  ]);
  expect(
    [
      ...await sql`
      select labels, value::integer from eve.metric_counters where metric = 'eve_event_deliveries_total' order by labels`,
    ],
  ).toEqual([
    { labels: { consumer: "test", result: "delivered" }, value: 1 },
    { labels: { consumer: "test", result: "failed" }, value: 1 },
  ]);
});
