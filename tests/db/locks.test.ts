/** Locks: their order, who keeps none, and how long anybody waits for one. With connections of their own, as callers have. */
import type postgres from "postgres";
import { describe, expect, test } from "vitest";
import { addKey, addModel, type Answer, cancel, reserve, reserveMany, settle } from "../harness/admission.ts";
import { checkBudgets } from "../harness/checker.ts";
import { admissionDatabase } from "../harness/admission_database.ts";

const CALLERS = 16;
/** Each is some forty statements of sixteen callers. */
const ROUNDS = 12;
/** Nobody changes a key or a model in these, 90 to 120 s each: so routes live until they are ten minutes old, and are redrawn. */
const CALM = { from: 3, until: 10 };

const { sql, clock } = await admissionDatabase({ connections: CALLERS + 4 });

/** Runs in a transaction that stays open until `release` is called. */
function open<Value>(run: (sql: postgres.Sql) => Promise<Value>) {
  const ran = Promise.withResolvers<Value>();
  const held = Promise.withResolvers<void>();
  const over = sql.begin(async (transaction) => {
    run(transaction as unknown as postgres.Sql).then(ran.resolve, ran.reject);
    await ran.promise.catch(() => {});
    await held.promise;
  }).catch(() => {});
  return {
    answer: ran.promise,
    release: async () => {
      held.resolve();
      await over;
    },
  };
}

/** Until so many statements stand before a lock of this database. */
const untilWaiting = (count: number) =>
  expect.poll(async () => {
    const [row] = await sql`
      select count(*)::int as n from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`;
    return row!.n;
  }, { interval: 5 }).toBe(count);

/** Lanes that somebody else could book at this moment. */
const freeLanes = async (): Promise<string[]> => {
  const rows = await sql.begin((transaction) =>
    transaction`
      select free.model
      from (select l.id, l.model from eve.lanes l for no key update skip locked) free
      where pg_try_advisory_xact_lock(1163281713, free.id::integer)
      order by free.model`
  );
  return rows.map(({ model }) => model);
};

test("a booking keeps what a settlement has added to its lane meanwhile", async () => {
  await addKey(sql, "a");
  await addModel(sql, "m", { rpm: 100, tpm: 10_000 });
  const first = await reserve(sql, "first", { tokens: 100 });
  const spans = async () =>
    (await sql`select span_starts::int as starts, span_tokens::int as tokens, turns::int as turns from eve.lanes`)[
      0
    ];
  expect(await spans()).toEqual({ starts: 1, tokens: 100, turns: 1 });
  const settled = open((sql) => settle(sql, first, { inputTokens: 700 }));
  expect(await settled.answer).toMatchObject({ status: "settled" });
  // It has read the lane before it stands at the settlement's lock.
  const second = reserve(sql, "second", { tokens: 30 });
  await untilWaiting(1);
  await settled.release();
  expect(await second).toMatchObject({ status: "granted" });
  expect(await spans()).toEqual({ starts: 2, tokens: 730, turns: 2 });
});

test.each([
  ["a plain call", {}],
  ["a call that goes step by step", { avoidKeys: ["00000000-0000-4000-8000-000000000009"] }],
])("%s writes with the number of its transaction, and no other", async (_, options) => {
  await addKey(sql, "a");
  await addModel(sql, "m", { rpm: 100, tpm: 10_000 });
  await reserve(sql, "first");
  const { answer, release } = open(async (sql) => {
    await reserve(sql, "second", options);
    return await sql`
      select written.table, written.xmin::text = (pg_current_xact_id()::text::bigint % 4294967296)::text as own
      from (
        select 'inflight' as table, i.xmin from eve.inflight i where i.request_id = 'second'
        union all
        select 'lanes', l.xmin from eve.lanes l
      ) written`;
  });
  const written = [...await answer];
  await release();
  expect(written).toEqual([{ table: "inflight", own: true }, { table: "lanes", own: true }]);
});

test.each([
  ["a plain call", {}],
  ["a call that goes step by step", { avoidKeys: ["00000000-0000-4000-8000-000000000009"] }],
])("%s that a settlement's lock held up says by how much its start has passed", async (_, options) => {
  await addKey(sql, "a");
  await addModel(sql, "m", { rpm: 100, tpm: 10_000 });
  const first = await reserve(sql, "first", { tokens: 100 });
  const settled = open((sql) => settle(sql, first, { inputTokens: 700 }));
  await settled.answer;
  const second = reserve(sql, "second", options);
  await untilWaiting(1);
  await sql`select pg_sleep(0.15)`;
  await settled.release();
  const answer = await second;
  expect(answer).toMatchObject({ status: "granted" });
  expect(answer.wait_ms).toBeLessThan(-100);
  const [row] = await sql`select wait_ms::int as wait from eve.inflight where request_id = 'second'`;
  expect(row).toMatchObject({ wait: 0 });
});

