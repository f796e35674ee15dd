/** What holds for every store, whatever keeps the bytes. */
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { sha256Of } from "../../shared/media/hash.ts";
import type { NewObject, ObjectStore, PresignedRequest } from "../../shared/media/object_store.ts";
import { bytesOf } from "../../shared/providers/bounded_body.ts";

export const bytes = (text: string) => new TextEncoder().encode(text);

export async function textObject(text: string): Promise<NewObject> {
  return { body: bytes(text), sha256: await sha256Of(bytes(text)), contentType: "text/plain" };
}

export async function gzipped(text: string): Promise<Uint8Array<ArrayBuffer>> {
  const packed = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(packed).arrayBuffer());
}

/** Sends what a presigned request allows, or something else. Answers the status and S3's code, where there is one. */
export async function send(
  { url, method, headers }: PresignedRequest,
  body?: Uint8Array<ArrayBuffer>,
  others: Record<string, string | null> = {},
): Promise<{ status: number; code: string | undefined; text: string }> {
  const all = new Headers(headers);
  for (const [name, value] of Object.entries(others)) {
    if (value === null) all.delete(name);
    else all.set(name, value);
  }
  const response = await fetch(url, { method, headers: all, ...(body === undefined ? {} : { body }) });
  const text = await response.text();
  return { status: response.status, code: /<Code>(\w+)<\/Code>/.exec(text)?.[1], text };
}

const textOf = async (store: ObjectStore, key: string) =>
  await new Response((await store.get(key)).body).text();

/** The status of what an address refuses, by what is sent there. */
export interface AddressStatuses {
  /** Another key or method than was signed. */
  unsigned: number;
  otherBody: number;
  longerBody: number;
  otherType: number;
  /** Null: the store needs none to leave alone what is there. */
  withoutCondition: number | null;
  /** The same a second time. */
  again: number;
}

const S3_STATUSES: AddressStatuses = {
  unsigned: 403,
  otherBody: 400,
  longerBody: 403,
  otherType: 403,
  withoutCondition: 403,
  again: 412,
};

