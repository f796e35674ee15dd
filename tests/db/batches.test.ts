/** Batches in the database: their states and counts, what came of them, and how they are cancelled and expire. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { addConsumer, clearJobs, jobCalls, type Json, miscounted } from "../harness/jobs.ts";

let db: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
let a: string;
let b: string;
const START = Date.parse("2026-11-18T12:00:00Z");
const HOUR = 3_600_000;
beforeAll(async () => {
  db = await cloneDatabase();
  sql = postgres(db.url, { max: 10, onnotice: () => {} });
  clock = await freezeClock(sql);
  a = await addConsumer(sql, "a");
  b = await addConsumer(sql, "b", { models: ["m"] });
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await db?.drop();
});
beforeEach(async () => {
  await clearJobs(sql);
  await empty(sql, "eve.batches", "eve.batch_files", "eve.upload_parts", "eve.uploads");
  await clock.set(START);
});

const one = async (query: postgres.PendingQuery<postgres.Row[]>): Promise<Json> => (await query)[0]!.answer;
const file = async (consumer: string | null = a) =>
  (await one(sql`
    select public.eve_batch_file_save(${crypto.randomUUID()}, 'in.jsonl', 10, 'default', ${
    "0".repeat(64)
  }, ${consumer}) as answer
  `)).file;
const create = async (consumer: string | null = a): Promise<Json> => {
  const { id } = await file(consumer);
  return (await one(sql`
    select public.eve_batch_create(${crypto.randomUUID()}, ${id}, '/v1/chat/completions', null, ${consumer}) as answer
  `)).batch;
};
const add = (id: string, total: number, places: number[], model = "m") =>
  one(sql`select public.eve_batch_add(${id}, ${total}, ${[model]}, ${
    sql.json(places.map((place) => ({
      place,
      custom_id: `c${place}`,
      models: [model],
      body: { path: "/x", body: { place } },
    })))
  }) as answer`);
const find = async (id: string, consumer: string | null = a): Promise<Json> => {
  const answer = await one(sql`select public.eve_batch(${id}, ${consumer}) as answer`);
  return answer.batch ?? answer;
};
const cancel = (id: string) => one(sql`select public.eve_batch_cancel(${id}, at_most => 2) as answer`);
const content = async (id: string | null, consumer: string | null = a): Promise<Json[]> => {
  const { text } = await one(sql`select public.eve_batch_file_piece(${id}, 0, ${consumer}) as answer`);
  return text.trim().split("\n").map((line: string) => JSON.parse(line));
};
/** The job that would read its file has ended well. */
const checked = async () => {
  const jobs = jobCalls(sql);
  await jobs.complete(await jobs.claim(10, { kinds: ["batch"] }));
};
const answered = (n: number) => ({ status: 200, body: { n } });

