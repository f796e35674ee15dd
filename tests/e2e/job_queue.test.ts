/** Calls that nobody waits for: handed in, run by the function worker, fetched; with workers that are killed, and with floods. */
import postgres from "postgres";
import { Webhook } from "standardwebhooks";
import { startOutsideWorker } from "../harness/outside_worker.ts";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { insist, TROUBLES } from "../harness/load/troubles.ts";
import { until } from "../harness/patience.ts";

let stack: TestStack;
let sql: postgres.Sql;
const MODEL = "gemma-4-31b-it";
beforeAll(async () => {
  stack = await startTestStack({
    emulator: { latencyMs: 500, models: [{ name: MODEL, limits: { rpm: null, tpm: null, rpd: null } }] },
  });
  sql = postgres(stack.databaseUrl, { max: 2, onnotice: () => {} });
  await sql`update public.google_ai_model_limits set rpm = null, tpm = null, rpd = null where model = ${MODEL}`;
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});

// deno-lint-ignore no-explicit-any -- JSON whose fields the tests look at.
async function said(response: Response): Promise<any> {
  return { http: response.status, headers: response.headers, ...await response.json() };
}
const queue = async (body: Record<string, unknown>, key = stack.keys.secret) =>
  await said(
    await stack.invoke("llm-invoke", { model: MODEL, mode: "queue", ...body }, { headers: { apikey: key } }),
  );
const jobs = (path: string, { key = stack.keys.secret, method = "GET" } = {}) =>
  fetch(`${stack.url}/functions/v1/llm-invoke/jobs${path}`, { method, headers: { apikey: key } });
const job = async (path: string, options = {}) => (await said(await jobs(path, options))).job;
/** The emulator's own side: what it saw, or that it begins again. */
// deno-lint-ignore no-explicit-any -- JSON whose fields the tests look at.
async function control(action: "GET requests" | "POST reset"): Promise<any> {
  const [method, path] = action.split(" ");
  const response = await fetch(`${stack.emulatorUrl}/__control/${path}`, {
    method: method!,
    ...(method === "POST" && { body: "{}" }),
  });
  return await response.json();
}
/** Waits until it holds, and calls the worker meanwhile as the schedule does, which is off here: when something is due. */
const untilWorked = (holds: () => unknown) =>
  until(async () => {
    if ((await sql`select public.eve_jobs_due() as is_due`)[0]!.is_due) {
      // One that was killed is not back yet.
      await (await stack.invoke("worker", {}).catch(() => null))?.body?.cancel();
    }
    return await holds();
  });
const consumer = async (name: string) =>
  (await said(await stack.invoke("admin/consumers/add", { name, kind: "service" }))).secret as string;

