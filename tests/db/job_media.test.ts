/** Bodies and results of jobs that are too long for their table: kept as files of their callers' tenants, for as long as the job. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { createBatches } from "../../shared/database/jobs/batches.ts";
import { createJobLeases } from "../../shared/database/jobs/job_leases.ts";
import { createJobs } from "../../shared/database/jobs/jobs.ts";
import { createJobQueue } from "../../shared/database/jobs/job_queue.ts";
import { jobRoutes, type NativeJobs, queued } from "../../shared/endpoints/native/job_routes.ts";
import type { RequestContext } from "../../shared/endpoints/endpoint.ts";
import type { GatewayRequest } from "../../shared/contract/request.ts";
import { GatewayError } from "../../shared/contract/gateway_error.ts";
import type { JobRunner } from "../../shared/jobs/job_runner.ts";
import { keptWithMedia } from "../../shared/jobs/kept_with_media.ts";
import { createJobMedia, type JobMedia } from "../../shared/media/job_media.ts";
import { claimObjects, deleteObjects } from "../../shared/media/delete.ts";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { HandClock } from "../harness/hand_clock.ts";
import { addConsumer, clearJobs, jobCalls } from "../harness/jobs.ts";
import { apiOver, type ApiUnderTest } from "../harness/media_api.ts";
import { expectExactCounters, setLimit } from "../harness/media.ts";
import { memoryStore } from "../harness/memory_store.ts";

const DAY_MS = 86_400_000;
const START = Date.parse("2026-11-18T12:00:00Z");
let db: TestDatabase;
let sql: TestDatabase["sql"];
let clock: TestClock;
let stored: ApiUnderTest;
let media: JobMedia;
let consumer: string;
const bucket = memoryStore();
beforeAll(async () => {
  db = await cloneDatabase();
  sql = db.sql;
  clock = await freezeClock(sql);
  stored = apiOver(db, { s3: bucket, mode: "s3" });
  const { tenantOf } = createBatches(stored.transport.call);
  media = createJobMedia({ tenantOf, media: () => Promise.resolve(stored.media) });
  consumer = await addConsumer(sql, "notebook");
});
afterAll(async () => {
  await stored?.close();
  await db?.drop();
});
beforeEach(async () => {
  await clearJobs(sql);
  await empty(sql, "eve.media_references", "public.media_objects", "eve.media_spool");
  await sql`update eve.media_counters set used_bytes = 0, reserved_bytes = 0, objects = 0`;
  await setLimit(sql, { tenant: 2e9 });
  await clock.set(START);
  bucket.away = false;
});

const LONG = "x".repeat(70_000);
const caller = () => ({ kind: "service" as const, consumerId: consumer, tokenId: null, name: "notebook" });

const jobs = () =>
  ({
    queue: createJobQueue(stored.transport.call),
    service: createJobs(stored.transport.call),
    media,
    newId: () => crypto.randomUUID(),
    wake: () => {},
    url: "http://jobs.test",
    clock: new HandClock(),
  }) as unknown as NativeJobs;

/** What `GET /jobs/ID` answers. */
async function found(id: string) {
  const route = jobRoutes(jobs(), 0).find(({ methods }) => String(methods).includes("DELETE"))!;
  const context = {
    caller: caller(),
    requestId: "r",
    request: new Request("http://jobs.test/"),
    param: () => id,
  };
  return (await (await route.serve(context as unknown as Parameters<typeof route.serve>[0])).json()).job;
}

/** As the endpoint hands a call in with mode queue; `id`: the caller's own. */
function handIn(prompt: string, id?: string) {
  const request = { id, idIsClients: id !== undefined, stage: null, class: "batch", models: ["m"] };
  return queued(
    jobs(),
    { caller: caller(), requestId: "r" } as unknown as RequestContext,
    { model: "m", prompt, mode: "queue" },
    request as unknown as GatewayRequest,
    null,
  );
}
const uses = async () =>
  (await sql`
    select r.ref_kind, r.ref_id, o.refs_count, o.state
    from eve.media_references r join public.media_objects o using (tenant_id, file_sha256) order by r.ref_id`)
    .map((row) => ({ ...row }));
const take = async () =>
  (await createJobLeases(stored.transport.call).claim(crypto.randomUUID(), {
    kinds: ["llm"],
    atMost: 1,
    leaseMs: 30_000,
    leftMs: null,
  })).jobs[0]!;
const terms = { signal: new AbortController().signal, progress: () => {} };
/** Runs a job as the worker does; the run answers with this. */
const runner = (run: JobRunner) => keptWithMedia(run, { media, clock: new HandClock() });
const answering = (body: unknown) =>
  runner(() => Promise.resolve({ kind: "done", result: { status: 200, body } }));

test("a short body stays in the table; a long one is a file that its job uses, and its worker reads back", async () => {
  const short = (await (await handIn("short")).json()).job.id;
  const long = (await (await handIn(LONG)).json()).job.id;
  expect(
    await sql`select id, body is null as is_kept, body_media is null as is_here from eve.jobs order by no`,
  )
    .toEqual([{ id: short, is_kept: false, is_here: true }, { id: long, is_kept: true, is_here: false }]);
  expect(await uses()).toEqual([{ ref_kind: "job", ref_id: long, refs_count: 1, state: "verified" }]);
  await take();
  const job = await take();
  let seen: unknown;
  await runner((given) => {
    seen = given.body;
    return Promise.resolve({ kind: "unspent" });
  })(job, terms);
  expect(seen).toEqual({ path: "/", body: { model: "m", prompt: LONG } });
});

