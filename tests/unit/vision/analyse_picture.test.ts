import { beforeEach, describe, expect, test } from "vitest";
import type { VisionEstimate } from "../../../shared/contract/request.ts";
import type {
  AnalysisToKeep,
  BudgetAnswer,
  DecisionToKeep,
  PictureJob,
  PictureSaid,
  VisionBooks,
} from "../../../shared/database/vision.ts";
import type { MediaObject } from "../../../shared/database/media/media.ts";
import {
  type Analysis,
  AnalysisFailure,
  type AnalysisRequest,
  type Analyst,
} from "../../../shared/vision/analyst.ts";
import { withBreaker } from "../../../shared/vision/analysts/breaker.ts";
import type { VisionCache } from "../../../shared/vision/cache.ts";
import { pngOf, scene } from "../../harness/made_pictures.ts";
import { joinBytes } from "../../../shared/runtime/join_bytes.ts";
import { analysePicture, type AnalysisDependencies } from "../../../shared/vision/analyse_picture.ts";
import type { VisionResult } from "../../../shared/vision/result.ts";

const JOB: PictureJob = {
  jobId: "a0000000-0000-4000-8000-000000000001",
  tenantId: "default",
  postId: "p",
  sha256: "0".repeat(64),
  traceId: null,
};
const PROJECT = { kind: "project", consumerId: null, tokenId: null, name: "project" } as const;
const RESULT: VisionResult = {
  description: "d",
  labels: ["l"],
  objects: [],
  ocr_text: "",
  is_meme: false,
  nsfw: false,
  scene: null,
  confidence: 1,
};
const found = (more: Partial<Analysis> = {}): Analysis => ({
  provider: "google",
  model: "m",
  result: RESULT,
  fault: null,
  rawText: "{}",
  inputTokens: 300,
  outputTokens: 100,
  replayed: false,
  ...more,
});

/** A PNG's beginning of that size. */
function png(width: number, height: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(64);
  bytes.set([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52]);
  new DataView(bytes.buffer).setUint32(16, width);
  new DataView(bytes.buffer).setUint32(20, height);
  return bytes;
}

let said: { decision: DecisionToKeep; outcome: AnalysisToKeep }[];
let reserved: Map<string, number | null>;
let providers: Map<string, string>;
let settled: [provider: string, tokens: number | null][];
let asked: AnalysisRequest[];
let cached: Map<string, unknown>;
let bytes: Uint8Array<ArrayBuffer>;
let usedUp: string[];
let begins: unknown;
let held: number[];
let gone: boolean;
let near: { sha256: string; distance: number } | null;
let underWay: { sha256: string; distance: number } | null;
let policy: unknown;
let seen: PictureSaid;

beforeEach(() => {
  [said, settled, asked, usedUp] = [[], [], [], []];
  reserved = new Map();
  providers = new Map();
  cached = new Map();
  bytes = png(1000, 800);
  begins = null;
  gone = false;
  held = [];
  [near, underWay] = [null, null];
  policy = null;
});

function analyst(
  name: string,
  answers: (Analysis | Error)[],
  more: Partial<Analyst["capabilities"]> = {},
): Analyst {
  return {
    name,
    capabilities: {
      mimeTypes: new Set(["image/png"]),
      maxBytes: 1e7,
      maxPixels: null,
      spendsTokens: true,
      readsTextOnly: false,
      ...more,
    },
    estimatedTokens: () => 1000,
    async analyse(request) {
      // As the gateway does it: with the slot of the model's lane.
      if (request.estimate !== null) {
        const taken = take(request.estimate);
        if (taken.status === "used_up") {
          throw new AnalysisFailure("no_capacity", "budget_exhausted", taken.detail, {
            retryAfterMs: 600_000,
          });
        }
      }
      asked.push(request);
      const answer = answers.shift()!;
      return await (answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer));
    },
  };
}
const ocr = (answers: (Analysis | Error)[]) =>
  analyst("tesseract", answers, { readsTextOnly: true, spendsTokens: false });

function take({ id, provider, tokens }: VisionEstimate): BudgetAnswer {
  if (usedUp.includes(provider)) {
    return { status: "used_up", detail: "the budget of 5 tokens a day for all analysts is used up" };
  }
  providers.set(id, provider);
  reserved.set(id, tokens);
  return { status: "reserved" };
}

