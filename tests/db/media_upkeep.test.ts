/** What looks after files: lifecycle, clean-up, the move to S3, the comparison with the bucket; and a process that dies in between. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { GatewayError } from "../../shared/contract/gateway_error.ts";
import { countStorage } from "../../shared/database/media/media_counts.ts";
import { createStorageCounts } from "../../shared/media/counts.ts";
import { systemClock } from "../../shared/runtime/clock.ts";
import { uploadFile } from "../../shared/media/upload/upload.ts";
import { sha256Of } from "../../shared/media/hash.ts";
import type { Media } from "../../shared/media/storage.ts";
import { proveObject } from "../../shared/media/upload/prove.ts";
import { keepUp, reconcile } from "../../shared/media/upkeep.ts";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { apiOver, type ApiUnderTest } from "../harness/media_api.ts";
import { countersOf, expectExactCounters, setLimit } from "../harness/media.ts";
import { type MemoryStore, memoryStore } from "../harness/memory_store.ts";

let db: TestDatabase;
let sql: TestDatabase["sql"];
let clock: TestClock;
let api: ApiUnderTest;
let bucket: MemoryStore;
let media: Media;
const DAY = 86_400_000;
const NOON = "2026-11-18T12:00:00Z";

beforeAll(async () => {
  db = await cloneDatabase();
  sql = db.sql;
  clock = await freezeClock(sql);
});
afterAll(() => db?.drop());
afterEach(() => api.close());
beforeEach(async () => {
  await empty(
    sql,
    "eve.media_reconciliation",
    "eve.media_references",
    "public.media_objects",
    "eve.media_spool",
    "eve.alerts",
  );
  await sql`update eve.media_counters set used_bytes = 0, reserved_bytes = 0, objects = 0`;
  await sql`update eve.operations set last_status = null`;
  await setLimit(sql, {
    total: 15e9,
    emergency: 14e9,
    tenant: 2e9,
    media: 10e9,
    vision: 2e9,
    crawl: 2e9,
    spool: 1e8,
  });
  await clock.set(NOON);
  bucket = memoryStore(() => clock.nowMs());
  api = apiOver(db, { s3: bucket });
  media = api.media;
});

const time = { signal: new AbortController().signal, leftMs: () => 60_000 };
const text = (content: string) => new TextEncoder().encode(content);
const upload = (content: string, kind: "media" | "crawl" = "media", links = {}) =>
  uploadFile(media, { kind: "project" }, {
    tenantId: null,
    kind,
    mimeType: "text/plain",
    body: text(content),
    metadata: {},
    links,
    vision: null,
  });
const isDue = async () => (await sql`select eve.media_is_due('media') as due`)[0]!.due;
const keys = () => [...bucket.objects.keys()].sort();
const rowKeys = async () =>
  (await sql`select s3_key from public.media_objects order by 1`).map((row) => row.s3_key);
/** The bucket, the registry and the counters say the same. */
async function expectEven(): Promise<void> {
  expect(keys()).toEqual(await rowKeys());
  await expectExactCounters(sql);
}

describe("what nobody uses leaves by itself", () => {
  test("after its kind's days, counted from its last use; what something refers to stays", async () => {
    const [page] = [await upload("a page", "crawl")];
    const [old, used, seen] = [
      await upload("old"),
      await upload("used", "media", { ref_kind: "chat", ref_id: "1" }),
      await upload("seen"),
    ];
    expect(await isDue()).toBe(false);
    await clock.advance(7 * DAY - 1);
    expect((await keepUp(media, time)).count).toBe(0);
    await clock.advance(1);
    expect(await isDue()).toBe(true);
    expect(await keepUp(media, time)).toMatchObject({ count: 1, details: { unused_crawl: 1 } });
    expect(keys()).not.toContain(page.object.s3_key);
    // Read on the twentieth day, it stays until the fiftieth.
    await clock.advance(13 * DAY);
    expect(await media.registry.find({ kind: "project" }, null, seen.object.sha256, { uses: true })).not
      .toBeNull();
    await clock.advance(10 * DAY);
    expect(await keepUp(media, time)).toMatchObject({ count: 1, details: { unused_media: 1 } });
    expect(keys()).toEqual([used.object.s3_key, seen.object.s3_key].sort());
    expect(keys()).not.toContain(old.object.s3_key);
    await clock.advance(400 * DAY);
    await keepUp(media, time);
    expect(keys()).toEqual([used.object.s3_key]);
    await expectEven();
  });
});

class Died extends Error {}

