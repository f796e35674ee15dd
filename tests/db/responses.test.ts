/** Responses that are kept, in the database: they follow their jobs, belong to their callers, and go in time. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { addConsumer, clearJobs, jobCalls, type Json } from "../harness/jobs.ts";

let db: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
let jobs: ReturnType<typeof jobCalls>;
let a: string;
let narrow: string;
const START = Date.parse("2026-11-18T12:00:00Z");
const HOUR = 3_600_000;
beforeAll(async () => {
  db = await cloneDatabase();
  sql = postgres(db.url, { max: 4, onnotice: () => {} });
  clock = await freezeClock(sql);
  jobs = jobCalls(sql);
  a = await addConsumer(sql, "a");
  narrow = await addConsumer(sql, "narrow", { models: ["m"] });
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await db?.drop();
});
beforeEach(async () => {
  await clearJobs(sql);
  await empty(sql, "eve.responses");
  await clock.set(START);
});

const one = async (query: postgres.PendingQuery<postgres.Row[]>): Promise<Json> => (await query)[0]!.answer;
const create = (
  {
    consumer = a as string | null,
    store = true,
    job = {} as Record<string, unknown>,
    input = [{ id: "i" }] as unknown,
  } = {},
) =>
  one(sql`
    select public.eve_response_create(
      ${
    sql.json({ id: crypto.randomUUID(), body: { path: "/x", body: {} }, models: ["m"], ...job } as never)
  }, 'm', ${store}, '{"of": "a test"}', ${sql.json(input as never)},
      consumer_id => ${consumer}
    ) as answer`);
const found = async (id: string, consumer: string | null = a): Promise<Json> => {
  const answer = await one(sql`select public.eve_response(${id}, ${consumer}) as answer`);
  return answer.response ?? answer;
};
const cancel = (id: string, consumer: string | null = a) =>
  one(sql`select public.eve_response_cancel(${id}, ${consumer}) as answer`);
const remove = (id: string, consumer: string | null = a) =>
  one(sql`select public.eve_response_delete(${id}, ${consumer}) as answer`);
const claim = () => jobs.claim(10, { kinds: ["response"] });
const answered = (body: Json) => ({ status: 200, body });

describe("a response in the background", () => {
  test.each([
    ["completed", { status: "completed", output: [] }],
    ["incomplete", { status: "incomplete", output: [] }],
  ])("is queued, in progress, and %s, with the answer of its call", async (state, body) => {
    const { response, wake } = await create();
    expect([response, wake]).toEqual([
      expect.objectContaining({ state: "queued", background: true, store: true, metadata: { of: "a test" } }),
      true,
    ]);
    const [job] = await claim();
    expect(await found(response.id)).toMatchObject({ state: "in_progress", answer: null });
    await jobs.complete([{ ...job, result: answered(body) }]);
    expect(await found(response.id)).toMatchObject({ state, answer: body, error_code: null });
    // The job leaves soon; what came of it stays.
    await clock.set(START + 2 * HOUR);
    await jobs.sweep();
    expect(await jobs.job(response.id)).toBeNull();
    expect(await found(response.id)).toMatchObject({ state, answer: body });
  });

  test("goes back to the queue with its job, and fails with it", async () => {
    const { response: { id } } = await create();
    const [first] = await claim();
    await jobs.release([first]);
    expect(await found(id)).toMatchObject({ state: "queued" });
    const [second] = await claim();
    await jobs.fail(second, "upstream_invalid_request", false);
    expect(await found(id)).toMatchObject({
      state: "failed",
      error_code: "upstream_invalid_request",
      error_detail: "words",
      answer: null,
    });
    const late = (await create()).response.id;
    await clock.set(START + 25 * HOUR);
    await jobs.sweep();
    expect(await found(late)).toMatchObject({ state: "failed", error_code: "job_expired" });
  });

  test("is the same one when its request_id comes again, and none beside another job's", async () => {
    const job = { request_id: "mine", request_hash: "h" };
    const first = await create({ job });
    expect((await create({ job })).response.id).toBe(first.response.id);
    expect(await create({ job: { ...job, request_hash: "other" } })).toMatchObject({
      code: "request_id_reused",
    });
    await jobs.submit([{ request_id: "other", request_hash: "h" }], { consumerId: a });
    expect(await create({ job: { request_id: "other", request_hash: "h" } })).toMatchObject({
      code: "request_id_reused",
    });
    expect(await sql`select from eve.responses`).toHaveLength(1);
  });

  test("is cancelled once; what has ended stays as it ended", async () => {
    const { response: { id } } = await create();
    const [job] = await claim();
    expect((await cancel(id)).response).toMatchObject({ state: "cancelled" });
    expect((await cancel(id)).response).toMatchObject({ state: "cancelled" });
    // Its worker does not know it yet.
    await jobs.complete([{ ...job, result: answered({ status: "completed" }) }]);
    expect(await found(id)).toMatchObject({ state: "cancelled", answer: null });
    const done = (await create()).response.id;
    const [other] = await claim();
    await jobs.complete([{ ...other, result: answered({ status: "completed" }) }]);
    expect((await cancel(done)).response).toMatchObject({ state: "completed" });
  });

  test("goes with all that was kept of it, also while it is made", async () => {
    const { response: { id } } = await create();
    const [job] = await claim();
    expect(await remove(id)).toEqual({ status: "deleted" });
    expect(await found(id)).toMatchObject({ status: "refused", code: "not_found" });
    expect(await jobs.job(id)).toBeNull();
    await jobs.complete([{ ...job, result: answered({ status: "completed" }) }]);
    expect(await sql`select from eve.responses`).toHaveLength(0);
  });

  test("that is not to be stored leaves an hour after its end", async () => {
    const { response: { id } } = await create({ store: false });
    const [job] = await claim();
    await clock.set(START + 2 * HOUR);
    await jobs.renew([job]);
    await jobs.complete([{ ...job, result: answered({ status: "completed" }) }]);
    expect(await found(id)).toMatchObject({ state: "completed", store: false });
    await clock.set(START + 3 * HOUR);
    expect(await found(id)).toMatchObject({ code: "not_found" });
  });

  test("is its caller's alone, for the models that it may use now", async () => {
    const { response: { id } } = await create({ consumer: narrow });
    expect(await create({ consumer: narrow, job: { models: ["other"] } })).toMatchObject({
      code: "model_not_allowed",
    });
    for (const ask of [found, cancel, remove]) {
      expect(await ask(id, a)).toMatchObject({ status: "refused", code: "not_found" });
    }
    expect(await found(id, null)).toMatchObject({ id });
    await sql`update eve.consumers set models = '{other}' where id = ${narrow}`;
    for (const ask of [found, cancel, remove]) {
      expect(await ask(id, narrow)).toMatchObject({ status: "refused", code: "not_found" });
    }
    await sql`update eve.consumers set models = '{m}' where id = ${narrow}`;
    expect(await found(id, narrow)).toMatchObject({ state: "queued" });
  });
});

describe("a response that was answered at once", () => {
  let ids = 0;
  const output = (n: number) => [{ id: `o${n}` }];
  const keep = async (
    {
      id = crypto.randomUUID() as string,
      previous = null as string | null,
      consumer = a as string | null,
      ...more
    } = {},
  ) => {
    const n = ++ids;
    const given = {
      id,
      model: "m",
      models: ["m"],
      state: "completed",
      metadata: {},
      input: [{ id: `i${n}` }],
      previous_id: previous,
      answer: { status: "completed", output: output(n) },
      ...more,
    };
    const { stored } = await one(
      sql`select public.eve_response_store(${sql.json(given as never)}, ${consumer}) as answer`,
    );
    return { id, n, stored };
  };
  const context = (previous: string | null, others: string[] = [], consumer: string | null = a) =>
    one(sql`select public.eve_response_context(${previous}, ${others}::uuid[], ${consumer}) as answer`);
  const turn = ({ id, n }: { id: string; n: number }) => ({
    id,
    state: "completed",
    input: [{ id: `i${n}` }],
    output: output(n),
  });

  test("is found, kept once, and gone when it is deleted or its time is over", async () => {
    const first = await keep();
    expect(first.stored).toBe(true);
    expect(await found(first.id)).toMatchObject({ state: "completed", background: false, store: true });
    expect((await keep({ id: first.id })).stored).toBe(true);
    expect((await found(first.id)).answer.output).toEqual(output(first.n));
    expect((await keep({ id: first.id, consumer: null })).stored).toBe(false);
    expect(await remove(first.id)).toEqual({ status: "deleted" });
    expect(await found(first.id)).toMatchObject({ code: "not_found" });

    const old = await keep();
    await clock.set(START + 31 * 24 * HOUR);
    await sql`select eve.retention_of_responses('eve.responses', 'eve.responses', ${new Date(
      START + 24 * HOUR,
    )}, 10, null)`;
    expect(await found(old.id)).toMatchObject({ code: "not_found" });
  });

  test("is not kept where the project's owner keeps none", async () => {
    await sql`update eve.settings set value = 0 where name = 'responses_stored'`;
    const { id, stored } = await keep();
    await sql`update eve.settings set value = 1 where name = 'responses_stored'`;
    expect(stored).toBe(false);
    expect(await found(id)).toMatchObject({ code: "not_found" });
  });

  test("goes on from those before it, the oldest first, beside others that are named", async () => {
    const one = await keep();
    const two = await keep({ previous: one.id });
    const three = await keep({ previous: two.id });
    const other = await keep();
    expect(await context(three.id, [other.id, crypto.randomUUID()])).toEqual({
      status: "found",
      turns: [turn(one), turn(two), turn(three)],
      others: [turn(other)],
    });
    expect(await context(null, [])).toEqual({ status: "found", turns: [], others: [] });
    await remove(one.id);
    expect(await context(three.id)).toMatchObject({
      code: "not_found",
      message: expect.stringContaining(`resp_${one.id.replaceAll("-", "")} is gone`),
    });
  });

  test("is its caller's alone: nobody else goes on from it", async () => {
    const { id } = await keep();
    const mine = await keep({ consumer: narrow, previous: id });
    expect(await context(id, [], narrow)).toMatchObject({ code: "not_found" });
    expect(await context(null, [id], narrow)).toMatchObject({ others: [] });
    // Its name alone opens nothing.
    expect(await context(mine.id, [], narrow)).toMatchObject({ code: "not_found" });
  });

  test("may go on from one that was made in the background, when that has an answer", async () => {
    const { response: { id } } = await create();
    expect(await context(id)).toMatchObject({ turns: [{ state: "queued", output: null }] });
    const [job] = await claim();
    await jobs.complete([{ ...job, result: answered({ status: "completed", output: output(0) }) }]);
    expect(await context(id)).toMatchObject({ turns: [{ input: [{ id: "i" }], output: output(0) }] });
  });

  test("of more than a body may hold is refused", async () => {
    const text = "x".repeat(2_000_000);
    let previous: string | null = null;
    for (let i = 0; i < 6; i++) previous = (await keep({ previous, input: [{ text }] } as never)).id;
    expect(await context(previous)).toMatchObject({ code: "prompt_too_large" });
  });
});
