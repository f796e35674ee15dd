/**
 * Pictures for GigaChat through the whole gateway, with real books: its lane's limits hold, and an answer is paid for once. And those that
 * wait for a machine with tesseract.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type GigachatEmulator, gigachatEmulator } from "../../local/gigachat/emulator.ts";
import { breachesOf } from "../../local/gigachat/journal.ts";
import { ocrBreaches, ocrEmulator } from "../../local/yandex_ocr/emulator.ts";
import { createLedger } from "../../shared/database/admission/ledger.ts";
import { modelFromEnvironment } from "../../shared/database/environment_models.ts";
import { directTransport } from "../../shared/database/transport/direct_transport.ts";
import { createCrawlBooks } from "../../shared/database/posts/crawl.ts";
import { createJobLeases } from "../../shared/database/jobs/job_leases.ts";
import { createJobQueue } from "../../shared/database/jobs/job_queue.ts";
import { ocrRunner } from "../../shared/jobs/ocr_runner.ts";
import { runWorker } from "../../shared/jobs/worker.ts";
import type { Media } from "../../shared/media/storage.ts";
import { type TakeTurn, yandexOcrAnalyst } from "../../shared/vision/analysts/yandex_ocr.ts";
import { queuedTesseractAnalyst } from "../../shared/vision/analysts/queued_tesseract.ts";
import { createGateway } from "../../shared/gateway/invoke.ts";
import { gigachatProvider } from "../../shared/providers/gigachat/provider.ts";
import { systemClock as clock } from "../../shared/runtime/clock.ts";
import { environmentSecrets } from "../../shared/runtime/secrets.ts";
import type { AnalysisRequest, Analyst } from "../../shared/vision/analyst.ts";
import { openAnalysts } from "../../shared/vision/analysts/open.ts";
import { asFetch } from "../fakes/fake_api.ts";
import { clearLedger, freezeClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { pngOf } from "../harness/made_pictures.ts";
import { until } from "../harness/patience.ts";
import { StillClock } from "../unit/gateway/gateway_fixture.ts";
import { requestFor } from "../unit/vision/vision_fixture.ts";

/** Of the worker's clock, on which a second passes with each look. */
let ticks = 0;

/** A picture of one white pixel. */
const PICTURE = { width: 1, height: 1, rgba: new Uint8Array(4).fill(255) };
const MODEL = "gigachat/GigaChat-2-Pro";
const ENVIRONMENT: Record<string, string> = { GIGACHAT_CREDENTIALS: "Z2lnYTpjaGF0" };

let database: TestDatabase;
let sql: TestDatabase["sql"];
let direct: ReturnType<typeof directTransport>;
let emulator: GigachatEmulator;
let analyst: Analyst;
let settling: Promise<void>[];
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
  await freezeClock(sql);
  direct = directTransport({ url: database.url, connections: 4, pooler: false });
});
afterAll(async () => {
  await direct?.close();
  await database?.drop();
});
beforeEach(async () => {
  await clearLedger(sql);
  await sql`delete from public.google_ai_model_limits where model = ${MODEL}`;
  settling = [];
  emulator = gigachatEmulator();
  const read = (name: string) => ENVIRONMENT[name];
  const background = (work: Promise<void>) => void settling.push(work);
  const gateway = createGateway({
    ledger: createLedger(direct.call, undefined, direct.afterwards, { background, ready: direct.ready }),
    providers: {
      gigachat: gigachatProvider({
        baseUrl: "https://gigachat.test/api/v1",
        authUrl: "https://ngw.test:9443/api/v2/oauth",
        fetch: asFetch(emulator.handler),
      }),
    },
    secrets: environmentSecrets(read),
    clock,
    random: Math.random,
    background,
    log: () => {},
    times: { requestTimeoutMs: 140_000, upstreamTimeoutMs: 120_000, rpcTimeoutMs: 8_000 },
  });
  const { models } = openAnalysts({
    read,
    gateway,
    resolve: (target) =>
      Promise.resolve({
        models: target.kind === "models" ? target.models : [],
        excludeKeys: [],
        stage: null,
      }),
    clock,
    joinLine: () => Promise.resolve({ waitMs: 5_000, leave: () => {} }),
    fetch: () => Promise.reject(new Error("nothing goes out")),
    takeTurn: () => Promise.resolve({ is_taken: true, wait_ms: 0 }),
    know: (model) => modelFromEnvironment(direct.call, model),
  });
  analyst = models.at(-1)!;
});
afterEach(async () => {
  await Promise.all(settling);
  expect(emulator.files.size).toBe(0);
  expect(breachesOf(emulator.journal)).toEqual([]);
});