test("a file that has a key and no use leaves like any other: a key is a name", async () => {
  const { object } = await upload("named", "media", { key: "chats/1/a.txt" });
  await clock.advance(20 * DAY);
  // To ask whether it is there is no use of it either.
  expect((await api.call("GET", "/v1/media/chats/1/a.txt?info=true")).status).toBe(200);
  await clock.advance(10 * DAY);
  expect(await keepUp(media, time)).toMatchObject({ count: 1, details: { unused_media: 1 } });
  expect(keys()).not.toContain(object.s3_key);
  await expectEven();
});

test("a file that is read stays for its days from then on", async () => {
  await upload("named", "media", { key: "chats/1/a.txt" });
  await clock.advance(20 * DAY);
  expect((await api.call("GET", "/v1/media/chats/1/a.txt")).status).toBe(302);
  await clock.advance(20 * DAY);
  expect(await keepUp(media, time)).toMatchObject({ count: 0 });
});

describe("a process that dies", () => {
  const dieAt = (operation: string) => {
    bucket.before = (at) => {
      if (at !== operation) return;
      bucket.before = null;
      throw new Died();
    };
  };

  test("between the put and the note of it: the same upload again finds it, and it is counted once", async () => {
    dieAt("after put");
    // As if the process had ended: nothing tidies up after it.
    media = { ...media, registry: { ...media.registry, failed: () => Promise.reject(new Died()) } };
    await expect(upload("half")).rejects.toThrow(Died);
    media = api.media;
    expect(bucket.objects.size).toBe(1);
    expect((await countersOf(sql))["total "]).toEqual([0, 4, 0]);
    expect(await upload("half")).toMatchObject({ created: true, object: { state: "verified" } });
    expect((await countersOf(sql))["total "]).toEqual([4, 0, 1]);
    await expectEven();
  });

  test("between the put and the note of it, and nobody comes back: no orphan is left after the sweep", async () => {
    dieAt("after put");
    media = { ...media, registry: { ...media.registry, failed: () => Promise.reject(new Died()) } };
    await expect(upload("half")).rejects.toThrow(Died);
    media = api.media;
    await clock.advance(899_000);
    await keepUp(media, time);
    expect(bucket.objects.size).toBe(1);
    await clock.advance(2_000);
    expect(await isDue()).toBe(true);
    expect(await keepUp(media, time)).toMatchObject({ details: { unfinished: 1 } });
    expect(bucket.objects.size).toBe(0);
    await expectEven();
    expect(await countersOf(sql)).toEqual({ "total ": [0, 0, 0] });
  });

  test.each(["delete", "after delete"])(
    "in the middle of a delete (%s): the next run goes on with it",
    async (at) => {
      await Promise.all(["1", "2", "3"].map((content) => upload(content)));
      await clock.advance(31 * DAY);
      dieAt(at);
      await expect(keepUp(media, time)).rejects.toThrow(Died);
      // Marked, and nobody else's until the mark ends.
      expect(await keepUp(media, time)).toMatchObject({ count: 0 });
      expect((await countersOf(sql))["total "]).toEqual([3, 0, 3]);
      await clock.advance(121_000);
      expect(await keepUp(media, time)).toMatchObject({ details: { unfinished: 3 } });
      await expectEven();
      expect(bucket.objects.size).toBe(0);
    },
  );

  test("the store, in the middle: nothing is lost, and nothing is free that is not gone", async () => {
    await upload("1");
    await clock.advance(31 * DAY);
    bucket.away = true;
    await expect(keepUp(media, time)).rejects.toMatchObject({ code: "storage_unavailable" });
    expect((await countersOf(sql))["total "]).toEqual([1, 0, 1]);
    bucket.away = false;
    await clock.advance(121_000);
    await keepUp(media, time);
    await expectEven();
  });
});

