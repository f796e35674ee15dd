import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sha256Of } from "../../../shared/media/hash.ts";
import { emptyList, fakeS3, NOW, refusal, SETTINGS, xml } from "./fake_s3.ts";

const body = new TextEncoder().encode("hello");
const object = async () => ({ body, sha256: await sha256Of(body), contentType: "text/plain" });
const ok = () => new Response(null, { status: 200 });

describe("what passes by itself is tried again", () => {
  test.each([
    [500, "InternalError"],
    [503, "SlowDown"],
    [429, "TooManyRequests"],
    [409, "ConditionalRequestConflict"],
    [400, "RequestTimeout"],
    [502, "BadGateway"],
  ])("%i %s", async (status, code) => {
    const s3 = fakeS3([refusal(status, code), refusal(status, code), ok()]);
    expect(await s3.store.put("a.txt", await object())).toEqual({ created: true, sizeBytes: 5 });
    expect(s3.clock.pauses).toEqual([200, 400]);
    expect(s3.observed).toEqual([
      { operation: "put", key: "a.txt", result: "ok", attempts: 3, durationMs: 600, sentBytes: 5 },
    ]);
  });

  test("a line that breaks, and an answer that does", async () => {
    const broken = new Response(
      new ReadableStream({ start: (controller) => controller.error(new Error("connection reset")) }),
    );
    const s3 = fakeS3([new TypeError("dns error"), () => broken, emptyList()]);
    expect(await s3.store.list()).toEqual({ objects: [], cursor: null });
    expect(s3.clock.pauses).toHaveLength(2);
  });

  test("four times, and then it is given up", async () => {
    const s3 = fakeS3(refusal(503, "SlowDown"));
    await expect(s3.store.list()).rejects.toMatchObject({
      code: "storage_unavailable",
      status: 503,
      retryable: true,
      detail: "S3 list: status 503 SlowDown (request tx0001)",
    });
    expect(s3.asked).toHaveLength(4);
    expect(s3.clock.timers).toEqual([]);
  });

  test("pauses are anything up to a bound that doubles", async () => {
    await fc.assert(
      fc.asyncProperty(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), async (share) => {
        const s3 = fakeS3(refusal(500, "InternalError"), { random: () => share });
        await expect(s3.store.list()).rejects.toThrow();
        expect(s3.clock.pauses).toEqual([400 * share, 800 * share, 1_600 * share]);
      }),
      { numRuns: 20 },
    );
  });

  test("not before the store says so, in seconds or as a date", async () => {
    const date = new Date(NOW + 3_000).toUTCString();
    const s3 = fakeS3([
      refusal(503, "SlowDown", { "retry-after": "2" }),
      refusal(503, "SlowDown", { "retry-after": date }),
      emptyList(),
    ]);
    await s3.store.list();
    expect(s3.clock.pauses).toEqual([2_000, 3_000]);
  });

  test("a store that says to come back later than the call has time is believed at once", async () => {
    const s3 = fakeS3(refusal(503, "SlowDown", { "retry-after": "60" }));
    await expect(s3.store.list()).rejects.toMatchObject({
      code: "storage_unavailable",
      retryAfterMs: 60_000,
    });
    expect(s3.asked).toHaveLength(1);
  });

  test("no longer than the call may take", async () => {
    const s3 = fakeS3(refusal(500, "InternalError"), { random: () => 0.99 });
    await expect(s3.store.list({}, { timeoutMs: 1_000 })).rejects.toMatchObject({
      code: "storage_unavailable",
    });
    expect(s3.clock.time).toBeLessThan(1_000);
  });

  test("an answer that does not come in time is not waited for, also by a fetch that does not listen", async () => {
    const s3 = fakeS3([() => new Promise<Response>(() => {}), emptyList()]);
    const list = s3.store.list();
    await expect.poll(() => s3.clock.timers).toEqual([10_000]);
    s3.clock.ring();
    expect(await list).toEqual({ objects: [], cursor: null });
  });

  test("what is sent has time by its size", async () => {
    const large = new Uint8Array(900_000);
    const s3 = fakeS3([() => new Promise<Response>(() => {}), ok()]);
    const put = s3.store.put("a.bin", { body: large, sha256: await sha256Of(large), contentType: "a/b" });
    await expect.poll(() => s3.clock.timers).toEqual([10_900]);
    s3.clock.ring();
    await put;
  });

  test("a caller who leaves in a pause does not wait", async () => {
    const s3 = fakeS3(refusal(503, "SlowDown"));
    const caller = new AbortController();
    s3.clock.onPause = () => caller.abort(new Error("gone"));
    await expect(s3.store.list({}, { signal: caller.signal })).rejects.toThrow("gone");
    expect(s3.asked).toHaveLength(1);
    expect(s3.observed).toMatchObject([{ result: "aborted" }]);
  });

  test("each attempt is signed again", async () => {
    const s3 = fakeS3([refusal(503, "SlowDown"), emptyList()]);
    await s3.store.list();
    expect(s3.asked.map(({ headers }) => headers.has("authorization"))).toEqual([true, true]);
  });

  test("a ping is tried once", async () => {
    const s3 = fakeS3(refusal(503, "SlowDown"));
    await expect(s3.store.ping()).rejects.toMatchObject({ code: "storage_unavailable" });
    expect(s3.asked).toHaveLength(1);
  });
});

