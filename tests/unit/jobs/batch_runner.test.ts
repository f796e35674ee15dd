import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { BatchError, Batches, BatchLine } from "../../../shared/database/jobs/batches.ts";
import type { ClaimedJob } from "../../../shared/database/jobs/job_leases.ts";
import { batchRunner } from "../../../shared/jobs/batch_runner.ts";

const BATCH = "7d4f5a52-35b1-4c52-9a8e-2f1b0c7f0001";
const job = { body: { batch_id: BATCH }, consumer_id: null } as ClaimedJob;

function runnerOf(bytes: Uint8Array<ArrayBuffer>, more: {
  models?: string[] | null;
  /** It is the second run: so many lines are in. */
  added?: number;
  add?: (lines: readonly BatchLine[]) => Promise<boolean>;
  resolve?: (model: string) => string[];
  /** Where long bodies go; absent: there is no S3. */
  keep?: (jobId: string, json: string) => Promise<string>;
} = {}) {
  const added: BatchLine[][] = [];
  const rejected: BatchError[][] = [];
  const said: unknown[] = [];
  const released: [string, string][] = [];
  const batches = {
    input: () =>
      Promise.resolve({
        state: more.added === undefined ? "validating" : "in_progress",
        total: more.added === undefined ? 0 : 1_200,
        added: more.added ?? 0,
        api: "openai",
        endpoint: "/v1/responses",
        tenant_id: "default",
        sha256: "0",
        parts: null,
        models: more.models ?? null,
      }),
    reject: (_id: string, errors: BatchError[]) => Promise.resolve(void rejected.push(errors)),
    add: async (_id: string, _total: number, _models: string[], lines: BatchLine[]) => {
      const taken = await (more.add?.(lines) ?? Promise.resolve(true));
      added.push(lines);
      return taken;
    },
  } as unknown as Batches;
  const run = batchRunner({
    batches,
    files: {
      keep: () => Promise.reject(new Error("not here")),
      remove: () => Promise.reject(new Error("not here")),
      open: () => Promise.resolve(new Blob([bytes]).stream() as ReadableStream<Uint8Array<ArrayBuffer>>),
    },
    jobMedia: {
      isOutside: () => Promise.resolve(more.keep !== undefined),
      keep: (jobId, json) => more.keep!(jobId, json),
      release: (jobId, kept) => Promise.resolve(void released.push([jobId, kept])),
    },
    resolve: (target) =>
      Promise.resolve().then(() => ({
        models: target.kind === "models"
          ? more.resolve?.(target.models[0]!) ?? target.models
          : ["stage:POEM"],
        excludeKeys: [],
        stage: null,
      })),
  });
  return {
    added,
    rejected,
    said,
    released,
    run: (signal = new AbortController().signal) =>
      run(job, { signal, progress: (one) => void said.push(one) }),
  };
}

const fileOf = (count: number, body: Record<string, unknown> = {}) =>
  new TextEncoder().encode(
    Array.from({ length: count }, (_, n) =>
      JSON.stringify({
        custom_id: `c${n}`,
        method: "POST",
        url: "/v1/responses",
        body: { model: "m", input: "x", ...body },
      })).join("\n"),
  );