/** All that was sent is settled: who leaves does not wait for it. */
const settled = async () => {
  await until(async () => (await sql`select from eve.inflight`).length === 0);
  await Promise.all(settling);
};

const asked = () => emulator.journal.filter(({ what }) => what === "chat").length;
const analyse = (step: number, more: Partial<AnalysisRequest> = {}) =>
  analyst.analyse(requestFor({
    requestId: `vision.step-${step}`,
    caller: { kind: "project", consumerId: null, tokenId: null, name: "default" },
    ...more,
  }));

test("a model that nobody has set up is served by the key of the environment, and its answer is kept", async () => {
  const first = await analyse(1);
  expect(first).toMatchObject({
    provider: "gigachat",
    model: MODEL,
    result: { description: expect.stringContaining("image/png"), labels: ["картинка", "png"] },
    replayed: false,
  });
  await settled();
  expect(await analyse(1)).toEqual({ ...first, replayed: true });
  expect(asked()).toBe(1);
  expect(await sql`select from eve.requests r where r.model = ${MODEL}`).toHaveLength(1);
});

test("its lane lets no more pass than its limit, however many workers ask; the others are told when", async () => {
  await modelFromEnvironment(direct.call, {
    providerKind: "gigachat",
    model: "GigaChat-2-Pro",
    envVarName: "GIGACHAT_CREDENTIALS",
  });
  await sql`update public.google_ai_model_limits set rpm = 3 where model = ${MODEL}`;
  const ended = await Promise.allSettled(Array.from({ length: 12 }, (_, step) => analyse(step)));
  const refused = ended.flatMap((one) => one.status === "rejected" ? [one.reason] : []);
  // A lane that many want is paced: not all that a minute allows goes out at once.
  expect(asked()).toBeGreaterThanOrEqual(1);
  expect(asked()).toBeLessThanOrEqual(3);
  expect(refused).toHaveLength(12 - asked());
  for (const reason of refused) expect(reason).toMatchObject({ kind: "no_capacity", code: "rate_limited" });
  expect(refused.every(({ retryAfterMs }) => retryAfterMs > 0)).toBe(true);
  // What was sent away took nothing with it: no file, no token.
  expect(emulator.journal.filter(({ what }) => what === "upload")).toHaveLength(asked());
});

test("calls of Yandex OCR are a second apart however many workers read, by a check of what it saw; who would wait long comes back later", async () => {
  const yandex = ocrEmulator();
  const still = new StillClock();
  yandex.now = still.now;
  const set = {
    apiKey: "AQVN-ocr",
    folderId: "b1gfolder",
    baseUrl: "https://ocr.test",
    fetch: asFetch(yandex.handler),
  };
  let asking = 0;
  const takeTurn: TakeTurn = async (...terms) => {
    const turn = await createCrawlBooks(direct.call).turn(...terms);
    asking--;
    return turn;
  };
  const workers = [1, 2, 3].map(() => yandexOcrAnalyst(set, takeTurn, still));
  const read = Promise.allSettled(
    Array.from({ length: 9 }, (_, call) => {
      asking++;
      return workers[call % 3]!.analyse(requestFor());
    }),
  );
  await expect.poll(() => asking).toBe(0);
  await still.advance(10_000);
  const kinds = (await read).map((one) => one.status === "fulfilled" ? "read" : one.reason.kind);
  expect(kinds.toSorted()).toEqual([...Array(4).fill("no_capacity"), ...Array(5).fill("read")]);
  expect(yandex.journal.map(({ at }) => at).toSorted((a, b) => a - b)).toEqual([
    0,
    1_100,
    2_200,
    3_300,
    4_400,
  ]);
  expect(ocrBreaches(yandex.journal)).toEqual([]);
});

