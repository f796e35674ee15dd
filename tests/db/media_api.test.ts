/** The API for files, as its callers meet it: over a real database, without S3, and with a bucket in memory. Answers are held against its OpenAPI document. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { API_ROUTES } from "../../shared/api/api_endpoint.ts";
import { sha256Of } from "../../shared/media/hash.ts";
import { moveSpooled } from "../../shared/media/move.ts";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";
import { signToken } from "../../shared/tokens/sign.ts";
import { ajv, document, documentedCalls } from "../harness/documented_calls.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { apiOver, type ApiUnderTest, json, PUBLISHABLE } from "../harness/media_api.ts";
import { type Answer, countersOf, expectExactCounters, setLimit } from "../harness/media.ts";
import { type MemoryStore, memoryStore } from "../harness/memory_store.ts";

let db: TestDatabase;
let sql: TestDatabase["sql"];
let api: ApiUnderTest;
beforeAll(async () => {
  db = await cloneDatabase();
  sql = db.sql;
});
afterAll(() => db?.drop());
afterEach(async () => {
  await Promise.all(api.background);
  await api.close();
});
beforeEach(async () => {
  await empty(sql, "eve.media_references", "public.media_objects", "eve.media_spool");
  await sql`update eve.media_counters set used_bytes = 0, reserved_bytes = 0, objects = 0`;
  await setLimit(sql, {
    total: 15e9,
    emergency: 14e9,
    tenant: 2e9,
    media: 10e9,
    vision: 2e9,
    crawl: 2e9,
    spool: 1e8,
  });
});

const bytes = (text: string) => new TextEncoder().encode(text);
/** A picture: one pixel, and what makes it another one. */
function png(salt = ""): Uint8Array<ArrayBuffer> {
  const pixel =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const head = Uint8Array.from(atob(pixel), (char) => char.charCodeAt(0));
  return new Uint8Array([...head, ...bytes(salt)]);
}
const asType = (type: string, body: BodyInit | Uint8Array<ArrayBuffer>) => ({
  headers: { "content-type": type },
  body,
});

const ask: ReturnType<typeof documentedCalls> = (method, path, init) =>
  documentedCalls(api)(method, path, init);
