/** Posts, budgets and results of vision on a real database: by actor, repeated, and by twenty at once. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { applyMigrations } from "../../local/database.ts";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { addConsumer, clearJobs } from "../harness/jobs.ts";
import { cloneDatabase, databaseBefore, type TestDatabase } from "../harness/database.ts";
import { until } from "../harness/patience.ts";
import { empty } from "../harness/rows.ts";
import { type Answer, PROJECT, shaOf } from "../harness/media.ts";

let database: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const USER = "a0000000-0000-4000-8000-000000000001";
const user = { kind: "user", user_id: USER };

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
  await clearJobs(sql);
  await empty(
    sql,
    "public.posts",
    "eve.vision_pictures",
    "eve.vision_policies",
    "eve.vision_decisions",
    "eve.vision_budgets",
    "eve.vision_spending",
    "eve.vision_reservations",
    "eve.vision_times",
    "eve.media_references",
    "public.media_objects",
    "eve.events",
    "eve.event_consumers",
    "eve.alerts",
    "eve.metric_counters",
    "eve.tenant_members",
  );
  await sql`delete from eve.consumers where kind <> 'project'`;
  await sql`insert into eve.tenants (id) values ('other') on conflict do nothing`;
  await clock.set("2026-11-18T12:00:00Z");
});

const json = (value: unknown) => sql.json(value as postgres.JSONValue);
const only = async (query: postgres.PendingQuery<postgres.Row[]>): Promise<Answer> =>
  (await query)[0]!.answer;

async function picture(number: number, tenant = "default", mime = "image/jpeg"): Promise<string> {
  await sql`
    insert into public.media_objects (tenant_id, file_sha256, size_bytes, mime_type, state, counts_as, s3_key)
    values (${tenant}, ${shaOf(number)}, 1000, ${mime}, 'verified', 'used', ${`k/${number}`})`;
  return shaOf(number);
}

const add = (post: unknown, actor: unknown = PROJECT, trace: string | null = TRACE) =>
  only(sql`select public.eve_post_add(${json(actor)}, ${json(post)}, ${trace}) as answer`);
const read = (post: string, actor: unknown = PROJECT) =>
  only(sql`select public.eve_vision_post(${json(actor)}, ${post}) as answer`);
const jobsOf = () => sql`select id, body, class, consumer_id from eve.jobs where kind = 'vision' order by no`;

/** A post with one picture, and its job. */
async function posted(number: number, more: Record<string, unknown> = {}) {
  const sha = await picture(number);
  const { post } = await add({ source: "api", external_id: `n${number}`, media: [sha], ...more });
  const job = (await sql`select job_id from public.post_enrichment where post_id = ${post.id}`)[0]!
    .job_id as string;
  return { sha, post: post.id as string, job };
}
type Posted = Awaited<ReturnType<typeof posted>>;

const begin = ({ job, post, sha }: Posted) =>
  only(sql`select public.eve_vision_begin(${job}, 'default', ${post}, ${sha}) as answer`);
const keep = ({ sha }: Posted, dhash: string, atMost: number | null = 3, width = 100) =>
  only(sql`
    select public.eve_vision_picture(
      'default', ${sha}, 'image/jpeg', ${width}, 50, 1, ${dhash}, null, null, ${atMost}
    ) as answer`);
const finish = ({ job, post, sha }: Posted, outcome: unknown, decision: unknown = ANALYSE) =>
  only(sql`
    select public.eve_vision_finish(
      ${job}, 'default', ${post}, ${sha}, ${json(decision)}, ${json(outcome)}, ${TRACE}
    ) as answer`);

const ANALYSE = { action: "analyse", reason: "usual", detail: { message: "m" }, policy_version: 0 };
const RESULT = {
  description: "Афиша концерта в городском саду",
  labels: ["афиша", "concert"],
  objects: [{ name: "guitar", count: 2 }],
  ocr_text: "Вход свободный",
  is_meme: false,
  nsfw: false,
  scene: null,
  confidence: 0.9,
};
const DONE = {
  status: "done",
  analyst: "model:m",
  provider: "google",
  model: "m",
  schema_version: 1,
  prompt_version: 1,
  resolution: "low",
  result: RESULT,
  input_tokens: 300,
  output_tokens: 100,
  duration_ms: 1200,
};