test("a picture that this process cannot read waits, is read by a worker that can, and its text is taken over", async () => {
  const ocr = queuedTesseractAnalyst({ ...createJobQueue(direct.call), newId: () => crypto.randomUUID() });
  const file = pngOf(PICTURE);
  const request = requestFor({ picture: { ...requestFor().picture, sizeBytes: file.length } });
  const waits = expect.objectContaining({ kind: "no_capacity", code: "tesseract_missing" });
  await expect(ocr.analyse(request)).rejects.toEqual(waits);
  // No function is called for it, and asking again hands nothing in.
  await expect(ocr.analyse(request)).rejects.toEqual(waits);
  const [due] =
    await sql`select public.eve_jobs_due() as is_due, (select count(*)::integer from eve.jobs) as jobs`;
  expect(due).toEqual({ is_due: false, jobs: 1 });

  const object = { object: { s3_key: "k", stored_in: "s3" } };
  const store = { get: () => Promise.resolve({ body: new Blob([file]).stream() }) };
  const media = {
    s3: store,
    spool: store,
    registry: { find: () => Promise.resolve(object) },
  } as unknown as Media;
  const read = () => Promise.resolve("5\t1\t1\t1\t1\t1\t0\t0\t9\t9\t90\tАфиша");
  const report = await runWorker({
    leases: createJobLeases(direct.call),
    runners: {
      ocr: ocrRunner({ program: { version: "tesseract 5.3.0", read }, media: () => Promise.resolve(media) }),
    },
    clock: { ...clock, sleep: () => Promise.resolve(), now: () => (ticks += 1_000) },
    newId: () => crypto.randomUUID(),
    log: () => {},
  }, { place: "outside", budgetMs: 600_000, concurrency: 2, maxJobs: 1 });
  expect(report.begun).toBe(1);
  expect(await ocr.analyse(request)).toMatchObject({
    provider: "tesseract",
    result: { ocr_text: "Афиша", confidence: 0.9 },
    inputTokens: 0,
  });
});