async function analyseWith(...analysts: Analyst[]) {
  const books: VisionBooks = {
    begin(_, seconds) {
      held.push(seconds);
      return Promise.resolve(
        (begins ?? {
          status: "begun",
          object: { sha256: JOB.sha256, mime_type: "image/png", size_bytes: Math.max(5000, bytes.length) },
          post: { source: "s", published_at: null, created_at: "2026-11-20T00:00:00Z" },
          now: "2026-11-21T00:00:00Z",
          picture: { width: null, height: null, orientation: 1, fault: null, dhash: null, no_dhash: null },
          policy,
          policy_version: 3,
        }) as never,
      );
    },
    savePicture(_, picture) {
      seen = picture;
      return Promise.resolve({ similar: near, underWay });
    },
    finish(_, decision, outcome) {
      said.push({ decision, outcome });
      return Promise.resolve(gone && outcome.same_as !== undefined ? "gone" : "saved");
    },
    reserve: (estimate) => Promise.resolve(take(estimate)),
    settle(id, tokens) {
      if (reserved.delete(id)) settled.push([providers.get(id)!, tokens]);
      return Promise.resolve();
    },
  };
  const cache: VisionCache = {
    find: ({ analyst, resolution }) =>
      Promise.resolve((cached.get(`${analyst} ${resolution}`) ?? null) as never),
    save: ({ analyst, resolution }, found) =>
      Promise.resolve(void cached.set(`${analyst} ${resolution}`, found)),
  };
  bytes = joinBytes([bytes, new Uint8Array(Math.max(0, 5000 - bytes.length))]);
  const beginning = (_: MediaObject, atMost: number) => Promise.resolve(bytes.slice(0, atMost));
  const picture: AnalysisDependencies["picture"] = (stored) => ({
    ...stored,
    bytes: () => Promise.resolve(bytes),
  });
  const outcome = await analysePicture(JOB, PROJECT, {
    books,
    cache,
    analysts,
    beginning,
    picture,
    clock: { now: () => 0 },
    log: () => {},
  }, new AbortController().signal);
  return { outcome, last: said.at(-1)?.outcome, decision: said.at(-1)?.decision };
}

describe("a picture that can be looked at", () => {
  test("is paid for once: the result is kept, and the next look finds it for nothing", async () => {
    const first = await analyseWith(analyst("model:m", [found()]));
    expect(first.last).toMatchObject({
      status: "done",
      input_tokens: 300,
      output_tokens: 100,
      analyst: "model:m",
      result: RESULT,
    });
    expect(first.decision).toMatchObject({ action: "analyse", reason: "usual", policy_version: 3 });
    expect(settled).toEqual([["model:m", 400]]);
    const second = await analyseWith(analyst("model:m", []));
    expect(second.last).toMatchObject({
      status: "done",
      from_cache: true,
      input_tokens: 0,
      output_tokens: 0,
      result: RESULT,
    });
    expect(asked).toHaveLength(1);
    expect(settled).toHaveLength(1);
    expect(reserved.size).toBe(0);
  });

  test("whose answer does not hold is asked for once more, under another id; then the answer is kept as it came", async () => {
    const bad = found({ result: null, fault: "labels: too many", rawText: "[1]" });
    const repaired = await analyseWith(analyst("model:m", [bad, found()]));
    expect(repaired.last).toMatchObject({ status: "done", input_tokens: 600, output_tokens: 200 });
    expect(asked[1]).toMatchObject({ earlierFault: "labels: too many" });
    expect(asked[0]!.requestId).not.toBe(asked[1]!.requestId);
    expect(asked[1]!.requestId.length).toBeLessThanOrEqual(100);
    cached.clear();
    const never = await analyseWith(analyst("model:m", [bad, bad]), ocr([found()]));
    expect(never.last).toMatchObject({
      status: "invalid",
      raw_text: "[1]",
      reason: "labels: too many",
      input_tokens: 600,
    });
    expect(never.outcome).toEqual({ kind: "ended", status: "invalid" });
    expect(cached.size).toBe(0);
  });

  test("which is looked at again after its worker died has the same ids: what was paid for is found", async () => {
    await analyseWith(analyst("model:m", [found()]));
    cached.clear();
    await analyseWith(analyst("model:m", [found({ replayed: true })]));
    expect(asked[0]!.requestId).toBe(asked[1]!.requestId);
  });

  test("which looks like another takes that one's result, unless it has gone meanwhile", async () => {
    near = { sha256: "b".repeat(64), distance: 1 };
    expect((await analyseWith(analyst("model:m", []))).last).toMatchObject({
      status: "done",
      same_as: near.sha256,
    });
    expect(asked).toHaveLength(0);
    gone = true;
    expect((await analyseWith(analyst("model:m", [found()]))).last).toMatchObject({
      status: "done",
      analyst: "model:m",
    });
  });
});