describe("a batch", () => {
  test("goes from validating to completed, and its lines are found by their names", async () => {
    const batch = await create();
    expect(batch).toMatchObject({ state: "validating", total: 0, expires_at: "2026-11-19T12:00:00+00:00" });
    expect(await add(batch.id, 3, [0, 1])).toMatchObject({ status: "added" });
    expect(await find(batch.id)).toMatchObject({ state: "in_progress", total: 3, completed: 0 });
    const jobs = jobCalls(sql);
    const [first, second] = await jobs.claim(2);
    await jobs.complete([{ ...first, result: answered(1) }, { ...second, result: answered(2) }]);
    // One line has not been handed in: it goes on.
    expect(await find(batch.id)).toMatchObject({ state: "in_progress", completed: 2, output_file_id: null });
    await add(batch.id, 3, [2]);
    await checked();
    const [third] = await jobs.claim(1);
    expect(third).toMatchObject({ custom_id: "c2", body: { path: "/x", body: { place: 2 } } });
    await jobs.fail(third, "upstream_invalid_request", false);
    const ended = await find(batch.id);
    expect(ended).toMatchObject({ state: "completed", total: 3, completed: 2, failed: 1, errors: null });
    expect(ended.ended_at).not.toBeNull();
    expect(await content(ended.output_file_id)).toEqual([0, 1].map((n) => ({
      id: expect.stringMatching(/^batch_req_[0-9a-f]{32}$/),
      custom_id: `c${n}`,
      response: { status_code: 200, request_id: expect.any(String), body: { n: n + 1 } },
      error: null,
    })));
    expect(await content(ended.error_file_id)).toMatchObject([
      { custom_id: "c2", response: null, error: { code: "upstream_invalid_request", message: "words" } },
    ]);
    const [bytes] = await sql`
      select f.bytes::integer, octet_length(public.eve_batch_file_piece(f.id) ->> 'text') as are
      from eve.batch_files f where f.id = ${ended.output_file_id}`;
    expect(bytes!.bytes).toBe(bytes!.are);
    expect(await miscounted(sql)).toEqual([]);
  });

  test("takes a line once, however often it is handed in", async () => {
    const { id } = await create();
    const input = () => one(sql`select public.eve_batch_input(${id}) as answer`);
    expect(await input()).toMatchObject({ state: "validating", total: 0, added: 0 });
    await add(id, 3, [0, 1]);
    // A second run begins behind these, and has not looked at them: the first one's models stay.
    expect(await input()).toMatchObject({ state: "in_progress", total: 3, added: 2 });
    await add(id, 3, [0, 1, 2], "n");
    expect((await find(id)).models).toEqual(["m"]);
    expect(await sql`select place from eve.jobs where batch_id = ${id} order by place`).toHaveLength(3);
    const jobs = jobCalls(sql);
    await jobs.complete((await jobs.claim(10)).map((job: Json) => ({ ...job, result: answered(1) })));
    expect(await find(id)).toMatchObject({ state: "completed", completed: 3 });
    // A line that has ended is counted once, whatever is noted of it afterwards.
    await sql`update eve.jobs set checked_at = now() where batch_id = ${id}`;
    expect(await find(id)).toMatchObject({ state: "completed", completed: 3 });
    // After its end it takes none.
    expect(await add(id, 4, [3])).toEqual({ status: "ended" });
  });

  test("whose last lines end at the same moment ends once", async () => {
    const { id } = await create();
    await add(id, 8, [0, 1, 2, 3, 4, 5, 6, 7]);
    const jobs = jobCalls(sql);
    const held = await jobs.claim(8);
    await Promise.all(held.map((job: Json) => jobs.complete([{ ...job, result: answered(1) }])));
    expect(await find(id)).toMatchObject({ state: "completed", completed: 8 });
    expect(await sql`select from eve.batch_files where batch_id = ${id}`).toHaveLength(1);
  });

  test("fails with what is wrong with its file", async () => {
    const { id } = await create();
    const errors = [{ code: "invalid_json_line", message: "no", param: null, line: 2 }];
    await one(sql`select public.eve_batch_reject(${id}, ${sql.json(errors)}) as answer`);
    expect(await find(id)).toMatchObject({ state: "failed", errors, total: 0, output_file_id: null });
    expect(await add(id, 1, [0])).toEqual({ status: "ended" });
  });

  test("fails when its file could not be read, with the lines that had been handed in", async () => {
    const { id } = await create();
    const jobs = jobCalls(sql);
    const [check] = await jobs.claim(1, { kinds: ["batch"] });
    await add(id, 2, [0]);
    await jobs.fail(check, "internal", false);
    expect(await find(id)).toMatchObject({ state: "in_progress", total: 1 });
    const [line] = await jobs.claim(1);
    await jobs.complete([{ ...line, result: answered(1) }]);
    expect(await find(id)).toMatchObject({
      state: "failed",
      total: 1,
      completed: 1,
      output_file_id: expect.any(String),
      errors: [{ code: "internal", line: null }],
    });
  });

  test("that is cancelled keeps what was done, and nothing else of it is run", async () => {
    const { id } = await create();
    await add(id, 6, [0, 1, 2, 3, 4, 5]);
    await checked();
    const jobs = jobCalls(sql);
    const [first, second] = await jobs.claim(2);
    await jobs.complete([{ ...first, result: answered(1) }]);
    expect(await cancel(id)).toMatchObject({ more: true, batch: { state: "cancelling" } });
    // Two lines at a time.
    for (let step = 0; step < 2; step++) expect(await cancel(id)).toMatchObject({ more: true });
    expect(await cancel(id)).toMatchObject({ more: false, batch: { state: "cancelled", completed: 1 } });
    expect(await jobs.claim(10)).toEqual([]);
    expect(await jobs.complete([{ ...second, result: answered(2) }])).toEqual({ done: [] });
    const ended = await find(id);
    expect(await content(ended.output_file_id)).toHaveLength(1);
    expect((await content(ended.error_file_id)).map(({ error }) => error.code)).toEqual(
      Array(5).fill("batch_cancelled"),
    );
    expect(await cancel(id)).toMatchObject({ status: "refused", code: "batch_ended" });
    expect(await miscounted(sql)).toEqual([]);
  });

  test("that is cancelled while its file is read ends at once, and takes no more lines", async () => {
    const { id } = await create();
    expect(await cancel(id)).toMatchObject({ more: false, batch: { state: "cancelled", total: 0 } });
    expect(await add(id, 1, [0])).toEqual({ status: "ended" });
    const other = await create();
    await add(other.id, 5, [0]);
    await cancel(other.id);
    expect(await add(other.id, 5, [1])).toEqual({ status: "ended" });
    expect(await cancel(other.id)).toMatchObject({ more: false, batch: { state: "cancelled", total: 1 } });
  });

  test("that nobody goes on cancelling is cancelled when its lines end", async () => {
    const { id } = await create();
    await add(id, 1, [0]);
    await cancel(id);
    const jobs = jobCalls(sql);
    const [line] = await jobs.claim(1);
    await jobs.complete([{ ...line, result: answered(1) }]);
    expect(await find(id)).toMatchObject({ state: "cancelled", completed: 1 });
  });

  test("that expires keeps what was done", async () => {
    const { id } = await create();
    await add(id, 3, [0, 1, 2]);
    await checked();
    const jobs = jobCalls(sql);
    const [first] = await jobs.claim(1);
    await jobs.complete([{ ...first, result: answered(1) }]);
    await clock.set(START + 24 * HOUR);
    await jobs.sweep();
    const ended = await find(id);
    expect(ended).toMatchObject({ state: "expired", total: 3, completed: 1, failed: 0 });
    expect(await content(ended.output_file_id)).toHaveLength(1);
    expect(await content(ended.error_file_id)).toMatchObject([
      { custom_id: "c1", error: { code: "batch_expired" } },
      { custom_id: "c2", error: { code: "batch_expired" } },
    ]);
  });

  test("whose time is over while its lines are handed in ends with those that were", async () => {
    const { id } = await create();
    const jobs = jobCalls(sql);
    const [check] = await jobs.claim(1, { kinds: ["batch"] });
    await add(id, 3, [0]);
    const [line] = await jobs.claim(1);
    await jobs.complete([{ ...line, result: answered(1) }]);
    await clock.set(START + 24 * HOUR);
    expect(await add(id, 3, [1])).toEqual({ status: "ended" });
    await jobs.complete([check]);
    const ended = await find(id);
    expect(ended).toMatchObject({
      state: "expired",
      total: 1,
      completed: 1,
      errors: [{ code: "batch_expired", message: expect.stringContaining("of its lines 1 were handed in") }],
    });
    expect(await content(ended.output_file_id)).toHaveLength(1);
    expect(await add(id, 3, [1])).toEqual({ status: "ended" });
    expect(await find(id)).toEqual(ended);

    const open = await create();
    const [reader] = await jobs.claim(1, { kinds: ["batch"] });
    await add(open.id, 3, [0, 1]);
    await clock.set(START + 48 * HOUR);
    expect(await add(open.id, 3, [2])).toEqual({ status: "ended" });
    await jobs.complete([reader]);
    expect(await find(open.id)).toMatchObject({ state: "in_progress", total: 2 });
    await jobs.sweep();
    expect(await find(open.id)).toMatchObject({ state: "expired", total: 2, completed: 0 });
    expect(await miscounted(sql)).toEqual([]);
  });

  test("whose file nobody came to read in time expires", async () => {
    const { id } = await create();
    await clock.set(START + 24 * HOUR);
    await jobCalls(sql).sweep();
    expect(await find(id)).toMatchObject({ state: "expired", total: 0 });
  });

  test("is its consumer's, and of its models'", async () => {
    const { id } = await create(a);
    expect(await find(id, b)).toMatchObject({ status: "refused", code: "not_found" });
    expect(await find(id, null)).toMatchObject({ id });
    const mine = await create(b);
    expect(await add(mine.id, 1, [0], "secret")).toMatchObject({ code: "model_not_allowed" });
    await add(mine.id, 1, [0]);
    await sql`update eve.consumers set models = '{n}' where id = ${b}`;
    expect(await find(mine.id, b)).toMatchObject({ code: "not_found" });
    await sql`update eve.consumers set models = '{m}' where id = ${b}`;
    expect(await find(mine.id, b)).toMatchObject({ id: mine.id });
  });
});

