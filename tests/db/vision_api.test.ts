/** Posts and vision over HTTP, with real rows and files; only who looks at the pictures is a stand-in. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { createVisionBooks } from "../../shared/database/vision.ts";
import { createJobLeases } from "../../shared/database/jobs/job_leases.ts";
import { visionRunner } from "../../shared/jobs/vision_runner.ts";
import { runWorker } from "../../shared/jobs/worker.ts";
import { systemClock as clock } from "../../shared/runtime/clock.ts";
import { AnalysisFailure, type AnalysisRequest, type Analyst } from "../../shared/vision/analyst.ts";
import { createVisionCache } from "../../shared/vision/cache.ts";
import { textResult } from "../../shared/vision/result.ts";
import { beginningOf, storedPicture } from "../../shared/vision/stored_picture.ts";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { apiOver, type ApiUnderTest, json } from "../harness/media_api.ts";
import { documentedCalls } from "../harness/documented_calls.ts";

let db: TestDatabase;
let api: ApiUnderTest;
let ask: ReturnType<typeof documentedCalls>;
let bot = "";

beforeAll(async () => {
  db = await cloneDatabase();
  api = apiOver(db);
  ask = documentedCalls(api);
  const secret = await mintConsumerSecret("service");
  bot = secret.text;
  await db
    .sql`select public.eve_consumer_add('bot', 'service', key_id => ${secret.keyId}, proof => ${secret.proof})`;
  await db.sql`select public.eve_consumer_access('bot', '{intake,vision,media}')`;
});
afterAll(async () => {
  await Promise.all(api.background);
  await api.close();
  await db?.drop();
});

/** A BMP with a header that holds, and different bytes for each number. */
function bmp(number: number, side = 100): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(3_000);
  bytes.set([0x42, 0x4d]);
  const view = new DataView(bytes.buffer);
  view.setUint32(14, 40, true);
  view.setInt32(18, side, true);
  view.setInt32(22, side, true);
  view.setUint32(100, number);
  return bytes;
}

async function uploaded(number: number, side?: number): Promise<string> {
  const response = await api.call("POST", "/v1/media", {
    headers: { "content-type": "image/bmp" },
    body: bmp(number, side),
  });
  return (await response.json()).sha256;
}

const asked: AnalysisRequest[] = [];
const analyst: Analyst = {
  name: "model:some/model",
  capabilities: {
    mimeTypes: new Set(["image/bmp"]),
    maxBytes: 1e7,
    maxPixels: null,
    spendsTokens: true,
    readsTextOnly: false,
  },
  estimatedTokens: () => 1000,
  async analyse(request) {
    // As a model's call takes it, with the slot of a lane.
    const taken = await createVisionBooks(api.transport.call).reserve(request.estimate!);
    if (taken.status === "used_up") {
      throw new AnalysisFailure("no_capacity", "budget_exhausted", taken.detail, { retryAfterMs: 600_000 });
    }
    asked.push(request);
    expect((await request.picture.bytes(request.signal)).length).toBe(3_000);
    return {
      provider: "google",
      model: "m",
      // U+0000, which the database's texts cannot hold.
      result: { ...textResult("Вход\0 свободный", 0.5), labels: ["афиша"] },
      fault: null,
      rawText: "{}",
      inputTokens: 300,
      outputTokens: 50,
      replayed: false,
    };
  },
};

/** Runs each job that waits, whenever it was to be run. */
async function work(): Promise<void> {
  const { media, transport } = api;
  const opened = () => Promise.resolve(media);
  const log = () => {};
  const vision = visionRunner({
    books: createVisionBooks(transport.call),
    cache: createVisionCache(opened, log),
    analysts: [analyst],
    beginning: (object, atMost) => beginningOf(media, object, atMost),
    picture: (stored) => storedPicture(opened, stored),
    clock,
    log,
  });
  // One that found another at the same picture waits for some seconds.
  const waiting = await db
    .sql`update eve.jobs set run_at = now() - interval '1 second' where state = 'queued' returning id`;
  await runWorker(
    {
      leases: createJobLeases(transport.call),
      runners: { vision },
      clock,
      newId: () => crypto.randomUUID(),
      log,
    },
    { place: "outside", budgetMs: 120_000, concurrency: 1, maxJobs: waiting.length },
  );
}