describe("what does not pass is said once", () => {
  test.each([
    [403, "SignatureDoesNotMatch", "storage_misconfigured"],
    [403, "InvalidAccessKeyId", "storage_misconfigured"],
    [403, "AccessDenied", "storage_misconfigured"],
    [403, "RequestTimeTooSkewed", "storage_misconfigured"],
    [400, "AuthorizationHeaderMalformed", "storage_misconfigured"],
    [404, "NoSuchBucket", "storage_misconfigured"],
    [400, "XAmzContentSHA256Mismatch", "content_mismatch"],
    [400, "BadDigest", "content_mismatch"],
    [400, "EntityTooLarge", "file_too_large"],
    [403, "QuotaExceeded", "storage_full"],
    [507, "XMinioStorageFull", "storage_full"],
    [501, "NotImplemented", "storage_failed"],
    [400, "SomethingElse", "storage_failed"],
    [301, "PermanentRedirect", "storage_misconfigured"],
    [307, "TemporaryRedirect", "storage_misconfigured"],
  ])("%i %s is %s", async (status, code, expected) => {
    const s3 = fakeS3(refusal(status, code, { location: "https://elsewhere.example.com/" }));
    await expect(s3.store.put("a.txt", await object())).rejects.toMatchObject({
      code: expected,
      detail: expect.stringContaining(code),
    });
    expect(s3.asked).toHaveLength(1);
  });

  test.each([
    [
      "a page of a proxy",
      () => new Response("<html><p>Forbidden<br></html>", { status: 403 }),
      "storage_misconfigured",
    ],
    [
      "an address that is none of S3",
      () => new Response("Not Found", { status: 404 }),
      "storage_misconfigured",
    ],
    ["an answer that is not XML", () => new Response("OK"), "storage_failed"],
    ["XML of another kind", () => xml("<html></html>"), "storage_failed"],
    ["a document type", () => xml('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), "storage_failed"],
    [
      "a page that leads nowhere",
      () => xml("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"),
      "storage_failed",
    ],
    [
      "an object without a size",
      () => xml("<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>"),
      "storage_failed",
    ],
  ])("%s", async (_, answer, code) => {
    const s3 = fakeS3(() => answer());
    await expect(s3.store.list()).rejects.toMatchObject({ code });
    expect(s3.asked).toHaveLength(1);
  });

  test("an answer without an end is read up to 8 MiB", async () => {
    let read = 0;
    const chunk = new Uint8Array(1024 * 1024).fill(32);
    const endless = () => new ReadableStream({ pull: (controller) => (read++, controller.enqueue(chunk)) });
    const s3 = fakeS3(() => new Response(endless()));
    await expect(s3.store.list()).rejects.toMatchObject({ code: "storage_failed" });
    expect(read).toBeLessThan(12);
  });

  test("no redirect is followed", async () => {
    const s3 = fakeS3(emptyList());
    await s3.store.list();
    expect(s3.asked[0]!.redirect).toBe("manual");
  });

  test("nothing that the store or the line says gets into an error, but codes and ids", async () => {
    const secrets = [SETTINGS.secretAccessKey, SETTINGS.accessKeyId, "private/file.txt"];
    const echo =
      `<Error><Code>${
        secrets[0]
      }</Code><Message>${secrets}</Message><StringToSign>${secrets}</StringToSign>` +
      `<RequestId>${secrets[1]} ${secrets[0]}</RequestId></Error>`;
    for (
      const answer of [xml(echo, 403), xml(echo, 500), xml(echo), new TypeError(`error sending ${secrets}`)]
    ) {
      const s3 = fakeS3(answer, { random: () => 0 });
      const error = await s3.store.list({ prefix: "private/" }).catch((error) => error);
      const said = [error.message, error.detail, error.stack, JSON.stringify(error), String(error.cause)]
        .join();
      for (const secret of secrets) expect(said).not.toContain(secret);
    }
  });
});

test.each(["InternalError", "Unheard"])(
  "a completion that fails within an answer of 200 is tried again: %s",
  async (code) => {
    const done = "<CompleteMultipartUploadResult><Key>a</Key></CompleteMultipartUploadResult>";
    const s3 = fakeS3([xml(`<Error><Code>${code}</Code></Error>`), xml(done)]);
    await s3.store.multipart!.complete({ key: "a", uploadId: "1" }, [{ partNumber: 1, etag: "e" }]);
    expect(s3.asked).toHaveLength(2);
  },
);
