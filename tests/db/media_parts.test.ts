/** Large files, which go to the bucket in parts: two who begin at once, a process that dies in between, and what the store forgets. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { sha256Of } from "../../shared/media/hash.ts";
import { keepUp, reconcile } from "../../shared/media/upkeep.ts";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { apiOver, type ApiUnderTest } from "../harness/media_api.ts";
import { type Answer, countersOf, expectExactCounters } from "../harness/media.ts";
import { type MemoryStore, memoryStore } from "../harness/memory_store.ts";

let db: TestDatabase;
let sql: TestDatabase["sql"];
let clock: TestClock;
let api: ApiUnderTest;
let bucket: MemoryStore;
const FILE = new TextEncoder().encode("0123456789");
const PARTS: [number, number][] = [[0, 4], [4, 8], [8, 10]];

beforeAll(async () => {
  db = await cloneDatabase();
  sql = db.sql;
  clock = await freezeClock(sql);
});
afterAll(() => db?.drop());
beforeEach(async () => {
  await empty(sql, "eve.media_multiparts", "public.media_objects", "eve.media_spool");
  await sql`update eve.media_counters set used_bytes = 0, reserved_bytes = 0, objects = 0`;
  await clock.set("2026-11-18T12:00:00Z");
  bucket = memoryStore(() => clock.nowMs());
  api = apiOver(db, { s3: bucket, partBytes: 4 });
});
afterEach(async () => {
  await Promise.all(api.background);
  await api.close();
});

async function post(path: string, body: unknown): Promise<Answer> {
  const response = await api.call("POST", path, {
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status_code: response.status, ...await response.json() };
}
async function announce(fields: Record<string, unknown> = {}): Promise<Answer> {
  return await post("/v1/media/uploads", {
    sha256: await sha256Of(FILE),
    size_bytes: FILE.length,
    content_type: "text/plain",
    ...fields,
  });
}
const verify = async () => await post(`/v1/media/uploads/${await sha256Of(FILE)}/verify`, {});
/** The number of the upload's addresses, as the store gave it. */
const uploadIdOf = ({ upload }: Answer): string => new URL(upload.parts[0].url).searchParams.get("uploadId")!;
function send(uploadId: string, ...numbers: number[]): void {
  for (const number of numbers) {
    bucket.uploads.get(uploadId)!.parts.set(number, FILE.slice(...PARTS[number - 1]!));
  }
}
const time = { signal: new AbortController().signal, leftMs: () => 60_000 };
/** The bucket, the registry and the counters say the same, and nothing is under way. */
async function expectEven(): Promise<void> {
  expect([...bucket.objects.keys()]).toEqual(
    (await sql`select s3_key from public.media_objects order by 1`).map((row) => row.s3_key),
  );
  expect(bucket.uploads.size).toBe(0);
  expect(await sql`select from eve.media_multiparts`).toHaveLength(0);
  await expectExactCounters(sql);
}

test("two who begin at once share one upload, and the other's is ended", async () => {
  // Neither sees the other's before its own is begun.
  const arrived = Promise.withResolvers<void>();
  let waiting = 0;
  bucket.before = async (operation) => {
    if (operation !== "after multipart_create") return;
    if (++waiting === 2) arrived.resolve();
    await arrived.promise;
  };
  const [one, other] = await Promise.all([announce(), announce()]);
  expect(uploadIdOf(one)).toBe(uploadIdOf(other));
  expect([...bucket.uploads.keys()]).toEqual([uploadIdOf(one)]);
  expect((await countersOf(sql))["total "]).toEqual([0, 10, 0]);
  send(uploadIdOf(one), 1, 2, 3);
  const [first, second] = await Promise.all([verify(), verify()]);
  expect([first.status_code, second.status_code]).toEqual([200, 200]);
  expect((await countersOf(sql))["total "]).toEqual([10, 0, 1]);
  await expectEven();
});

test("what was sent with another size than its part's is asked for again", async () => {
  const id = uploadIdOf(await announce());
  send(id, 1, 3);
  bucket.uploads.get(id)!.parts.set(2, FILE.slice(0, 1));
  expect((await verify()).error.details).toEqual({ missing_parts: [2], parts: 3 });
  const { upload } = await announce();
  expect(upload.parts.map((part: Answer) => part.part_number)).toEqual([2]);
});

test("parts of another file than was announced: it is deleted, and its room is free", async () => {
  const id = uploadIdOf(await announce());
  send(id, 1, 2, 3);
  bucket.uploads.get(id)!.parts.set(2, FILE.slice(0, 4));
  // Its size is right; what it holds is read once the answer is out.
  expect(await verify()).toMatchObject({ status_code: 200, state: "stored" });
  await Promise.all(api.background);
  expect(bucket.objects.size).toBe(0);
  expect((await countersOf(sql))["total "]).toEqual([0, 0, 0]);
  await expectEven();
});

test("parts of another type than was announced: nothing of them stays", async () => {
  const id = uploadIdOf(await announce({ content_type: "image/png" }));
  send(id, 1, 2, 3);
  expect((await verify()).error.code).toBe("media_type_mismatch");
  await expectEven();
});