describe("a picture that looks like another", () => {
  test("which is being looked at now waits for it, and pays nothing", async () => {
    underWay = { sha256: "b".repeat(64), distance: 1 };
    const { outcome, last, decision } = await analyseWith(analyst("model:m", []));
    expect(outcome).toEqual({ kind: "later", delayMs: 5_000 });
    expect(last).toMatchObject({ status: "waiting" });
    expect(decision).toMatchObject({ action: "wait", reason: "looks_the_same", detail: { distance: 1 } });
    expect(asked).toHaveLength(0);
  });

  test("is known by its bits; one without them says why", async () => {
    bytes = pngOf(scene(5, 144, 96));
    await analyseWith(analyst("model:m", [found()]));
    expect(said.at(-1)!.decision.detail).not.toHaveProperty("no_dhash");
    expect(seen).toMatchObject({
      width: 144,
      height: 96,
      dhash: expect.stringMatching(/^-?\d+$/),
      no_dhash: null,
    });
    bytes = png(1000, 800);
    const { decision } = await analyseWith(analyst("model:m", [found()]));
    expect(decision!.detail).toMatchObject({ no_dhash: "not_decoded" });
    expect(seen).toMatchObject({ dhash: null, no_dhash: "not_decoded" });
  });
});

describe("who cannot is passed over", () => {
  const failure = (kind: AnalysisFailure["kind"], options = {}) =>
    new AnalysisFailure(kind, "some_code", "words", options);

  test("a budget that is used up, a model that refuses or is down: the next one looks", async () => {
    usedUp = ["model:a"];
    const { last } = await analyseWith(
      analyst("model:a", []),
      analyst("model:b", [failure("refused", { spentTokens: 7 })]),
      analyst("model:c", [failure("retryable")]),
      ocr([found({ provider: "tesseract", inputTokens: 0, outputTokens: 0 })]),
    );
    expect(last).toMatchObject({ status: "done", analyst: "tesseract" });
    // What was paid for a refusal is paid; what broke off goes back.
    expect(settled).toEqual([["model:b", 7], ["model:c", null], ["tesseract", 0]]);
  });

  test("an earlier run's call that may yet be answered is waited for: nobody else is asked, and what it took stays taken", async () => {
    const running = new AnalysisFailure("no_capacity", "request_running", "words", { retryAfterMs: 15_000 });
    const { outcome, last } = await analyseWith(
      analyst("model:a", [running]),
      analyst("model:b", []),
      ocr([]),
    );
    expect(outcome).toEqual({ kind: "later", delayMs: 15_000 });
    expect(last).toMatchObject({ status: "waiting" });
    expect(asked).toHaveLength(1);
    expect([...reserved.values()]).toEqual([1000]);
  });

  test("a model that has room soon is waited for rather than reading the text alone", async () => {
    const soon = await analyseWith(
      analyst("model:a", [failure("no_capacity", { retryAfterMs: 20_000 })]),
      ocr([found()]),
    );
    expect(soon.outcome).toEqual({ kind: "later", delayMs: 20_000 });
    expect(soon.last).toMatchObject({ status: "waiting", reason: "model:a: words" });
    expect(reserved.size).toBe(0);
    const late = await analyseWith(
      analyst("model:a", [failure("no_capacity", { retryAfterMs: 3_600_000 })]),
      ocr([found()]),
    );
    expect(late.last).toMatchObject({ status: "done", analyst: "tesseract" });
  });

  test("a provider that is down is not asked for a while, others look meanwhile; then one picture tries it, and all go back", async () => {
    let now = 0;
    let isDown = true;
    let calls = 0;
    const model = analyst("model:a", []);
    const guarded = withBreaker({
      ...model,
      analyse(request) {
        calls++;
        return isDown ? Promise.reject(down()) : Promise.resolve(found({ model: request.requestId }));
      },
    }, { now: () => now });
    const down = () => new AnalysisFailure("retryable", "upstream_unavailable", "503");
    /** Who was asked; and how often the model was asked so far. */
    const askedSoFar = async () => {
      cached.clear();
      const { last } = await analyseWith(guarded, ocr([found({ inputTokens: 0, outputTokens: 0 })]));
      return [last!.analyst, calls];
    };
    expect(await askedSoFar()).toEqual(["tesseract", 1]);
    expect(await askedSoFar()).toEqual(["tesseract", 2]);
    expect(await askedSoFar()).toEqual(["tesseract", 3]);
    // Open: nobody asks it, and nobody waits for it though its time is near.
    expect(await askedSoFar()).toEqual(["tesseract", 3]);
    now = 29_999;
    expect(await askedSoFar()).toEqual(["tesseract", 3]);
    now = 30_000;
    expect(await askedSoFar()).toEqual(["tesseract", 4]);
    expect(await askedSoFar()).toEqual(["tesseract", 4]);
    // Where there is no other the picture waits, says for what, and has lost no run.
    expect(await analyseWith(guarded)).toMatchObject({
      outcome: { kind: "later", delayMs: 60_000 },
      last: { status: "waiting", reason: "model:a: its provider is down, and asked again later" },
    });
    now = 90_000;
    isDown = false;
    expect(await askedSoFar()).toEqual(["model:a", 5]);
    expect(await askedSoFar()).toEqual(["model:a", 6]);
    isDown = true;
    expect(await askedSoFar()).toEqual(["tesseract", 7]);
    expect(await askedSoFar()).toEqual(["tesseract", 8]);
    isDown = false;
    // Two in a row are not three.
    expect(await askedSoFar()).toEqual(["model:a", 9]);
    expect(reserved.size).toBe(0);
  });

  test("nobody at all: it waits and says what for, or has failed where all refuse", async () => {
    expect(await analyseWith()).toMatchObject({
      outcome: { kind: "later", delayMs: 60_000 },
      last: { status: "waiting", reason: expect.stringContaining("no_analyst: Nobody") },
      decision: { action: "wait" },
    });
    usedUp = ["model:a"];
    expect(await analyseWith(analyst("model:a", []))).toMatchObject({
      outcome: { kind: "later", delayMs: 600_000 },
      last: {
        status: "waiting",
        reason: "model:a: the budget of 5 tokens a day for all analysts is used up",
      },
    });
    usedUp = [];
    expect(await analyseWith(analyst("model:a", [failure("refused")]))).toMatchObject({
      outcome: { kind: "ended", status: "failed" },
      last: { status: "failed", reason: "model:a: words" },
    });
    // A run that counts: after five of them the job has failed.
    expect((await analyseWith(analyst("model:a", [failure("retryable")]))).outcome).toEqual({
      kind: "failed",
      code: "some_code",
      message: "model:a: words",
    });
  });

  test("a run that is broken off keeps its reservation: the next one has the same, and nobody is paid twice", async () => {
    await expect(analyseWith(analyst("model:a", [new DOMException("", "AbortError")]))).rejects.toThrow();
    expect([...reserved.values()]).toEqual([1000]);
    expect(said).toEqual([]);
  });
});

