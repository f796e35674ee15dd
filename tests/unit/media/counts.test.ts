/** What a function counts of storage: held for a second, handed over once, and never in the way of what it counts. */
import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { FileToReserve, MediaRegistry } from "../../../shared/database/media/media.ts";
import type { StorageSums } from "../../../shared/database/media/media_counts.ts";
import type { MediaSpool } from "../../../shared/database/media/media_spool.ts";
import { createStorageCounts } from "../../../shared/media/counts.ts";
import { openMedia } from "../../../shared/media/open.ts";
import { HandClock } from "../../harness/hand_clock.ts";
import type { S3Observation } from "../../../shared/media/s3/transport.ts";

/** Counts whose second is over when the test says so. */
function counting(count: () => Promise<void> = () => Promise.resolve()) {
  const handed: StorageSums[] = [];
  const logged: string[] = [];
  const work: Promise<void>[] = [];
  let over = () => {};
  const counts = createStorageCounts({
    count: (sums) => {
      handed.push(sums);
      return count();
    },
    clock: { now: () => 0, sleep: () => new Promise((resolve) => over = resolve) },
    background: (promise) => void work.push(promise),
    log: (_, event) => void logged.push(event),
  });
  return { counts, handed, logged, work, endSecond: async () => (over(), await Promise.all(work)) };
}

const put = (fields: Partial<S3Observation> = {}): S3Observation => ({
  operation: "put",
  key: "media/default/ab/abc.png",
  result: "ok",
  attempts: 1,
  durationMs: 120,
  sentBytes: 1_000,
  ...fields,
});
const full = (details: unknown) => Promise.reject(new GatewayError("storage_quota_exceeded", { details }));
const registryOf = (fields: Partial<MediaRegistry>) => fields as MediaRegistry;
const file = { tenantId: "t1" } as FileToReserve;