/** The fields of an event's data, as docs/vision.md has them. */
function documented(type: string): string[] {
  const page = Deno.readTextFileSync(new URL("../../docs/vision.md", import.meta.url));
  const row = page.split("\n").find((line) => line.startsWith(`| \`${type}\``))!;
  return [...row.split("|")[3]!.matchAll(/`(\w+)`/g)].map(([, name]) => name!).toSorted();
}

describe("posts", () => {
  test("a post that comes twice is one, its pictures are looked at once, and what comes later is added", async () => {
    await sql`insert into eve.event_consumers (name, kind, types, retry_s) values ('t', 'test', '{vision.*}', '{1}')`;
    const [one, two] = [await picture(1), await picture(2)];
    const film = await picture(3, "default", "video/mp4");
    const post = { source: "telegram:x", external_id: "7", text: "Концерт", media: [two, film, two] };
    const first = await add(post);
    expect(first).toMatchObject({ status: "created", post: { trace_id: TRACE, media: [two, film] } });
    const again = await add({ ...post, text: "other words" });
    expect(again).toMatchObject({ status: "present", post: { id: first.post.id, text: "Концерт" } });
    expect(await jobsOf()).toHaveLength(1);
    await add({ ...post, media: [one] });
    const jobs = await jobsOf();
    expect(jobs.map(({ body }) => [body.file_sha256, body.trace_id])).toEqual([[two, TRACE], [one, TRACE]]);
    const events = await sql`select type, subject, traceparent, data from eve.events order by id`;
    expect(events).toHaveLength(2);
    expect(events[0]).toMatchObject({
      type: "vision.uploaded.v1",
      subject: first.post.id,
      data: { file_sha256: two, job_id: jobs[0]!.id },
    });
    expect(Object.keys(events[0]!.data).toSorted()).toEqual(documented("vision.uploaded.v1"));
    expect(events[0]!.traceparent).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-01$`));
    // Its files stay as long as it does.
    const uses = () =>
      sql`select file_sha256 from eve.media_references where ref_kind = 'post' and ref_id = ${first.post.id} order by 1`;
    expect((await uses()).map((row) => row.file_sha256)).toEqual([one, two, film]);
    await sql`delete from public.posts where id = ${first.post.id}`;
    expect(await uses()).toHaveLength(0);
  });

  test("a file that is missing, or a full queue, leaves nothing of a post", async () => {
    const sha = await picture(1);
    expect(await add({ external_id: "1", media: [sha, shaOf(99)] })).toMatchObject({
      code: "object_not_found",
    });
    await sql`insert into eve.settings (name, value, description) values ('jobs_queued_max', 0, '') on conflict (name) do update set value = 0`;
    try {
      expect(await add({ external_id: "1", media: [sha] })).toMatchObject({ code: "jobs_full" });
    } finally {
      await sql`update eve.settings set value = 100000 where name = 'jobs_queued_max'`;
    }
    for (const table of ["public.posts", "public.post_enrichment", "eve.jobs", "eve.media_references"]) {
      expect(await sql`select from ${sql(table)}`, table).toHaveLength(0);
    }
    expect(await add({ external_id: "1", media: [sha] })).toMatchObject({ status: "created" });
  });

  test("twenty who bring the same pictures at once bring them once", async () => {
    const shas = await Promise.all([1, 2, 3, 4].map((n) => picture(n)));
    const answers = await Promise.all(
      Array.from(
        { length: 20 },
        (_, n) =>
          add({ source: "s", external_id: String(n % 2), media: n % 3 === 0 ? shas : shas.toReversed() }),
      ),
    );
    expect(answers.filter(({ status }) => status === "created")).toHaveLength(2);
    expect(answers.filter(({ status }) => status === "present")).toHaveLength(18);
    expect(await jobsOf()).toHaveLength(8);
  });

  test("one with pictures and links changes no queue while another who holds the order of queues goes through them", async () => {
    const [one, two] = [await picture(1), await picture(2)];
    const post = (id: string, sha: string, more = {}) =>
      add({ external_id: id, media: [sha], text: "See https://example.org/a", ...more });
    await post("1", one);
    for (const bring of [() => post("2", two), () => post("1", two, { replace: true, text: "No link." })]) {
      let adding: Promise<Answer> | undefined;
      await sql.begin(async (claiming) => {
        // As a claim does, whose first job is a picture's.
        await claiming`select eve.jobs_lock()`;
        await claiming`select from eve.job_queues where kind = 'vision' for update`;
        adding = bring();
        await until(async () =>
          (await sql`
            select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
            .length > 0
        );
        expect(await claiming`select from eve.job_queues where kind = 'crawl' for update`).toHaveLength(1);
      });
      expect(await adding).toMatchObject({ post: { text: expect.any(String) } });
    }
    expect(await sql`select kind, queued from eve.job_queues order by kind`).toEqual([
      { kind: "crawl", queued: 3 },
      { kind: "vision", queued: 3 },
    ]);
  });

  test("each sees and brings what is their tenant's, with the scope that it needs", async () => {
    const mine = await posted(1);
    const bot = await addConsumer(sql, "bot");
    const as = (id: string) => ({ kind: "consumer", consumer_id: id, token_id: null });
    const scopes = (list: string[], tenant: string | null = null) =>
      sql`update eve.consumers set scopes = ${list}, tenant_id = ${tenant} where id = ${bot}`;
    await scopes(["llm"]);
    expect(await add({}, as(bot))).toMatchObject({ code: "credential_insufficient" });
    expect(await read(mine.post, as(bot))).toMatchObject({ code: "credential_insufficient" });
    await scopes(["intake", "vision"]);
    expect(await read(mine.post, as(bot))).toMatchObject({ status: "found" });
    // It may not call models itself: the project does, and is charged.
    const [sha] = [await picture(2)];
    await add({ external_id: "b", media: [sha] }, as(bot));
    await scopes(["intake", "vision", "llm"]);
    await add({ external_id: "c", media: [sha] }, as(bot));
    expect((await jobsOf()).map(({ consumer_id }) => consumer_id)).toEqual([null, null, bot]);
    await scopes(["intake", "vision"], "other");
    expect(await read(mine.post, as(bot))).toMatchObject({ code: "post_not_found" });
    expect(await read(mine.post, user)).toMatchObject({ code: "post_not_found" });
    for (const path of ["eve_vision_budgets_save", "eve_vision_policy_save"]) {
      const given = path.includes("budgets") ? [] : {};
      const answer = sql`select ${sql(`public.${path}`)}(${json(as(bot))}, ${json(given)}) as answer`;
      expect(await only(answer)).toMatchObject({ code: "credential_insufficient" });
    }
    const seen = async () =>
      await sql.begin(async (tx) => {
        await tx`select set_config('request.jwt.claims', ${JSON.stringify({ sub: USER })}, true)`;
        await tx`set local role authenticated`;
        return [
          (await tx`select id from public.posts`).length,
          (await tx`select post_id from public.post_media_map`).length,
          (await tx`select id from public.post_enrichment`).length,
        ];
      });
    expect(await seen()).toEqual([0, 0, 0]);
    await sql`insert into eve.tenant_members (tenant_id, user_id) values ('other', ${USER})`;
    expect(await seen()).toEqual([0, 0, 0]);
    await sql`insert into eve.tenant_members (tenant_id, user_id) values ('default', ${USER})`;
    expect(await seen()).toEqual([3, 3, 3]);
  });
});