describe("while S3 is away", () => {
  test("every upload that was answered is in the bucket afterwards, byte for byte, in order, once", async () => {
    const contents = Array.from({ length: 12 }, (_, n) => `file ${n} ${"x".repeat(n * 1000)}`);
    const answered: { content: string; key: string }[] = [];
    for (const [n, content] of contents.entries()) {
      bucket.away = n >= 3 && n < 9;
      const { object } = await upload(content);
      expect(object.stored_in).toBe(bucket.away ? "postgres" : "s3");
      answered.push({ content, key: object.s3_key! });
    }
    await expectExactCounters(sql);
    bucket.away = true;
    expect(await keepUp(media, time)).toMatchObject({ count: 0, details: { s3: "storage_unavailable" } });
    // It is tried again after a while, and not at once.
    bucket.away = false;
    expect(await keepUp(media, time)).toMatchObject({ count: 0 });
    await clock.advance(31_000);
    expect(await isDue()).toBe(true);
    expect(await keepUp(media, time)).toMatchObject({ details: { moved_to_s3: 6 } });
    for (const { content, key } of answered) {
      expect(new TextDecoder().decode(bucket.objects.get(key)!.body)).toBe(content);
    }
    expect(bucket.puts).toEqual([0, 1, 2, 9, 10, 11, 3, 4, 5, 6, 7, 8].map((n) => answered[n]!.key));
    expect(await sql`select from eve.media_spool`).toHaveLength(0);
    expect(await sql`select distinct stored_in from public.media_objects`).toEqual([{ stored_in: "s3" }]);
    await expectEven();
    expect(await isDue()).toBe(false);
  });

  test("one that is killed while it moves is moved by the next run, once", async () => {
    bucket.away = true;
    const { object } = await upload("moving");
    bucket.away = false;
    // It is put, and nobody hears of it.
    const deaf = { ...media.rows, moved: () => new Promise<never>(() => {}) };
    void keepUp({ ...media, rows: deaf }, time);
    await expect.poll(() => bucket.objects.size).toBe(1);
    // Another run leaves it alone as long as it may be at work.
    expect(await keepUp(media, time)).toMatchObject({ count: 0 });
    await clock.advance(121_000);
    expect(await keepUp(media, time)).toMatchObject({ details: { moved_to_s3: 1 } });
    expect(bucket.puts).toEqual([object.s3_key]);
    await expectEven();
    await expectExactCounters(sql);
  });

  test.each([["of the same size", "other"], ["of another size", "another"], ["the same", "right"]])(
    "what the bucket has under the key already and is %s: what waited is there afterwards, packed or not",
    async (_, content) => {
      bucket.away = true;
      const { object } = await upload("right");
      const packed = await api.call("POST", "/v1/media", {
        body: '{"right": 1}',
        headers: { "content-type": "application/json" },
      });
      const { s3_key: packedKey } = await packed.json();
      bucket.away = false;
      const left = { contentType: "text/plain", contentEncoding: null, at: new Date() };
      bucket.objects.set(object.s3_key!, { ...left, body: text(content) });
      const [spooled] = await sql`select body from eve.media_spool where key = ${packedKey}`;
      bucket.objects.set(packedKey, {
        ...left,
        contentEncoding: "gzip",
        body: new Uint8Array(spooled!.body).map((byte) => content === "right" ? byte : byte ^ 1),
      });
      bucket.puts = [];
      expect(await keepUp(media, time)).toMatchObject({ details: { moved_to_s3: 2 } });
      expect(new TextDecoder().decode(bucket.objects.get(object.s3_key!)!.body)).toBe("right");
      expect(bucket.objects.get(packedKey)!.body).toEqual(new Uint8Array(spooled!.body));
      expect(bucket.puts.length).toBe(content === "right" ? 0 : 2);
      await expectEven();
    },
  );

  test("one that is deleted while it moves is nowhere afterwards", async () => {
    bucket.away = true;
    const { object } = await upload("short");
    bucket.away = false;
    bucket.before = async (at) => {
      if (at !== "put") return;
      bucket.before = null;
      expect((await api.call("DELETE", `/v1/media/${object.sha256}`)).status).toBe(200);
    };
    await keepUp(media, time);
    expect(bucket.objects.size).toBe(0);
    await expectEven();
    expect(await sql`select from eve.media_spool`).toHaveLength(0);
  });

  test("the bound of the database holds, and what is beyond it is refused and not lost track of", async () => {
    await setLimit(sql, { spool: 10 });
    bucket.away = true;
    await upload("0123456789");
    await expect(upload("more")).rejects.toMatchObject({
      code: "storage_quota_exceeded",
      details: { limit: "spool" },
    });
    expect((await countersOf(sql))["spool "]).toEqual([10, 0, 1]);
    bucket.away = false;
    await keepUp(media, time);
    await clock.advance(1_000_000);
    await keepUp(media, time);
    await expectEven();
  });

  test("where S3 is set up later, what the database holds goes there", async () => {
    await api.close();
    api = apiOver(db);
    media = api.media;
    await upload("before S3");
    expect(await isDue()).toBe(false);
    await api.close();
    api = apiOver(db, { s3: bucket });
    media = api.media;
    await reconcile(media, time);
    expect(await isDue()).toBe(true);
    expect(await keepUp(media, time)).toMatchObject({ details: { moved_to_s3: 1 } });
    await expectEven();
  });
});