test("an upload that the store has ended is begun again", async () => {
  const first = uploadIdOf(await announce());
  bucket.uploads.delete(first);
  const again = await announce();
  expect(uploadIdOf(again)).not.toBe(first);
  expect(again.upload.parts).toHaveLength(3);
  send(uploadIdOf(again), 1, 2, 3);
  expect((await verify()).status_code).toBe(200);
  await expectEven();
});

test("a store that is away takes no room", async () => {
  bucket.away = true;
  expect((await announce()).error.code).toBe("storage_unavailable");
  bucket.away = false;
  await clock.advance(121_000);
  await keepUp(api.media, time);
  expect((await countersOf(sql))["total "]).toEqual([0, 0, 0]);
  await expectEven();
});

test("one that cannot be read through is tried less and less often, and after those that were not tried", async () => {
  const id = uploadIdOf(await announce());
  send(id, 1, 2, 3);
  const read: string[] = [];
  bucket.before = (operation, key) => {
    if (operation !== "get") return;
    read.push(key);
    // Its beginning is looked at by the verification; after that it is too large.
    if (read.length > 1) throw new Error("too large");
  };
  await verify();
  await Promise.allSettled(api.background);
  const [{ key }] = await sql`select s3_key as key from public.media_objects` as unknown as [{ key: string }];
  const isDue = async () => (await sql`select eve.media_is_due('media') as due`)[0]!.due;
  const readAgainAfter = async (minutes: number): Promise<boolean> => {
    await clock.advance(minutes * 60_000);
    const due = await isDue();
    read.length = 1;
    await keepUp(api.media, time);
    expect(read.length > 1).toBe(due);
    return due;
  };
  expect(await readAgainAfter(0)).toBe(true);
  expect(await readAgainAfter(9)).toBe(false);
  expect(await readAgainAfter(1)).toBe(true);
  expect(await readAgainAfter(19)).toBe(false);
  expect(await readAgainAfter(1)).toBe(true);
  for (const [other, at] of [["a", "2 days"], ["b", "1 day"]]) {
    await sql`
      insert into public.media_objects (tenant_id, file_sha256, stored_bytes, s3_key, state, last_seen_at)
      values ('default', ${
      other!.repeat(64)
    }, 1, ${`media/default/${other}`}, 'stored', eve.clock() + ${at!}::interval)`;
  }
  await clock.advance(86_400_000);
  read.length = 1;
  await keepUp(api.media, time);
  expect(read.slice(1)).toEqual(["media/default/b", "media/default/a", key]);
});

describe("a process that dies", () => {
  test("between the completion and the note of it: to verify again is enough", async () => {
    send(uploadIdOf(await announce()), 1, 2, 3);
    bucket.before = (operation) => {
      if (operation === "after multipart_complete") throw new Error("died");
    };
    expect((await verify()).status_code).toBe(500);
    bucket.before = null;
    expect(await sql`select state from public.media_objects`).toEqual([{ state: "reserved" }]);
    expect((await verify()).status_code).toBe(200);
    await expectEven();
  });

  test("there, and nobody comes back: the object goes with its reservation", async () => {
    send(uploadIdOf(await announce()), 1, 2, 3);
    bucket.before = (operation) => {
      if (operation === "after multipart_complete") throw new Error("died");
    };
    await verify();
    bucket.before = null;
    await clock.advance(86_401_000);
    expect(await keepUp(api.media, time)).toMatchObject({ details: { unfinished: 1 } });
    await expectEven();
  });

  test("in the middle of ending one: the next run goes on with it", async () => {
    send(uploadIdOf(await announce()), 1);
    await clock.advance(86_401_000);
    bucket.before = (operation) => {
      if (operation === "multipart_abort") throw new Error("died");
    };
    await expect(keepUp(api.media, time)).rejects.toThrow("died");
    bucket.before = null;
    expect((await countersOf(sql))["total "]).toEqual([0, 10, 0]);
    await clock.advance(121_000);
    expect(await keepUp(api.media, time)).toMatchObject({ details: { unfinished: 1 } });
    await expectEven();
  });

  test("before the upload is noted: the bucket's own is ended by the comparison, and nobody else's", async () => {
    bucket.before = (operation) => {
      if (operation === "after multipart_create") throw new Error("died");
    };
    await announce();
    bucket.before = null;
    await bucket.multipart!.create("elsewhere/not-ours", { contentType: "image/png" });
    for (const upload of bucket.uploads.values()) upload.at = new Date(Date.now() - 86_401_000);
    await clock.advance(121_000);
    await keepUp(api.media, time);
    const dryRun = await post("/v1/storage/cleanup", { what: "multipart", dry_run: true });
    expect(dryRun.steps).toMatchObject([{ what: "multipart", objects: 1 }]);
    expect(bucket.uploads.size).toBe(2);
    expect((await reconcile(api.media, time)).details).toMatchObject({ parts_aborted: 1 });
    expect([...bucket.uploads.values()].map(({ key }) => key)).toEqual(["elsewhere/not-ours"]);
  });
});