describe("without S3", () => {
  beforeEach(() => {
    api = apiOver(db);
  });

  test("a picture is stored, is there once, and is read at a signed address", async () => {
    const picture = png();
    const sha256 = await sha256Of(picture);
    const first = await ask("POST", "/v1/media", asType("image/png", picture));
    expect(first).toMatchObject({
      status_code: 201,
      created: true,
      sha256,
      tenant_id: "default",
      kind: "media",
      mime_type: "image/png",
      size_bytes: picture.length,
      state: "verified",
      stored_in: "postgres",
      s3_key: `media/default/${sha256.slice(0, 2)}/${sha256}.png`,
    });
    expect(await ask("POST", "/v1/media", asType("image/png", picture))).toMatchObject({
      status_code: 200,
      created: false,
      sha256,
    });
    expect((await countersOf(sql))["total "]).toEqual([picture.length, 0, 1]);
    const redirect = await api.call("GET", `/v1/media/${sha256}`);
    expect(redirect.status).toBe(302);
    const read = await api.call("GET", redirect.headers.get("location")!, { as: null });
    expect(read.status).toBe(200);
    expect(read.headers.get("content-type")).toBe("image/png");
    expect(read.headers.get("x-content-type-options")).toBe("nosniff");
    expect(new Uint8Array(await read.arrayBuffer())).toEqual(picture);
    await expectExactCounters(sql);
  });

  test("a range is answered as one", async () => {
    const { url } = await ask("POST", "/v1/media", asType("text/plain", "0123456789"));
    const part = async (range: string) => {
      const response = await api.call("GET", url, { as: null, headers: { range } });
      return [response.status, await response.text(), response.headers.get("content-range")];
    };
    expect(await part("bytes=2-4")).toEqual([206, "234", "bytes 2-4/10"]);
    expect(await part("bytes=7-")).toEqual([206, "789", "bytes 7-9/10"]);
    expect(await part("bytes=-3")).toEqual([206, "789", "bytes 7-9/10"]);
    expect(await part("bytes=20-")).toEqual([200, "0123456789", null]);
  });

  test("JSON and HTML are stored packed, counted as stored, and read unpacked", async () => {
    const text = JSON.stringify({ text: "again ".repeat(10_000) });
    const stored = await ask("POST", "/v1/media", asType("application/json", text));
    expect(stored).toMatchObject({
      content_encoding: "gzip",
      size_bytes: text.length,
      sha256: await sha256Of(bytes(text)),
    });
    expect(stored.stored_bytes).toBeLessThan(text.length / 10);
    expect((await countersOf(sql))["total "]).toEqual([stored.stored_bytes, 0, 1]);
    expect(await (await api.call("GET", stored.url, { as: null })).text()).toBe(text);
    await expectExactCounters(sql);
  });

  test("a multipart form has the file and the rest as fields", async () => {
    const form = new FormData();
    form.set("file", new File([png("form")], "a.png", { type: "image/png" }));
    form.set("kind", "crawl");
    form.set("key", "chats/7/photo/a.png");
    form.set("metadata", '{"from": "ann"}');
    expect(await ask("POST", "/v1/media", { body: form })).toMatchObject({ status_code: 201, kind: "crawl" });
    expect(await ask("GET", "/v1/media/chats/7/photo/a.png?info=true")).toMatchObject({
      key: "chats/7/photo/a.png",
      metadata: { from: "ann" },
    });
    expect((await api.call("GET", "/v1/media/chats/7/photo/a.png")).status).toBe(302);
  });

  test.each([
    ["HTML", "text/html", "<!doctype html><script>alert(1)</script>"],
    ["SVG", "image/svg+xml", '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'],
    ["XML", "application/xml", '<?xml version="1.0"?><a/>'],
    ["a script", "text/javascript", "alert(1)"],
  ])("%s is downloaded, never shown", async (_, type, text) => {
    const { url } = await ask("POST", "/v1/media", asType(type, text));
    const response = await api.call("GET", url, { as: null });
    expect(response.headers.get("content-disposition")).toMatch(/^attachment; filename="[0-9a-f]{16}\.\w+"$/);
    expect(response.headers.get("content-security-policy")).toContain("sandbox");
  });

  test.each([
    ["a picture declared as another", "image/jpeg", png()],
    ["SVG declared as a picture", "image/png", bytes("<svg xmlns='x'/>")],
    ["HTML declared as a PDF", "application/pdf", bytes("<!doctype html>")],
    ["a PDF declared as text", "text/plain", bytes("%PDF-1.4\n")],
    ["nothing declared as a picture", "image/png", bytes("")],
  ])("%s is refused, and nothing is stored", async (_, type, body) => {
    expect(await ask("POST", "/v1/media", asType(type, body))).toMatchObject({
      status_code: 415,
      error: { code: "media_type_mismatch", details: { declared: type } },
    });
    expect(await sql`select from public.media_objects`).toHaveLength(0);
  });

  test("an address of another object, changed, or over is none", async () => {
    const { url, s3_key } = await ask("POST", "/v1/media", asType("image/png", png()));
    const other = await ask("POST", "/v1/media", asType("image/png", png("other")));
    const status = async (address: string) => (await api.call("GET", address, { as: null })).status;
    expect(await status(url)).toBe(200);
    expect(await status(url.replace(s3_key, other.s3_key))).toBe(401);
    expect(await status(url.replace(/signature=./, "signature=0"))).toBe(401);
    expect(await status(url.replace(/expires=\d+/, "expires=99999999999999"))).toBe(401);
    expect(await status(`${url.split("?")[0]}`)).toBe(401);
    expect((await api.call("PUT", url, { as: null, body: png() })).status).toBe(401);
    api.now.at += 301_000;
    expect(await status(url)).toBe(401);
  });

  test("an address lives as long as is asked for", async () => {
    const { sha256 } = await ask("POST", "/v1/media", asType("image/png", png()));
    const { url, expires_at } = await ask("POST", `/v1/media/${sha256}/url`, json({ expires_in: 60 }));
    expect(Date.parse(expires_at)).toBe(api.now.at + 60_000);
    api.now.at += 59_000;
    expect((await api.call("GET", url, { as: null })).status).toBe(200);
    expect(await ask("POST", `/v1/media/${sha256}/url`, json({ expires_in: 604_801 }))).toMatchObject({
      status_code: 400,
    });
  });

  test("the limit of the database is a limit like any other", async () => {
    await setLimit(sql, { spool: 150 });
    expect(await ask("POST", "/v1/media", asType("image/png", png()))).toMatchObject({ status_code: 201 });
    expect(await ask("POST", "/v1/media", asType("text/plain", "x".repeat(100)))).toMatchObject({
      status_code: 507,
      error: {
        code: "storage_quota_exceeded",
        details: { limit: "spool", limit_bytes: 150, asked_bytes: 100 },
      },
    });
    await expectExactCounters(sql);
    expect(await sql`select from public.media_objects`).toHaveLength(1);
  });

  test("a refusal says limit, used and asked, and a check says the same before", async () => {
    await setLimit(sql, { tenant: 100 });
    await ask("POST", "/v1/media", asType("text/plain", "x".repeat(60)));
    const refused_by = { limit: "tenant", limit_bytes: 100, used_bytes: 60, asked_bytes: 41 };
    expect(await ask("POST", "/v1/storage/quota/check", json({ size_bytes: 41, content_type: "media" })))
      .toMatchObject({
        allowed: false,
        refused_by,
      });
    expect(await ask("POST", "/v1/media", asType("text/plain", "y".repeat(41)))).toMatchObject({
      status_code: 507,
      error: { code: "storage_quota_exceeded", details: refused_by },
    });
    expect(await ask("POST", "/v1/storage/quota/check", json({ size_bytes: 40 }))).toMatchObject({
      allowed: true,
    });
  });

  test("a file that is announced is sent to a signed address, verified, and there", async () => {
    const picture = png("direct");
    const sha256 = await sha256Of(picture);
    const announcement = {
      sha256,
      size_bytes: picture.length,
      content_type: "image/png",
      kind: "media",
      key: "mine/a.png",
    };
    const begun = await ask("POST", "/v1/media/uploads", json(announcement));
    expect(begun).toMatchObject({
      status: "upload",
      object: { state: "reserved" },
      verify: { body: { key: "mine/a.png" } },
    });
    // Nothing has arrived.
    expect(await ask("POST", `/v1/media/uploads/${sha256}/verify`, json(begun.verify.body))).toMatchObject({
      status_code: 404,
      error: { code: "object_not_found" },
    });
    expect((await api.call("GET", `/v1/media/${sha256}`)).status).toBe(404);
    const { url, headers, method } = begun.upload;
    expect((await api.call(method, url, { as: null, headers, body: png("another") })).status)
      .toBeGreaterThanOrEqual(400);
    expect((await api.call(method, url, { as: null, headers, body: picture })).status).toBe(200);
    const verified = await ask("POST", `/v1/media/uploads/${sha256}/verify`, json(begun.verify.body));
    expect(verified).toMatchObject({ status_code: 200, state: "verified" });
    expect(await ask("GET", "/v1/media/mine/a.png?info=true")).toMatchObject({ sha256 });
    expect(await ask("POST", "/v1/media/uploads", json(announcement))).toMatchObject({
      status: "present",
      object: { sha256 },
    });
    expect((await countersOf(sql))["total "]).toEqual([picture.length, 0, 1]);
    await expectExactCounters(sql);
  });

  test("what arrived and is of another type is deleted, and its room is held as long as its address is valid", async () => {
    const body = bytes("%PDF-1.4 not a picture");
    const sha256 = await sha256Of(body);
    const begun = await ask(
      "POST",
      "/v1/media/uploads",
      json({ sha256, size_bytes: body.length, mime_type: "image/png" }),
    );
    await api.call("PUT", begun.upload.url, { as: null, headers: begun.upload.headers, body });
    expect(await ask("POST", `/v1/media/uploads/${sha256}/verify`, json({}))).toMatchObject({
      status_code: 415,
      error: { details: { declared: "image/png", found: "application/pdf" } },
    });
    expect((await countersOf(sql))["total "]).toEqual([0, body.length, 0]);
    expect(await sql`select from eve.media_spool`).toHaveLength(0);
    await expectExactCounters(sql);
  });

  test("a page after the other, by keys of ours and by those of programs", async () => {
    for (let n = 0; n < 5; n++) {
      await ask("POST", `/v1/media?key=chats/1/photo/${n}.png`, asType("image/png", png(String(n))));
    }
    const walk = async (query: string) => {
      const keys: string[] = [];
      let cursor = "";
      do {
        const page = await ask("GET", `/v1/media?limit=2${query}${cursor}`);
        keys.push(...page.files.map(({ key }: Answer) => key));
        cursor = page.next_cursor === null ? "" : `&cursor=${page.next_cursor}`;
      } while (cursor !== "");
      return keys;
    };
    const all = await walk("");
    expect(all).toHaveLength(5);
    expect(all).toEqual(all.toSorted());
    expect(await walk("&prefix=chats/1/")).toEqual([0, 1, 2, 3, 4].map((n) => `chats/1/photo/${n}.png`));
    expect(await walk("&prefix=chats/2/")).toEqual([]);
    expect(await walk("&prefix=media/default/")).toEqual(all);
    expect(await walk("&prefix=crawl/")).toEqual([]);
  });

  test("deleting drops a use, and the last one the object", async () => {
    const { sha256 } = await ask(
      "POST",
      "/v1/media?ref_kind=chat_message&ref_id=1",
      asType("image/png", png()),
    );
    await ask("POST", "/v1/media?ref_kind=chat_message&ref_id=2", asType("image/png", png()));
    expect(await ask("DELETE", `/v1/media/${sha256}`)).toMatchObject({
      status: "kept",
      object: { refs_count: 2 },
    });
    expect(await ask("DELETE", `/v1/media/${sha256}?ref_kind=chat_message&ref_id=1`)).toMatchObject({
      status: "kept",
    });
    expect(await ask("DELETE", `/v1/media/${sha256}?ref_kind=chat_message&ref_id=2`)).toMatchObject({
      status: "deleted",
    });
    expect(await ask("DELETE", `/v1/media/${sha256}`)).toMatchObject({ status_code: 404 });
    expect(await countersOf(sql)).toEqual({ "total ": [0, 0, 0] });
    expect(await sql`select from eve.media_spool`).toHaveLength(0);
  });

  test("an answer about a picture is found under its key, also where another picture had the same", async () => {
    const about = (picture: string) =>
      ask(
        "POST",
        `/v1/media?kind=vision&source_sha256=${picture}&model=gemini-3.5-flash&schema_version=1`,
        asType("application/json", '{"objects":[]}'),
      );
    const [one, two] = ["a".repeat(64), "b".repeat(64)] as const;
    expect(await about(one)).toMatchObject({
      created: true,
      s3_key: `vision/default/${one}_gemini-3.5-flash_v1.json`,
    });
    expect(await about(two)).toMatchObject({ created: false });
    for (const picture of [one, two]) {
      expect((await api.call("GET", `/v1/media/vision/default/${picture}_gemini-3.5-flash_v1.json`)).status)
        .toBe(302);
    }
    expect(await ask("POST", "/v1/media?kind=vision", asType("application/json", "{}"))).toMatchObject({
      status_code: 400,
    });
  });

  test("figures: quota, usage, stats, health", async () => {
    const picture = png();
    await ask("POST", "/v1/media", asType("image/png", picture));
    expect(await ask("GET", "/v1/storage/quota")).toMatchObject({
      tenant_id: "default",
      total: { limit_bytes: 15e9, used_bytes: picture.length, free_bytes: 15e9 - picture.length },
      kinds: { media: { objects: 1 } },
    });
    expect(await ask("GET", "/v1/storage/usage/default")).toMatchObject({
      limit_bytes: 2e9,
      kinds: { media: { objects: 1, used_bytes: picture.length, without_references_bytes: picture.length } },
    });
    expect(await ask("GET", "/v1/storage/stats")).toMatchObject({
      tenants: [{ tenant_id: "default", objects: 1 }],
      spooled: { objects: 1 },
    });
    expect(await ask("GET", "/v1/storage/health")).toMatchObject({
      storage: "postgres",
      is_connected: true,
      s3: { is_configured: false },
    });
  });

  test("a clean-up says first what it would do, then does it, the longest unused first", async () => {
    for (const [n, kind] of [["1", "media"], ["2", "media"], ["3", "crawl"]]) {
      await ask("POST", `/v1/media?kind=${kind}`, asType("text/plain", n!.repeat(100)));
    }
    await sql`update public.media_objects set last_seen_at = now() - interval '10 days' where kind = 'crawl'`;
    await sql`update public.media_objects set last_seen_at = now() - interval '2 days' where file_sha256 = ${await sha256Of(
      bytes("2".repeat(100)),
    )}`;
    await setLimit(sql, { total: 1000, emergency: 900 });
    expect(await ask("POST", "/v1/storage/cleanup", json({}))).toMatchObject({
      status: "not_needed",
      deleted_objects: 0,
    });
    const asked = { force: true, target_gb: 1e-7 };
    const dry = await ask("POST", "/v1/storage/cleanup", json({ ...asked, dry_run: true }));
    expect(dry).toMatchObject({
      status: "done",
      dry_run: true,
      freed_bytes: 200,
      deleted_objects: 2,
      target_bytes: 100,
    });
    expect(await sql`select from public.media_objects`).toHaveLength(3);
    const done = await ask("POST", "/v1/storage/cleanup", json(asked));
    expect(done.steps).toEqual(dry.steps);
    expect(await sql`select file_sha256 from public.media_objects`).toEqual([
      { file_sha256: await sha256Of(bytes("1".repeat(100))) },
    ]);
    expect((await countersOf(sql))["total "]).toEqual([100, 0, 1]);
    expect(await ask("POST", "/v1/storage/cleanup", json({ force: true, target_free_gb: 1 }))).toMatchObject({
      status: "done",
      used_bytes_after: 0,
    });
  });

  test.each([
    ["a tenant with a slash", "POST", "/v1/media?tenant_id=a/b", asType("text/plain", "x")],
    ["a field that there is not", "POST", "/v1/media?tenant=a", asType("text/plain", "x")],
    ["a key with a colon", "POST", "/v1/media?key=a:b", asType("text/plain", "x")],
    ["a key that leads elsewhere", "POST", "/v1/media?key=a/../b", asType("text/plain", "x")],
    ["metadata that is no JSON", "POST", "/v1/media?metadata=x", asType("text/plain", "x")],
    [
      "metadata without an end",
      "POST",
      `/v1/media?metadata=${encodeURIComponent(JSON.stringify({ a: "x".repeat(17_000) }))}`,
      asType("text/plain", "x"),
    ],
    ["a use without its id", "POST", "/v1/media?ref_kind=chat", asType("text/plain", "x")],
    ["no type at all", "POST", "/v1/media", asType("nonsense", "x")],
    [
      "a hash in capitals",
      "POST",
      "/v1/media/uploads",
      json({ sha256: "A".repeat(64), size_bytes: 1, content_type: "image/png" }),
    ],
    [
      "a size below nothing",
      "POST",
      "/v1/media/uploads",
      json({ sha256: "a".repeat(64), size_bytes: -1, content_type: "image/png" }),
    ],
    [
      "JSON sent straight",
      "POST",
      "/v1/media/uploads",
      json({ sha256: "a".repeat(64), size_bytes: 1, content_type: "application/json" }),
    ],
    ["a cursor of somebody's own", "GET", "/v1/media?cursor=%FF", {}],
    ["two targets", "POST", "/v1/storage/cleanup", json({ target_gb: 1, target_free_gb: 1 })],
  ])("%s is refused with 400", async (_, method, path, init) => {
    const answer = await ask(method, path, init as RequestInit);
    expect(answer.status_code, JSON.stringify(answer)).toBe(400);
    expect(await sql`select from public.media_objects`).toHaveLength(0);
  });
});