describe("in an emergency", () => {
  test("pages go first, then what nothing refers to, as long as it takes; what is young or in use stays", async () => {
    await upload("p".repeat(100), "crawl");
    await clock.advance(2 * DAY);
    await upload("n".repeat(100), "crawl");
    await upload("a".repeat(100));
    await clock.advance(1 * DAY);
    await upload("b".repeat(100));
    await upload("u".repeat(100), "media", { ref_kind: "chat", ref_id: "1" });
    await setLimit(sql, { total: 550, emergency: 450 });
    expect(await isDue()).toBe(true);
    // 500 are used, 450 are the threshold, 350 the target: the old page, then one file.
    const { details } = await keepUp(media, time);
    expect(details.emergency).toMatchObject({
      status: "done",
      deleted_objects: 2,
      used_bytes_after: 300,
      target_bytes: 350,
    });
    expect(
      (await sql`select kind, refs_count from public.media_objects order by 1, 2`).map((row) =>
        `${row.kind} ${row.refs_count}`
      ),
    ).toEqual(
      ["crawl 0", "media 0", "media 1"],
    );
    const alerts = () => sql`select kind from eve.alerts where closed_at is null order by 1`;
    expect(await alerts()).toEqual([{ kind: "storage_emergency_cleanup" }]);
    await keepUp(media, time);
    expect(await alerts()).toEqual([]);
    await expectEven();
  });

  /** A page that the gateway fetched: its row uses its file. */
  async function fetched(content: string): Promise<string> {
    const { object } = await upload(content.repeat(100), "crawl");
    await sql`
      insert into public.crawl_pages (url, canonical_url, domain, state, html_sha256, used_at)
      values (${content}, ${content}, 'example.com', 'fetched', ${object.sha256}, eve.clock())`;
    return object.sha256;
  }
  const pages = async () =>
    (await sql`select url, html_sha256 is null as is_released from public.crawl_pages order by url`)
      .map(({ url, is_released }) => `${url} ${is_released}`);

  test("fetched pages release their files too, those first that nobody has asked for in the longest time", async () => {
    await empty(sql, "public.crawl_pages");
    await fetched("a");
    const shared = await fetched("s");
    await clock.advance(1 * DAY);
    await fetched("b");
    await clock.advance(1 * DAY);
    await fetched("c");
    // Asked for again since, and a chat's own.
    await sql`
      insert into eve.media_references (tenant_id, file_sha256, ref_kind, ref_id) values ('default', ${shared}, 'chat', '1')`;
    await clock.advance(2 * DAY);
    await setLimit(sql, { total: 450, emergency: 400 });
    // 400 are used, 350 the target.
    const asked = async (terms: Record<string, unknown>) =>
      await (await api.call("POST", "/v1/storage/cleanup", {
        body: JSON.stringify(terms),
        headers: { "content-type": "application/json" },
      })).json();
    expect(await asked({ dry_run: true })).toMatchObject({ status: "done", freed_bytes: 100 });
    expect(await asked({ dry_run: true, target_gb: 0 })).toMatchObject({
      status: "not_enough",
      freed_bytes: 200,
    });
    expect(await pages()).toEqual(["a false", "b false", "c false", "s false"]);
    const { details } = await keepUp(media, time);
    expect(details.emergency).toMatchObject({ status: "done", deleted_objects: 1, freed_bytes: 100 });
    // What a chat uses, or a page that was asked for two days ago, stays.
    expect(await sql`select refs_count from public.media_objects where file_sha256 = ${shared}`).toEqual([
      { refs_count: 1 },
    ]);
    expect(await pages()).toContain("c false");
    expect(bucket.objects.size).toBe(3);
    expect(await asked({ force: true, target_gb: 0 })).toMatchObject({ freed_bytes: 100 });
    expect(bucket.objects.size).toBe(2);
    await expectEven();
    await empty(sql, "public.crawl_pages");
  });

  test("that could not free enough: an alert of its own", async () => {
    await upload("u".repeat(100), "media", { ref_kind: "chat", ref_id: "1" });
    await setLimit(sql, { total: 100, emergency: 50 });
    const { details } = await keepUp(media, time);
    expect(details.emergency).toMatchObject({ status: "not_enough", deleted_objects: 0 });
    expect(await sql`select kind, severity from eve.alerts where closed_at is null order by 1`).toEqual([
      { kind: "storage_emergency_cleanup", severity: "warning" },
      { kind: "storage_full", severity: "critical" },
    ]);
  });
});

