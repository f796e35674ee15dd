import { describe, expect, test } from "vitest";
import { sha256Of } from "../../../shared/media/hash.ts";
import { ALL, emptyList, fakeS3, NOW, xml } from "./fake_s3.ts";

const body = new TextEncoder().encode("hello");
const ok = () => new Response(null, { status: 200 });
const signedHeaders = (url: string) => new URL(url).searchParams.get("X-Amz-SignedHeaders")!.split(";");

describe("what is asked", () => {
  test("path style, the key percent-encoded, its id with a colon, and all that matters signed", async () => {
    const s3 = fakeS3(ok());
    const sha256 = await sha256Of(body);
    await s3.store.put("media/a/ключ (1)+b.txt", {
      body,
      sha256,
      contentType: "text/plain",
      contentEncoding: "gzip",
    });
    const { method, url, headers } = s3.asked[0]!;
    expect(method).toBe("PUT");
    expect(url.href).toBe(
      "https://s3.example.com/files/media/a/%D0%BA%D0%BB%D1%8E%D1%87%20%281%29%2Bb.txt",
    );
    expect(headers.get("authorization")).toMatch(
      /^AWS4-HMAC-SHA256 Credential=tenant:AKIAEXAMPLE\/20261122\/ru-central-1\/s3\/aws4_request, SignedHeaders=content-encoding;content-type;host;if-none-match;x-amz-content-sha256;x-amz-date;x-amz-meta-content-encoding, Signature=[0-9a-f]{64}$/,
    );
    expect(headers.get("x-amz-content-sha256")).toBe(sha256);
    expect(headers.get("if-none-match")).toBe("*");
  });

  test("nothing that a proxy on the way may change is signed", async () => {
    const s3 = fakeS3(emptyList());
    await s3.store.list();
    expect(s3.asked[0]!.headers.get("accept-encoding")).toBe("identity");
    expect(s3.asked[0]!.headers.get("authorization")).not.toContain("accept-encoding");
  });

  test("a presigned PUT signs hash, length, type and that nothing is there, and says what to send and until when", async () => {
    const s3 = fakeS3(ok());
    const sha256 = await sha256Of(body);
    const request = await s3.store.presignPut("a.txt", {
      sha256,
      sizeBytes: 5,
      contentType: "text/plain",
      expiresIn: 900,
    });
    expect(request).toMatchObject({
      method: "PUT",
      headers: {
        "content-length": "5",
        "content-type": "text/plain",
        "if-none-match": "*",
        "x-amz-content-sha256": sha256,
      },
      expiresAt: new Date(NOW + 900_000),
    });
    expect(signedHeaders(request.url)).toEqual([...Object.keys(request.headers), "host"].sort());
    expect(s3.asked).toEqual([]);
  });

  test("where the store holds to less, less is asked of it", async () => {
    const sha256 = await sha256Of(body);
    const object = { sha256, sizeBytes: 5, contentType: "text/plain", expiresIn: 60 };
    const headersWith = async (abilities: Partial<typeof ALL>) => {
      const memory = { load: () => Promise.resolve({ ...ALL, ...abilities }), save: () => Promise.resolve() };
      const s3 = fakeS3(ok(), { memory });
      const { headers } = await s3.store.presignPut("a.txt", object);
      await s3.store.put("a.txt", { body, sha256, contentType: "text/plain" });
      expect(s3.asked[0]!.headers.has("if-none-match")).toBe("if-none-match" in headers);
      return Object.keys(headers).filter((name) => !name.startsWith("content-"));
    };
    expect(await headersWith({})).toEqual(["if-none-match", "x-amz-content-sha256"]);
    expect(await headersWith({ hashHeader: "x-amz-checksum-sha256" })).toEqual([
      "if-none-match",
      "x-amz-checksum-sha256",
    ]);
    expect(await headersWith({ hashHeader: null, ifNoneMatch: false })).toEqual([]);
  });

  test("a presigned GET has no `+` for a space", async () => {
    const s3 = fakeS3(ok());
    const { url } = await s3.store.presignGet("a.txt", {
      expiresIn: 60,
      contentDisposition: "attachment; a+b",
    });
    expect(url).toContain("response-content-disposition=attachment%3B%20a%2Bb");
  });

  test("deleting many asks with its checksum, a thousand keys at a time, and answers what failed", async () => {
    const answer = xml(
      "<DeleteResult><Error><Key>k&lt;7</Key><Code>AccessDenied</Code></Error>" +
        "<Error><Key>k8</Key><Code>NoSuchKey</Code></Error></DeleteResult>",
    );
    const s3 = fakeS3([answer, xml("<DeleteResult/>")]);
    const keys = ["k<7", "k8", "bad\u0001", ...Array.from({ length: 1_500 }, (_, n) => `many/${n}`)];
    expect(await s3.store.deleteMany(keys)).toEqual({
      failed: [{ key: "bad\u0001", code: "storage_key_invalid" }, { key: "k<7", code: "AccessDenied" }],
    });
    expect(s3.asked.map(({ body }) => body.match(/<Key>/g)!.length)).toEqual([1_000, 502]);
    expect(s3.asked[0]!.body).toContain("<Key>k&lt;7</Key>");
    expect(s3.asked[0]!.headers.get("content-md5")).toMatch(/^[A-Za-z0-9+/]{22}==$/);
  });

  const rule = (
    { id = "r", status = "Enabled", filter = "", days = 1 }: {
      id?: string;
      status?: string;
      filter?: string;
      days?: number;
    },
  ) =>
    `<Rule><ID>${id}</ID><Filter>${filter}</Filter><Status>${status}</Status><AbortIncompleteMultipartUpload>` +
    `<DaysAfterInitiation>${days}</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>`;
  const prefix = (name: string) => `<Prefix>${name}</Prefix>`;
  const config = (...rules: string[]) =>
    xml(
      `<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${
        rules.join("")
      }</LifecycleConfiguration>`,
    );

  test("rules for uploads are set on the gateway's folders alone, and those of others are left as they are", async () => {
    const other =
      "<Rule><ID>theirs</ID><Status>Enabled</Status><Filter><And><Prefix>a&amp;b</Prefix></And></Filter>" +
      "<Expiration><Days>3</Days></Expiration></Rule>";
    const ours = ["media", "vision", "crawl"].map((kind) =>
      rule({ id: `eve-abort-unfinished-uploads-${kind}`, filter: prefix(`${kind}/`), days: 9 })
    );
    const s3 = fakeS3([config(other, ...ours), config(other, ...ours), ok()]);
    expect(await s3.store.lifecycle!.abortUnfinishedAfterDays()).toBe(9);
    await s3.store.lifecycle!.setAbortUnfinishedAfterDays(1);
    const { method, body } = s3.asked[2]!;
    expect(method).toBe("PUT");
    expect(body).toContain(other);
    expect(body.match(/<DaysAfterInitiation>\d+</g)).toEqual(Array(3).fill("<DaysAfterInitiation>1<"));
    expect(body.replace(other, "").match(/<Prefix>[^<]*</g)).toEqual(
      ["<Prefix>media/<", "<Prefix>vision/<", "<Prefix>crawl/<"],
    );
  });

  test("a rule counts where it is on and holds for all of a folder, and all three folders need one", async () => {
    const daysOf = async (...rules: string[]) =>
      await fakeS3(config(...rules)).store.lifecycle!.abortUnfinishedAfterDays();
    const kinds = (...names: string[]) => names.map((name) => rule({ filter: prefix(`${name}/`) }));
    expect(await daysOf()).toBeNull();
    expect(await daysOf(...kinds("tmp"), rule({ status: "Disabled" }))).toBeNull();
    expect(await daysOf(...kinds("media", "vision"))).toBeNull();
    expect(await daysOf(...kinds("media", "vision", "media/a"), rule({ filter: prefix("crawl/"), days: 5 })))
      .toBe(5);
    const tagged = `<And>${prefix("")}<Tag><Key>a</Key><Value>b</Value></Tag></And>`;
    expect(await daysOf(rule({ filter: tagged }))).toBeNull();
    // Somebody's own for all of the bucket.
    expect(await daysOf(rule({ filter: prefix("") }))).toBe(1);
    expect(await daysOf(rule({}))).toBe(1);
  });

  test.each([0, 366, 1.5])("unfinished uploads may not live for %s days", async (days) => {
    const s3 = fakeS3(ok());
    await expect(s3.store.lifecycle!.setAbortUnfinishedAfterDays(days)).rejects.toMatchObject({
      code: "invalid_request",
    });
    expect(s3.asked).toEqual([]);
  });

  test("a cursor from elsewhere is refused", async () => {
    const s3 = fakeS3(ok());
    await expect(s3.store.multipart!.list({ cursor: "none of ours" })).rejects.toMatchObject({
      code: "invalid_request",
    });
  });

  test("keys come back as they are, whether the store encodes them or not", async () => {
    const listed = async (key: string, encoding: string) => {
      const contents = `<Contents><Key>${key}</Key><Size>1</Size><ETag>&quot;e&quot;</ETag></Contents>`;
      const s3 = fakeS3(xml(`<ListBucketResult>${encoding}${contents}</ListBucketResult>`));
      return (await s3.store.list()).objects.map(({ key, etag }) => [key, etag]);
    };
    const url = "<EncodingType>url</EncodingType>";
    expect(await listed("a+b%2Bc%20d", url)).toEqual([["a b+c d", "e"]]);
    expect(await listed("a+b%2Bc&amp;d", "")).toEqual([["a+b%2Bc&d", "e"]]);
  });
});