/** @param open a store with nothing in it, whose files may have 1,000,000 bytes */
export function behavesAsAnObjectStore(
  open: () => Promise<ObjectStore>,
  statuses: AddressStatuses = S3_STATUSES,
): void {
  let store: ObjectStore;
  beforeAll(async () => {
    store = await open();
  });

  test("what is put is read as it was, with its size and type", async () => {
    const object = await textObject("Дом офицеров");
    expect(await store.put("media/a/put.txt", object)).toEqual({
      created: true,
      sizeBytes: object.body.byteLength,
    });
    const facts = { sizeBytes: object.body.byteLength, contentType: "text/plain", contentEncoding: null };
    expect(await store.head("media/a/put.txt")).toMatchObject(facts);
    expect((await store.head("media/a/put.txt"))!.lastModified).toBeInstanceOf(Date);
    const { body, ...read } = await store.get("media/a/put.txt");
    expect(read).toMatchObject(facts);
    expect(await new Response(body).text()).toBe("Дом офицеров");
  });

  test("an object of no bytes is one", async () => {
    await store.put("media/a/empty.txt", await textObject(""));
    expect(await store.head("media/a/empty.txt")).toMatchObject({ sizeBytes: 0 });
    expect(await textOf(store, "media/a/empty.txt")).toBe("");
  });

  test("a second put leaves what is there, and says so", async () => {
    const object = await textObject("twice");
    expect((await store.put("media/a/twice.txt", object)).created).toBe(true);
    expect((await store.put("media/a/twice.txt", object)).created).toBe(false);
    expect(await textOf(store, "media/a/twice.txt")).toBe("twice");
  });

  test("bytes of another hash are refused, and nothing of them is stored", async () => {
    const { sha256 } = await textObject("announced");
    await expect(store.put("media/a/other.txt", { ...await textObject("sent"), sha256 }))
      .rejects.toMatchObject({ code: "content_mismatch" });
    expect(await store.head("media/a/other.txt")).toBeNull();
  });

  test("more than a file may have is refused with both sizes", async () => {
    const body = new Uint8Array(1_000_001);
    const large = { body, sha256: await sha256Of(body), contentType: "application/octet-stream" };
    const refusal = {
      code: "file_too_large",
      message: expect.stringContaining("Size of file exceeds limit"),
      details: { size_bytes: 1_000_001, limit_bytes: 1_000_000 },
    };
    await expect(store.put("media/a/large.bin", large)).rejects.toMatchObject(refusal);
    const announced = { sha256: large.sha256, sizeBytes: 1_000_001, contentType: "image/png", expiresIn: 60 };
    await expect(store.presignPut("media/a/large.bin", announced)).rejects.toMatchObject(refusal);
  });

  test("what is stored packed is read unpacked, and counted as stored", async () => {
    const text = JSON.stringify({ labels: Array(100).fill("Вечер романса") });
    const body = await gzipped(text);
    const object = { body, sha256: await sha256Of(body), contentType: "application/json" };
    await store.put("vision/a/packed.json", { ...object, contentEncoding: "gzip" });
    const read = await store.get("vision/a/packed.json");
    expect(read).toMatchObject({ sizeBytes: body.byteLength, contentEncoding: "gzip" });
    expect(await new Response(read.body).text()).toBe(text);
    expect(await store.head("vision/a/packed.json")).toMatchObject({
      sizeBytes: body.byteLength,
      contentEncoding: "gzip",
    });
    const head = await store.get("vision/a/packed.json", { range: { from: 0, to: 1 } });
    expect(head).toMatchObject({ sizeBytes: body.byteLength, contentEncoding: null });
    expect([...await bytesOf(new Response(head.body), 10)]).toEqual([0x1f, 0x8b]);
  });

  test("a range gives its bytes, and the size of the whole", async () => {
    await store.put("media/a/range.txt", await textObject("0123456789"));
    const range = async (from: number, to?: number) => {
      const read = await store.get("media/a/range.txt", {
        range: { from, ...(to === undefined ? {} : { to }) },
      });
      return [await new Response(read.body).text(), read.sizeBytes];
    };
    expect(await range(2, 4)).toEqual(["234", 10]);
    expect(await range(8)).toEqual(["89", 10]);
    expect(await range(8, 100)).toEqual(["89", 10]);
    await expect(range(10)).rejects.toMatchObject({ code: "invalid_request" });
    await expect(range(3, 2)).rejects.toMatchObject({ code: "invalid_request" });
  });

  test("what is not there is not found, and deleting it is no error", async () => {
    expect(await store.head("media/a/none.txt")).toBeNull();
    await expect(store.get("media/a/none.txt")).rejects.toMatchObject({ code: "object_not_found" });
    await store.delete("media/a/none.txt");
  });

  test("what is deleted is gone", async () => {
    await store.put("media/a/gone.txt", await textObject("gone"));
    await store.delete("media/a/gone.txt");
    expect(await store.head("media/a/gone.txt")).toBeNull();
  });

  test("many are deleted in requests of a thousand, whether they are there or not", async () => {
    const kept = "many/kept.txt";
    const there = Array.from({ length: 12 }, (_, n) => `many/${n}.txt`);
    for (const key of [...there, kept]) await store.put(key, await textObject("many"));
    const none = Array.from({ length: 2_000 }, (_, n) => `many/none/${n}.txt`);
    expect(await store.deleteMany([...there.slice(0, 6), ...none, ...there.slice(6)])).toEqual({
      failed: [],
    });
    expect((await store.list({ prefix: "many/" })).objects.map(({ key }) => key)).toEqual([kept]);
    expect(await store.deleteMany([])).toEqual({ failed: [] });
  });

  test("pages of a list have each object once, in order, and only those of the prefix", async () => {
    const keys = Array.from({ length: 7 }, (_, n) => `pages/${"abcdefg"[n]}.txt`);
    for (const key of [...keys, "pagesize.txt"]) await store.put(key, await textObject(key));
    for (const limit of [1, 3, 7, 1_000]) {
      const found: string[] = [];
      let cursor: string | null = null;
      let pages = 0;
      do {
        const page: Awaited<ReturnType<ObjectStore["list"]>> = await store.list({
          prefix: "pages/",
          limit,
          cursor,
        });
        expect(page.objects.length).toBeLessThanOrEqual(limit);
        for (const { key, sizeBytes } of page.objects) {
          expect(sizeBytes).toBe(key.length);
          found.push(key);
        }
        cursor = page.cursor;
      } while (cursor !== null && ++pages < 20);
      expect(found, `pages of ${limit}`).toEqual(keys);
    }
    expect(await store.list({ prefix: "none/" })).toEqual({ objects: [], cursor: null });
    const behind = await store.list({ prefix: "pages/", after: keys[2]!, limit: 2 });
    const rest = await store.list({ prefix: "pages/", after: keys[2]!, limit: 2, cursor: behind.cursor });
    expect([...behind.objects, ...rest.objects].map(({ key }) => key)).toEqual(keys.slice(3));
    // What is not there any more is still a place in the order.
    expect((await store.list({ prefix: "pages/", after: "pages/bb" })).objects[0]!.key).toBe(keys[2]);
    await expect(store.list({ limit: 1_001 })).rejects.toMatchObject({ code: "invalid_request" });
  });

  test("keys of all characters that are allowed name what was put under them", async () => {
    const part = fc.string({
      unit: fc.constantFrom(..."aZ09 -_.~@$&'()+,;=%#[]{}^`äЖ字😀"),
      minLength: 1,
      maxLength: 20,
    })
      .filter((text) => text !== "." && text !== "..");
    const keys = new Map<string, string>();
    await fc.assert(
      fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 3 }), async (parts) => {
        const key = `odd/${parts.join("/")}/end`;
        const text = `${keys.size}`;
        if (!keys.has(key)) {
          keys.set(key, text);
          await store.put(key, await textObject(text));
        }
        expect(await textOf(store, key)).toBe(keys.get(key));
      }),
      { numRuns: 25 },
    );
    const { objects } = await store.list({ prefix: "odd/" });
    expect(new Set(objects.map(({ key }) => key))).toEqual(new Set(keys.keys()));
    expect(await store.deleteMany([...keys.keys()])).toEqual({ failed: [] });
    expect((await store.list({ prefix: "odd/" })).objects).toEqual([]);
  });

  test.each([":", "*", "?", '"', "<", ">", "|", "!", "\\", "\n"])(
    "a key with %j is refused",
    async (char) => {
      await expect(store.put(`media/a${char}b`, await textObject("a"))).rejects.toMatchObject({
        code: "storage_key_invalid",
      });
    },
  );

  describe("presigned", () => {
    test("anybody may read at the address, with the headers that it names", async () => {
      await store.put("media/a/presigned.txt", await textObject("for all"));
      const request = await store.presignGet("media/a/presigned.txt", {
        expiresIn: 60,
        contentDisposition: 'attachment; filename="a b+c.txt"',
        contentType: "application/octet-stream",
      });
      const response = await fetch(request.url);
      expect(await response.text()).toBe("for all");
      expect(response.headers.get("content-disposition")).toBe('attachment; filename="a b+c.txt"');
      expect(response.headers.get("content-type")).toBe("application/octet-stream");
      const left = request.expiresAt.getTime() - Date.now();
      expect(left).toBeLessThanOrEqual(60_000);
    });

    test("the address is for that object and for reading", async () => {
      await store.put("media/a/presigned2.txt", await textObject("other"));
      const request = await store.presignGet("media/a/presigned.txt", { expiresIn: 60 });
      const other = { ...request, url: request.url.replace("presigned.txt", "presigned2.txt") };
      expect((await send(other)).status).toBe(statuses.unsigned);
      expect((await send({ ...request, method: "PUT" }, bytes("x"))).status).toBe(statuses.unsigned);
      expect((await send(request)).text).toBe("for all");
    });

    test("what was announced is taken, once", async () => {
      const { body, sha256 } = await textObject("announced and sent");
      const object = { sha256, sizeBytes: body.byteLength, contentType: "text/plain", expiresIn: 60 };
      const request = await store.presignPut("media/a/sent.txt", object);
      expect(request.headers).toMatchObject({
        "content-length": String(body.byteLength),
        "content-type": "text/plain",
      });
      expect((await send(request, body)).status).toBe(200);
      expect((await send(request, body)).status).toBe(statuses.again);
      expect(await textOf(store, "media/a/sent.txt")).toBe("announced and sent");
    });

    test("another body, length or type is not taken, nor one without the condition", async () => {
      const { body, sha256 } = await textObject("announced");
      const object = { sha256, sizeBytes: body.byteLength, contentType: "text/plain", expiresIn: 60 };
      const request = await store.presignPut("media/a/held.txt", object);
      const wrong = [
        await send(request, bytes("annOunced")),
        await send(request, bytes("announced!")),
        await send(request, bytes("announced!"), { "content-length": "10" }),
        await send(request, body, { "content-type": "text/html" }),
        ...(statuses.withoutCondition === null ? [] : [await send(request, body, { "if-none-match": null })]),
      ];
      const { otherBody, longerBody, otherType, withoutCondition } = statuses;
      expect(wrong.map(({ status }) => status)).toEqual([
        otherBody,
        longerBody,
        longerBody,
        otherType,
        ...(withoutCondition === null ? [] : [withoutCondition]),
      ]);
      expect(await store.head("media/a/held.txt")).toBeNull();
      expect((await send(request, body)).status).toBe(200);
    });

    test("what is sent packed is stored packed", async () => {
      const body = await gzipped("<p>page</p>");
      const object = { sha256: await sha256Of(body), sizeBytes: body.byteLength, contentType: "text/html" };
      const request = await store.presignPut("crawl/a/page.html", {
        ...object,
        contentEncoding: "gzip",
        expiresIn: 60,
      });
      expect((await send(request, body)).status).toBe(200);
      expect(await store.head("crawl/a/page.html")).toMatchObject({
        sizeBytes: body.byteLength,
        contentEncoding: "gzip",
      });
      expect(await textOf(store, "crawl/a/page.html")).toBe("<p>page</p>");
      const read = await store.presignGet("crawl/a/page.html", { expiresIn: 60, contentEncoding: "gzip" });
      expect((await send(read)).text).toBe("<p>page</p>");
    });

    test.each([0, 604_801, 1.5])("an address for %s seconds is refused", async (expiresIn) => {
      await expect(store.presignGet("media/a/x", { expiresIn })).rejects.toMatchObject({
        code: "invalid_request",
      });
    });
  });
}