describe("an emergency clean-up that somebody begins by hand", () => {
  const byHand = async (terms: Record<string, unknown>) =>
    await (await api.call("POST", "/v1/storage/cleanup", {
      body: JSON.stringify(terms),
      headers: { "content-type": "application/json" },
    })).json();
  const alerts = async () =>
    (await sql`select kind from eve.alerts where closed_at is null order by 1`).map(({ kind }) => kind);
  const counted = async () =>
    Number(
      (await sql`
      select value from eve.metric_counters where metric = 'storage_emergency_cleanups_total'`)[0]!.value,
    );

  test("is an alert and is counted, as one that begins by itself", async () => {
    const counts = createStorageCounts({
      count: countStorage(api.transport.call),
      clock: systemClock,
      background: (work) => void api.background.push(work),
      log: () => {},
    });
    api.media.registry = counts.registry(api.media.registry);
    await upload("u".repeat(100), "media", { ref_kind: "chat", ref_id: "1" });
    await setLimit(sql, { total: 100, emergency: 50 });
    const before = await counted();
    expect(await byHand({ dry_run: true })).toMatchObject({ status: "not_enough" });
    expect(await byHand({ what: "crawl" })).toMatchObject({ status: "done" });
    expect(await alerts()).toEqual([]);
    expect(await byHand({})).toMatchObject({ status: "not_enough" });
    expect(await alerts()).toEqual(["storage_emergency_cleanup", "storage_full"]);
    await expect.poll(counted).toBe(before + 1);
  });

  test("is none below the threshold, whatever is asked for", async () => {
    await upload("u".repeat(100), "media", { ref_kind: "chat", ref_id: "1" });
    expect(await byHand({ force: true, target_gb: 0 })).toMatchObject({ status: "not_enough" });
    expect(await alerts()).toEqual([]);
  });
});

