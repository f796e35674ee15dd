/** Jobs in the database: handed in, claimed in turn, ended by who holds them, given back, cancelled and swept. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { addConsumer, clearJobs, jobCalls, type Json, LEASE_MS, miscounted } from "../harness/jobs.ts";

let db: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
let a: string;
let b: string;
const START = Date.parse("2026-11-18T12:00:00Z");
beforeAll(async () => {
  db = await cloneDatabase();
  sql = postgres(db.url, { max: 20, onnotice: () => {} });
  clock = await freezeClock(sql);
  a = await addConsumer(sql, "a");
  b = await addConsumer(sql, "b");
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await db?.drop();
});
beforeEach(async () => {
  await clearJobs(sql);
  await clock.set(START);
});

const jobs = () => jobCalls(sql);
const names = (from: string, many: number) =>
  Array.from({ length: many }, (_, n) => ({ request_id: `${from}${n}` }));
const idsOf = (claimed: Json[]) => claimed.map(({ request_id }) => request_id);
const setting = (name: string, value: number) =>
  sql`update eve.settings set value = ${value} where name = ${name}`;

test("what hosted functions cannot run waits for a worker outside, and calls no function", async () => {
  const { submit, claim, due } = jobs();
  await submit([{ kind: "ocr", request_id: "picture" }], { consumerId: a });
  expect(await due()).toBe(false);
  expect(idsOf(await claim(10))).toEqual([]);
  await submit(names("r", 1), { consumerId: a });
  expect(await due()).toBe(true);
  expect(idsOf(await claim(10, { kinds: ["ocr"] }))).toEqual(["picture"]);
});

describe("handing in", () => {
  test("a list is accepted in its order, and each job waits", async () => {
    const { submit, job } = jobs();
    const answer = await submit(names("r", 3), { consumerId: a });
    expect(answer).toMatchObject({ status: "accepted", wake: true });
    expect(answer.jobs).toHaveLength(3);
    expect(await job(answer.jobs[1].id)).toMatchObject({
      kind: "llm",
      request_id: "r1",
      state: "queued",
      class: "batch",
      consumer_id: a,
      tries: 0,
      expires_at: "2026-11-19T12:00:00+00:00",
    });
    // What it was asked to do, and its worker's token, are nobody's business here.
    expect(Object.keys(await job(answer.jobs[1].id))).not.toEqual(expect.arrayContaining(["body"]));
    expect(await miscounted(sql)).toEqual([]);
  });

  test("again, it holds up nobody who claims it meanwhile", async () => {
    const { submit } = jobs();
    const given = await submit(names("r", 2), { consumerId: a });
    const again = postgres(db.url, { max: 1, onnotice: () => {} });
    try {
      await again.begin(async (transaction) => {
        expect(
          (await jobCalls(transaction as unknown as postgres.Sql).submit(names("r", 2), { consumerId: a }))
            .jobs,
        ).toEqual(
          given.jobs.map(({ id }: Json) => ({ id, state: "queued", is_new: false })),
        );
        const claimed = await sql.begin(async (claiming) => {
          await claiming`set local lock_timeout = '5s'`;
          return await jobCalls(claiming as unknown as postgres.Sql).claim(10);
        });
        expect(idsOf(claimed)).toEqual(["r0", "r1"]);
      });
    } finally {
      await again.end();
    }
    expect(await miscounted(sql)).toEqual([]);
  });

  test("a request_id is the same job again, another caller's is another, and other contents are refused", async () => {
    const { submit } = jobs();
    const given = [{ request_id: "same", request_hash: "h" }];
    const first = await submit(given, { consumerId: a });
    expect((await submit(given, { consumerId: a })).jobs).toEqual([
      { id: first.jobs[0].id, state: "queued", is_new: false },
    ]);
    expect((await submit(given, { consumerId: b })).jobs[0].id).not.toBe(first.jobs[0].id);
    expect(await submit([{ request_id: "same", request_hash: "other" }], { consumerId: a })).toMatchObject({
      status: "refused",
      code: "request_id_reused",
      details: { request_id: "same" },
    });
    // Twice in one list.
    const twice = await submit([{ request_id: "t", request_hash: "h" }, {
      request_id: "t",
      request_hash: "h",
    }]);
    expect(twice.jobs[0].id).toBe(twice.jobs[1].id);
    expect(await miscounted(sql)).toEqual([]);
  });

  test("a caller may have so many jobs and bytes waiting, however many others have", async () => {
    const { submit, claim } = jobs();
    await setting("jobs_queued_max", 5);
    expect(await submit(names("r", 4), { consumerId: a })).toMatchObject({ status: "accepted" });
    expect(await submit(names("s", 2), { consumerId: a })).toMatchObject({
      status: "refused",
      code: "jobs_full",
      details: { queued: 4, max_queued: 5 },
      retry_after_ms: 60000,
    });
    expect(await sql`select from eve.jobs`).toHaveLength(4);
    expect(await submit(names("s", 5), { consumerId: b })).toMatchObject({ status: "accepted" });
    // A repetition is nothing new, and what has begun does not wait.
    expect(await submit([{ request_id: "r0" }], { consumerId: a })).toMatchObject({ status: "accepted" });
    await claim(10);
    expect(await submit(names("s", 5), { consumerId: a })).toMatchObject({ status: "accepted" });
    await setting("jobs_queued_max_bytes", 100);
    expect(await submit([{ request_id: "long", body: "x".repeat(200) }], { consumerId: b })).toMatchObject({
      code: "jobs_full",
    });
    await sql`update eve.job_kinds set max_body_bytes = 10 where kind = 'llm'`;
    expect(await submit([{ body: "x".repeat(20) }])).toMatchObject({
      code: "body_too_large",
      details: { max_bytes: 10 },
    });
    await sql`update eve.job_kinds set max_body_bytes = 10485760 where kind = 'llm'`;
  });

  test("twenty at once never pass the limit together", async () => {
    const { submit } = jobs();
    await setting("jobs_queued_max", 10);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) => submit(names(`r${n}.`, 1 + n % 3), { consumerId: a })),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set(["accepted", "refused"]));
    expect((await sql`select from eve.jobs`).length).toBeLessThanOrEqual(10);
    expect(await miscounted(sql)).toEqual([]);
  });

  test("a caller's models and class hold for its jobs too", async () => {
    const { submit, job } = jobs();
    const narrow = await addConsumer(sql, "narrow", { models: ["m"], max_class: "batch" });
    expect(await submit([{ models: ["x"] }], { consumerId: narrow })).toMatchObject({
      code: "model_not_allowed",
    });
    const { jobs: [made] } = await submit([{ models: ["m"], class: "interactive" }], { consumerId: narrow });
    expect(await job(made.id)).toMatchObject({ class: "batch" });
    await sql`update eve.consumers set is_active = false where id = ${narrow}`;
    await expect(submit([{}], { consumerId: narrow })).rejects.toMatchObject({ code: "EV403" });
  });

  test("what a token hands in is charged to it, and to its consumer alone when its time is over, unless it has a budget", async () => {
    const { submit, claim, release } = jobs();
    const notebook = await addConsumer(sql, "notebook", { kind: "notebook" });
    const token = async (columns: Record<string, unknown> = {}) => {
      const [row] = await sql`
        insert into eve.scoped_tokens ${
        sql({ consumer_id: notebook, class: "batch", expires_at: new Date(START + 60_000), ...columns })
      } returning id`;
      return row!.id as string;
    };
    const given = {
      plain: await token(),
      narrow: await token({ models: ["m"] }),
      budget: await token({ requests_budget: 5 }),
      revoked: await token(),
    };
    for (const [request_id, tokenId] of Object.entries(given)) {
      expect(await submit([{ request_id, class: "interactive" }], { consumerId: notebook, tokenId }))
        .toMatchObject({ status: "accepted" });
    }
    expect(await submit([{ models: ["other"] }], { consumerId: notebook, tokenId: given.narrow }))
      .toMatchObject({ code: "model_not_allowed" });
    const charged = async () => {
      const held = await claim(10);
      await release(held);
      expect(new Set(held.map((one) => one.class))).toEqual(new Set(["batch"]));
      return Object.fromEntries(held.map((one) => [one.request_id, one.token_id]));
    };
    expect(await charged()).toEqual(given);
    await sql`update eve.scoped_tokens set revoked_at = eve.clock() where id = ${given.revoked}`;
    await clock.advance(60_000);
    expect(await charged()).toEqual({ ...given, plain: null, narrow: null });
    await expect(submit([{}], { consumerId: notebook, tokenId: given.plain })).rejects.toMatchObject({
      code: "EV401",
    });
  });

  test.each([
    ["an unknown kind", [{ kind: "nothing" }]],
    ["an unknown class", [{ class: "urgent" as "batch" }]],
    ["no job", []],
    ["a time that has passed", [{ expires_at: "2026-11-18T11:00:00Z" }]],
    ["a batch without a place", [{ batch_id: crypto.randomUUID() }]],
    ["a request_id that is too long", [{ request_id: "x".repeat(201) }]],
  ])("%s is an error", async (_, given) => {
    await expect(jobs().submit(given)).rejects.toMatchObject({ code: "EV400" });
  });
});

describe("a claim", () => {
  test("takes each caller's oldest first", async () => {
    const { submit, claim } = jobs();
    await submit(names("r", 3), { consumerId: a });
    await clock.advance(1000);
    await submit(names("s", 3), { consumerId: a });
    expect(idsOf(await claim(4))).toEqual(["r0", "r1", "r2", "s0"]);
    expect(idsOf(await claim(4))).toEqual(["s1", "s2"]);
    expect(await claim(4)).toEqual([]);
  });

  test("goes from caller to caller: a flood holds nobody up", async () => {
    const { submit, claim } = jobs();
    await submit(names("a", 500), { consumerId: a });
    expect(await claim(10)).toHaveLength(10);
    await submit(names("b", 2), { consumerId: b });
    await submit(names("p", 1));
    // Who has had none for longest is first.
    expect(idsOf(await claim(2)).sort()).toEqual(["b0", "p0"]);
    expect(idsOf(await claim(4)).sort()).toEqual(["a10", "a11", "a12", "b1"]);
  });

  test("takes what is interactive before all batch", async () => {
    const { submit, claim } = jobs();
    await submit(names("a", 5), { consumerId: a });
    await submit([{ request_id: "now", class: "interactive" }], { consumerId: a });
    expect(idsOf(await claim(2))).toEqual(["now", "a0"]);
  });

  test("takes only its kinds, what is due, and what fits the time left", async () => {
    const { submit, claim, due } = jobs();
    await submit([{ run_at: "2026-11-18T12:01:00Z", request_id: "later" }]);
    expect(await due()).toBe(false);
    expect(await claim()).toEqual([]);
    await clock.advance(60_000);
    expect(await due()).toBe(true);
    expect(await claim(1, { kinds: ["provider_job"] })).toEqual([]);
    expect(await claim(1, { left: 29_000 })).toEqual([]);
    expect(idsOf(await claim(1, { left: 31_000 }))).toEqual(["later"]);
  });

  test("and all else reads an index entry or a few for each job, with 90,000 others there", async () => {
    const early = postgres(db.url, { max: 1, onnotice: () => {} });
    try {
      const everything = async (connection: postgres.Sql, consumerId: string) => {
        const { submit, claim, renew, complete, release, fail, cancel, due, sweep } = jobCalls(connection);
        const { jobs: made } = await submit(names(crypto.randomUUID(), 5), { consumerId });
        await submit(made.map(({ id }: Json) => ({ request_id: id })), { consumerId });
        const held = await claim(5);
        await renew(held);
        await complete(held.slice(0, 2));
        await release(held.slice(2, 3));
        await fail(held[3]);
        await cancel([held[4].id]);
        await due();
        await sweep();
      };
      // Plans are kept once they have been made a few times, here for tables that are nearly empty.
      for (let n = 0; n < 8; n++) await everything(early, a);
      const [{ id: queue }] = await sql`
        insert into eve.job_queues (kind, class, owner_id, topic) values ('llm', 'batch', ${a}, 'flood') returning id` as [
        Json,
      ];
      await sql`
        insert into eve.jobs (id, kind, queue_id, consumer_id, class, models, request_id, body, state, run_at, expires_at)
        select gen_random_uuid(), 'llm', ${queue}, ${a}, 'batch', '{flood}', 'flood' || n, '{}', 'queued', eve.clock() - interval '1 hour',
          eve.clock() + interval '1 day'
        from generate_series(1, 90000) n`;
      const [read] = await early.begin(async (transaction) => {
        await everything(transaction as unknown as postgres.Sql, a);
        return await transaction`
          select seq_scan::integer, idx_tup_fetch::integer from pg_stat_xact_user_tables where relname = 'jobs'`;
      });
      expect(read!.seq_scan).toBe(0);
      expect(read!.idx_tup_fetch).toBeLessThan(500);
    } finally {
      await early.end();
    }
    expect(await miscounted(sql)).toEqual([]);
  }, 120_000);
});

describe("a lease", () => {
  test("lets its worker end the job, once", async () => {
    const { submit, claim, complete, job, fail } = jobs();
    await submit(names("r", 1));
    const [held] = await claim();
    expect(held).toMatchObject({ body: { n: 1 }, tries: 1, losses: 0, token_id: null });
    expect(await complete([{ ...held, result: { text: "4" } }])).toEqual({ done: [held.id] });
    expect(await complete([{ ...held, result: { text: "5" } }])).toEqual({ done: [] });
    expect(await fail(held)).toEqual({ status: "lost" });
    expect(await job(held.id)).toMatchObject({
      state: "succeeded",
      result: { text: "4" },
      finished_at: expect.any(String),
    });
  });

  test("that has ended is another's: a worker that wakes up overwrites nothing", async () => {
    const { submit, claim, complete, renew, release, fail, job } = jobs();
    await submit(names("r", 1));
    const [frozen] = await claim();
    await clock.advance(LEASE_MS);
    const [next] = await claim();
    expect(next).toMatchObject({ id: frozen.id, losses: 1, tries: 1 });
    expect(await complete([frozen])).toEqual({ done: [] });
    expect(await renew([frozen])).toEqual({ lost: [frozen.id] });
    expect(await release([frozen])).toEqual({ released: [] });
    expect(await fail(frozen)).toEqual({ status: "lost" });
    expect(await job(next.id)).toMatchObject({ state: "running" });
    expect(await complete([next])).toEqual({ done: [next.id] });
  });

  test("is renewed, with how far the job is", async () => {
    const { submit, claim, renew, sweep, job } = jobs();
    await submit(names("r", 1));
    const [held] = await claim();
    await clock.advance(LEASE_MS - 1);
    expect(await renew([{ ...held, progress: { done: 1, total: 2 } }])).toEqual({ lost: [] });
    await clock.advance(LEASE_MS - 1);
    await sweep();
    expect(await job(held.id)).toMatchObject({ state: "running", progress: { done: 1, total: 2 } });
  });

  test("whose workers die three times is given to a fourth, and then up, with an alert", async () => {
    const { submit, claim, sweep, job } = jobs();
    await submit(names("r", 1));
    for (const losses of [0, 1, 2, 3]) {
      expect(await claim()).toMatchObject([{ losses, tries: 1 }]);
      await clock.advance(LEASE_MS);
      await sweep();
    }
    expect(await claim()).toEqual([]);
    const [{ id }] = await sql`select id from eve.jobs` as [Json];
    expect(await job(id)).toMatchObject({ state: "failed", error_code: "job_lost" });
    expect(await sql`select kind, subject from eve.alerts where closed_at is null`).toEqual([
      { kind: "job_lost", subject: "llm" },
    ]);
    await clock.advance(3_600_000);
    await sweep();
    expect(await sql`select from eve.alerts where closed_at is null`).toHaveLength(0);
  });
});

describe("a run that did not end well", () => {
  test("is repeated after a pause, as often as its kind says", async () => {
    const { submit, claim, fail, job } = jobs();
    await submit(names("r", 1));
    for (const tries of [1, 2, 3]) {
      await clock.advance(600_000);
      const [held] = await claim();
      expect(held).toMatchObject({ tries });
      expect(await fail(held)).toEqual({ status: tries < 3 ? "queued" : "failed" });
      if (tries === 3) {
        expect(await job(held.id)).toMatchObject({ state: "failed", error_code: "upstream_unavailable" });
      }
    }
  });

  test("is the end where repeating does not help", async () => {
    const { submit, claim, fail } = jobs();
    await submit(names("r", 1));
    expect(await fail((await claim())[0], "content_blocked", false)).toEqual({ status: "failed" });
  });

  test("given back unspent it is no try, keeps its place, and its model's queue rests", async () => {
    const { submit, claim, release, due } = jobs();
    await submit([...names("r", 3), { request_id: "other", models: ["n"] }], { consumerId: a });
    const held = (await claim(4)).filter(({ models }) => models[0] === "m");
    expect(await release(held.map((one) => ({ ...one, pause_ms: 2000 })))).toEqual({
      released: expect.arrayContaining(held.map(({ id }) => id)),
    });
    expect(await miscounted(sql)).toEqual([]);
    expect(await due()).toBe(false);
    expect(await claim(4)).toEqual([]);
    await clock.advance(2000);
    const again = await claim(4);
    expect(idsOf(again)).toEqual(["r0", "r1", "r2"]);
    expect(again[0]).toMatchObject({ tries: 1, losses: 0 });
  });

  test("given back for a while it alone waits, and its queue goes on", async () => {
    const { submit, claim } = jobs();
    await submit(names("r", 2));
    const [{ id, lease_token }] = await claim();
    await sql`select public.eve_jobs_release(${sql.json([{ id, lease_token, delay_ms: 5000 }])})`;
    expect(idsOf(await claim(5))).toEqual(["r1"]);
    await clock.advance(5000);
    expect(idsOf(await claim(5))).toEqual(["r0"]);
  });

  test("a result beyond what its kind keeps is a failure in words", async () => {
    const { submit, claim, complete, job } = jobs();
    await submit(names("r", 1));
    const [held] = await claim();
    await complete([{ ...held, result: "x".repeat(262_144) }]);
    expect(await job(held.id)).toMatchObject({
      state: "failed",
      error_code: "answer_too_large",
      result: null,
    });
    // A batch's file is put together in the database.
    await submit([{ ...names("line", 1)[0]!, batch_id: crypto.randomUUID(), place: 0 }]);
    const [line] = await claim();
    await complete([{ ...line, result: "x".repeat(1_000_000) }]);
    expect((await job(line.id)).state).toBe("succeeded");
  });
});

describe("cancelling", () => {
  test("what waits is never run, what runs is lost to its worker, what has ended stays", async () => {
    const { submit, claim, cancel, complete, renew, job } = jobs();
    const { jobs: [waits, runs] } = await submit(names("r", 2), { consumerId: a }).then((answer) => ({
      jobs: [answer.jobs[1], answer.jobs[0]],
    }));
    const [held] = await claim(1);
    expect(held.id).toBe(runs.id);
    expect(await cancel([waits.id, runs.id], b)).toEqual({ cancelled: 0 });
    expect(await cancel([waits.id, runs.id], a)).toEqual({ cancelled: 2 });
    expect(await cancel([waits.id, runs.id], a)).toEqual({ cancelled: 0 });
    expect(await claim(5)).toEqual([]);
    expect(await renew([held])).toEqual({ lost: [held.id] });
    expect(await complete([held])).toEqual({ done: [] });
    expect(await job(runs.id)).toMatchObject({ state: "cancelled", result: null });
    expect(await miscounted(sql)).toEqual([]);
  });
});

describe("time", () => {
  test("ends what has not ended in its own, and deletes what was kept long enough", async () => {
    const { submit, claim, complete, sweep } = jobs();
    await submit(names("r", 3));
    const [done, runs] = await claim(2);
    await complete([done]);
    await clock.advance(86_400_000);
    await sql`update eve.jobs set lease_until = eve.clock() + interval '1 minute' where lease_until is not null`;
    expect(await claim(5)).toEqual([]);
    expect(await sweep()).toMatchObject({ expired: 2, deleted: 0 });
    expect(await complete([runs])).toEqual({ done: [] });
    expect(await sql`select distinct state, error_code from eve.jobs where state = 'expired'`).toEqual([
      { state: "expired", error_code: "job_expired" },
    ]);
    await clock.advance(6 * 86_400_000);
    expect(await sweep()).toMatchObject({ deleted: 1 });
    await clock.advance(86_400_000);
    expect(await sweep()).toMatchObject({ deleted: 2 });
    // Queues that nobody uses any more go as well.
    expect(await sql`select from eve.job_queues`).toHaveLength(0);
  });
});

describe("the list", () => {
  test("shows a caller its own, the newest first, by page and by state", async () => {
    const { submit, claim, list } = jobs();
    await submit(names("a", 5), { consumerId: a });
    await submit(names("b", 1), { consumerId: b });
    await claim(1, {});
    const first = await list({ consumerId: a, atMost: 3 });
    expect(idsOf(first.jobs)).toEqual(["a4", "a3", "a2"]);
    const rest = await list({ consumerId: a, atMost: 3, before: first.next });
    expect(idsOf(rest.jobs)).toEqual(["a1", "a0"]);
    expect(rest.next).toBe(null);
    expect(idsOf((await list({ states: ["running"] })).jobs)).toHaveLength(1);
    expect((await list()).jobs).toHaveLength(6);
  });
});

describe("administrators", () => {
  test("find jobs of all callers, and what is said in those that may be kept", async () => {
    const { submit, claim, complete } = jobs();
    await submit(names("a", 3), { consumerId: a });
    await submit(names("p", 1));
    const [held] = await claim(1);
    await complete([{ ...held, result: { status: 200, body: { text: "4" } } }]);
    const search = async (filters: Record<string, Json> = {}) =>
      (await sql`select public.eve_job_search(
        states => ${filters.states ?? null}, kinds => ${filters.kinds ?? null}, consumer => ${
        filters.consumer ?? null
      },
        before => ${filters.before ?? null}, at_most => ${filters.atMost ?? 50}) as answer`)[0]!.answer;
    const { jobs: all } = await search();
    expect(all.map((one: Json) => [one.request_id, one.consumer, one.state])).toEqual([
      ["p0", null, "queued"],
      ["a2", "a", "queued"],
      ["a1", "a", "queued"],
      ["a0", "a", "succeeded"],
    ]);
    for (const hidden of ["body", "result", "lease_token", "settings", "key_name"]) {
      expect(all[0]).not.toHaveProperty(hidden);
    }
    expect(idsOf((await search({ consumer: "project" })).jobs)).toEqual(["p0"]);
    expect(idsOf((await search({ consumer: "a", states: ["succeeded"] })).jobs)).toEqual(["a0"]);
    expect(idsOf((await search({ consumer: "nobody" })).jobs)).toEqual([]);
    expect(idsOf((await search({ kinds: ["batch"] })).jobs)).toEqual([]);
    const first = await search({ atMost: 3 });
    expect(idsOf((await search({ before: first.next })).jobs)).toEqual(["a0"]);

    const said = async (id: string) =>
      (await sql`select public.eve_job_detail(${id}) as answer`)[0]!.answer?.said;
    expect([await said(held.id), await said(all[0].id)]).toEqual([null, null]);
    await sql`update eve.consumers set capture = true where id = ${a}`;
    expect([await said(held.id), await said(all[0].id)]).toEqual([
      { body: { n: 1 }, result: { status: 200, body: { text: "4" } } },
      null,
    ]);
    // A request may say no.
    for (const body of [{ capture: false }, { body: { capture: false } }]) {
      await sql`update eve.jobs set body = ${sql.json(body)} where id = ${held.id}`;
      expect(await said(held.id)).toBeNull();
    }
    await sql`update eve.consumers set capture = false where id = ${a}`;
    expect(await said(crypto.randomUUID())).toBe(undefined);
  });
});

test("metrics: what waits and runs, for how long the oldest has, what ended of late, and how long that took", async () => {
  const { submit, claim, complete, fail } = jobs();
  const metrics = async () => {
    const [row] = await sql`select public.eve_job_metrics() as metrics`;
    return Object.fromEntries(
      (row!.metrics.samples as [string, Record<string, string>, number][])
        .filter(([, { kind }]) => kind === "llm")
        .map(([name, { kind: _, ...labels }, value]) => [[name, ...Object.values(labels)].join(" "), value]),
    );
  };
  await submit([...names("r", 4), { request_id: "later", run_at: "2026-11-18T13:00:00Z" }]);
  await clock.advance(10_000);
  const held = await claim(3);
  await clock.advance(20_000);
  await complete(held.slice(0, 1));
  await fail(held[1], "content_blocked", false);
  const quiet = { "eve_jobs_ended cancelled": 0, "eve_jobs_ended expired": 0 };
  expect(await metrics()).toEqual({
    ...quiet,
    "eve_jobs queued": 2,
    "eve_jobs running": 1,
    "eve_job_oldest_age_seconds": 30,
    "eve_jobs_ended succeeded": 1,
    "eve_jobs_ended failed": 1,
    "eve_job_wait_seconds 50": 10,
    "eve_job_wait_seconds 95": 10,
    "eve_job_run_seconds 50": 20,
    "eve_job_run_seconds 95": 20,
  });
  await clock.advance(300_000);
  expect(await metrics()).toEqual({
    ...quiet,
    "eve_jobs queued": 2,
    "eve_jobs running": 1,
    "eve_job_oldest_age_seconds": 330,
    "eve_jobs_ended succeeded": 0,
    "eve_jobs_ended failed": 0,
  });
});

describe("workers", () => {
  const begin = async (place = "edge", worker: string = crypto.randomUUID()) =>
    (await sql`select public.eve_jobs_worker_begin(${worker}, ${place}, ${LEASE_MS}) as answer`)[0]!.answer
      .status;
  const tick = async () => (await sql`select eve.jobs_tick() as answer`)[0]!.answer.status;
  const posted = async () => (await sql`delete from net.http_request_queue returning url`).length;
  beforeEach(() => sql`delete from net.http_request_queue`);

  test("only so many of the function run at once; one that has died frees its place", async () => {
    expect(await Promise.all([begin(), begin(), begin(), begin("outside")])).toEqual(
      expect.arrayContaining(["enough", "begun"]),
    );
    expect(await sql`select from eve.job_workers where place = 'edge'`).toHaveLength(2);
    expect(await begin()).toBe("enough");
    // Sooner than its jobs are given up: those who are alive say so every four seconds.
    await clock.advance(12_000);
    expect(await begin()).toBe("begun");
  });

  test("one that would end nothing in its time any more is told so", async () => {
    const claim = async (left: number | null) =>
      (await sql`
        select public.eve_jobs_claim(${crypto.randomUUID()}, ${["llm"]}, 1, ${LEASE_MS}, ${left}) as answer`)[
        0
      ]!
        .answer;
    expect([await claim(null), await claim(30_000), await claim(29_999)]).toEqual([
      { jobs: [], is_late: false },
      { jobs: [], is_late: false },
      { jobs: [], is_late: true },
    ]);
  });

  test("cron calls the function only if it would find something to do, and there is a place for it", async () => {
    const { submit, claim } = jobs();
    await sql`select public.eve_connect('http://project.test', 'sb_secret_of_a_test')`;
    expect([await tick(), await posted()]).toEqual(["nothing_due", 0]);
    await submit([{ request_id: "later", run_at: "2026-11-18T12:00:10Z" }]);
    expect([await tick(), await posted()]).toEqual(["nothing_due", 0]);
    await clock.advance(10_000);
    expect([await tick(), await posted()]).toEqual(["asked", 1]);
    // Not twice in a second, and not beyond the number of workers.
    expect([await tick(), await posted()]).toEqual(["running", 0]);
    await begin();
    await begin();
    await clock.advance(5000);
    expect([await tick(), await posted()]).toEqual(["running", 0]);
    await claim(1);
    expect([await tick(), await posted()]).toEqual(["nothing_due", 0]);
  });

  test("cron calls the function for a webhook that is due, unless nothing can be delivered here", async () => {
    await sql`select public.eve_connect('http://project.test', 'sb_secret_of_a_test')`;
    const [hook] = await sql`
      insert into eve.event_consumers (name, kind, types, retry_s) values ('webhook:of-a-tick', 'webhook', '{eve.thing.*}', '{5}')
      returning name`;
    await sql`select eve.emit_event('/things', 'eve.thing.happened.v1', 'x')`;
    expect([await tick(), await posted()]).toEqual(["asked", 1]);
    await sql`update eve.operations set last_status = 'failed' where name = 'events'`;
    await clock.advance(5_000);
    expect([await tick(), await posted()]).toEqual(["nothing_due", 0]);
    await sql`update eve.operations set last_status = 'succeeded' where name = 'events'`;
    // Its first retry is not due yet.
    await sql`update eve.event_deliveries set next_try_at = eve.clock() + interval '3 seconds' where consumer = ${
      hook!.name
    }`;
    expect([await tick(), await posted()]).toEqual(["nothing_due", 0]);
    await clock.advance(3_000);
    expect([await tick(), await posted()]).toEqual(["asked", 1]);
    await empty(sql, "eve.events", "eve.event_consumers");
    await sql`update eve.operations set last_status = null where name = 'events'`;
  });

  test("cron's notes of what went well are kept for an hour, or a day where it runs every minute or seldom", async () => {
    const note = (job: string, status: string, minutes: number) =>
      sql`
        insert into cron.job_run_details (jobid, database, username, command, status, start_time, end_time)
        select j.jobid, current_database(), 'postgres', ${`${status} ${minutes}`}, ${status}, eve.clock(),
          eve.clock() - ${minutes} * interval '1 minute'
        from cron.job j where j.jobname = ${job}`;
    await clock.set("2026-11-18T12:23:30Z");
    await sql`update eve.operations set last_idle_at = null where name = 'jobs'`;
    for (const minutes of [10, 90]) {
      await note("eve_jobs", "succeeded", minutes);
      await note("eve_jobs", "failed", minutes);
      await note("eve_sweep", "succeeded", minutes);
    }
    await note("eve_sweep", "succeeded", 1_600);
    await note("eve_sweep", "failed", 1_600);
    await tick();
    const left = await sql`
      select j.jobname, d.command from cron.job_run_details d join cron.job j using (jobid)
      where d.command ~ '^(succeeded|failed) ' order by 1, 2`;
    expect(left.map(({ jobname, command }) => `${jobname}: ${command}`)).toEqual([
      "eve_jobs: failed 10",
      "eve_jobs: failed 90",
      "eve_jobs: succeeded 10",
      "eve_sweep: failed 1600",
      "eve_sweep: succeeded 10",
      "eve_sweep: succeeded 90",
    ]);
  });

  test("a worker that ends says whether there is more to do", async () => {
    const worker = crypto.randomUUID();
    await begin("edge", worker);
    const end = async () => (await sql`select public.eve_jobs_worker_end(${worker}) as answer`)[0]!.answer;
    expect(await end()).toEqual({ wake: false });
    await jobs().submit(names("r", 1));
    await clock.advance(2000);
    expect(await end()).toEqual({ wake: true });
  });
});
