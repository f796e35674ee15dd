/** Stages that make speech, songs and videos: handed in like a call, asked about until they have ended. */
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type FakeServer, serveFake } from "../fakes/fake_api.ts";
import { fakeFal, fakeSpeechKit, fakeSuno, SPOKEN } from "../fakes/job_apis.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

const speechkit = fakeSpeechKit();
const suno = fakeSuno();
const fal = fakeFal();
let servers: FakeServer[] = [];
let stack: TestStack;
let sql: postgres.Sql;
beforeAll(async () => {
  servers = [speechkit, suno, fal].map(({ handler }) => serveFake(handler));
  stack = await startTestStack();
  sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
  const stages = [
    ["VOICE", "speechkit", "AQVN-voice", undefined],
    ["SONG", "suno", "suno-good", "V5"],
    ["CLIP", "pika", "fal-id:fal-secret", undefined],
  ] as const;
  for (const [place, [stage_type, provider_kind, api_key, model]] of stages.entries()) {
    const saved = await said(
      await stack.invoke("admin/providers/update", {
        stage_type,
        provider_kind,
        api_key,
        model,
        settings: { base_url: servers[place]!.url },
      }),
    );
    expect(saved.stage.config.status, JSON.stringify(saved)).toBe("active");
  }
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
  await Promise.all(servers.map((server) => server.close()));
});

// deno-lint-ignore no-explicit-any -- JSON whose fields the tests look at.
async function said(response: Response): Promise<any> {
  return { status: response.status, headers: response.headers, ...await response.json() };
}
const ask = async (body: Record<string, unknown>, key = stack.keys.secret) =>
  await said(await stack.invoke("llm-invoke", body, { headers: { apikey: key } }));
const get = (path: string, key = stack.keys.secret) =>
  fetch(`${stack.url}/functions/v1/llm-invoke${path}`, { headers: { apikey: key } });
/** Asks no more often than the gateway asks upstream. */
const later = () => sql`update eve.jobs set checked_at = checked_at - interval '1 minute'`;

test("a voice is there at once, kept by the gateway, and fetched with the credential", async () => {
  const answer = await ask({ stage: "VOICE", prompt: "Шумит море", generation: { speed: 0.9 } });
  expect(answer).toMatchObject({
    status: 200,
    job: {
      status: "succeeded",
      stage: "VOICE",
      provider_kind: "speechkit",
      model: "speechkit/alena",
      result: { files: [{ mime_type: "audio/mpeg" }], expires_at: expect.any(String) },
      error: null,
    },
  });
  expect(answer.headers.get("x-eve-stage")).toBe("VOICE");
  const [{ url }] = answer.job.result.files;
  const fetched = await fetch(url, { headers: { apikey: stack.keys.secret } });
  expect(fetched.headers.get("content-type")).toBe("audio/mpeg");
  expect(new Uint8Array(await fetched.arrayBuffer())).toEqual(SPOKEN);
  expect((await fetch(url)).status).toBe(401);
  expect(speechkit.seen.at(-1)).toMatchObject({ text: "Шумит море", speed: "0.9" });
});

test("a song is a job that goes on until it is asked about and has ended", async () => {
  const { status, headers, job } = await ask({ stage: "SONG", prompt: "О море", request_id: "song-1" });
  expect({ status, job }).toMatchObject({
    status: 202,
    job: { status: "running", result: null, request_id: "song-1" },
  });
  expect(headers.get("retry-after")).toBe("3");
  expect(job.url).toBe(`${stack.url}/functions/v1/llm-invoke/jobs/${job.id}`);
  suno.tasks.set("task-1", { status: "SUCCESS" });
  await later();
  const done = await said(await get(`/jobs/${job.id}`));
  expect(done.job).toMatchObject({
    status: "succeeded",
    result: { files: [{ url: "https://cdn.suno.test/task-1-1.mp3", title: "Ноябрь" }, {}] },
  });
  // Ended is ended: nobody is asked again.
  suno.tasks.delete("task-1");
  await later();
  expect((await said(await get(`/jobs/${job.id}`))).job.status).toBe("succeeded");
  // The same request again is the same job.
  await expect.poll(async () =>
    (await ask({ stage: "SONG", prompt: "О море", request_id: "song-1" })).job?.id
  ).toBe(job.id);
  expect(await ask({ stage: "SONG", prompt: "О лесе", request_id: "song-1" })).toMatchObject({
    error: { code: "request_id_reused" },
  });
  expect(suno.seen).toHaveLength(1);
});