test("a post with a picture is brought, looked at once, found by its words, and the same again costs nothing", async () => {
  const [one, two] = [await uploaded(1), await uploaded(2)];
  const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const given = { source: "telegram:city", external_id: "7", text: "Концерт", media: [one, two] };
  const init = json(given, bot);
  const post = await ask("POST", "/v1/intake/posts", {
    ...init,
    headers: { ...init.headers, traceparent: `00-${trace}-00f067aa0ba902b7-01` },
  });
  expect(post).toMatchObject({ status_code: 201, trace_id: trace, media: [one, two] });
  expect(api.logged).toContain("worker woken");
  expect(await ask("POST", "/v1/intake/posts", json(given, bot))).toMatchObject({
    status_code: 200,
    id: post.id,
  });
  expect((await ask("GET", `/v1/vision/posts/${post.id}`, { as: bot })).enrichment).toMatchObject([
    { status: "waiting" },
    { status: "waiting" },
  ]);
  await work();
  const found = await ask("GET", `/v1/vision/posts/${post.id}`, { as: bot });
  expect(found.enrichment).toMatchObject([one, two].map((file_sha256) => ({
    file_sha256,
    status: "done",
    ocr_text: "Вход свободный",
    tokens: 350,
    analyst: "model:some/model",
    trace_id: trace,
    decision: { action: "analyse", reason: "small", detail: { message: expect.stringContaining("small") } },
  })));
  expect(asked.map(({ traceId, caller }) => [traceId, caller.kind])).toEqual([[trace, "project"], [
    trace,
    "project",
  ]]);
  const search = async (query: string) =>
    (await ask("GET", `/v1/vision/search?${query}`, { as: bot })).found.length;
  expect(await search("q=входы&label=афиша")).toBe(2);
  expect(await search("label=плакат")).toBe(0);
  const cached = await db.sql`select s3_key from public.media_objects where kind = 'vision' order by s3_key`;
  expect(cached.map(({ s3_key }) => s3_key)).toEqual(
    [one, two].sort().map((sha) =>
      expect.stringMatching(
        new RegExp(`^vision/default/${sha}_model_some_model\\.low\\.p\\d+\\.[0-9a-f]{8}_v\\d+\\.json$`),
      )
    ),
  );

  // The same picture again: in another post, on its own, and once more by hand.
  await ask("POST", "/v1/intake/posts", json({ source: "other", media: [one] }, bot));
  const queued = await ask("POST", "/v1/vision/analyze", json({ sha256: one, mode: "queue" }, bot));
  expect(queued).toMatchObject({ status_code: 202, enrichment: [{ status: "waiting" }] });
  await work();
  const again = await ask("POST", "/v1/vision/analyze", json({ sha256: one }, bot));
  expect(again).toMatchObject({
    status_code: 200,
    enrichment: [{ status: "done", from_cache: true, tokens: 0 }],
  });
  expect(await ask("POST", "/v1/vision/requeue", json({ post_id: post.id }, bot))).toMatchObject({
    queued: 2,
  });
  await work();
  expect(asked).toHaveLength(2);
  const listed = await ask("GET", "/v1/vision/pictures?limit=200", { as: bot });
  const changed = listed.pictures.map((one: { updated_at: string }) => one.updated_at);
  expect(changed.length).toBeGreaterThan(0);
  expect(changed).toEqual(changed.toSorted().reverse());
  const done = (await ask("GET", "/v1/vision/pictures?status=done", { as: bot })).pictures;
  expect(done).toEqual(listed.pictures.filter((one: { status: string }) => one.status === "done"));
  const stats = await ask("GET", "/v1/vision/stats", { as: bot });
  expect(stats).toMatchObject({ pictures: { done: 4 }, from_cache: 4, waits_for: [] });
});

test("a budget of nothing lets a picture wait, and says so; raised, it is looked at", async () => {
  const before = asked.length;
  expect(await ask("PUT", "/v1/vision/budgets", json({ budgets: [] }, bot))).toMatchObject({
    error: { code: "credential_insufficient" },
  });
  const none = [{ period: "day", unit: "pictures", most: 0 }];
  expect(await ask("PUT", "/v1/vision/budgets", json({ budgets: none }))).toMatchObject({
    budgets: [{ provider: "*", most: 0 }],
    spending: expect.arrayContaining([
      expect.objectContaining({ provider: "*", period: "day", tokens: 700, pictures: 2 }),
    ]),
  });
  const sha = await uploaded(3);
  const post = await ask("POST", "/v1/intake/posts", json({ source: "s", media: [sha] }));
  await work();
  const stands = async () => (await ask("GET", `/v1/vision/posts/${post.id}`)).enrichment[0];
  expect(await stands()).toMatchObject({
    status: "waiting",
    reason: "model:some/model: the budget of 0 pictures a day for all analysts is used up",
  });
  await ask("PUT", "/v1/vision/budgets", json({ budgets: [] }));
  await work();
  expect(await stands()).toMatchObject({ status: "done", tokens: 350 });
  expect(asked).toHaveLength(before + 1);
});

test("a policy is set and asked for, and what it skips is not looked at", async () => {
  expect(await ask("GET", "/v1/vision/policy", { as: bot })).toMatchObject({
    policy: null,
    version: 0,
    in_force: { enabled: true, sample_permille: 1000 },
  });
  const wrong = await ask("PUT", "/v1/vision/policy", json({ policy: { sample: 3 } }));
  expect(wrong).toMatchObject({ status_code: 400, error: { code: "invalid_request" } });
  expect(await ask("PUT", "/v1/vision/policy", json({ policy: { skip_sources: ["ads:*"] } }))).toMatchObject({
    version: 1,
    in_force: { skip_sources: ["ads:*"] },
  });
  const post = await ask("POST", "/v1/intake/posts", json({ source: "ads:x", media: [await uploaded(4)] }));
  await work();
  expect((await ask("GET", `/v1/vision/posts/${post.id}`)).enrichment).toMatchObject([
    { status: "skipped", reason: "source: The policy skips ads:x.", decision: { policy_version: 1 } },
  ]);
  expect(await ask("PUT", "/v1/vision/policy", json({ policy: null }))).toMatchObject({
    version: 2,
    in_force: { skip_sources: [] },
  });
});