test("a long result is a file too, found with the job; both go when the job does, and not before", async () => {
  const { job: { id } } = await (await handIn(LONG)).json();
  const job = await take();
  const answer = { text: "y,".repeat(150_000) };
  // The first worker dies after it has kept the result: the next one keeps its own, and both are the job's.
  await answering({ text: `another ${answer.text}` })(job, terms);
  const outcome = await answering(answer)(job, terms);
  if (outcome.kind !== "done") throw new Error(JSON.stringify(outcome));
  expect(outcome).toMatchObject({
    result: null,
    resultMedia: expect.stringMatching(/^default\/[0-9a-f]{64}$/),
  });
  await createJobLeases(stored.transport.call).complete([{ ...job, ...outcome }]);
  expect(await found(id)).toMatchObject({ status: "succeeded", response: answer, error: null });

  // As long as the job is there nothing deletes them, however old they are.
  await clock.set(START + 6 * DAY_MS);
  const cleanUp = async () => {
    const objects = await claimObjects(stored.media, {
      kind: "media",
      minAgeSeconds: 60,
      limit: 10,
      needBytes: null,
    });
    await deleteObjects(stored.media, objects);
    return objects.length;
  };
  await jobCalls(sql).sweep();
  expect(await cleanUp()).toBe(0);
  await clock.set(START + 8 * DAY_MS);
  expect(await jobCalls(sql).sweep()).toMatchObject({ deleted: 1 });
  expect(await uses()).toEqual([]);
  expect(await cleanUp()).toBe(3);
  expect(bucket.objects.size).toBe(0);
  await expectExactCounters(sql);
});

test("what fits the table with the spaces that the database writes stays there, by a byte", async () => {
  // {"status":200,"body":"x..."}: three spaces more in the table.
  const fits = "x".repeat(262_144 - '{"status": 200, "body": ""}'.length);
  const job = { ...await (async () => (await handIn("short"), await take()))() };
  expect(await answering(fits)(job, terms)).toMatchObject({ result: { body: fits } });
  expect(await answering(`${fits}x`)(job, terms)).toMatchObject({ result: null });
  await createJobLeases(stored.transport.call).complete([{ ...job, result: { status: 200, body: fits } }]);
  expect(await jobCalls(sql).job(job.id)).toMatchObject({ state: "succeeded" });
});

test("there is no room: a clear refusal when it is handed in, and nothing is left of it", async () => {
  await setLimit(sql, { tenant: 60_000 });
  await expect(handIn(LONG)).rejects.toMatchObject({ code: "storage_quota_exceeded" });
  expect(await sql`select from eve.jobs`).toHaveLength(0);
  expect(await sql`select from public.media_objects`).toHaveLength(0);
  // Nor is there for an answer: the job says so.
  await handIn("short");
  expect(await answering("y".repeat(300_000))(await take(), terms)).toMatchObject({
    kind: "failed",
    failure: { code: "storage_quota_exceeded", retryable: false, message: expect.stringMatching(/too long/) },
  });
});

test("refused, or handed in before: the file is not kept for it; where nobody knows, it is kept for a day", async () => {
  const { job: { id } } = await (await handIn(LONG, "mine")).json();
  expect((await (await handIn(LONG, "mine")).json()).job.id).toBe(id);
  await expect(handIn(`${LONG}!`, "mine")).rejects.toMatchObject({ code: "request_id_reused" });
  expect(await uses()).toEqual([{ ref_kind: "job", ref_id: id, refs_count: 1, state: "verified" }]);

  const lost = crypto.randomUUID();
  await media.keep(lost, JSON.stringify(LONG), caller());
  const tidy = () => sql`select public.eve_jobs_tidy()`;
  await sql`update eve.media_references set created_at = ${new Date(START)}`;
  await clock.set(START + DAY_MS - 1);
  await tidy();
  expect(await uses()).toHaveLength(2);
  await clock.set(START + DAY_MS);
  await tidy();
  expect(await uses()).toEqual([{ ref_kind: "job", ref_id: id, refs_count: 1, state: "verified" }]);
});

test("the store is away: the job waits and has lost no try; a result is tried again, then the run", async () => {
  await handIn(LONG);
  const job = await take();
  bucket.away = true;
  await expect(handIn(`${LONG}!`)).rejects.toMatchObject({ code: "storage_unavailable" });
  const never = runner(() => Promise.reject(new GatewayError("internal")));
  expect(await never(job, terms)).toEqual({ kind: "unspent", delayMs: expect.any(Number) });
  await handIn("short");
  const short = await take();
  expect(await answering("y".repeat(300_000))(short, terms)).toMatchObject({
    kind: "failed",
    failure: { code: "storage_unavailable", retryable: true },
  });
  bucket.away = false;
  expect(await answering("y".repeat(300_000))(short, terms)).toMatchObject({ kind: "done", result: null });
});
