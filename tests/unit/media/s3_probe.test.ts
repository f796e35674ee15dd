import { describe, expect, test } from "vitest";
import type { S3Abilities } from "../../../shared/media/s3/probe.ts";
import { EMPTY_SHA256 } from "../../../shared/media/s3/sign.ts";
import { type Asked, emptyList, fakeS3, refusal, xml } from "./fake_s3.ts";

/** How a store treats what is signed into a presigned PUT. */
interface Kind {
  /** `holds` to it, `ignores` it, or `refuses` a request that has it. */
  contentSha256: "holds" | "ignores" | "refuses";
  checksumSha256: "holds" | "ignores" | "refuses";
  ifNoneMatch: "holds" | "ignores" | "refuses";
  lifecycle: "empty" | "set" | "none";
}

const RIGHT = "this is what was signed";

function storeOfKind(kind: Kind): (asked: Asked) => Response {
  const there = new Set<string>();
  return ({ method, url, headers, body }) => {
    if (url.searchParams.has("lifecycle")) {
      if (kind.lifecycle === "none") return refusal(501, "NotImplemented");
      return kind.lifecycle === "empty"
        ? refusal(404, "NoSuchLifecycleConfiguration")
        : xml("<LifecycleConfiguration/>");
    }
    if (method === "DELETE") {
      there.delete(url.pathname);
      return new Response(null, { status: 204 });
    }
    if (method !== "PUT") return emptyList();
    for (
      const [header, how] of [["x-amz-content-sha256", kind.contentSha256], [
        "x-amz-checksum-sha256",
        kind.checksumSha256,
      ]]
    ) {
      if (!headers.has(header!)) continue;
      if (how === "refuses") return refusal(403, "SignatureDoesNotMatch");
      if (how === "holds" && !body.startsWith(RIGHT)) return refusal(400, "BadDigest");
    }
    if (headers.has("if-none-match")) {
      if (kind.ifNoneMatch === "refuses") return refusal(501, "NotImplemented");
      if (kind.ifNoneMatch === "holds" && there.has(url.pathname)) return refusal(412, "PreconditionFailed");
    }
    there.add(url.pathname);
    return new Response(null, { status: 200 });
  };
}

const ALL: Kind = {
  contentSha256: "holds",
  checksumSha256: "ignores",
  ifNoneMatch: "holds",
  lifecycle: "empty",
};
const asking = { memory: { load: () => Promise.resolve(null), save: () => Promise.resolve() } };