describe("who may", () => {
  const keys: Record<string, string> = {};
  beforeAll(async () => {
    await sql`select public.eve_tenant_save('acme'), public.eve_tenant_save('other')`;
    for (const [name, scopes] of [["bot", ["media"]], ["talker", ["llm"]]] as const) {
      const secret = await mintConsumerSecret("service");
      await sql`select public.eve_consumer_add(${name}, 'service', ${secret.keyId}, ${secret.proof})`;
      await sql`select public.eve_consumer_access(${name}, ${scopes as unknown as string[]}::text[], 'acme')`;
      keys[name] = secret.text;
    }
  });
  beforeEach(() => {
    api = apiOver(db);
  });

  test("a consumer with the scope for its tenant, and for no other", async () => {
    expect(await ask("POST", "/v1/media", { ...asType("image/png", png()), as: keys.bot! })).toMatchObject({
      status_code: 201,
      tenant_id: "acme",
    });
    const other = await ask("POST", "/v1/media?tenant_id=other", asType("image/png", png()));
    for (
      const [method, path, init] of [
        ["GET", `/v1/media/${other.sha256}?tenant_id=other`, {}],
        ["GET", "/v1/media?tenant_id=other", {}],
        ["DELETE", `/v1/media/${other.sha256}?tenant_id=other`, {}],
        ["POST", `/v1/media/${other.sha256}/url?tenant_id=other`, json({})],
        ["POST", "/v1/media?tenant_id=other", asType("image/png", png("2"))],
        ["GET", "/v1/storage/usage/other", {}],
        ["GET", "/v1/storage/quota?tenant_id=other", {}],
      ] as const
    ) {
      expect(await ask(method, path, { ...init, as: keys.bot! }), path).toMatchObject({
        status_code: 403,
        error: { code: "tenant_not_allowed" },
      });
    }
    for (
      const [method, path, init] of [["GET", "/v1/storage/stats", {}], ["GET", "/v1/storage/growth", {}], [
        "POST",
        "/v1/storage/cleanup",
        json({ force: true }),
      ]] as const
    ) {
      expect(await ask(method, path, { ...init, as: keys.bot! })).toMatchObject({ status_code: 403 });
    }
    expect(await sql`select from public.media_objects where tenant_id = 'other' and state = 'verified'`)
      .toHaveLength(1);
  });

  test("one without it, nobody, and the key that is everybody's: none", async () => {
    const tries: [string | null, number, string][] = [
      [keys.talker!, 403, "credential_insufficient"],
      [null, 401, "credential_missing"],
      [PUBLISHABLE, 401, "credential_missing"],
      ["sb_secret_wrong", 401, "credential_invalid"],
      ["eve_service_0123456789abcdef_" + "0".repeat(64), 401, "credential_invalid"],
    ];
    for (const [as, status_code, code] of tries) {
      for (const path of ["/v1/media", "/v1/storage/quota"]) {
        expect(await ask("GET", path, { as }), String(as)).toMatchObject({ status_code, error: { code } });
      }
    }
    // A stranger learns nothing of paths.
    expect((await api.call("GET", "/v1/nothing", { as: null })).status).toBe(401);
    expect((await api.call("GET", "/v1/nothing")).status).toBe(404);
    // Both are counted, with who asked.
    expect(api.logged).toEqual(
      expect.arrayContaining(["refused credential_missing nobody", "refused not_found project"]),
    );
    expect((await api.call("DELETE", "/v1/storage/quota")).status).toBe(405);
  });

  test("a notebook's token carries the scope, and its end is the end", async () => {
    const secret = await mintConsumerSecret("notebook");
    await sql`select public.eve_consumer_add('nb', 'notebook', ${secret.keyId}, ${secret.proof})`;
    await sql`select public.eve_consumer_access('nb', '{llm,media}', 'acme')`;
    const [row] = await sql`select public.eve_issue_token(consumer => 'nb') as token`;
    const issued = row!.token;
    const token = await signToken({
      tokenId: issued.token_id,
      consumerId: issued.consumer_id,
      scope: { models: null, class: "batch", requests: null, tokens: null },
      issuedAt: issued.issued_at_s,
      expiresAt: issued.expires_at_s,
    }, api.tokens);
    expect(await ask("GET", "/v1/storage/quota", { as: token })).toMatchObject({ tenant_id: "acme" });
    await sql`select public.eve_token_revoke(token_id => ${issued.token_id})`;
    expect(await ask("GET", "/v1/storage/quota", { as: token })).toMatchObject({
      status_code: 401,
      error: { code: "token_revoked" },
    });
    // A large body is not read for it, as a file or in a form.
    const part = '--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n';
    for (const contentType of ["application/octet-stream", "multipart/form-data; boundary=b"]) {
      let sent = 0;
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => controller.enqueue(bytes(part)),
        pull(controller) {
          sent += 65_536;
          if (sent > 8 * 1024 * 1024) controller.close();
          else controller.enqueue(new Uint8Array(65_536));
        },
      });
      const refused = await api.call("POST", "/v1/media", {
        as: token,
        headers: { "content-type": contentType },
        body,
      });
      expect([contentType, refused.status]).toEqual([contentType, 401]);
      expect((await refused.json()).error.code).toBe("token_revoked");
      expect(sent).toBeLessThan(1024 * 1024);
    }
    // Its enrolment secret is no key.
    expect(await ask("GET", "/v1/storage/quota", { as: secret.text })).toMatchObject({ status_code: 403 });
  });

  test("a signed-in user for the tenants they are a member of", async () => {
    const session = `eyJhbGciOiJIUzI1NiJ9.${btoa("{}").replaceAll("=", "")}.sig`;
    api.sessions.set(session, "a0000000-0000-4000-8000-000000000001");
    expect(await ask("GET", "/v1/storage/quota", { as: session })).toMatchObject({
      error: { code: "tenant_not_allowed" },
    });
    await sql`select public.eve_tenant_member('other', 'a0000000-0000-4000-8000-000000000001')`;
    expect(await ask("GET", "/v1/storage/quota", { as: session })).toMatchObject({ tenant_id: "other" });
    expect(await ask("GET", "/v1/storage/quota?tenant_id=acme", { as: session })).toMatchObject({
      status_code: 403,
    });
    api.sessions.clear();
    expect(await ask("GET", "/v1/storage/quota", { as: session })).toMatchObject({
      error: { code: "credential_invalid" },
    });
  });
});

