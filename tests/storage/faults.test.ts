/** A store that is away, slow, or drops what it was asked: what was answered is there, and nothing waits for ever. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { sha256Of } from "../../shared/media/hash.ts";
import type { ObjectStore } from "../../shared/media/object_store.ts";
import type { S3Observation } from "../../shared/media/s3/transport.ts";
import { bytesOf } from "../../shared/providers/bounded_body.ts";
import { type Fault, type FaultyProxy, startFaultyProxy } from "../harness/faulty_proxy.ts";
import { HandClock } from "../harness/hand_clock.ts";
import { until } from "../harness/patience.ts";
import { type Radosgw, startRadosgw } from "../harness/radosgw.ts";
import { withoutRadosgw } from "../harness/stores.ts";
import { bytes, send, textObject } from "./object_store_behaviour.ts";
import { storeOf } from "./s3_behaviour.ts";

const contentType = "application/octet-stream";

describe.skipIf(withoutRadosgw)("a line to the store", () => {
  let ceph: Radosgw;
  let proxy: FaultyProxy;
  let clock: HandClock;
  let observed: S3Observation[];
  /** Over the line, and beside it. */
  let store: ObjectStore;
  let direct: ObjectStore;

  beforeAll(async () => {
    ceph = await startRadosgw();
    const settings = await ceph.newBucket();
    direct = storeOf(settings);
    proxy = startFaultyProxy(settings.endpoint);
  });
  beforeEach(async () => {
    clock = new HandClock();
    observed = [];
    const settings = { ...await ceph.newBucket(), endpoint: proxy.url };
    direct = storeOf({ ...settings, endpoint: ceph.settings.endpoint });
    // Half of the longest pause each time, so that pauses can be compared.
    const dependencies = { clock, random: () => 0.5, observe: (one: S3Observation) => observed.push(one) };
    store = storeOf(settings, dependencies);
    await store.abilities();
    observed.length = 0;
  });
  afterEach(() => proxy.fault("none"));
  afterAll(async () => {
    proxy?.stop();
    await ceph?.stop();
  });

  const textOf = async (key: string) => await new Response((await direct.get(key)).body).text();

  test("that is away for a while is waited for, longer each time", async () => {
    proxy.away();
    clock.onPause = () => {
      if (clock.pauses.length === 2) proxy.back();
    };
    expect(await store.put("media/a/late.txt", await textObject("late"))).toMatchObject({ created: true });
    expect(clock.pauses).toEqual([200, 400]);
    expect(observed).toMatchObject([{ operation: "put", result: "ok", attempts: 3, sentBytes: 4 }]);
    expect(await textOf("media/a/late.txt")).toBe("late");
  });

  test("that stays away is given up, and the error names no address and no key", async () => {
    proxy.away();
    try {
      const error = await store.put("media/a/never.txt", await textObject("never")).catch((error) => error);
      expect(error).toMatchObject({ code: "storage_unavailable", retryable: true });
      expect(error.detail).toMatch(/^S3 put: no connection/);
      expect(error.detail + error.message).not.toMatch(/127\.0\.0\.1|never\.txt|Signature/);
      expect(clock.pauses).toEqual([200, 400, 800]);
      expect(observed).toMatchObject([{ result: "storage_unavailable", attempts: 4 }]);
    } finally {
      proxy.back();
    }
  });

  test("that loses an answer is no reason to store twice", async () => {
    proxy.fault("answer_lost");
    clock.onPause = () => proxy.fault("none");
    expect(await store.put("media/a/lost.txt", await textObject("lost"))).toEqual({
      created: false,
      sizeBytes: 4,
    });
    expect(observed).toMatchObject([{ attempts: 2 }]);
    expect(await textOf("media/a/lost.txt")).toBe("lost");
  });

  test("that loses an answer is no reason to fail a deletion or a completion", async () => {
    await direct.put("media/a/one.txt", await textObject("one"));
    await direct.put("media/a/two.txt", await textObject("two"));
    const upload = await direct.multipart!.create("media/a/parts.bin", { contentType });
    const body = bytes("one part");
    const part = { partNumber: 1, sha256: await sha256Of(body), sizeBytes: body.byteLength, expiresIn: 60 };
    await send(await direct.multipart!.presignPart(upload, part), body);
    const parts = await direct.multipart!.parts(upload);

    clock.onPause = () => proxy.fault("none");
    proxy.fault("answer_lost");
    await store.delete("media/a/one.txt");
    proxy.fault("answer_lost");
    expect(await store.deleteMany(["media/a/two.txt"])).toEqual({ failed: [] });
    proxy.fault("answer_lost");
    await store.multipart!.complete(upload, parts);
    // The store may be at work on the first one still, and say so to the second.
    expect(observed.filter(({ attempts }) => attempts > 1).map(({ operation }) => operation)).toEqual([
      "delete",
      "delete_many",
      "multipart_complete",
    ]);
    expect((await direct.list()).objects.map(({ key }) => key)).toEqual(["media/a/parts.bin"]);
  });

  test("that is silent is left after the attempt's time, and tried again", async () => {
    let connections = 0;
    proxy.fault(() => connections++ === 0 ? "silent" : "none");
    const before = proxy.used;
    const put = store.put("media/a/silent.txt", await textObject("silent"));
    await until(() => proxy.used > before);
    clock.ring();
    expect(await put).toMatchObject({ created: true });
    expect(observed).toMatchObject([{ attempts: 2 }]);
    expect(clock.timers).toEqual([]);
  });

  test("that is silent is left at once by a caller who goes", async () => {
    proxy.fault("silent");
    const caller = new AbortController();
    const before = proxy.used;
    const head = store.head("media/a/x.txt", { signal: caller.signal });
    await until(() => proxy.used > before);
    caller.abort(new Error("gone"));
    await expect(head).rejects.toThrow("gone");
    expect(observed).toMatchObject([{ operation: "head", result: "aborted", attempts: 1 }]);
    expect(clock.timers).toEqual([]);
  });

  describe("in the middle of an object", () => {
    const large = new Uint8Array(900_000).map((_, at) => at % 251);
    beforeEach(async () => {
      await direct.put("media/a/large.bin", { body: large, sha256: await sha256Of(large), contentType });
    });

    test("that is cut is an error for the reader, never the end", async () => {
      proxy.fault({ cutAfter: 400_000 });
      const { body, sizeBytes } = await store.get("media/a/large.bin");
      expect(sizeBytes).toBe(900_000);
      await expect(bytesOf(new Response(body), 1_000_000)).rejects.toMatchObject({
        code: "storage_unavailable",
      });
    });

    test("that falls silent is an error after a while", async () => {
      proxy.fault({ silentAfter: 400_000 });
      const { body } = await store.get("media/a/large.bin");
      const reader = body.getReader();
      let had = 0;
      const reading = (async () => {
        for (;;) {
          const { done, value } = await reader.read();
          if (done) return;
          had += value.byteLength;
        }
      })();
      reading.catch(() => {});
      // The head of the answer is a part of what came.
      await until(() => had > 399_000);
      expect(clock.timers).toEqual([30_000]);
      clock.ring();
      await expect(reading).rejects.toMatchObject({ code: "storage_unavailable" });
    });

    test("a reader who goes ends it", async () => {
      proxy.fault({ silentAfter: 400_000 });
      const caller = new AbortController();
      const { body } = await store.get("media/a/large.bin", {}, { signal: caller.signal });
      const reading = bytesOf(new Response(body), 1_000_000);
      caller.abort(new Error("gone"));
      await expect(reading).rejects.toThrow("gone");
    });
  });

  test("that drops every other call loses nothing that was answered", async () => {
    const faults: Fault[] = ["cut", "none", "answer_lost", "none", { cutAfter: 20 }, "none"];
    let connections = 0;
    proxy.fault(() => faults[connections++ % faults.length]!);
    const objects = await Promise.all(Array.from({ length: 60 }, (_, n) => textObject(`upload ${n}`)));
    const put = await Promise.allSettled(
      objects.map((object, n) => store.put(`media/a/${n}.txt`, object)),
    );
    expect(observed.some(({ attempts }) => attempts > 1)).toBe(true);
    const answered = put.flatMap(({ status }, n) => status === "fulfilled" ? [n] : []);
    expect(answered.length).toBeGreaterThan(0);
    for (const n of answered) expect(await textOf(`media/a/${n}.txt`)).toBe(`upload ${n}`);
    for (const one of put) {
      if (one.status === "rejected") expect(one.reason).toMatchObject({ code: "storage_unavailable" });
    }
  });
});