describe("operations on S3", () => {
  test("are counted by operation, result and kind, and uploads by size and time", async () => {
    const { counts, handed, work, endSecond } = counting();
    counts.observe(put());
    counts.observe(put({ durationMs: 100, sentBytes: 100_000 }));
    counts.observe(put({ durationMs: 60_001, sentBytes: 1e8 + 1, key: "crawl/default/ab/abc.html" }));
    counts.observe(put({ result: "storage_unavailable" }));
    counts.observe(put({ operation: "list", key: null }));
    counts.observe(put({ operation: "head", key: "chats/7/photo.png" }));
    expect(handed).toEqual([]);
    expect(work).toHaveLength(1);
    await endSecond();
    expect(handed).toEqual([{
      operations: [
        { operation: "put", result: "ok", content_type: "media", times: 2 },
        { operation: "put", result: "ok", content_type: "crawl", times: 1 },
        { operation: "put", result: "storage_unavailable", content_type: "media", times: 1 },
        { operation: "list", result: "ok", content_type: "", times: 1 },
        { operation: "head", result: "ok", content_type: "", times: 1 },
      ],
      uploads: [
        {
          content_type: "media",
          size_bucket: "100kB",
          counts: [0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
          seconds: expect.closeTo(0.22),
        },
        {
          content_type: "crawl",
          size_bucket: "larger",
          counts: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
          seconds: expect.closeTo(60.001),
        },
      ],
      violations: [],
      emergency_cleanups: 0,
    }]);
  });

  test("of the next second are handed over with the next", async () => {
    const { counts, handed, endSecond } = counting();
    counts.observe(put());
    await endSecond();
    counts.observe(put());
    counts.observe(put());
    await endSecond();
    expect(handed.map(({ operations }) => operations[0]!.times)).toEqual([1, 2]);
  });

  test("that cannot be counted are logged and dropped: nothing counts twice", async () => {
    let fails = true;
    const { counts, handed, logged, endSecond } = counting(() =>
      fails ? Promise.reject(new Error("away")) : Promise.resolve()
    );
    counts.observe(put());
    await endSecond();
    expect(logged).toEqual(["storage_not_counted"]);
    fails = false;
    counts.observe(put());
    await endSecond();
    expect(handed[1]!.operations[0]!.times).toBe(1);
  });
});

describe("files refused for want of room", () => {
  test("are counted by tenant and limit, and the refusal passes on", async () => {
    const { counts, handed, endSecond } = counting();
    const registry = counts.registry(
      registryOf({ reserve: () => full({ limit: "tenant", tenant_id: "t1", kind: "media" }) }),
    );
    for (let n = 0; n < 3; n++) {
      await expect(registry.reserve({ kind: "project" }, file)).rejects.toMatchObject({
        code: "storage_quota_exceeded",
      });
    }
    const spool = counts.spool(
      { put: () => full({ limit: "spool", tenant_id: null }) } as unknown as MediaSpool,
    );
    await expect(spool.put("crawl/t2/ab/abc.html", {} as never)).rejects.toThrow();
    await endSecond();
    expect(handed[0]!.violations).toEqual([
      { tenant_id: "t1", reason: "tenant", times: 3 },
      { tenant_id: "t2", reason: "spool", times: 1 },
    ]);
  });

  test("are that alone: another refusal is none", async () => {
    const { counts, work } = counting();
    const registry = counts.registry(
      registryOf({ reserve: () => Promise.reject(new GatewayError("upload_busy")) }),
    );
    await expect(registry.reserve({ kind: "project" }, file)).rejects.toMatchObject({ code: "upload_busy" });
    expect(work).toEqual([]);
  });

  test("of very many tenants are counted without their names: a batch is bounded", async () => {
    const { counts, handed, endSecond } = counting();
    let tenant = 0;
    const registry = counts.registry(
      registryOf({ reserve: () => full({ limit: "tenant", tenant_id: `t${tenant++}` }) }),
    );
    for (let n = 0; n < 700; n++) await registry.reserve({ kind: "project" }, file).catch(() => {});
    await endSecond();
    const { violations } = handed[0]!;
    expect(violations).toHaveLength(501);
    expect(violations.at(-1)).toEqual({ tenant_id: "", reason: "tenant", times: 200 });
  });
});

test("an emergency clean-up counts when it is reported, and its end does not", async () => {
  const { counts, handed, endSecond } = counting();
  const alerts: unknown[] = [];
  const registry = counts.registry(
    registryOf({ alert: (...alert) => Promise.resolve(void alerts.push(alert)) }),
  );
  await registry.alert("storage_emergency_cleanup", "Files take too much.");
  await registry.alert("storage_full", "And it was not enough.");
  await registry.alert("storage_emergency_cleanup", null);
  await endSecond();
  expect(handed[0]!.emergency_cleanups).toBe(1);
  expect(alerts).toHaveLength(3);
});

test("the store, the registry and the spool that a function opens are counted", async () => {
  const asked: [string, Record<string, unknown>][] = [];
  const variables: Record<string, string> = {
    S3_BUCKET_NAME: "files",
    S3_ACCESS_KEY_ID: "tenant:key",
    S3_SECRET_ACCESS_KEY: "not-a-secret",
  };
  const work: Promise<void>[] = [];
  const { media } = openMedia({
    read: (name) => variables[name],
    call: (name, args) => {
      asked.push([name, { ...args }]);
      const isFile = name === "eve_media_reserve" || name === "eve_media_spool_put";
      return Promise.resolve(
        isFile
          ? {
            status: "refused",
            code: "storage_quota_exceeded",
            details: { limit: "total", tenant_id: "t1" },
          }
          : { status: "counted" },
      );
    },
    projectUrl: "https://project.example",
    secrets: ["not-a-secret"],
    fetch: () => Promise.resolve(new Response(null, { status: 204 })),
    clock: new HandClock(),
    background: (promise) => void work.push(promise),
    log: () => {},
    now: () => 0,
    random: () => 0,
  });
  await Promise.all([
    media.s3!.delete("media/t1/ab/abc.png"),
    media.registry.reserve({ kind: "project" }, file).catch(() => {}),
    media.rows.put("media/t1/ab/abc.png", {
      body: new Uint8Array(),
      sha256: "",
      contentType: "image/png",
      contentEncoding: null,
      moves: true,
    }).catch(() => {}),
  ]);
  await Promise.all(work);
  const counted = asked.filter(([name]) => name === "eve_storage_count").map(([, args]) =>
    args.sums as StorageSums
  );
  expect(counted.flatMap(({ operations }) => operations)).toEqual([
    { operation: "delete", result: "ok", content_type: "media", times: 1 },
  ]);
  expect(counted.flatMap(({ violations }) => violations).reduce((sum, { times }) => sum + times, 0)).toBe(2);
});