describe("a store that forgets how its objects are encoded, as Supabase Storage", () => {
  test("is told in the metadata, which it keeps", async () => {
    const packed = new Blob(['{"a": 1}']).stream().pipeThrough(new CompressionStream("gzip"));
    const bytes = new Uint8Array(await new Response(packed).arrayBuffer());
    const kept = { "content-length": String(bytes.byteLength), "x-amz-meta-content-encoding": "gzip" };
    const s3 = fakeS3(() => new Response(bytes, { headers: kept }));
    await s3.store.put("a.json", {
      body: bytes,
      sha256: await sha256Of(bytes),
      contentType: "application/json",
      contentEncoding: "gzip",
    });
    expect(s3.asked[0]!.headers.get("x-amz-meta-content-encoding")).toBe("gzip");
    const { body, ...facts } = await s3.store.get("a.json");
    expect(await new Response(body).text()).toBe('{"a": 1}');
    expect(facts).toMatchObject({ sizeBytes: bytes.byteLength, contentEncoding: "gzip" });
    expect(await s3.store.head("a.json")).toMatchObject({ contentEncoding: "gzip" });
    const { url } = await s3.store.presignGet("a.json", { expiresIn: 60, contentEncoding: "gzip" });
    expect(url).toContain("response-content-encoding=gzip");
  });

  test("and looks at no body, so that the hash is checked before anything is sent", async () => {
    const s3 = fakeS3(ok());
    const wrong = { body, sha256: await sha256Of(new Uint8Array(5)), contentType: "text/plain" };
    await expect(s3.store.put("a.txt", wrong)).rejects.toMatchObject({ code: "content_mismatch" });
    expect(s3.asked).toEqual([]);
  });
});