describe("with S3", () => {
  let bucket: MemoryStore;
  beforeEach(() => {
    bucket = memoryStore();
    api = apiOver(db, { s3: bucket });
  });

  test("a file goes to the bucket, and its reader to an address of the bucket", async () => {
    const stored = await ask("POST", "/v1/media", asType("image/png", png()));
    expect(stored).toMatchObject({ stored_in: "s3", state: "verified" });
    expect([...bucket.objects.keys()]).toEqual([stored.s3_key]);
    expect((await api.call("GET", `/v1/media/${stored.sha256}`)).headers.get("location")).toBe(
      `https://bucket.example/${stored.s3_key}`,
    );
    expect(await ask("DELETE", `/v1/media/${stored.sha256}`)).toMatchObject({ status: "deleted" });
    expect(bucket.objects.size).toBe(0);
  });

  test("what is stored packed says so at its address, also one that was given while it was in the database", async () => {
    const read = async (sha256: string) =>
      (await api.call("GET", `/v1/media/${sha256}`)).headers.get("location")!;
    const { sha256 } = await ask("POST", "/v1/media", asType("application/json", '{"a": 1}'));
    expect(new URL(await read(sha256)).searchParams.get("encoding")).toBe("gzip");
    bucket.away = true;
    const spooled = await ask("POST", "/v1/media", asType("application/json", '{"b": 1}'));
    const address = await read(spooled.sha256);
    bucket.away = false;
    expect(await (await api.call("GET", address, { as: null })).text()).toBe('{"b": 1}');
    await moveSpooled(api.media, { signal: new AbortController().signal, leftMs: () => 60_000 });
    const moved = await api.call("GET", address, { as: null });
    expect(moved.status).toBe(302);
    expect(new URL(moved.headers.get("location")!).searchParams.get("encoding")).toBe("gzip");
    const picture = await ask("POST", "/v1/media", asType("image/png", png()));
    expect(await read(picture.sha256)).not.toContain("encoding");
  });

  test("a verification is of the caller's own file, whatever key it names", async () => {
    const [body, others] = [png("mine"), png("somebody else's")];
    const [sha256, theirs] = await Promise.all([body, others].map(sha256Of));
    bucket.objects.set(`media/other/${theirs!.slice(0, 2)}/${theirs}.png`, {
      body,
      contentType: "image/png",
      contentEncoding: null,
      at: new Date(),
    });
    const begun = await ask(
      "POST",
      "/v1/media/uploads",
      json({ sha256, size_bytes: body.length, content_type: "image/png" }),
    );
    expect(begun.verify.body).toMatchObject({ s3_key: begun.object.s3_key });
    const verify = (s3_key: string) =>
      ask("POST", `/v1/media/uploads/${sha256}/verify`, json({ ...begun.verify.body, s3_key }));
    expect(await verify([...bucket.objects.keys()][0]!)).toMatchObject({
      error: { code: "object_not_found" },
    });
    bucket.objects.set(begun.object.s3_key, { ...[...bucket.objects.values()][0]! });
    expect(await verify(begun.object.s3_key)).toMatchObject({ state: "verified" });
  });

  test("while it is away, files go to the database and are served from there", async () => {
    bucket.away = true;
    const stored = await ask("POST", "/v1/media", asType("image/png", png()));
    expect(stored).toMatchObject({ status_code: 201, stored_in: "postgres", state: "verified" });
    expect((await api.call("GET", stored.url, { as: null })).status).toBe(200);
    expect(await ask("GET", "/v1/storage/health")).toMatchObject({
      storage: "s3 with spool",
      is_connected: true,
      s3: { is_connected: false, error: "storage_unavailable" },
      postgres: { is_connected: true },
    });
    await expectExactCounters(sql);
  });

  test("that it is away is noticed by the first call that fails: small files are sent to the database meanwhile", async () => {
    const announce = async (salt: string, size_bytes = png(salt).length) =>
      await ask(
        "POST",
        "/v1/media/uploads",
        json({ sha256: await sha256Of(png(salt)), size_bytes, content_type: "image/png" }),
      );
    bucket.away = true;
    // Nobody has asked it anything yet: an address is signed here.
    const first = await announce("first");
    expect(first.upload.url).toContain("bucket.example");
    // A caller who cannot send it there sends it through the function.
    expect(await ask("POST", "/v1/media", asType("image/png", png("first")))).toMatchObject({
      status_code: 201,
      stored_in: "postgres",
    });
    const { upload, verify } = await announce("second");
    expect(upload.url).not.toContain("bucket.example");
    const put = await api.call("PUT", upload.url, {
      as: null,
      headers: upload.headers,
      body: png("second"),
    });
    expect(put.status).toBeLessThan(300);
    const sha256 = await sha256Of(png("second"));
    expect(await ask("POST", `/v1/media/uploads/${sha256}/verify`, json(verify.body))).toMatchObject({
      stored_in: "postgres",
      state: "verified",
    });
    // More than the function takes has no place in the database; it may be back by the time it is sent.
    expect((await announce("large", 20_000_000)).upload.url).toContain("bucket.example");
    bucket.away = false;
    await moveSpooled(api.media, { signal: new AbortController().signal, leftMs: () => 60_000 });
    expect((await announce("third")).upload.url).toContain("bucket.example");
  });

  test("without a spool it is an error, and a second try needs no second room", async () => {
    await api.close();
    api = apiOver(db, { s3: bucket, mode: "s3" });
    bucket.away = true;
    expect(await ask("POST", "/v1/media", asType("image/png", png()))).toMatchObject({
      status_code: 503,
      error: { code: "storage_unavailable", retryable: true },
    });
    bucket.away = false;
    expect(await ask("POST", "/v1/media", asType("image/png", png()))).toMatchObject({ status_code: 201 });
    expect((await countersOf(sql))["total "]).toEqual([png().length, 0, 1]);
  });

  test("an object that an upload left behind before it was registered is taken for what it is", async () => {
    const picture = png();
    const sha256 = await sha256Of(picture);
    const key = `media/default/${sha256.slice(0, 2)}/${sha256}.png`;
    bucket.hashBoundPut = false;
    // Something else, which a store that binds nothing may have been given.
    bucket.objects.set(key, {
      body: bytes("else"),
      contentType: "image/png",
      contentEncoding: null,
      at: new Date(),
    });
    expect(await ask("POST", "/v1/media", asType("image/png", picture))).toMatchObject({ state: "verified" });
    expect(bucket.objects.get(key)!.body).toEqual(picture);
    await expectExactCounters(sql);
  });

  test("what the store did not hold to its hash is stored, then read, and deleted if it is another", async () => {
    bucket.hashBoundPut = false;
    // As long as its address is valid, what is right may still change: it is proven after that.
    for (const [body, state] of [[png("right"), "stored"], [png("wrong"), null]] as const) {
      const sha256 = await sha256Of(state === null ? png("RIGHT") : body);
      const begun = await ask(
        "POST",
        "/v1/media/uploads",
        json({ sha256, size_bytes: body.length, content_type: "image/png" }),
      );
      bucket.objects.set(begun.object.s3_key, {
        body,
        contentType: "image/png",
        contentEncoding: null,
        at: new Date(),
      });
      expect(await ask("POST", `/v1/media/uploads/${sha256}/verify`, json({}))).toMatchObject({
        state: "stored",
      });
      await Promise.all(api.background);
      const rows = await sql`select state from public.media_objects where file_sha256 = ${sha256}`;
      expect(rows.map((row) => row.state)).toEqual([state ?? "reserved"]);
      expect(bucket.objects.has(begun.object.s3_key)).toBe(state !== null);
    }
    await expectExactCounters(sql);
  });

  test("another size than was announced is another file: deleted", async () => {
    const sha256 = await sha256Of(png());
    const begun = await ask(
      "POST",
      "/v1/media/uploads",
      json({ sha256, size_bytes: 5, content_type: "image/png" }),
    );
    bucket.objects.set(begun.object.s3_key, {
      body: png(),
      contentType: "image/png",
      contentEncoding: null,
      at: new Date(),
    });
    expect(await ask("POST", `/v1/media/uploads/${sha256}/verify`, json({}))).toMatchObject({
      status_code: 400,
      error: { code: "content_mismatch" },
    });
    expect(bucket.objects.size).toBe(0);
    expect((await countersOf(sql))["total "]).toEqual([0, 5, 0]);
    await expectExactCounters(sql);
  });

  test("while it is away a delete is noted, and the file is not read any more", async () => {
    const { sha256 } = await ask("POST", "/v1/media", asType("image/png", png()));
    bucket.away = true;
    expect(await ask("DELETE", `/v1/media/${sha256}`)).toMatchObject({ status: "deleting" });
    expect((await api.call("GET", `/v1/media/${sha256}`)).status).toBe(404);
    // Its room is taken until it is really gone.
    expect((await countersOf(sql))["total "]).toEqual([png().length, 0, 1]);
    expect(await ask("POST", "/v1/media", asType("image/png", png()))).toMatchObject({
      status_code: 409,
      error: { code: "upload_busy" },
    });
  });

  test("a file larger than allowed is refused with both sizes", async () => {
    await api.close();
    api = apiOver(db, { s3: bucket, maxFileBytes: 50 });
    const details = { size_bytes: png().length, limit_bytes: 50 };
    expect(await ask("POST", "/v1/media", asType("image/png", png()))).toMatchObject({
      status_code: 413,
      error: {
        code: "file_too_large",
        message: expect.stringContaining("Size of file exceeds limit"),
        details,
      },
    });
    const announced = { sha256: "a".repeat(64), size_bytes: png().length, content_type: "image/png" };
    expect(await ask("POST", "/v1/media/uploads", json(announced))).toMatchObject({
      status_code: 413,
      error: { details },
    });
    expect(await countersOf(sql)).toEqual({ "total ": [0, 0, 0] });
  });

  test("the same file by fifty at once is one object, sent at most as often", async () => {
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => ask("POST", "/v1/media", asType("image/png", png("many")))),
    );
    expect(new Set(answers.map(({ sha256 }) => sha256)).size).toBe(1);
    expect(bucket.puts).toHaveLength(1);
    await expectExactCounters(sql);
    expect((await countersOf(sql))["total "]).toEqual([png("many").length, 0, 1]);
  });

  test("fifty uploads against room for twenty: the bucket holds twenty, and the counters say so", async () => {
    await setLimit(sql, { total: 20 * 100 + 50 });
    const answers = await Promise.all(
      Array.from(
        { length: 50 },
        (_, n) => ask("POST", "/v1/media", asType("text/plain", String(n).padEnd(100, "x"))),
      ),
    );
    expect(answers.filter(({ status_code }) => status_code === 201)).toHaveLength(20);
    expect(answers.filter(({ status_code }) => status_code === 507)).toHaveLength(30);
    expect(bucket.objects.size).toBe(20);
    expect((await countersOf(sql))["total "]).toEqual([2000, 0, 20]);
  });
});

test("the document is one of OpenAPI 3.1, and names every route with its shapes", async () => {
  api = apiOver(db);
  const response = await api.call("GET", "/v1/openapi.json", { as: null });
  const served = await response.json();
  expect(served.openapi).toBe("3.1.0");
  expect(served).toEqual(document);
  for (const route of API_ROUTES) {
    const operation = served.paths[route.path][route.method];
    for (const { content } of Object.values(operation.responses) as Answer[]) {
      for (const { schema } of Object.values(content ?? {}) as Answer[]) {
        expect(() => ajv.compile(schema)).not.toThrow();
      }
    }
    expect(operation.summary).not.toBe("");
  }
  for (
    const [method, path] of [
      ["post", "/v1/media"],
      ["post", "/v1/media/uploads"],
      ["get", "/v1/media/{name}"],
      ["post", "/v1/media/{name}/url"],
      ["get", "/v1/storage/quota"],
      ["get", "/v1/storage/usage/{tenant_id}"],
      ["post", "/v1/storage/quota/check"],
      ["post", "/v1/storage/cleanup"],
      ["get", "/v1/storage/stats"],
    ] as const
  ) expect(served.paths[path]?.[method], `${method} ${path}`).toBeDefined();
});