describe("a job", () => {
  test("is answered as the call would be, by its own id, and found by a long poll", async () => {
    const given = await queue({ prompt: "Two and two?", request_id: "sum", metadata: { of: "a test" } });
    expect(given).toMatchObject({
      http: 202,
      job: {
        kind: "llm",
        request_id: "sum",
        class: "batch",
        models: [MODEL],
        result: null,
        response: null,
        error: null,
      },
    });
    expect(given.job.url).toBe(`${stack.url}/functions/v1/llm-invoke/jobs/${given.job.id}`);
    const done = await job(`/${given.job.id}?wait=50`);
    expect(done).toMatchObject({
      status: "succeeded",
      started_at: expect.any(String),
      finished_at: expect.any(String),
      response: { request_id: given.job.id, text: expect.any(String), model: MODEL },
    });
    expect(done.response.text).not.toBe("");
    // The books have it as batch, by the job's id.
    await expect.poll(async () => [
      ...await sql`select state, class from eve.requests where request_id = ${given.job.id}`,
    ]).toEqual([{ state: "succeeded", class: "batch" }]);
  });

  test("with a long body is kept as a file, and answered as any other", async () => {
    const { job: { id } } = await queue({
      prompt: `Two and two? Nothing of this matters: ${"море и ".repeat(10_000)}`,
    });
    expect(
      await sql`select body is null and body_media is not null as is_kept from eve.jobs where id = ${id}`,
    )
      .toEqual([{ is_kept: true }]);
    await untilWorked(async () => (await job(`/${id}`)).status === "succeeded");
    expect((await job(`/${id}`)).response.usage.input_tokens).toBeGreaterThan(10_000);
  });

  test("[native.webhook] tells its end where it was asked to, signed with a secret that is shown once", async () => {
    const heard: { body: string; headers: Record<string, string> }[] = [];
    const receiver = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
      heard.push({ body: await request.text(), headers: Object.fromEntries(request.headers) });
      return new Response(null, { status: 204 });
    });
    try {
      const webhook = { url: `http://127.0.0.1:${receiver.addr.port}/hook` };
      const given = await queue({ prompt: "Two and two?", request_id: "told", webhook });
      expect(given).toMatchObject({
        http: 202,
        webhook: { ...webhook, secret: expect.stringMatching(/^whsec_/) },
      });
      expect((await queue({ prompt: "Two?", webhook })).webhook).toEqual({ ...given.webhook, secret: null });
      await untilWorked(async () => (await job(`/${given.job.id}`)).status === "succeeded");
      // The worker that ran the job tells it: no schedule runs here.
      await until(() => heard.some(({ body }) => body.includes(given.job.id)));
      const events = heard.map(({ body, headers }) =>
        new Webhook(given.webhook.secret).verify(body, headers)
      ) as { type: string; data: { job_id: string } }[];
      expect(events).toContainEqual(
        expect.objectContaining({
          type: "eve.job.succeeded.v1",
          data: expect.objectContaining({ job_id: given.job.id, request_id: "told" }),
        }),
      );
      // One that waits is told by its answer.
      expect(await queue({ prompt: "x", mode: "wait", webhook })).toMatchObject({ http: 400 });
      expect(await queue({ prompt: "x", webhook: { url: "http://10.0.0.1/" } })).toMatchObject({ http: 400 });
    } finally {
      await receiver.shutdown();
    }
  });

  test("handed in again is the same one; other contents are another", async () => {
    const again = await queue({ prompt: "Two and two?", request_id: "sum", metadata: { of: "a test" } });
    expect(again).toMatchObject({ http: 200, job: { status: "succeeded" } });
    expect(await queue({ prompt: "Three and three?", request_id: "sum" })).toMatchObject({
      http: 409,
      error: { code: "request_id_reused" },
    });
  });

  test("that cannot be run is refused when it is handed in, or fails with what the call would say", async () => {
    expect(await queue({ prompt: "" })).toMatchObject({ http: 400, error: { code: "empty_prompt" } });
    expect(await queue({ prompt: "x", stream: true })).toMatchObject({
      error: { details: [{ field: "stream" }] },
    });
    expect(await queue({ prompt: "x", max_wait_ms: 5 })).toMatchObject({
      error: { details: [{ field: "max_wait_ms" }] },
    });
    expect(await queue({ prompt: "x", model: undefined, stage: "NOTHING" })).toMatchObject({
      error: { code: "unknown_stage" },
    });
    const { job: { id } } = await queue({ prompt: "x", model: "nobody-knows-it" });
    expect(await job(`/${id}?wait=50`)).toMatchObject({ status: "failed", error: { code: "unknown_model" } });
    expect(await said(await jobs(`/${id}?wait=1000`))).toMatchObject({
      http: 400,
      error: { details: [{ field: "wait" }] },
    });
  });

  test("is its consumer's: found, listed and cancelled by nobody else", async () => {
    const [mine, other] = [await consumer("mine"), await consumer("other")];
    const { job: { id } } = await queue({ prompt: "Mine" }, mine);
    expect(await job(`/${id}?wait=50`, { key: mine })).toMatchObject({ status: "succeeded" });
    expect((await jobs(`/${id}`, { key: other })).status).toBe(404);
    expect((await jobs(`/${id}`, { key: other, method: "DELETE" })).status).toBe(404);
    expect((await said(await jobs("?limit=5", { key: other }))).jobs).toEqual([]);
    expect(await said(await jobs("?state=succeeded,failed&kind=llm", { key: mine }))).toMatchObject({
      http: 200,
      jobs: [{ id, status: "succeeded", response: null }],
      next: null,
    });
    expect((await said(await jobs("?state=sleeping"))).error.details[0].field).toMatch(/^state/);
  });

  test("that waits is cancelled, and never sent", async () => {
    await sql`update public.google_ai_model_limits set rpd = 0 where model = ${MODEL}`;
    const { job: { id } } = await queue({ prompt: "Not today" });
    await sql`update public.google_ai_model_limits set rpd = null where model = ${MODEL}`;
    const ended = await job(`/${id}`, { method: "DELETE" });
    expect(ended).toMatchObject({ status: "cancelled", error: null });
    expect(await sql`select from eve.requests where request_id = ${id}`).toHaveLength(0);
    expect((await job(`/${id}`, { method: "DELETE" })).status).toBe("cancelled");
  });
});