describe("the comparison with the bucket", () => {
  test("repairs the counters also where the store refuses rules and lists of uploads, and says so", async () => {
    await upload("one");
    const refuses = () =>
      Promise.reject(new GatewayError("storage_failed", { detail: "S3: NotImplemented" }));
    bucket.abilities = () => Promise.resolve({ hashBoundPut: true, ifNoneMatch: true, lifecycle: true });
    api.media.s3 = {
      ...bucket,
      multipart: { ...bucket.multipart!, list: refuses },
      lifecycle: { abortUnfinishedAfterDays: refuses, setAbortUnfinishedAfterDays: refuses },
    };
    await sql`update eve.media_counters set used_bytes = 999 where scope = 'total'`;
    const { details, more } = await reconcile(media, time);
    expect([more, details]).toMatchObject([false, {
      listed: 1,
      parts_aborted: "failed: storage_failed",
      probes_deleted: 0,
      lifecycle: "failed: storage_failed",
    }]);
    expect(api.logged.join()).toContain("NotImplemented");
    await expectExactCounters(sql);
    expect(await sql`select state, completed_at is not null as is_over from eve.media_reconciliation`)
      .toEqual([{ state: null, is_over: true }]);
  });

  test("repairs counters, reports what is in one and not in the other, and changes neither", async () => {
    const [one, two] = [await upload("one"), await upload("two two")];
    await clock.advance(1000);
    await sql`update eve.media_counters set used_bytes = 999 where scope = 'kind'`;
    const kept = bucket.objects.get(one.object.s3_key!)!;
    bucket.objects.delete(one.object.s3_key!);
    bucket.objects.set("media/default/ff/unknown.png", kept);
    bucket.objects.set(two.object.s3_key!, { ...kept, body: text("cut") });
    bucket.objects.set("elsewhere/not-ours", kept);
    const { details } = await reconcile(media, time);
    expect(details).toMatchObject({
      listed: 2,
      unknown: 1,
      missing: 1,
      resized: 1,
      named: {
        unknown: ["media/default/ff/unknown.png"],
        missing: [one.object.s3_key],
        resized: [two.object.s3_key],
      },
    });
    expect((details.counters_repaired as unknown[]).length).toBe(3);
    await expectExactCounters(sql);
    expect(bucket.objects.size).toBe(3);
    expect(await sql`select kind from eve.alerts where closed_at is null`).toEqual([{
      kind: "media_missing",
    }]);
    bucket.objects.set(one.object.s3_key!, kept);
    await reconcile(media, time);
    expect(await sql`select kind from eve.alerts where closed_at is null`).toEqual([]);
  });

  test("finds out the size of a file whose adopted row knew none, and counts it", async () => {
    const { object } = await upload("forty bytes are not more than they seem.");
    await sql`update public.media_objects set size_bytes = null, stored_bytes = null`;
    const { details } = await reconcile(media, time);
    expect(details).toMatchObject({ listed: 1, resized: 0, missing: 0 });
    expect(await sql`select stored_bytes::int as bytes, missing_since from public.media_objects`)
      .toEqual([{ bytes: object.stored_bytes, missing_since: null }]);
    expect((await countersOf(sql))["total "]).toEqual([object.stored_bytes, 0, 1]);
    await expectExactCounters(sql);
  });

  describe("a file that the bucket has lost", () => {
    /** Used, and known to be missing. */
    async function lost() {
      const { object } = await upload("lost", "media", { key: "a/b.txt", ref_kind: "chat", ref_id: "1" });
      await clock.advance(1000);
      const kept = bucket.objects.get(object.s3_key!)!;
      bucket.objects.delete(object.s3_key!);
      await reconcile(media, time);
      return { object, kept };
    }
    const row = async () =>
      (await sql`select state, refs_count, stored_in, missing_since is not null as is_missing from public.media_objects`)
        .map((found) => ({ ...found }));
    const whole = { state: "verified", refs_count: 1, stored_in: "s3", is_missing: false };
    const asked = (path: string, body: unknown) =>
      api.call("POST", path, {
        body: JSON.stringify(body),
        headers: { "content-type": "application/json" },
      });

    test("is taken again from anyone who uploads it, with its key and its uses", async () => {
      const { object } = await lost();
      expect(await row()).toEqual([{ ...whole, is_missing: true }]);
      expect(await upload("lost")).toMatchObject({ created: true, object: { s3_key: object.s3_key } });
      expect(keys()).toEqual([object.s3_key]);
      expect(await row()).toEqual([whole]);
      expect(await upload("lost")).toMatchObject({ created: false });
      expect((await reconcile(media, time)).details).toMatchObject({ missing: 0, counters_repaired: [] });
      await expectEven();
    });

    test("and is announced goes straight there; one who begins and does not come back changes nothing", async () => {
      const { object, kept } = await lost();
      const announced = { sha256: object.sha256, size_bytes: 4, content_type: "text/plain" };
      const begun = await (await asked("/v1/media/uploads", announced)).json();
      expect(begun).toMatchObject({ status: "upload", upload: { method: "PUT" } });
      // Nothing has come: there is nothing to verify.
      const verify = () => asked(`/v1/media/uploads/${object.sha256}/verify`, begun.verify.body);
      expect((await verify()).status).toBe(404);
      await clock.advance(2 * DAY);
      await keepUp(media, time);
      expect(await row()).toEqual([{ ...whole, is_missing: true }]);
      bucket.objects.set(object.s3_key!, { ...kept, body: text("else!") });
      expect((await verify()).status).toBe(400);
      expect([keys(), await row()]).toEqual([[], [{ ...whole, is_missing: true }]]);
      bucket.objects.set(object.s3_key!, kept);
      expect((await verify()).status).toBe(200);
      expect(await row()).toEqual([whole]);
      await expectEven();
    });

    test("while S3 is away waits in the database and goes back", async () => {
      await lost();
      bucket.away = true;
      await upload("lost");
      bucket.away = false;
      expect(await row()).toEqual([{ ...whole, stored_in: "postgres" }]);
      await keepUp(media, time);
      expect(await row()).toEqual([whole]);
      await expectEven();
    });

    test("and is there again without anybody's doing is missing no more", async () => {
      const { object, kept } = await lost();
      bucket.objects.set(object.s3_key!, kept);
      await reconcile(media, time);
      expect(await row()).toEqual([whole]);
    });
  });

  test("goes page by page over more than one", async () => {
    const list = bucket.list;
    bucket.list = (options, call) => list({ ...options, limit: 2 }, call);
    for (let n = 0; n < 7; n++) await upload(`file ${n}`, n % 2 === 0 ? "media" : "crawl");
    await clock.advance(1000);
    expect((await reconcile(media, time)).details).toMatchObject({
      listed: 7,
      unknown: 0,
      missing: 0,
      resized: 0,
    });
    const [lost] = keys();
    bucket.objects.delete(lost!);
    expect((await reconcile(media, time)).details).toMatchObject({
      listed: 6,
      missing: 1,
      named: { missing: [lost] },
    });
  });

  test("goes on where a run ended, and repairs the counters once all of it is through", async () => {
    const list = bucket.list;
    const asked: string[] = [];
    let pagesLeft = 0;
    bucket.list = (options, call) => {
      asked.push(`${options?.prefix} ${options?.after?.slice(0, 18)} ${options?.cursor === null}`);
      pagesLeft--;
      return list({ ...options, limit: 2 }, call);
    };
    const short = { ...time, leftMs: () => pagesLeft > 0 ? 60_000 : 0 };
    const isDue = async () => (await sql`select eve.media_is_due('media_reconcile') as due`)[0]!.due;
    const run = (pages: number) => {
      pagesLeft = pages;
      return reconcile(api.media, short);
    };
    for (let n = 0; n < 5; n++) await upload(`file ${n}`);
    const { object: page } = await upload("page", "crawl");
    await clock.advance(1000);
    const [lost] = keys().filter((key) => key.startsWith("media/"));
    bucket.objects.delete(lost!);
    await sql`update eve.media_counters set used_bytes = 999 where scope = 'total'`;
    expect(await isDue()).toBe(false);

    expect(await run(1)).toMatchObject({ more: true, details: { listed: 2, missing: 1 } });
    expect(await isDue()).toBe(true);
    expect((await countersOf(sql))["total "]![0]).toBe(999);
    expect(await sql`select kind from eve.alerts where closed_at is null`).toEqual([]);
    // What comes meanwhile is no finding, wherever its key stands.
    await upload("meanwhile");
    // A run that is killed has noted its pages.
    bucket.before = (operation) => {
      if (operation === "list" && pagesLeft < 0) throw new Died();
    };
    pagesLeft = 1;
    await expect(reconcile(api.media, time)).rejects.toThrow(Died);
    bucket.before = null;
    const before = asked.length;
    const end = await run(10);
    expect(end).toMatchObject({
      more: false,
      details: { missing: 1, unknown: 0, resized: 0, named: { missing: [lost] } },
    });
    // Nothing is listed a second time: what was there at its beginning, and perhaps what came meanwhile.
    expect([5, 6]).toContain(end.details.listed);
    expect(asked[before]).not.toContain("media/ media/ ");
    expect(bucket.objects.has(page.s3_key!)).toBe(true);
    expect((end.details.counters_repaired as unknown[]).length).toBe(1);
    await expectExactCounters(sql);
    expect(await sql`select kind from eve.alerts where closed_at is null`).toEqual([{
      kind: "media_missing",
    }]);
    expect(await isDue()).toBe(false);
    expect(await run(10)).toMatchObject({ more: false, details: { listed: 6, missing: 1 } });
  });

  test("begins at 04:37, once", async () => {
    await upload("a file");
    const dueAt = async (at: string) => {
      await clock.set(at);
      return (await sql`select eve.media_is_due('media_reconcile') as due`)[0]!.due;
    };
    expect(await dueAt("2026-11-19T04:22:00Z")).toBe(false);
    expect(await dueAt("2026-11-19T04:37:01Z")).toBe(true);
    expect(await dueAt("2026-11-19T04:52:01Z")).toBe(false);
  });

  test("deletes what a probe of the store has left behind, and none that may be at work", async () => {
    const kept = { body: text("x"), contentType: "text/plain", contentEncoding: null };
    bucket.objects.set("eve-probe/old", { ...kept, at: new Date(Date.now() - 3_600_000) });
    bucket.objects.set("eve-probe/new", { ...kept, at: new Date() });
    expect((await reconcile(media, time)).details).toMatchObject({ probes_deleted: 1, unknown: 0 });
    expect(keys()).toEqual(["eve-probe/new"]);
  });

  test("an upload that has only just come is not missing", async () => {
    const { object } = await upload("new");
    bucket.objects.delete(object.s3_key!);
    expect((await reconcile(media, time)).details).toMatchObject({ missing: 0 });
  });
});