describe("a batch of Google's", () => {
  const created = async (isInline: boolean): Promise<Json> => {
    const { id } = (await one(sql`
      select public.eve_batch_file_save(
        ${crypto.randomUUID()}, 'x', 10, 'default', ${
      "0".repeat(64)
    }, ${a}, purpose => 'user_data', mime_type => 'text/plain',
        is_listed => ${!isInline}
      ) as answer`)).file;
    return (await one(sql`
      select public.eve_batch_create(
        ${crypto.randomUUID()}, ${id}, '/v1beta/models/m:generateContent', null, ${a}, api => 'gemini', is_inline => ${isInline}
      ) as answer`)).batch;
  };
  const found = (id: string, api: string) =>
    one(sql`select public.eve_batch(${id}, ${a}, api => ${api}) as answer`);
  const all = async () => (await one(sql`select public.eve_batch_files(${a}) as answer`)).files as Json[];

  test.each([false, true])(
    "has one file of all lines in their order, listed unless it is inline (%s)",
    async (isInline) => {
      const batch = await created(isInline);
      expect(batch.expires_at).toBe("2026-11-20T12:00:00+00:00");
      const lines = [0, 1, 2, 3].map((place) => ({
        place,
        ...(!isInline && { custom_id: `c${place}` }),
        models: ["m"],
        body: { path: "/x", body: {}, ...(isInline && { metadata: { key: place } }) },
      }));
      await one(sql`select public.eve_batch_add(${batch.id}, 4, ${["m"]}, ${sql.json(lines)}) as answer`);
      await checked();
      const jobs = jobCalls(sql);
      const [first, second] = await jobs.claim(2);
      await jobs.complete([{ ...second, result: answered(1) }]);
      await jobs.fail(
        {
          ...first,
          result: { status: 400, body: { error: { status: "INVALID_ARGUMENT", message: "why" } } },
        },
        "upstream_invalid_request",
        false,
      );
      await sql`update eve.jobs set expires_at = eve.clock() where place = 2`;
      await sql`select public.eve_jobs_sweep()`;
      // OpenAI's clients do not see it.
      expect(await found(batch.id, "openai")).toMatchObject({ code: "not_found" });
      const stop = () =>
        one(sql`select public.eve_batch_cancel(${batch.id}, ${a}, api => 'gemini') as answer`);
      for (let step = await stop(); step.more;) step = await stop();
      const ended = (await found(batch.id, "gemini")).batch;
      expect(ended).toMatchObject({ state: "cancelled", completed: 1, error_file_id: null });
      const named = (place: number) => isInline ? { metadata: { key: place } } : { key: `c${place}` };
      const answers = await content(ended.output_file_id);
      expect(answers).toEqual([
        { ...named(0), error: { code: 13, message: "words" } },
        { ...named(1), response: { n: 1 } },
        { ...named(2), error: { code: 4, message: expect.stringContaining("expired") } },
        { ...named(3), error: { code: 1, message: expect.stringContaining("cancelled") } },
      ]);
      const [bytes] = await sql`
      select f.bytes::integer, octet_length(public.eve_batch_file_piece(f.id) ->> 'text') as are
      from eve.batch_files f where f.id = ${ended.output_file_id}`;
      expect(bytes!.bytes).toBe(bytes!.are);
      expect((await all()).map(({ id }) => id)).toEqual(
        isInline ? [] : [ended.output_file_id, batch.input_file_id],
      );

      const remove = (consumer: string | null) =>
        one(sql`select public.eve_batch_delete(${batch.id}, ${consumer}, api => 'gemini') as answer`);
      expect(await remove(b)).toMatchObject({ code: "not_found" });
      expect(await remove(a)).toEqual({ status: "deleted" });
      expect(await remove(a)).toMatchObject({ code: "not_found" });
      expect(await found(batch.id, "gemini")).toMatchObject({ code: "not_found" });
      expect(await one(sql`select public.eve_batch_file_piece(${ended.output_file_id}, 0, ${a}) as answer`))
        .toMatchObject({ code: "not_found" });
    },
  );
});