describe("the probe", () => {
  test.each<[string, Partial<Kind>, Partial<S3Abilities>]>([
    ["Ceph", {}, {
      hashHeader: "x-amz-content-sha256",
      hashBoundPut: true,
      ifNoneMatch: true,
      lifecycle: true,
    }],
    [
      "Versity",
      { contentSha256: "refuses", checksumSha256: "holds", lifecycle: "none" },
      { hashHeader: "x-amz-checksum-sha256", hashBoundPut: true, ifNoneMatch: true, lifecycle: false },
    ],
    [
      "one that takes anything",
      { contentSha256: "ignores", ifNoneMatch: "ignores", lifecycle: "set" },
      { hashHeader: null, hashBoundPut: false, ifNoneMatch: false, lifecycle: true },
    ],
    [
      "one that refuses what it does not know",
      { contentSha256: "refuses", checksumSha256: "refuses", ifNoneMatch: "refuses", lifecycle: "none" },
      { hashHeader: null, hashBoundPut: false, ifNoneMatch: false, lifecycle: false },
    ],
  ])("finds what a store is like: %s", async (_, kind, abilities) => {
    const s3 = fakeS3(storeOfKind({ ...ALL, ...kind }), asking);
    expect(await s3.store.abilities()).toEqual(abilities);
  });

  test.each<[string, Kind]>([
    ["all that it wrote", ALL],
    ["the wrong body too, where that was taken", { ...ALL, contentSha256: "ignores" }],
  ])("it deletes %s", async (_, kind) => {
    const there = new Set<string>();
    const store = storeOfKind(kind);
    const s3 = fakeS3((asked) => {
      const answer = store(asked);
      if (asked.method === "PUT" && answer.ok) there.add(asked.url.pathname);
      if (asked.method === "DELETE") there.delete(asked.url.pathname);
      return answer;
    }, asking);
    await s3.store.abilities();
    expect([...there]).toEqual([]);
    for (const { method, url } of s3.asked) {
      if (method === "DELETE") expect(url.pathname).toMatch(/^\/files\/eve-probe\//);
    }
  });

  test("a store that does not answer is given up after two tries, and nothing is deleted that was not written", async () => {
    const s3 = fakeS3(new TypeError("connection refused"), asking);
    await expect(s3.store.put("a", { body: new Uint8Array(), sha256: EMPTY_SHA256, contentType: "a/b" }))
      .rejects.toMatchObject({ code: "storage_unavailable" });
    expect(s3.asked.map(({ method }) => method)).toEqual(["PUT", "PUT"]);
  });

  test("a store that refuses to write over what is there is not taken for one that holds to the hash", async () => {
    const kind = storeOfKind({ ...ALL, contentSha256: "ignores" });
    const there = new Set<string>();
    const s3 = fakeS3((asked) => {
      if (asked.method !== "PUT") return kind(asked);
      if (there.has(asked.url.pathname)) return refusal(403, "AccessDenied");
      const answer = kind(asked);
      if (answer.ok) there.add(asked.url.pathname);
      return answer;
    }, asking);
    const found = await s3.store.abilities().catch((error) => error);
    expect(found.hashBoundPut).not.toBe(true);
  });

  test("a memory that fails is as good as none", async () => {
    const fails = () => Promise.reject(new Error("the database is away"));
    const s3 = fakeS3(storeOfKind(ALL), { memory: { load: fails, save: fails } });
    expect(await s3.store.abilities()).toMatchObject({ hashBoundPut: true });
  });

  test("many ask once, and nobody again", async () => {
    const s3 = fakeS3(storeOfKind(ALL), asking);
    await Promise.all(Array.from({ length: 10 }, () => s3.store.abilities()));
    const { length } = s3.asked;
    await s3.store.abilities();
    expect(s3.asked).toHaveLength(length);
    expect(length).toBeLessThan(7);
  });

  test("a store that could not be asked is asked again", async () => {
    const kind = storeOfKind(ALL);
    let away = true;
    const s3 = fakeS3((asked) => away ? refusal(503, "SlowDown") : kind(asked), {
      ...asking,
      random: () => 0,
    });
    await expect(s3.store.abilities()).rejects.toMatchObject({ code: "storage_unavailable" });
    away = false;
    expect(await s3.store.abilities()).toMatchObject({ hashBoundPut: true });
  });

  test("wrong keys are no lack of abilities", async () => {
    const s3 = fakeS3(refusal(403, "InvalidAccessKeyId"), asking);
    await expect(s3.store.abilities()).rejects.toMatchObject({ code: "storage_misconfigured" });
  });

  test("what is remembered is not asked for, and what was found is remembered under the store's name", async () => {
    const kept = new Map<string, S3Abilities>();
    const memory = {
      load: (name: string) => Promise.resolve(kept.get(name) ?? null),
      save: (name: string, abilities: S3Abilities) => Promise.resolve(void kept.set(name, abilities)),
    };
    const first = fakeS3(storeOfKind(ALL), { memory });
    const found = await first.store.abilities();
    expect([...kept]).toEqual([["https://s3.example.com/files", found]]);
    const second = fakeS3(storeOfKind(ALL), { memory });
    expect(await second.store.abilities()).toEqual(found);
    expect(second.asked).toEqual([]);
    const elsewhere = fakeS3(storeOfKind(ALL), { memory, bucket: "others" });
    await elsewhere.store.abilities();
    expect(elsewhere.asked.length).toBeGreaterThan(0);
  });

  test("the one who asked first and goes does not end it for the others", async () => {
    const kind = storeOfKind(ALL);
    const held = Promise.withResolvers<void>();
    const s3 = fakeS3(async (asked) => {
      await held.promise;
      return kind(asked);
    }, asking);
    const caller = new AbortController();
    const object = { sha256: "ab".repeat(32), sizeBytes: 1, contentType: "a/b", expiresIn: 60 };
    const first = s3.store.presignPut("a", object, { signal: caller.signal });
    const second = s3.store.presignPut("b", object);
    caller.abort(new Error("gone"));
    await expect(first).rejects.toThrow("gone");
    held.resolve();
    expect((await second).headers).toHaveProperty("if-none-match");
    expect(await s3.store.abilities()).toMatchObject({ lifecycle: true });
  });
});