test("a submission is admitted, booked and settled like a call", async () => {
  await expect.poll(async () =>
    await sql`select requested_model, model, state from eve.requests where request_id = 'song-1'`
  )
    .toEqual([{ requested_model: "stage:SONG", model: "suno/V5", state: "succeeded" }]);
  await sql`update public.google_ai_model_limits set rpd = 1 where model = 'suno/V5'`;
  expect(await ask({ stage: "SONG", prompt: "Ещё", mode: "no_wait" })).toMatchObject({
    status: 429,
    error: { code: "daily_limit" },
  });
  await sql`update public.google_ai_model_limits set rpd = null where model = 'suno/V5'`;
});

test("a clip that fails says why; a provider that is silent changes nothing", async () => {
  const { job } = await ask({ stage: "CLIP", prompt: "Море", generation: { duration: 5 } });
  const [id] = [...fal.requests.keys()].slice(-1);
  fal.requests.delete(id!);
  await later();
  expect((await said(await get(`/jobs/${job.id}`))).job.status).toBe("running");
  const detail = [{ loc: ["body"], msg: "flagged", type: "content_policy_violation" }];
  fal.requests.set(id!, { status: "COMPLETED", result: { detail }, resultStatus: 422 });
  await later();
  expect((await said(await get(`/jobs/${job.id}`))).job).toMatchObject({
    status: "failed",
    error: { code: "content_blocked" },
  });
});

test("a song that was handed in with mode queue is one job from the queue to its files", async () => {
  const before = suno.seen.length;
  const { status, job } = await ask({
    stage: "SONG",
    prompt: "Позже",
    mode: "queue",
    request_id: "song-later",
  });
  expect({ status, job }).toMatchObject({
    status: 202,
    job: { kind: "provider_job", models: ["stage:SONG"], request_id: "song-later", result: null },
  });
  const now = async () => (await said(await get(`/jobs/${job.id}`))).job;
  await expect.poll(async () => (await now()).model, { timeout: 60_000 }).toBe("suno/V5");
  await expect.poll(
    async () => [...await sql`select upstream_id is not null as given from eve.jobs where id = ${job.id}`],
  )
    .toEqual([{ given: true }]);
  expect(suno.seen).toHaveLength(before + 1);
  const [{ upstream_id }] = await sql`select upstream_id from eve.jobs where id = ${job.id}` as unknown as [
    { upstream_id: string },
  ];
  suno.tasks.set(upstream_id, { status: "SUCCESS" });
  await later();
  expect(await now()).toMatchObject({
    status: "succeeded",
    stage: "SONG",
    result: { files: [{}, {}] },
    response: null,
  });
  // No worker runs it again.
  expect(suno.seen).toHaveLength(before + 1);
});

test("jobs are their consumer's, and nobody else's", async () => {
  const consumer = async (name: string) =>
    (await said(await stack.invoke("admin/consumers/add", { name, kind: "service" }))).secret as string;
  const [mine, other] = [await consumer("mine"), await consumer("other")];
  const { job } = await ask({ stage: "VOICE", prompt: "Моё" }, mine);
  expect((await get(`/jobs/${job.id}`, mine)).status).toBe(200);
  expect((await get(`/jobs/${job.id}/content`, mine)).status).toBe(200);
  for (const path of [`/jobs/${job.id}`, `/jobs/${job.id}/content`]) {
    expect(await said(await get(path, other))).toMatchObject({ status: 404, error: { code: "not_found" } });
  }
  expect((await get(`/jobs/${job.id}`)).status).toBe(200);
  expect((await get(`/jobs/${crypto.randomUUID()}`)).status).toBe(404);
  // The playground's way: its own, and nobody else's.
  const playground = async (id: string) =>
    await said(
      await fetch(`${stack.url}/functions/v1/admin/jobs/${id}`, { headers: { apikey: stack.keys.secret } }),
    );
  expect(await playground(job.id)).toMatchObject({ status: 404, error: { code: "not_found" } });
  const { job: project } = await ask({ stage: "VOICE", prompt: "Наше" });
  expect(await playground(project.id)).toMatchObject({ job: { status: "succeeded" } });
});