test("Anthropic's: one file of all lines, each with what came of it as Anthropic's clients read it", async () => {
  const { id } = (await one(sql`
    select public.eve_batch_file_save(${crypto.randomUUID()}, 'x', 10, 'default', ${"0".repeat(64)}, ${a},
      is_listed => false) as answer`)).file;
  const { batch } = await one(sql`
    select public.eve_batch_create(${crypto.randomUUID()}, ${id}, '/anthropic/v1/messages', null, ${a}, api => 'anthropic',
      is_inline => true) as answer`);
  const lines = [0, 1, 2, 3].map((place) => ({
    place,
    custom_id: `c${place}`,
    models: ["m"],
    body: { path: "/x", body: {} },
  }));
  await one(sql`select public.eve_batch_add(${batch.id}, 4, ${["m"]}, ${sql.json(lines)}) as answer`);
  await checked();
  const jobs = jobCalls(sql);
  const [first, second] = await jobs.claim(2);
  await jobs.complete([{ ...second, result: answered(1) }]);
  await jobs.fail(first, "upstream_invalid_request", false);
  // As it stands where the call itself was answered with an error.
  const said = { type: "error", error: { type: "invalid_request_error", message: "why" }, request_id: "r" };
  await sql`
    update eve.jobs set result = ${sql.json({ status: 400, body: said })}
    where batch_id = ${batch.id} and state = 'failed'`;
  await sql`update eve.jobs set expires_at = eve.clock() where place = 2`;
  await sql`select public.eve_jobs_sweep()`;
  const stop = () =>
    one(sql`select public.eve_batch_cancel(${batch.id}, ${a}, api => 'anthropic') as answer`);
  for (let step = await stop(); step.more;) step = await stop();
  const ended =
    (await one(sql`select public.eve_batch(${batch.id}, ${a}, api => 'anthropic') as answer`)).batch;
  expect(ended).toMatchObject({
    state: "cancelled",
    total: 4,
    completed: 1,
    failed: 1,
    expired: 1,
    error_file_id: null,
  });
  expect(await content(ended.output_file_id)).toEqual([
    { custom_id: "c0", result: { type: "errored", error: said } },
    { custom_id: "c1", result: { type: "succeeded", message: { n: 1 } } },
    { custom_id: "c2", result: { type: "expired" } },
    { custom_id: "c3", result: { type: "canceled" } },
  ]);
  // OpenAI's and Google's clients do not see it.
  expect(await one(sql`select public.eve_batch(${batch.id}, ${a}, api => 'openai') as answer`)).toMatchObject(
    {
      code: "not_found",
    },
  );
});