test("only the project's secret key wakes a worker", async () => {
  const key = await consumer("curious");
  const wake = (headers: Record<string, string>) =>
    fetch(`${stack.url}/functions/v1/worker`, { method: "POST", headers });
  expect([(await wake({})).status, (await wake({ apikey: key })).status]).toEqual([401, expect.any(Number)]);
  expect((await wake({ apikey: key })).status).toBeGreaterThanOrEqual(401);
  expect(await said(await wake({ apikey: stack.keys.secret }))).toMatchObject({ http: 202 });
});

test("a worker outside runs jobs as well, and gives back what it holds when it is ended", async () => {
  await sql`delete from eve.jobs`;
  // None in the functions.
  await sql`update eve.settings set value = 0 where name = 'jobs_workers'`;
  await until(async () => (await sql`select from eve.job_workers`).length === 0);
  const outside = startOutsideWorker(stack);
  try {
    const { job: { id } } = await queue({ prompt: "Outside" });
    await until(async () => (await job(`/${id}`)).finished_at !== null);
    expect(await job(`/${id}`)).toMatchObject({ status: "succeeded" });
    expect(await sql`select place from eve.job_workers`).toEqual([{ place: "outside" }]);
  } finally {
    expect(await outside.stop()).toBe(0);
    await sql`update eve.settings set value = 2 where name = 'jobs_workers'`;
  }
  expect(await sql`select from eve.job_workers`).toHaveLength(0);
});