describe("[edge.refusals-lock-nothing] a refusal locks no lane", () => {
  test.each([
    ["a refusal", 3, { maxWaitMs: 0 }, "refused"],
    ["a refusal on a fast lane", 700, { maxWaitMs: 0 }, "refused"],
    ["batch that is told to wait", 3, { class: "batch", maxWaitMs: 100_000 }, "waiting"],
  ])("%s, though it found the lane full only when it had it", async (_, rpm, options, status) => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm });
    await Promise.all(Array.from({ length: rpm - 1 }, (_, n) => reserve(sql, `r${n}`)));
    const last = await open((sql) => reserve(sql, "last"));
    expect(await last.answer).toMatchObject({ status: "granted" });
    // What `last` has booked is not to be seen yet.
    const late = open((sql) => reserve(sql, "late", options as never));
    await untilWaiting(1);
    await last.release();
    const { answer, release } = await late;
    expect(await answer).toMatchObject({ status });
    expect(await freeLanes()).toEqual(["m"]);
    await release();
  });

  test.each([
    ["a refusal", { maxWaitMs: 0 }, "refused"],
    ["batch that is told to wait", { class: "batch", maxWaitMs: 100_000 }, "waiting"],
  ])("%s, of several lanes that are full", async (_, options, status) => {
    await addKey(sql, "a", { project: "one" });
    await addKey(sql, "b", { project: "two" });
    await addModel(sql, "m", { rpm: 3 });
    for (let n = 0; n < 6; n++) expect(await reserve(sql, `r${n}`)).toMatchObject({ status: "granted" });
    const late = open((sql) => reserve(sql, "late", options as never));
    expect(await late.answer).toMatchObject({ status });
    const free = await freeLanes();
    await late.release();
    expect(free).toEqual(["m", "m"]);
  });

  test("a list, of a lane that is far ahead of the others", async () => {
    await addKey(sql, "a", { project: "one" });
    await addKey(sql, "b", { project: "two" });
    await addModel(sql, "m", { rpm: 100 });
    await cancel(sql, await reserve(sql, "route"));
    await sql`update eve.lanes set day_starts = day_starts + 20 where id = (select max(id) from eve.lanes)`;
    const list = open((sql) =>
      reserveMany(sql, Array.from({ length: 4 }, (_, n) => ({ requestId: `r${n}` })))
    );
    expect(await list.answer).toMatchObject(Array(4).fill({ status: "granted" }));
    const free = await freeLanes();
    await list.release();
    expect(free).toEqual(["m"]);
  });

  test("a list, of lanes that it has passed over", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 100 });
    await addModel(sql, "n", { rpm: 10, tpm: 1_000 });
    for (const model of ["m", "n"]) {
      await cancel(sql, await reserve(sql, `route ${model}`, { models: [model] }));
    }
    const list = await open((sql) =>
      reserveMany(sql, [
        { requestId: "plain", models: ["m"] },
        // To be counted first: nothing is booked.
        { requestId: "counted", models: ["n"], class: "batch", tokens: 300, counted: false },
      ])
    );
    const answers = await list.answer;
    expect(answers[1]).toBeNull();
    const free = await freeLanes();
    await list.release();
    expect(free).toContain("n");
    expect(await freeLanes()).toEqual(["m", "n"]);
    const again = await reserveMany(sql, [{ requestId: "again", models: ["m"] }]);
    expect(again).toMatchObject([{ status: "granted" }]);
  });
});