test("what was not proven is read and proven by the next run", async () => {
  bucket.hashBoundPut = false;
  const body = text("plain words");
  const sha256 = await sha256Of(body);
  const begun = await (await api.call("POST", "/v1/media/uploads", {
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ sha256, size_bytes: body.length, content_type: "text/plain" }),
  })).json();
  bucket.objects.set(begun.object.s3_key, {
    body,
    contentType: "text/plain",
    contentEncoding: null,
    at: new Date(),
  });
  const { registry } = media;
  // The function ended with its answer.
  await registry.stored({
    tenantId: "default",
    sha256,
    state: "stored",
    storedBytes: body.length,
    storedIn: "s3",
  });
  // As long as its address is valid it may still become another.
  expect(await isDue()).toBe(false);
  expect(await keepUp(media, time)).toMatchObject({ count: 0 });
  await clock.advance(3_600_000);
  expect(await isDue()).toBe(true);
  expect(await keepUp(media, time)).toMatchObject({ details: { proven: 1 } });
  expect(await sql`select state from public.media_objects`).toEqual([{ state: "verified" }]);
});

describe("a large file that the store did not hold to its hash", () => {
  const SIZE = 40_000_000;
  const A_RUN = 15_000_000;
  let body: Uint8Array<ArrayBuffer>;
  let key: string;
  let reads: string[];

  beforeEach(async () => {
    body = new Uint8Array(SIZE);
    for (let at = 0; at < SIZE; at += 65_521) body[at] = at;
    const sha256 = await sha256Of(body);
    const name = `${sha256}.bin`;
    const reserved = await media.registry.reserve({ kind: "project" }, {
      tenantId: "default",
      sha256,
      sizeBytes: SIZE,
      storedBytes: SIZE,
      mimeType: "application/octet-stream",
      contentEncoding: null,
      kind: "media",
      name: `${sha256.slice(0, 2)}/${name}`,
      metadata: {},
      links: {},
      inSpool: false,
      ttlSeconds: null,
      addressSeconds: null,
    });
    key = reserved.object.s3_key!;
    bucket.objects.set(key, {
      body,
      contentType: "application/octet-stream",
      contentEncoding: null,
      at: new Date(),
    });
    await media.registry.stored({
      tenantId: "default",
      sha256,
      state: "stored",
      storedBytes: SIZE,
      storedIn: "s3",
    });
    reads = [];
  });

  /** As one run of maintenance does it, which has forgotten all that earlier ones knew. */
  async function run(): Promise<string> {
    const [object] = await media.registry.unproven(1);
    const s3 = media.s3!;
    const noting: typeof s3 = {
      ...s3,
      get(name, options, call) {
        reads.push(`${options?.range?.from}-${options?.range?.to}`);
        return s3.get(name, options, call);
      },
    };
    return await proveObject({ ...media, s3: noting }, object!, true, A_RUN);
  }
  const proofs = () => sql`select hashed_bytes::int from eve.media_proofs`;

  test("is read once, over as many runs as it takes", async () => {
    expect(await run()).toBe("unfinished");
    expect(await proofs()).toEqual([{ hashed_bytes: A_RUN }]);
    expect(await run()).toBe("unfinished");
    expect(await run()).toBe("verified");
    expect(reads).toEqual(["0-14999999", "15000000-29999999", "30000000-39999999"]);
    expect(await proofs()).toEqual([]);
    expect(await sql`select state from public.media_objects`).toEqual([{ state: "verified" }]);
  });

  test("is deleted where a part of it is another, the first one too", async () => {
    body[1] = 1;
    expect(await run()).toBe("unfinished");
    body[1] = 0;
    expect(await run()).toBe("unfinished");
    expect(await run()).toBe("deleted");
    expect(keys()).toEqual([]);
    expect(await proofs()).toEqual([]);
  });

  test("holds no other one up, and a run goes on with it while there is time", async () => {
    expect(await keepUp(media, time)).toMatchObject({ details: { proven: 1 }, more: false });
  });
});