test("a notebook's token sees the jobs of its stages, of its own consumer, while it is live", async () => {
  const notebook = async (name: string) =>
    (await said(await stack.invoke("admin/consumers/add", { name, kind: "notebook" }))).secret as string;
  const tokenOf = async (secret: string, scope: Record<string, unknown> = {}) => {
    const issued = await said(
      await fetch(`${stack.url}/functions/v1/issue-kaggle-token`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ grant_type: "client_credentials", client_secret: secret, ...scope }),
      }),
    );
    expect(issued.status, JSON.stringify(issued)).toBe(200);
    return issued.access_token as string;
  };
  const callWith = (token: string, path: string, body?: unknown) =>
    fetch(`${stack.url}/functions/v1/llm-invoke${path}`, {
      method: body === undefined ? "GET" : "POST",
      headers: { authorization: `Bearer ${token}` },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  const [own, other] = [await notebook("own-jobs"), await notebook("other-jobs")];
  const voice = await tokenOf(own, { scope: "model:stage:VOICE" });
  const { job, error } = await said(await callWith(voice, "", { stage: "VOICE", prompt: "Моё" }));
  expect(error).toBeUndefined();
  const paths = [`/jobs/${job.id}`, `/jobs/${job.id}/content`];
  const statuses = (token: string) =>
    Promise.all(paths.map(async (path) => {
      const response = await callWith(token, path);
      const body = await response.text();
      return response.ok ? response.status : `${response.status} ${JSON.parse(body).error.code}`;
    }));
  expect(await statuses(voice)).toEqual([200, 200]);
  expect(await statuses(await tokenOf(own))).toEqual([200, 200]);
  for (
    const token of [
      await tokenOf(own, { scope: "model:gemma-4-31b-it" }),
      await tokenOf(own, { scope: "model:stage:SONG" }),
      await tokenOf(other),
    ]
  ) expect(await statuses(token)).toEqual(["404 not_found", "404 not_found"]);
  // The consumer's own scope has become narrower since.
  await stack.invoke("admin/consumers/scope", { name: "own-jobs", models: ["gemma-4-31b-it"] });
  expect(await statuses(voice)).toEqual(["404 not_found", "404 not_found"]);
  await stack.invoke("admin/consumers/scope", { name: "own-jobs", models: null });
  expect(await statuses(voice)).toEqual([200, 200]);
  await stack.invoke("admin/tokens/revoke", { consumer: "own-jobs" });
  expect(await statuses(voice)).toEqual(["401 token_revoked", "401 token_revoked"]);
});

test("what a stage cannot take is refused in words, and costs nothing", async () => {
  expect(await ask({ stage: "VOICE", prompt: "x", stream: true })).toMatchObject({
    status: 400,
    error: { details: [{ field: "stream" }] },
  });
  expect(await ask({ stage: "VOICE", prompt: "x", system: "Be brief." })).toMatchObject({
    status: 400,
    error: { code: "unsupported_feature" },
  });
  expect(await ask({ stage: "VOICE", prompt: "а".repeat(5_001) })).toMatchObject({
    status: 413,
    error: { code: "prompt_too_large" },
  });
  expect(await ask({ model: "stage:VOICE", prompt: "x" })).toMatchObject({
    status: 200,
    job: { stage: "VOICE" },
  });
  expect(await ask({ model: "speechkit/alena", prompt: "x" })).toMatchObject({
    status: 400,
    error: { code: "unsupported_feature" },
  });
  const failed = await sql`select state, error_code from eve.jobs where error_code = 'prompt_too_large'`;
  expect(failed).toMatchObject([{ state: "failed" }]);
});

test("files go when they have expired, and jobs after ninety days", async () => {
  await sql`update eve.jobs set expires_at = now() - interval '1 minute' where stage_type = 'VOICE'`;
  await sql`update eve.jobs set submitted_at = now() - interval '91 days' where stage_type = 'CLIP'`;
  const { details } = await said(await stack.invoke("maintenance/providers_sync", {}));
  expect(details.jobs).toMatchObject({ files: expect.any(Number), jobs: 1 });
  expect(await sql`select count(*)::integer as left from eve.job_contents`).toEqual([{ left: 0 }]);
});