describe("the file of a batch", () => {
  test("is handed in piece by piece, each line at its place", async () => {
    const { run, added, said } = runnerOf(fileOf(1_200));
    expect(await run()).toEqual({ kind: "done", result: { lines: 1_200 } });
    expect(added.map(({ length }) => length)).toEqual([500, 500, 200]);
    expect(added.flat().map(({ place }) => place)).toEqual(Array.from({ length: 1_200 }, (_, n) => n));
    expect(added[2]![199]).toMatchObject({
      custom_id: "c1199",
      models: ["m"],
      body: { path: "/openai/v1/responses", body: { model: "m", input: "x" } },
    });
    expect(said.at(-1)).toEqual({ done: 1_200, total: 1_200 });
  });

  test("with long lines is handed in in smaller pieces", async () => {
    const { run, added } = runnerOf(fileOf(8, { instructions: "x".repeat(900_000) }));
    await run();
    expect(added.map(({ length }) => length)).toEqual([2, 2, 2, 2]);
  });

  test("with bodies above 64 KiB keeps those with the media where S3 is, for the same jobs each time", async () => {
    const kept: [string, unknown][] = [];
    const keep = (jobId: string, json: string) => {
      kept.push([jobId, JSON.parse(json)]);
      return Promise.resolve(`default/${kept.length}`);
    };
    const long = fileOf(2, { instructions: "x".repeat(64 * 1024) });
    const { run, added, released } = runnerOf(long, { keep });
    await run();
    expect(kept).toMatchObject([0, 1].map(() => [expect.stringMatching(/^[\da-f-]{36}$/), {
      path: "/openai/v1/responses",
      body: { model: "m", input: "x" },
    }]));
    expect(kept[0]![0]).not.toBe(kept[1]![0]);
    expect(added.flat()).toMatchObject([{ id: kept[0]![0], body_media: "default/1" }, {
      id: kept[1]![0],
      body_media: "default/2",
    }]);
    expect(added.flat().map(({ body }) => body)).toEqual([undefined, undefined]);
    expect(released).toEqual([]);
    // A second run, and one whose batch takes nothing any more.
    const again = runnerOf(long, { keep, add: () => Promise.resolve(false) });
    await again.run();
    expect(kept.slice(2).map(([id]) => id)).toEqual(kept.slice(0, 2).map(([id]) => id));
    expect(again.released).toEqual([[kept[0]![0], "default/3"], [kept[1]![0], "default/4"]]);
    // In the database they stay with their jobs; where S3 has no room they do too.
    for (
      const keep of [undefined, () => Promise.reject(new GatewayError("storage_quota_exceeded"))]
    ) {
      const stays = runnerOf(long, keep && { keep });
      await stays.run();
      expect(stays.added.flat().map(({ body, body_media }) => [body?.path, body_media])).toEqual(
        [0, 1].map(() => ["/openai/v1/responses", undefined]),
      );
    }
  });

  test("waits for room where its caller has as many jobs waiting as they may", async () => {
    const { run } = runnerOf(fileOf(1), { add: () => Promise.reject(new GatewayError("jobs_full")) });
    expect(await run()).toEqual({ kind: "unspent", delayMs: 30_000 });
  });

  test("is not handed in any further when the batch is cancelled, or the job lost", async () => {
    const cancelled = runnerOf(fileOf(1_200), { add: () => Promise.resolve(false) });
    expect(await cancelled.run()).toEqual({ kind: "done", result: { lines: 0 } });
    expect(cancelled.added).toHaveLength(1);
    const lost = runnerOf(fileOf(1));
    expect(await lost.run(AbortSignal.abort())).toEqual({ kind: "unspent" });
    expect(lost.added).toEqual([]);
  });

  test("that is wrong anywhere is not handed in at all", async () => {
    const { run, added, rejected } = runnerOf(fileOf(3, { model: "other" }), { models: ["m"] });
    await run();
    expect(added).toEqual([]);
    expect(rejected[0]!.map(({ line, code, param }) => [line, code, param])).toEqual(
      [1, 2, 3].map((line) => [line, "model_not_allowed", "body.model"]),
    );
    const binary = runnerOf(new Uint8Array([0xff, 0xfe, 0x00]));
    await binary.run();
    expect(binary.rejected[0]).toMatchObject([{ code: "invalid_encoding", line: null }]);
  });

  test("is not checked again by a second run, which hands in the rest", async () => {
    const good = new TextDecoder().decode(fileOf(1_200)).split("\n");
    // Nobody looks at what is in.
    const text = ["", "no JSON", ...good.slice(1)].join("\n");
    const { run, added } = runnerOf(new TextEncoder().encode(text), { added: 700 });
    expect(await run()).toEqual({ kind: "done", result: { lines: 1_200 } });
    expect(added.map(({ length }) => length)).toEqual([500]);
    expect(added[0]!.map(({ place, custom_id }) => [place, custom_id]).at(0)).toEqual([700, "c700"]);
    // A model that has been taken away meanwhile ends the job, and the batch keeps what is in.
    const narrowed = runnerOf(fileOf(1_200), { added: 700, models: ["other"] });
    await expect(narrowed.run()).rejects.toMatchObject({ code: "model_not_allowed" });
    expect(narrowed.added).toEqual([]);
  });

  test("is read again later when the database cannot say what its models are", async () => {
    const { run, rejected } = runnerOf(fileOf(1), {
      resolve: () => {
        throw new GatewayError("database_unavailable");
      },
    });
    await expect(run()).rejects.toMatchObject({ code: "database_unavailable" });
    expect(rejected).toEqual([]);
  });
});