test("a bomb, a file that is no picture and what the policy skips are looked at by nobody", async () => {
  bytes = png(60_000, 60_000);
  expect((await analyseWith(analyst("model:m", []))).last).toMatchObject({
    status: "skipped",
    reason: expect.stringMatching(/^too_many_pixels: 60000 x/),
  });
  bytes = new TextEncoder().encode("<html>no picture</html>");
  expect((await analyseWith(analyst("model:m", []))).decision).toMatchObject({
    action: "skip",
    reason: "not_a_picture",
  });
  bytes = png(100, 100);
  policy = { enabled: false };
  expect((await analyseWith(analyst("model:m", []))).decision).toMatchObject({
    action: "skip",
    reason: "switched_off",
  });
  expect(reserved.size + asked.length).toBe(0);
});

test("a picture is held again for each call; one that has become another job's meanwhile is asked of nobody more", async () => {
  const down = () => new AnalysisFailure("retryable", "upstream_timeout", "words");
  const bad = found({ result: null, fault: "labels: too many" });
  await analyseWith(analyst("model:a", [down()]), analyst("model:b", [bad, found()]));
  // At the beginning, for the next analyst, and for its second answer; longer than any call may take.
  expect(held).toEqual([420, 420, 420]);
  expect(asked).toHaveLength(3);
  for (
    const [status, outcome] of [
      ["busy", { kind: "later", delayMs: 5_000 }],
      ["ended", { kind: "ended", status: "ended" }],
    ] as const
  ) {
    for (const first of [down(), bad]) {
      begins = null;
      const taking = analyst("model:a", []);
      taking.analyse = () => {
        begins = { status, retry_after_ms: 1 };
        return first instanceof Error ? Promise.reject(first) : Promise.resolve(first);
      };
      cached.clear();
      expect((await analyseWith(taking, analyst("model:b", []))).outcome).toEqual(outcome);
    }
  }
  expect(asked).toHaveLength(3);
});

test("one that another job looks at waits a little; one that has ended is left alone", async () => {
  begins = { status: "busy", retry_after_ms: 100_000 };
  expect((await analyseWith()).outcome).toEqual({ kind: "later", delayMs: 5_000 });
  begins = { status: "ended" };
  expect((await analyseWith()).outcome).toEqual({ kind: "ended", status: "ended" });
  expect(said).toEqual([]);
});