test("files and batches are listed page by page", async () => {
  const made: Json[] = [];
  for (let n = 0; n < 3; n++) made.push(await create());
  const page = (after: string | null) =>
    one(sql`select public.eve_batches(${a}, after => ${after}, at_most => 2) as answer`);
  const first = await page(null);
  expect(first).toMatchObject({ has_more: true, batches: [{ id: made[2].id }, { id: made[1].id }] });
  expect(await page(made[1].id)).toMatchObject({ has_more: false, batches: [{ id: made[0].id }] });
  const files = await one(sql`
    select public.eve_batch_files(${a}, at_most => 2, oldest_first => true, after => ${
    made[0].input_file_id
  }) as answer`);
  expect(files).toMatchObject({
    has_more: false,
    files: [{ id: made[1].input_file_id }, { id: made[2].input_file_id }],
  });
});

test("retention takes files whose time is over, with their uses of media objects, and old batches", async () => {
  const { id, input_file_id } = await create();
  await cancel(id);
  await sql`
    insert into public.media_objects (tenant_id, file_sha256, size_bytes, stored_bytes, mime_type, kind, s3_key, state, stored_in)
    values ('default', ${
    "0".repeat(64)
  }, 10, 10, 'application/x-ndjson', 'media', 'media/default/x', 'verified', 'postgres')`;
  const refer = (ref: string) =>
    sql`insert into eve.media_references (tenant_id, file_sha256, ref_kind, ref_id, created_at)
      values ('default', ${"0".repeat(64)}, 'batch_file', ${ref}, to_timestamp(${START / 1000}))`;
  await refer(input_file_id);
  await refer(crypto.randomUUID());
  const tidy = () =>
    one(sql`
      select r.deleted as answer
      from eve.retention_of_batches('eve.batches', 'eve.batches', eve.clock() - interval '30 days', 100, null) r`);
  // The file's use is known; the other's never was written down.
  await clock.set(START + 25 * HOUR);
  expect(await tidy()).toBe("0");
  expect(await sql`select ref_id from eve.media_references where ref_kind = 'batch_file'`).toEqual([
    { ref_id: input_file_id },
  ]);
  await clock.set(START + 30 * 24 * HOUR);
  expect(await tidy()).toBe("1");
  expect(await sql`select from eve.batch_files`).toHaveLength(0);
  expect(await sql`select from eve.media_references where ref_kind = 'batch_file'`).toHaveLength(0);
});