describe("workers that die", () => {
  const MANY = 40;
  beforeEach(() => sql`delete from eve.jobs`);
  const ended = async () =>
    (await sql`select count(*)::integer as n from eve.jobs where finished_at is not null`)[0]!.n as number;
  /** Waits until all have ended with an answer. */
  async function allAnswered() {
    await untilWorked(async () => {
      // The reservations of calls whose worker has died end as well, and not in three minutes.
      await sql`
        update eve.inflight i set lease_until = now()
        from eve.jobs j where j.state = 'queued' and starts_with(i.request_id, j.id::text)`;
      await sql`update eve.jobs set run_at = now() where state = 'queued' and run_at > now()`;
      return await ended() === MANY;
    });
    expect(await sql`select distinct state from eve.jobs`).toEqual([{ state: "succeeded" }]);
  }

  test("lose no job, and none is answered twice", async () => {
    for (let n = 0; n < MANY; n++) {
      expect(await queue({ prompt: `Number ${n}`, request_id: `n${n}` })).toMatchObject({ http: 202 });
    }
    const worker = stack.functions.get("worker")!;
    for (const more of [5, 10]) {
      const before = await ended();
      await until(async () => await ended() >= Math.min(before + more, MANY - 10));
      worker.kill();
      // Its leases end at once, and not in half a minute.
      await sql`update eve.jobs set lease_until = now() where lease_until is not null`;
      await sql`delete from eve.job_workers`;
      await until(async () => {
        const response = await stack.invoke("worker", {}).catch(() => null);
        await response?.body?.cancel();
        return response?.status === 202;
      });
    }
    await allAnswered();
    const answered = await sql`
      select j.id, count(*)::integer as times
      from eve.jobs j join eve.requests r on starts_with(r.request_id, j.id::text) and r.state = 'succeeded'
      group by j.id having count(*) <> 1`;
    expect([...answered]).toEqual([]);
  }, 300_000);

  test(
    "[fault.database-restarted] with their database, restarted and then killed, lose no job either, and the books have every call",
    async () => {
      await control("POST reset");
      for (let n = 0; n < MANY; n++) {
        expect(await queue({ prompt: `Restart ${n}.` })).toMatchObject({ http: 202 });
      }
      for (const trouble of [TROUBLES.postgres_restarted, TROUBLES.postgres_killed]) {
        const before = await ended();
        await untilWorked(async () => await ended() >= Math.min(before + 5, MANY - 10));
        // In the middle of calls.
        await until(async () => (await sql`select from eve.inflight where state = 'reserved'`).length > 0);
        await trouble.run({ stack, sql, random: Math.random });
        // The leases end at once, and not in half a minute: what still runs was away for longer.
        await insist(() => sql`update eve.jobs set lease_until = now() where lease_until is not null`);
        await insist(() => sql`delete from eve.job_workers`);
      }
      await allAnswered();
      // A worker that lost its lease goes on with its call, since it is alive: such a job may be answered twice, and the books say so.
      const books = await sql`
      select j.body -> 'body' ->> 'prompt' as prompt, count(*) filter (where r.dispatched)::integer + (
          -- Settled without waiting for the disk just before the kill, which took that back: open until its lease ends.
          select count(*)::integer from eve.inflight i where starts_with(i.request_id, j.id::text)
        ) as calls
      from eve.jobs j join eve.requests r on starts_with(r.request_id, j.id::text)
      group by j.id`;
      const sent = (await control("GET requests")).map(({ body }: { body: string }) => body);
      const uncounted = books.filter(({ prompt, calls }) =>
        sent.filter((body: string) => body.includes(`"${prompt}"`)).length > calls
      );
      expect([...uncounted]).toEqual([]);
    },
    300_000,
  );
});

describe("a flood", () => {
  test("of one consumer does not hold up another's first job", async () => {
    const [flood, other] = [await consumer("flood"), await consumer("patient")];
    await sql`delete from eve.jobs`;
    // Far more than the model has room for.
    await sql`update public.google_ai_model_limits set rpm = 60 where model = ${MODEL}`;
    await Promise.all(Array.from({ length: 100 }, (_, n) => queue({ prompt: `Flood ${n}` }, flood)));
    await untilWorked(async () => (await sql`select from eve.jobs where state = 'succeeded'`).length >= 3);
    const { job: { id } } = await queue({ prompt: "Just one" }, other);
    await untilWorked(async () => (await job(`/${id}`, { key: other })).finished_at !== null);
    expect(await job(`/${id}`, { key: other })).toMatchObject({ status: "succeeded" });
    // It was not the last one: of the flood most still waits.
    const [row] =
      await sql`select count(*)::integer as n from eve.jobs where state = 'queued' and id <> ${id}`;
    expect(row!.n).toBeGreaterThan(30);
    await sql`update public.google_ai_model_limits set rpm = null where model = ${MODEL}`;
    await sql`update eve.jobs set state = 'cancelled', finished_at = now() where state = 'queued'`;
  }, 300_000);
});