test("a picture is looked at straight from a form; two, none, or what is no picture are refused and not stored", async () => {
  const form = (request: unknown, ...files: Blob[]) => {
    const body = new FormData();
    body.set("request", JSON.stringify(request));
    for (const file of files) body.append("media", file, "x");
    return { body };
  };
  const picture = new Blob([bmp(77)], { type: "image/bmp" });
  const stored = async () => (await db.sql`select count(*)::integer as n from public.media_objects`)[0]!.n;
  const before = await stored();
  const words = new Blob(["words"], { type: "text/plain" });
  for (
    const [refused, code] of [
      [form({ mode: "queue" }, words), "media_type_mismatch"],
      [form({ mode: "queue" }, picture, picture), "invalid_request"],
      [form({ mode: "queue" }), "invalid_request"],
      [form({ mode: "queue", sha256: "0".repeat(64) }, picture), "invalid_request"],
    ] as const
  ) expect((await ask("POST", "/v1/vision/analyze", refused)).error.code).toBe(code);
  expect(await stored()).toBe(before);
  const queued = await ask("POST", "/v1/vision/analyze", form({ mode: "queue" }, picture));
  expect(queued).toMatchObject({ status_code: 202, enrichment: [{ status: "waiting" }] });
  const [file_sha256] = queued.post.media;
  await work();
  expect(await ask("POST", "/v1/vision/analyze", json({ sha256: file_sha256 }))).toMatchObject({
    status_code: 200,
    enrichment: [{ file_sha256, status: "done" }],
  });
});

test("what is wrong is said: no picture, no file, no post, nothing to search for", async () => {
  const text = await api.call("POST", "/v1/media", {
    headers: { "content-type": "text/plain" },
    body: "words",
  });
  const { sha256 } = await text.json();
  const code = async (method: string, path: string, init = {}) => (await ask(method, path, init)).error.code;
  expect(await code("POST", "/v1/vision/analyze", json({ sha256 }))).toBe("media_type_mismatch");
  expect(await code("POST", "/v1/vision/analyze", json({ sha256: "0".repeat(64) }))).toBe("object_not_found");
  expect(await code("GET", "/v1/vision/posts/x")).toBe("post_not_found");
  expect(await code("GET", `/v1/vision/posts/${crypto.randomUUID()}`, { as: bot })).toBe("post_not_found");
  expect(await code("GET", "/v1/vision/search")).toBe("invalid_request");
});

test("the graph of what was found is read over HTTP, by its own tenant, and written again by the owner alone", async () => {
  const post = await ask(
    "POST",
    "/v1/intake/posts",
    json({ source: "telegram:graph", media: [await uploaded(70)] }),
  );
  await work();
  await db.sql`select eve.graph_tick()`;
  const near = await ask(
    "GET",
    `/v1/graph/neighbours?kind=Post&key=${post.id}&depth=2&edges=HAS_IMAGE,HAS_LABEL`,
    {
      as: bot,
    },
  );
  expect(near.nodes.map(({ id }: { id: string }) => id)).toContain("Label/афиша");
  expect(near.nodes[0]).toMatchObject({ key: post.id, depth: 0, trace_id: post.trace_id });
  const path = await ask(
    "GET",
    `/v1/graph/path?from_kind=Label&from_key=${
      encodeURIComponent("афиша")
    }&to_kind=Channel&to_key=telegram:graph`,
    { as: bot },
  );
  expect(path).toMatchObject({ status_code: 200, length: 3 });
  expect(await ask("GET", `/v1/graph/related?post_id=${post.id}`, { as: bot })).toMatchObject({
    status_code: 200,
  });
  const posts = await ask("GET", "/v1/graph/nodes?kind=Post&limit=1", { as: bot });
  expect(posts).toMatchObject({ nodes: [{ key: post.id }], next_before: expect.any(Number) });
  expect(await ask("GET", "/v1/graph/stats", { as: bot })).toMatchObject({
    nodes: { Channel: expect.any(Number) },
    sinks: [],
  });
  expect(await ask("GET", "/v1/graph/neighbours?kind=Label&key=none", { as: bot })).toMatchObject({
    status_code: 404,
    error: { code: "graph_node_not_found" },
  });
  expect(await ask("GET", "/v1/graph/neighbours?kind=Nothing&key=none", { as: bot })).toMatchObject({
    status_code: 400,
  });
  expect(await ask("POST", "/v1/graph/sync", json({}, bot))).toMatchObject({
    status_code: 403,
    error: { code: "credential_insufficient" },
  });
  expect(await ask("POST", "/v1/graph/sync", json({}))).toMatchObject({ status_code: 200, changed: 0 });
  expect(await ask("POST", "/v1/graph/sync", json({ to: "neo4j" }))).toMatchObject({
    status_code: 409,
    error: { code: "graph_sink_off" },
  });
});