describe("a budget and the slot of a lane", () => {
  const TOKENS = 1_000;
  const estimated = (step: number): Partial<AnalysisRequest> => ({
    estimate: {
      id: `vision.step-${step}`,
      tenantId: "default",
      provider: analyst.name,
      tokens: TOKENS,
      spendsTokens: true,
    },
  });
  const lane = async (rpm: number) => {
    await modelFromEnvironment(direct.call, {
      providerKind: "gigachat",
      model: "GigaChat-2-Pro",
      envVarName: "GIGACHAT_CREDENTIALS",
    });
    await sql`update public.google_ai_model_limits set rpm = ${rpm} where model = ${MODEL}`;
  };
  const budget = (pictures: number) =>
    sql`insert into eve.vision_budgets (tenant_id, provider, period, unit, most) values ('default', '*', 'day', 'pictures', ${pictures})`;
  const all = () =>
    Promise.allSettled(Array.from({ length: 20 }, (_, step) => analyse(step, estimated(step))));
  const whys = (ended: PromiseSettledResult<unknown>[]) =>
    new Set(ended.flatMap((one) => one.status === "rejected" ? [one.reason.code] : []));
  const taken = async () => {
    const [row] = await sql`
      select pictures_reserved::int as pictures, tokens_reserved::int as tokens, tokens::int as spent
      from eve.vision_spending where provider = '*' and period = 'day'`;
    return row ?? { pictures: 0, tokens: 0, spent: 0 };
  };
  beforeEach(async () => {
    await empty(sql, "eve.vision_budgets", "eve.vision_spending", "eve.vision_reservations", "eve.alerts");
  });

  test("are taken together: twenty at once that find no slot take nothing of the budget, and are not in its way", async () => {
    await lane(3);
    // More than the lane serves: anyone who took of it without a slot would leave nothing for those that have one.
    await budget(3);
    expect(whys(await all())).toEqual(new Set(["rate_limited"]));
    expect(asked()).toBeGreaterThanOrEqual(1);
    expect(await taken()).toEqual({ pictures: asked(), tokens: asked() * TOKENS, spent: 0 });
    expect(await sql`select id from eve.vision_reservations`).toHaveLength(asked());
  });

  test("are taken together: twenty at once that find the budget used up book no start", async () => {
    await lane(100);
    await budget(2);
    const ended = await all();
    expect(whys(ended)).toEqual(new Set(["budget_exhausted"]));
    expect(ended.find(({ status }) => status === "rejected")).toMatchObject({
      reason: { kind: "no_capacity", message: "the budget of 2 pictures a day for all analysts is used up" },
    });
    await settled();
    expect(asked()).toBe(2);
    expect(await sql`select request_id from eve.requests`).toHaveLength(2);
    expect(await sql`select request_id from eve.inflight`).toHaveLength(0);
    expect(await taken()).toMatchObject({ pictures: 2 });
  });

  test("a call that was lost counts as what it cost, and with its estimate where nobody knows", async () => {
    const leave = async () => {
      const gone = new AbortController();
      emulator.faults.push({ on: "chat", how: "hangs" });
      const before = emulator.seen.length;
      const leaving = analyse(1, { ...estimated(1), signal: gone.signal });
      await expect.poll(() => emulator.seen.length).toBe(before + 1);
      gone.abort(new DOMException("gone", "AbortError"));
      await expect(leaving).rejects.toThrow("gone");
      await settled();
    };
    await leave();
    expect(await taken()).toEqual({ pictures: 1, tokens: TOKENS, spent: 0 });
    const [cost] = await sql`select eve.vision_lost_tokens('vision.step-1')::int as tokens`;
    await leave();
    expect(await taken()).toEqual({ pictures: 1, tokens: TOKENS, spent: cost!.tokens ?? TOKENS });
    // It never left, by the books.
    await sql`update eve.requests set dispatched = false where request_id = 'vision.step-1.2'`;
    expect((await analyse(1, estimated(1))).result).not.toBeNull();
    expect(await taken()).toEqual({ pictures: 1, tokens: TOKENS, spent: cost!.tokens ?? TOKENS });
    // An answer that is given again takes nothing.
    expect((await analyse(1, estimated(1))).replayed).toBe(true);
    expect(await taken()).toMatchObject({ pictures: 1, tokens: TOKENS });
  });
});

describe("a worker that ends in the middle", () => {
  test("leaves nothing at GigaChat, and the next one asks once more and gets the answer", async () => {
    const gone = new AbortController();
    emulator.faults.push({ on: "chat", how: "hangs" });
    const leaving = analyse(1, { signal: gone.signal });
    await expect.poll(() => emulator.seen.length).toBe(1);
    gone.abort(new DOMException("gone", "AbortError"));
    await expect(leaving).rejects.toThrow("gone");
    await settled();
    expect((await analyse(1)).result).not.toBeNull();
    expect(asked()).toBe(2);
  });

  test("two that have the same step at once pay once", async () => {
    const ended = await Promise.allSettled([analyse(1), analyse(1)]);
    // The other one is told that it runs, or, if it has ended by then, gets the same answer.
    for (const one of ended) {
      if (one.status === "rejected") {
        expect(one.reason).toMatchObject({ kind: "no_capacity", code: "request_running" });
      } else expect(one.value.result).not.toBeNull();
    }
    expect(asked()).toBe(1);
  });
});