test(
  "lines that are handed in, run, cancelled and swept at the same time are all counted, and nobody ends in a deadlock",
  async () => {
    const BATCHES = 4;
    const LINES = 40;
    const made: string[] = [];
    for (let n = 0; n < BATCHES; n++) made.push((await create(n % 2 === 0 ? a : null)).id);
    const jobs = jobCalls(sql);
    let handingIn = BATCHES;
    const handIn = async (id: string) => {
      for (let place = 0; place < LINES; place += 4) {
        await add(id, LINES, [0, 1, 2, 3].map((n) => place + n), place % 8 === 0 ? "m" : "other");
      }
      handingIn--;
    };
    const work = async () => {
      for (;;) {
        const held = await jobs.claim(7);
        if (held.length === 0 && handingIn === 0) return;
        const [first, ...others] = held;
        if (first !== undefined) await jobs.fail(first, "upstream_invalid_request", false);
        await jobs.complete(others.toReversed().map((job: Json) => ({ ...job, result: answered(1) })));
      }
    };
    const sweep = async () => {
      while (handingIn > 0) await jobs.sweep();
    };
    const takeBack = async (id: string) => {
      while ((await find(id, null)).state === "validating") await jobs.sweep();
      for (let more = true; more;) more = (await cancel(id)).more === true;
    };
    await Promise.all([
      ...made.map(handIn),
      work(),
      work(),
      work(),
      sweep(),
      takeBack(made[0]!),
      takeBack(made[1]!),
    ]);
    const counted = await sql`
    select b.state, b.total, b.added, b.open, b.completed, b.failed, b.output_bytes::integer, b.error_bytes::integer
    from eve.batches b order by b.no`;
    const are = await sql`
    select count(*)::integer as added, count(*) filter (where j.finished_at is null)::integer as open,
      count(*) filter (where j.state = 'succeeded')::integer as completed, count(*) filter (where j.state = 'failed')::integer as failed,
      coalesce(sum(octet_length(eve.batch_line(j, 'openai')) + 1) filter (where j.state = 'succeeded'), 0)::integer as output_bytes,
      coalesce(sum(octet_length(eve.batch_line(j, 'openai')) + 1) filter (where j.state <> 'succeeded'), 0)::integer as error_bytes
    from eve.batches b left join eve.jobs j on j.batch_id = b.id group by b.no order by b.no`;
    expect(counted.map(({ state: _state, total: _total, ...counts }) => counts)).toEqual([...are]);
    expect(counted.map(({ state }) => state)).toEqual(["cancelled", "cancelled", "completed", "completed"]);
    expect(counted.slice(2)).toMatchObject(Array(2).fill({ total: LINES, open: 0 }));
    expect(await miscounted(sql)).toEqual([]);
  },
  60_000,
);