describe("results", () => {
  test("a result is written once, told once, found by its words and labels, and counted", async () => {
    await sql`insert into eve.event_consumers (name, kind, types, retry_s) values ('t', 'test', '{vision.analyzed.v1}', '{1}')`;
    const one = await posted(1);
    expect(await begin(one)).toMatchObject({ status: "begun", policy: null, picture: { width: null } });
    expect(await finish(one, { status: "waiting", reason: "no_analyst: nobody can" })).toEqual({
      status: "saved",
    });
    expect((await read(one.post)).enrichment[0]).toMatchObject({ status: "waiting" });
    expect(await finish(one, DONE)).toEqual({ status: "saved" });
    expect(await finish(one, { status: "failed" })).toEqual({ status: "ended" });
    expect(await begin(one)).toEqual({ status: "ended" });
    const { enrichment } = await read(one.post);
    expect(enrichment).toHaveLength(1);
    expect(enrichment[0]).toMatchObject({
      status: "done",
      vision_description: RESULT.description,
      labels: RESULT.labels,
      objects: RESULT.objects,
      tokens: 400,
      decision: { reason: "usual" },
    });
    const emitted = await sql`select data from eve.events`;
    expect(emitted).toHaveLength(1);
    expect(emitted[0]!.data).toMatchObject({ status: "done", tokens: 400, trace_id: TRACE });
    expect(Object.keys(emitted[0]!.data).toSorted()).toEqual(documented("vision.analyzed.v1"));
    const search = async (query: string | null, label: string | null = null, tenant: string | null = null) =>
      (await only(
        sql`select public.eve_vision_search(${json(PROJECT)}, ${tenant}, ${query}, ${label}) as answer`,
      )).found.length;
    expect(await search("концерты")).toBe(1);
    expect(await search("свободного входа")).toBe(1);
    expect(await search(null, "Concert")).toBe(1);
    expect(await search("концерт", "nothing")).toBe(0);
    expect(await search("концерт", null, "other")).toBe(0);
    const stats = await only(sql`select public.eve_vision_stats(${json(PROJECT)}) as answer`);
    expect(stats).toMatchObject({ pictures: { done: 1 }, tokens: 400, from_cache: 0 });
    const shown = await only(sql`select public.eve_vision_metrics() as answer`);
    expect(shown.histograms[0][3]).toEqual([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    const counters = await sql`select metric, labels, value::int from eve.metric_counters order by metric`;
    expect(counters.filter(({ metric }) => metric.startsWith("vision_")).map((row) => Object.values(row)))
      .toEqual([
        [
          "vision_analysis_requests_total",
          { status: "done", provider: "model:m", tenant: "default" },
          1,
        ],
        ["vision_decisions_total", { reason: "usual" }, 1],
        ["vision_tokens_used_total", { provider: "model:m", tenant: "default" }, 400],
      ]);
  });

  test("one job at a time looks at a picture, and a dead one's hold ends", async () => {
    const one = await posted(1);
    const { post } = await add({ external_id: "second", media: [one.sha] });
    const two = {
      ...one,
      post: post.id,
      job: (await sql`select job_id from public.post_enrichment where post_id = ${post.id}`)[0]!.job_id,
    };
    expect(await begin(one)).toMatchObject({ status: "begun" });
    expect(await begin(one)).toMatchObject({ status: "begun" });
    expect(await begin(two)).toEqual({ status: "busy", retry_after_ms: 180_000 });
    await clock.advance(181_000);
    expect(await begin(two)).toMatchObject({ status: "begun" });
    await finish(two, DONE);
    expect(await begin(one)).toMatchObject({ status: "begun" });
  });

  test("the nearest picture that looks the same gives its result, for nothing", async () => {
    const [one, two, far] = [await posted(1), await posted(2), await posted(3)];
    await begin(one);
    expect(await keep(one, "1234567890123456789")).toEqual({
      status: "saved",
      similar: null,
      under_way: null,
    });
    await finish(one, DONE);
    await begin(two);
    // Two bits of 64 apart, also in the highest, which makes it negative.
    const near = BigInt.asIntN(64, 1234567890123456789n ^ 1n ^ (1n << 63n)).toString();
    expect((await keep(two, near)).similar).toEqual({ file_sha256: one.sha, distance: 2 });
    expect((await keep(two, near, 1)).similar).toBeNull();
    expect((await keep(two, near, null)).similar).toBeNull();
    // What is as wide as it is tall only looks the same when it is stretched.
    expect((await keep(two, near, 3, 50)).similar).toBeNull();
    expect((await keep(two, near, 3, 102)).similar).toMatchObject({ distance: 2 });
    await finish(two, { status: "done", same_as: one.sha }, {
      ...ANALYSE,
      action: "copy",
      reason: "looks_the_same",
    });
    expect((await read(two.post)).enrichment[0]).toMatchObject({
      status: "done",
      same_as: one.sha,
      tokens: 0,
      labels: RESULT.labels,
    });
    await begin(far);
    // Of a copy no copy is made, and four bits are too many.
    const four = BigInt.asIntN(64, 1234567890123456789n ^ 0x0001_0001_0001_0001n).toString();
    expect((await keep(far, four)).similar).toBeNull();
  });

  test("of two that look the same and are looked at at once the later one waits; another tenant's is never taken", async () => {
    const [one, two] = [await posted(1), await posted(2)];
    await begin(one);
    await keep(one, "1234567890123456789");
    await clock.advance(1);
    await begin(two);
    const both = { similar: null, under_way: { file_sha256: one.sha, distance: 1 } };
    expect(await keep(two, "1234567890123456788")).toMatchObject(both);
    expect(await keep(one, "1234567890123456789")).toMatchObject({ similar: null, under_way: null });
    await finish(one, DONE);
    expect(await keep(two, "1234567890123456788")).toMatchObject({
      similar: { file_sha256: one.sha },
      under_way: null,
    });
    const sha = await picture(3, "other");
    await sql`
      insert into eve.vision_pictures (tenant_id, file_sha256, mime_type, created_at) values ('other', ${sha}, 'image/jpeg', now())`;
    expect(
      await only(sql`
        select public.eve_vision_picture('other', ${sha}, 'image/jpeg', 100, 50, 1, '1234567890123456789', null, null, 3) as answer`),
    ).toMatchObject({ similar: null, under_way: null });
  });

  test("a job that ends without a word ends its picture, which can be looked at once more", async () => {
    const one = await posted(1);
    await sql`
      update eve.jobs set state = 'failed', error_code = 'job_lost', error_detail = 'x', finished_at = now() where id = ${one.job}`;
    expect((await read(one.post)).enrichment[0]).toMatchObject({ status: "failed", reason: "job_lost: x" });
    expect(await sql`select metric, labels, value::int from eve.metric_counters where metric like 'vision%'`)
      .toEqual([{
        metric: "vision_analysis_requests_total",
        labels: { status: "failed", provider: "", tenant: "default" },
        value: 1,
      }]);
    const again = () => only(sql`select public.eve_vision_requeue(${json(PROJECT)}, ${one.post}) as answer`);
    expect(await again()).toMatchObject({ status: "queued", queued: 1 });
    expect(await again()).toMatchObject({ queued: 0 });
    expect((await read(one.post)).enrichment[0]).toMatchObject({ status: "waiting", run_no: 2 });
    // The first run has nothing to say any more.
    expect(await finish(one, DONE)).toEqual({ status: "ended" });
  });
});

describe("budgets", () => {
  const budgets = (list: unknown) =>
    only(sql`select public.eve_vision_budgets_save(${json(PROJECT)}, ${json({ list })}) as answer`);
  const reserve = (id: string, tokens: number, provider = "model:m", spends = true) =>
    only(
      sql`select public.eve_vision_reserve(${id}, 'default', ${provider}, ${tokens}, ${spends}) as answer`,
    );
  const settle = (id: string, tokens: number | null) =>
    only(sql`select public.eve_vision_settle(${id}, ${tokens}) as answer`);
  const spent = async (period: string, provider = "*") =>
    (await sql`
      select tokens::int, tokens_reserved::int, pictures::int, pictures_reserved::int
      from eve.vision_spending where provider = ${provider} and period = ${period}`)[0];
  const alerts = async () =>
    (await sql`select kind from eve.alerts where closed_at is null order by kind`).map(({ kind }) => kind);

  test("twenty at once never overspend, and every one that is refused has taken nothing", async () => {
    await budgets([
      { period: "day", unit: "tokens", most: 1000 },
      { provider: "model:b", period: "month", unit: "pictures", most: 7 },
    ]);
    const answers = await Promise.all(
      Array.from(
        { length: 60 },
        (_, n) => reserve(`r${n}`, 30 + n % 7, n % 2 ? "model:a" : "model:b"),
      ),
    );
    const taken = answers.flatMap(({ status }, n) => status === "reserved" ? [n] : []);
    const tokens = taken.reduce((sum, n) => sum + 30 + n % 7, 0);
    expect(tokens).toBeLessThanOrEqual(1000);
    expect(tokens).toBeGreaterThan(1000 - 37);
    expect(taken.filter((n) => n % 2 === 0).length).toBeLessThanOrEqual(7);
    expect(await spent("day")).toEqual({
      tokens: 0,
      tokens_reserved: tokens,
      pictures: 0,
      pictures_reserved: taken.length,
    });
    // Each settles, some of them twice and some with less: the truth is what counts.
    await Promise.all([...taken, ...taken.slice(0, 5)].map((n) => settle(`r${n}`, 10)));
    for (const period of ["day", "month"]) {
      expect(await spent(period)).toEqual({
        tokens: taken.length * 10,
        tokens_reserved: 0,
        pictures: taken.length,
        pictures_reserved: 0,
      });
    }
  });

  test("the same step takes once, what was given back can be taken again, and what was paid for is not taken again", async () => {
    await budgets([{ period: "day", unit: "pictures", most: 1 }]);
    expect(await reserve("a", 10)).toEqual({ status: "reserved" });
    expect(await reserve("a", 10)).toEqual({ status: "reserved" });
    expect(await reserve("b", 10)).toMatchObject({
      status: "used_up",
      period: "day",
      unit: "pictures",
      most: 1,
      ends_at: "2026-11-19T00:00:00+00:00",
    });
    expect(await settle("a", null)).toEqual({ status: "given_back" });
    expect(await reserve("b", 10)).toEqual({ status: "reserved" });
    expect(await settle("b", 25)).toEqual({ status: "settled" });
    expect(await reserve("b", 10)).toEqual({ status: "settled" });
    expect(await settle("b", 99)).toEqual({ status: "ended" });
    expect(await spent("day")).toMatchObject({ tokens: 25, pictures: 1, pictures_reserved: 0 });
    // OCR that spends no tokens is not in the budget of those that do; its own concerns it.
    expect(await reserve("c", 0, "tesseract", false)).toEqual({ status: "reserved" });
    await budgets([{ provider: "tesseract", period: "day", unit: "pictures", most: 1 }]);
    expect(await reserve("d", 0, "tesseract", false)).toMatchObject({ status: "used_up" });
  });

  test("what a run gave back that had lost its step is counted when the next run's call has been paid for", async () => {
    expect(await reserve("a", 10)).toEqual({ status: "reserved" });
    // The next run finds the same reservation, and its call is under way.
    expect(await reserve("a", 10)).toEqual({ status: "reserved" });
    expect(await settle("a", null)).toEqual({ status: "given_back" });
    expect(await reserve("b", 10)).toEqual({ status: "reserved" });
    expect(await Promise.all([settle("a", 25), settle("a", 25)])).toEqual(
      expect.arrayContaining([{ status: "settled" }, { status: "ended" }]),
    );
    expect(await settle("a", null)).toEqual({ status: "ended" });
    expect(await spent("day")).toEqual({
      tokens: 25,
      tokens_reserved: 10,
      pictures: 1,
      pictures_reserved: 1,
    });
  });

  test("80 % warn, 100 % alert, and the next day begins with nothing", async () => {
    await budgets([{ period: "day", unit: "tokens", most: 100 }]);
    await reserve("a", 79);
    expect(await alerts()).toEqual([]);
    await reserve("b", 1);
    expect(await alerts()).toEqual(["vision_budget_near"]);
    await settle("b", 21);
    expect(await alerts()).toEqual(["vision_budget_used_up"]);
    await clock.set("2026-11-19T00:00:01Z");
    expect(await reserve("c", 79)).toEqual({ status: "reserved" });
    expect(await alerts()).toEqual([]);
    // One of yesterday counts for yesterday.
    await settle("a", 50);
    const listed = await only(sql`select public.eve_vision_budgets(${json(PROJECT)}) as answer`);
    expect(listed.budgets).toMatchObject([{ used: 0, reserved: 79, most: 100 }]);
  });
});

test("tables that somebody made by hand are adopted, and nobody else reads them any more", async () => {
  const before = await databaseBefore("20261126000100");
  let db: TestDatabase | undefined;
  try {
    db = await cloneDatabase(before);
    await db.sql.unsafe(`
      create table public.posts (id uuid primary key, tenant_id varchar(50), text varchar, published_at timestamp, likes int);
      create table public.post_enrichment (id uuid primary key, post_id uuid references public.posts (id), labels text[], is_meme bool);
      insert into public.posts values ('a0000000-0000-4000-8000-000000000001', null, 'words', '2026-01-02 03:04', 7);
      insert into public.post_enrichment values ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001', null, true);
      alter table public.posts enable row level security;
      create policy everybody on public.posts for select using (true);
    `).simple();
    await applyMigrations(db.url);
    expect(await db.sql`select tenant_id, text, published_at, likes, source from public.posts`).toMatchObject(
      [{
        tenant_id: "default",
        text: "words",
        published_at: new Date("2026-01-02T03:04:00Z"),
        likes: 7,
        source: "api",
      }],
    );
    expect(await db.sql`select status, labels, is_meme from public.post_enrichment`)
      .toMatchObject([{ status: "done", labels: [], is_meme: true }]);
    expect(
      (await db.sql`select policyname from pg_policies where tablename = 'posts'`).map((row) =>
        row.policyname
      ),
    )
      .toEqual(["posts_read"]);
    expect(await db.sql`select message from eve.adoption_warnings where message like '%everybody%'`)
      .toHaveLength(1);
  } finally {
    await db?.drop();
    await before.drop();
  }
});