test("a file that a run has no time left for is not put off as if its proof had failed", async () => {
  for (const content of ["one", "two"]) {
    const { object } = await upload(content);
    await sql`update public.media_objects set state = 'stored' where file_sha256 = ${object.sha256}`;
  }
  let left = 60_000;
  const s3 = media.s3!;
  const slow: typeof s3 = {
    ...s3,
    get(...args) {
      left = 0;
      return s3.get(...args);
    },
  };
  const run = { ...time, leftMs: () => left };
  expect(await keepUp({ ...media, s3: slow }, run)).toMatchObject({ details: { proven: 1 }, more: true });
  expect(await sql`select proof_tries::int from public.media_objects where state = 'stored'`).toEqual([{
    proof_tries: 0,
  }]);
});

test("growth is what is there, by the day on which it came and by kind, as far back as was asked for", async () => {
  // It is noon on the 18th.
  for (
    const [content, kind, at] of [
      ["1", "media", "2026-11-18 00:00:00Z"],
      ["2", "media", "2026-11-17 23:59:59Z"],
      ["3", "crawl", "2026-11-17 03:00:00Z"],
      ["4", "crawl", "2026-11-17 04:00:00Z"],
      ["5", "media", "2026-11-16 23:59:59Z"],
    ] as const
  ) {
    const { object } = await upload(content, kind);
    await sql`
      update public.media_objects set first_seen_at = ${at}, stored_bytes = 100, state = 'verified'
      where file_sha256 = ${object.sha256}`;
  }
  const growth = async (query = "") => await (await api.call("GET", `/v1/storage/growth${query}`)).json();
  const yesterday = [
    { day: "2026-11-17", kind: "crawl", objects: 2, bytes: 200 },
    { day: "2026-11-17", kind: "media", objects: 1, bytes: 100 },
  ];
  const today = { day: "2026-11-18", kind: "media", objects: 1, bytes: 100 };
  expect(await growth("?days=1")).toEqual({ days: [today] });
  expect(await growth("?days=2")).toEqual({ days: [...yesterday, today] });
  expect((await growth()).days).toHaveLength(4);
  expect((await api.call("GET", "/v1/storage/growth?days=0")).status).toBe(400);
});