describe("a file that is sent in parts", () => {
  const begin = async (bytes = 30, consumer: string | null = a): Promise<Json> => {
    const answer = await one(sql`
      select public.eve_upload_create(${crypto.randomUUID()}, 'default', 'in.jsonl', ${bytes}, ${consumer}) as answer`);
    return answer.upload ?? answer;
  };
  const sha = (n: number) => `${n}`.repeat(64);
  const part = async (upload: string, n: number, bytes = 10, consumer: string | null = a): Promise<Json> => {
    const id = crypto.randomUUID();
    const answer = await one(
      sql`select public.eve_upload_part(${id}, ${upload}, ${sha(n)}, ${bytes}, ${consumer}) as answer`,
    );
    return answer.status === "noted" ? id : answer;
  };
  const complete = (id: string, parts: string[], consumer: string | null = a) =>
    one(sql`select public.eve_upload_complete(${id}, ${parts}::uuid[], ${consumer}) as answer`);
  const giveUp = (id: string, consumer: string | null = a) =>
    one(sql`select public.eve_upload_cancel(${id}, ${consumer}) as answer`);
  const upload = async (id: string, consumer: string | null = a): Promise<Json> => {
    const answer = await one(sql`select public.eve_upload(${id}, ${consumer}) as answer`);
    return answer.upload ?? answer;
  };

  test("is its parts in the order that is said at the end, once", async () => {
    const { id, state } = await begin();
    expect(state).toBe("pending");
    const [first, second, third, needless] = [
      await part(id, 1),
      await part(id, 2),
      await part(id, 1),
      await part(id, 4),
    ];
    expect(await complete(id, [first, second])).toMatchObject({ code: "invalid_request" });
    expect(await complete(id, [first, first, second])).toMatchObject({ code: "invalid_request" });
    expect(await complete(id, [first, second, crypto.randomUUID()])).toMatchObject({
      code: "invalid_request",
    });
    const { file: made } = await complete(id, [second, third, first]);
    expect(made).toMatchObject({
      id,
      purpose: "batch",
      bytes: 30,
      parts: [sha(2), sha(1), sha(1)],
      sha256: null,
    });
    // Anyone who did not hear the answer asks again.
    expect((await complete(id, [second, third, first])).file).toEqual(made);
    for (const other of [await complete(id, [needless, third, first]), await part(id, 5), await giveUp(id)]) {
      expect(other).toMatchObject({ code: "invalid_request", message: expect.stringContaining("completed") });
    }
    expect(await upload(id)).toMatchObject({ state: "completed" });
    expect(await sql`select from eve.batch_files`).toHaveLength(1);
    // A batch reads it.
    const batch = (await one(sql`
      select public.eve_batch_create(${crypto.randomUUID()}, ${id}, '/v1/chat/completions', null, ${a}) as answer`))
      .batch;
    expect(await one(sql`select public.eve_batch_input(${batch.id}) as answer`)).toMatchObject({
      tenant_id: "default",
      sha256: null,
      parts: [sha(2), sha(1), sha(1)],
    });
  });

  test("takes twice what was announced, so that a part may come again, and a thousand parts", async () => {
    const { id } = await begin();
    await part(id, 1, 60);
    expect(await part(id, 2, 1)).toMatchObject({ code: "invalid_request" });
    const many = await begin(10_000);
    await sql`
      insert into eve.upload_parts (id, upload_id, sha256, bytes, created_at)
      select gen_random_uuid(), ${many.id}, ${sha(1)}, 1, now() from generate_series(1, 1000)`;
    expect(await part(many.id, 2, 1)).toMatchObject({ code: "invalid_request" });
  });

  test("is over after an hour, or when it is given up", async () => {
    const [late, given] = [await begin(10), await begin(10)];
    const parts = [await part(late.id, 1), await part(given.id, 1)];
    expect([await giveUp(given.id), await giveUp(given.id)]).toEqual([
      { status: "cancelled" },
      { status: "cancelled" },
    ]);
    await clock.set(START + HOUR);
    expect(await upload(late.id)).toMatchObject({ state: "expired" });
    for (const [n, { id }] of [late, given].entries()) {
      for (const refused of [await part(id, 2), await complete(id, [parts[n]])]) {
        expect(refused).toMatchObject({ code: "invalid_request" });
      }
    }
    expect(await sql`select from eve.batch_files`).toHaveLength(0);
  });

  test("is its caller's alone", async () => {
    const { id } = await begin(10);
    const mine = await part(id, 1);
    const missing = { status: "refused", code: "not_found" };
    for (
      const refused of [
        await part(id, 2, 10, b),
        await complete(id, [mine], b),
        await giveUp(id, b),
        await upload(id, b),
      ]
    ) {
      expect(refused).toMatchObject(missing);
    }
    // Nor is a part another upload's.
    const other = await begin(10, b);
    expect(await complete(other.id, [mine], b)).toMatchObject({ code: "invalid_request" });
    expect(await upload(id)).toMatchObject({ state: "pending" });
  });

  test("may be one of a hundred that are under way", async () => {
    for (let n = 0; n < 100; n++) await begin(1);
    expect(await begin(1)).toMatchObject({ code: "jobs_full" });
    expect(await begin(1, b)).toMatchObject({ state: "pending" });
  });
});