describe("[fault.lock-held] nobody waits for a lock for long", () => {
  test("every function that callers wait for says how long", async () => {
    const rows = await sql`
      select p.proname, (select split_part(c, '=', 2) from unnest(p.proconfig) c where c like 'lock_timeout=%') as timeout
      from pg_proc p
      where p.proname in ('eve_reserve', 'eve_reserve_many', 'eve_settle', 'eve_settle_many', 'eve_give_back', 'eve_sweep')
      order by 1`;
    expect(Object.fromEntries(rows.map(({ proname, timeout }) => [proname, timeout]))).toEqual({
      eve_give_back: "3s",
      eve_reserve: "3s",
      eve_reserve_many: "1s",
      eve_settle: "3s",
      eve_settle_many: "3s",
      eve_sweep: "3s",
    });
  });

  test("then nothing is booked, and the same request may come again", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 100 });
    const grant = await reserve(sql, "first");
    const holder = await open(async (sql) => {
      await sql`select pg_advisory_xact_lock(1163281713, id::integer) from eve.lanes`;
      await sql`select from eve.inflight for update`;
    });
    await holder.answer;
    const caught = (promise: Promise<unknown>) => promise.catch(({ code }) => code);
    expect(
      await Promise.all([
        caught(reserve(sql, "late")),
        caught(settle(sql, grant, { inputTokens: 10 })),
        caught(reserveMany(sql, [{ requestId: "l1" }, { requestId: "l2" }])),
      ]),
    ).toEqual(["55P03", "55P03", [null, null]]);
    await holder.release();
    expect(await sql`select request_id from eve.inflight`).toEqual([{ request_id: "first" }]);
    expect(await reserve(sql, "late")).toMatchObject({ status: "granted" });
    expect(await settle(sql, grant, { inputTokens: 10 })).toEqual({ status: "settled" });
  });

  test("not for a consumer that is being changed: its budgets are written meanwhile", async () => {
    const [consumer] = await sql`
      insert into eve.consumers (name, kind, tokens_per_day) values ('changed', 'notebook', 100000) returning id`;
    const holder = await open((sql) => sql`select eve.consumer_named('changed')`);
    await holder.answer;
    await sql.begin(async (transaction) => {
      await transaction`set local lock_timeout = '1s'`;
      const added = await transaction`
        insert into eve.consumer_days (consumer_id, day) values (${
        consumer!.id
      }, '2026-11-18') returning requests`;
      expect(added).toHaveLength(1);
    });
    await holder.release();
  });

  test("a request whose lease ran out while it waited for the lane goes on, and is charged once", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 100 });
    const [consumer] = await sql`
      insert into eve.consumers (name, kind, tokens_per_day) values ('waits', 'notebook', 100000) returning id`;
    const consumerId = consumer!.id;
    const first = await reserve(sql, "r", { consumerId, leaseMs: 60_000 });
    await settle(sql, first, { outcome: "failed", final: false, inputTokens: 10 });
    const holder = await open((sql) =>
      sql`select pg_advisory_xact_lock(1163281713, id::integer) from eve.lanes`
    );
    await holder.answer;
    const second = reserve(sql, "r", { consumerId, attempt: 2, maxOutput: 50 });
    await untilWaiting(1);
    await clock.advance(121_000);
    await holder.release();
    const grant = await second;
    expect(grant).toMatchObject({ status: "granted", attempt: 2 });
    expect(await settle(sql, grant, { inputTokens: 10 })).toEqual({ status: "settled" });
    expect(await checkBudgets(sql)).toEqual([]);
  });
});