describe("a runtime that unpacks by itself and takes the headers away, as Deno 2.1", () => {
  const listed = (key: string) =>
    xml(`<ListBucketResult><Contents><Key>${key}</Key><Size>34</Size></Contents></ListBucketResult>`);
  const unpacked = new Response(
    new Blob(['{"a": 1}']).stream(),
    { headers: { "content-type": "application/json", etag: '"e"', "x-amz-meta-content-encoding": "gzip" } },
  );
  const facts = { sizeBytes: 34, contentType: "application/json", contentEncoding: "gzip", etag: "e" };

  test("what is read is unpacked once, and its stored size comes from a list", async () => {
    const s3 = fakeS3([() => unpacked.clone(), listed("vision/a/b.json")]);
    const { body, ...read } = await s3.store.get("vision/a/b.json");
    expect(read).toMatchObject(facts);
    expect(await new Response(body).text()).toBe('{"a": 1}');
    expect(s3.asked[1]!.url.searchParams.get("prefix")).toBe("vision/a/b.json");
  });

  test("so does that of a HEAD", async () => {
    const head = () => new Response(null, { headers: unpacked.headers });
    expect(await fakeS3([head, listed("b.json")]).store.head("b.json")).toMatchObject(facts);
    await expect(fakeS3([head, listed("b.json.old")]).store.head("b.json")).rejects.toMatchObject({
      code: "storage_failed",
    });
  });

  test("of a range it is not told that it is one of something packed", async () => {
    const part = () => new Response("ab", { status: 206, headers: { "content-range": "bytes 0-1/34" } });
    const s3 = fakeS3(part);
    expect(await s3.store.get("b.json", { range: { from: 0, to: 1 } })).toMatchObject({ sizeBytes: 34 });
    expect(s3.asked[0]!.url.searchParams.get("response-content-encoding")).toBe("identity");
  });
});
