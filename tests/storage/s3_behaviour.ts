/** What holds for every store that speaks S3, beyond what holds for any store. */
import { beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../shared/runtime/clock.ts";
import { sha256Of } from "../../shared/media/hash.ts";
import type { ObjectStore } from "../../shared/media/object_store.ts";
import { createS3Store, type S3StoreOptions } from "../../shared/media/s3/store.ts";
import type { S3Dependencies } from "../../shared/media/s3/transport.ts";
import type { S3Settings } from "../../shared/media/settings.ts";
import { behavesAsAnObjectStore, bytes, send, textObject } from "./object_store_behaviour.ts";

const MAX_FILE_BYTES = 1_000_000;
const HOUR_MS = 3_600_000;

export function storeOf(
  settings: S3Settings,
  dependencies: Partial<S3Dependencies> = {},
  options: Partial<S3StoreOptions> = {},
): ObjectStore {
  return createS3Store({ ...settings, maxFileBytes: MAX_FILE_BYTES, ...options }, {
    fetch,
    clock: systemClock,
    now: Date.now,
    random: Math.random,
    ...dependencies,
  });
}

export function behavesAsS3(newBucket: () => Promise<S3Settings>): void {
  describe("a store", () => {
    behavesAsAnObjectStore(async () => storeOf(await newBucket()));
  });

  let settings: S3Settings;
  let store: ObjectStore;
  beforeAll(async () => {
    settings = await newBucket();
    store = storeOf(settings);
  });

  describe("who may", () => {
    test("the store lets us in", async () => {
      await expect(store.ping()).resolves.toBeUndefined();
    });

    test.each<[string, Partial<S3Settings>, string]>([
      ["a wrong secret", { secretAccessKey: "wrong-Secret/1" }, "S3_SECRET_ACCESS_KEY"],
      ["an unknown key", { accessKeyId: "nobody:knows" }, "S3_ACCESS_KEY_ID"],
      ["no such bucket", { bucket: "no-such-bucket" }, "S3_BUCKET_NAME"],
    ])("%s is the owner's to fix, and the log says what", async (_, wrong, advice) => {
      const other = storeOf({ ...settings, ...wrong });
      const refusal = { code: "storage_misconfigured", detail: expect.stringContaining(advice) };
      await expect(other.ping()).rejects.toMatchObject(refusal);
      await expect(other.put("media/a/x.txt", await textObject("x"))).rejects.toMatchObject(refusal);
      await expect(other.list()).rejects.toMatchObject(refusal);
    });

    test("what an error says holds no secret", async () => {
      const secretAccessKey = "wrong-Secret/1234567890";
      const error = await storeOf({ ...settings, secretAccessKey }).ping().catch((error) => error);
      const said = [error.message, error.detail, error.stack, JSON.stringify(error), String(error.cause)]
        .join();
      expect(said).not.toContain(secretAccessKey);
      expect(said).not.toContain(settings.accessKeyId);
      expect(said).not.toMatch(/signature=/i);
    });
  });

  describe("time", () => {
    test("an address that is over is refused", async () => {
      await store.put("media/a/over.txt", await textObject("over"));
      const earlier = storeOf(settings, { now: () => Date.now() - HOUR_MS });
      const read = await earlier.presignGet("media/a/over.txt", { expiresIn: 60 });
      expect((await send(read)).status).toBe(403);
      const { body, sha256 } = await textObject("late");
      const object = { sha256, sizeBytes: body.byteLength, contentType: "text/plain", expiresIn: 60 };
      const abilities = await store.abilities();
      const memory = { load: () => Promise.resolve(abilities as never), save: () => Promise.resolve() };
      const late = storeOf(settings, { now: () => Date.now() - HOUR_MS }, { memory });
      expect((await send(await late.presignPut("media/a/late.txt", object), body)).status).toBe(403);
      expect(await store.head("media/a/late.txt")).toBeNull();
    });

    test("a clock that is wrong by an hour is named", async () => {
      const earlier = storeOf(settings, { now: () => Date.now() - HOUR_MS });
      await expect(earlier.ping()).rejects.toMatchObject({
        code: "storage_misconfigured",
        detail: expect.stringContaining("clocks"),
      });
    });
  });

  describe("in parts", () => {
    /** All but the last part have this at least. */
    const PART = new Uint8Array(5 * 1024 * 1024).fill(7);
    const contentType = "application/octet-stream";
    const sendPart = async (
      large: ObjectStore,
      upload: { key: string; uploadId: string },
      partNumber: number,
      body: Uint8Array<ArrayBuffer>,
    ) => {
      const part = { partNumber, sha256: await sha256Of(body), sizeBytes: body.byteLength, expiresIn: 60 };
      return await large.multipart!.presignPart(upload, part);
    };

    test("an upload is made of its parts, and completing it again is no error", async () => {
      const large = storeOf(settings, {}, { maxFileBytes: 10_000_000 });
      const upload = await large.multipart!.create("media/a/parts.bin", { contentType });
      const last = bytes("the end");
      for (const [number, body] of [[2, last], [1, PART]] as const) {
        expect((await send(await sendPart(large, upload, number, body), body)).status).toBe(200);
      }
      expect(await large.head("media/a/parts.bin")).toBeNull();
      const parts = await large.multipart!.parts(upload);
      expect(parts.map(({ partNumber, sizeBytes }) => [partNumber, sizeBytes])).toEqual([
        [1, PART.byteLength],
        [2, last.byteLength],
      ]);
      await large.multipart!.complete(upload, parts);
      await large.multipart!.complete(upload, parts);
      expect(await large.head("media/a/parts.bin")).toMatchObject({
        sizeBytes: PART.byteLength + last.byteLength,
        contentType,
      });
      const end = await large.get("media/a/parts.bin", { range: { from: PART.byteLength } });
      expect(await new Response(end.body).text()).toBe("the end");
      expect((await large.multipart!.list({ prefix: "media/a/parts.bin" })).uploads).toEqual([]);
    });

    test("a part of another body is not taken", async () => {
      const upload = await store.multipart!.create("media/a/held.bin", { contentType });
      const request = await sendPart(store, upload, 1, bytes("announced"));
      expect((await send(request, bytes("annOunced"))).status).toBe(400);
      expect(await store.multipart!.parts(upload)).toEqual([]);
      await store.multipart!.abort(upload);
    });

    test("a part that never came is missed", async () => {
      const upload = await store.multipart!.create("media/a/missed.bin", { contentType });
      const parts = [{ partNumber: 1, etag: "0123456789abcdef0123456789abcdef" }];
      await expect(store.multipart!.complete(upload, parts)).rejects.toMatchObject({
        code: "content_mismatch",
      });
      expect(await store.head("media/a/missed.bin")).toBeNull();
      await store.multipart!.abort(upload);
    });

    test("unfinished uploads are listed until they are aborted", async () => {
      const keys = ["unfinished/a.bin", "unfinished/b c+d.bin"];
      const uploads = [];
      for (const key of keys) uploads.push(await store.multipart!.create(key, { contentType }));
      const listed = await store.multipart!.list({ prefix: "unfinished/" });
      expect(listed.uploads.map(({ key, uploadId }) => ({ key, uploadId }))).toEqual(uploads);
      expect(listed.uploads[0]!.startedAt).toBeInstanceOf(Date);
      expect((await store.list({ prefix: "unfinished/" })).objects).toEqual([]);
      for (const upload of uploads) {
        await store.multipart!.abort(upload);
        await store.multipart!.abort(upload);
      }
      expect(await store.multipart!.list({ prefix: "unfinished/" })).toEqual({ uploads: [], cursor: null });
    });

    test("an upload that was aborted cannot be completed", async () => {
      const upload = await store.multipart!.create("media/a/aborted.bin", { contentType });
      await store.multipart!.abort(upload);
      const parts = [{ partNumber: 1, etag: "0123456789abcdef0123456789abcdef" }];
      await expect(store.multipart!.complete(upload, parts)).rejects.toMatchObject({
        code: "object_not_found",
      });
      await expect(store.multipart!.parts(upload)).rejects.toMatchObject({ code: "object_not_found" });
    });
  });

  test("fifty at once put one object under one key", async () => {
    const object = await textObject("one of fifty");
    const put = await Promise.all(Array.from({ length: 50 }, () => store.put("media/a/race.txt", object)));
    expect(put.filter(({ created }) => created)).toHaveLength(1);
    expect((await store.list({ prefix: "media/a/race.txt" })).objects).toHaveLength(1);
  });
}