describe("[G2.deadlocks] no two wait for each other", () => {
  /** A number below `end`, the same in every run. */
  const below = (seed: number) => {
    let last = seed;
    return (end: number) => {
      last = (last * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor(last / 2_147_483_648 * end);
    };
  };

  test(`${CALLERS} callers for ${ROUNDS} rounds, while time passes, routes age and leases end`, async () => {
    const keys: string[] = [];
    for (const [alias, project] of [["a", "one"], ["b", "one"], ["c", "two"], ["d", "three"]] as const) {
      keys.push(await addKey(sql, alias, { project }));
    }
    await addModel(sql, "m", { rpm: 400, tpm: 100_000 });
    await addModel(sql, "n", { rpm: 700 });
    await addModel(sql, "slow", { rpm: 2 });
    await sql`update eve.settings set value = 1 where name = 'learn_one_in'`;
    const scopes: { consumerId: string; tokenId?: string }[] = [];
    for (const name of ["one", "two"]) {
      const [consumer] = await sql`
        insert into eve.consumers (name, kind, requests_per_day, tokens_per_day, rpm)
        values (${name}, 'notebook', 100000, 100000000, 5000) returning id`;
      scopes.push({ consumerId: consumer!.id });
      for (let n = 0; n < 2; n++) {
        const [token] = await sql`
          insert into eve.scoped_tokens (consumer_id, class, tokens_budget, expires_at)
          values (${consumer!.id}, 'interactive', 100000000, '2027-06-01') returning id`;
        scopes.push({ consumerId: consumer!.id, tokenId: token!.id });
      }
    }

    await sql.unsafe(`
      create table public.redrawn (stale_ms bigint, life_ms bigint, late_ms bigint);
      create function public.note_route() returns trigger language plpgsql set search_path = '' as $$
      begin
        if tg_op = 'INSERT' then
          insert into public.redrawn values (new.stale_ms, new.stale_ms - eve.clock_ms(), null);
        else
          insert into public.redrawn values (old.stale_ms, null, eve.clock_ms() - old.stale_ms);
        end if;
        return null;
      end $$;
      create trigger note_route after insert or delete on eve.routes for each row execute function public.note_route();
    `).simple();

    const codes: Record<string, number> = {};
    const tried = async <Value>(promise: Promise<Value>): Promise<Value | null> => {
      try {
        return await promise;
      } catch (thrown) {
        const { code, message, where } = thrown as { code?: string; message: string; where?: string };
        const name = code === "EV404" ? code : `${code} ${message} ${where}`;
        codes[name] = (codes[name] ?? 0) + 1;
        return null;
      }
    };
    const settleMany = (grants: Answer[], input: number) =>
      tried(sql`
        select public.eve_settle_many(${
        sql.json(grants.map((grant) => ({
          request_no: Number(grant.request_no),
          attempt: grant.attempt,
          outcome: "succeeded",
          final: true,
          dispatched: true,
          input_tokens: input,
          output_tokens: 5,
          usage_estimated: false,
        })) as never)
      })`);
    const blocks: Record<string, string | number>[] = [
      { scope: "lane", for_ms: 500, reason: "test" },
      { scope: "key", for_ms: 500, reason: "test" },
      { scope: "key_model", for_ms: 500, reason: "test" },
      { scope: "capability", capability: "tools", for_ms: 0, reason: "test" },
    ];
    const model = (n: number) => [["m", "n", "slow"][n % 7 === 6 ? 2 : n % 2]!];

    const caller = (place: number) => {
      const upTo = below(place + 1);
      return async (round: number) => {
        const name = `${place}.${round}`;
        const calm = round >= CALM.from && round < CALM.until;
        const many = await tried(reserveMany(
          sql,
          Array.from({ length: 6 }, (_, n) => ({
            requestId: `${name}.many${n}`,
            models: model(upTo(7)),
            tokens: 40,
            leaseMs: n === 0 ? 1_000 : 60_000,
          })),
        ));
        const grants = (many ?? []).filter((grant) => grant?.status === "granted");
        const whose = Array.from({ length: 3 }, () => scopes[upTo(scopes.length)]);
        const singles = await Promise.all(
          Array.from({ length: 3 }, (_, n) =>
            tried(reserve(sql, `${name}.one${n}`, {
              ...whose[n],
              models: model(upTo(7)),
              tokens: 40,
              maxOutput: 50,
              class: upTo(3) === 0 ? "batch" : "interactive",
              maxWaitMs: upTo(2) * 90_000,
              leaseMs: upTo(4) === 0 ? 1_000 : 60_000,
            }))),
        );
        const [first, second, third] = singles.map((one) => one?.status === "granted" ? one : null);
        const ended = [...grants, ...(first ? [first] : [])].sort(() => upTo(3) - 1);
        await Promise.all([
          ended.length > 0 && settleMany(ended, 60 + upTo(40)),
          second &&
          tried(
            settle(sql, second, { outcome: "failed", inputTokens: 90, block: blocks[calm ? 0 : upTo(4)]! }),
          ),
          third && (upTo(2) === 0 ? tried(cancel(sql, third)) : tried(
            settle(sql, third, { outcome: "failed", final: false, inputTokens: 90 }).then(() =>
              reserve(sql, `${name}.one2`, { ...whose[2], models: model(0), attempt: 2, maxOutput: 50 })
            ),
          )),
          upTo(3) === 0 && tried(sql`select public.eve_sweep()`),
          !calm && upTo(5) === 0 && tried(
            sql`
            select public.eve_limits_set(${
              sql.json([{ model: "n", rpm: 700 + round }, { model: "m", rpm: 400 + round }])
            })`,
          ),
          !calm && upTo(5) === 0 &&
          tried(sql`update public.google_ai_api_keys set priority = priority where id = ${keys[upTo(4)]!}`),
          upTo(9) === 0 && tried(sql`select public.eve_token_revoke(consumer => 'two')`),
        ]);
      };
    };
    const callers = Array.from({ length: CALLERS }, (_, place) => caller(place));
    const chance = below(CALLERS + 1);
    for (let round = 0; round < ROUNDS; round++) {
      // Time passes for everybody: routes age, leases end, and the day and the minute move on.
      await clock.advance(90_000 + chance(30_000));
      await Promise.all(callers.map((call) => call(round)));
    }
    // A request may have ended with its lease; a token may have been revoked. On a busy machine a lock may be waited for too long
    // (55P03, 57014): a deadlock is found first, after a second.
    const { EV404: _, "55P03": _busy, "57014": _slow, ...others } = codes;
    expect(others).toEqual({});
    expect(await checkBudgets(sql)).toEqual([]);
    const [byAge] = await sql`
      select count(distinct gone.stale_ms)::int as redraws
      from public.redrawn gone
      join public.redrawn made on made.stale_ms = gone.stale_ms and made.life_ms = 600000
      where gone.late_ms >= 0`;
    expect(byAge!.redraws).toBeGreaterThan(0);
  }, 120_000);
});
