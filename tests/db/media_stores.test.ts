/** What an object store can do is found out once, and again after a week. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { keptAbilities } from "../../shared/database/media/media_stores.ts";
import { type DirectTransport, directTransport } from "../../shared/database/transport/direct_transport.ts";
import { createS3Store } from "../../shared/media/s3/store.ts";
import { systemClock } from "../../shared/runtime/clock.ts";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

let db: TestDatabase;
let clock: TestClock;
let transport: DirectTransport;
beforeAll(async () => {
  db = await cloneDatabase();
  clock = await freezeClock(db.sql);
  transport = directTransport({ url: db.url, connections: 2, pooler: false });
});
afterAll(async () => {
  await transport?.close();
  await db?.drop();
});

/** A function's instance, and how many requests it has sent to the store. */
function instance(bucket: string) {
  const requests: string[] = [];
  const store = createS3Store({
    endpoint: "https://s3.example",
    region: "r",
    bucket,
    accessKeyId: "a",
    secretAccessKey: "s3cr3t",
    maxFileBytes: 1_000,
    memory: keptAbilities(transport.call),
  }, {
    // Takes everything, and holds to nothing.
    fetch: (input, init) => {
      requests.push(`${init?.method} ${input}`);
      return Promise.resolve(new Response());
    },
    clock: systemClock,
    now: Date.now,
    random: Math.random,
  });
  return { store, requests };
}

test("an instance asks the database before it asks the store; another bucket is another store", async () => {
  const first = instance("files");
  const found = await first.store.abilities();
  expect(found).toEqual({ hashHeader: null, hashBoundPut: false, ifNoneMatch: false, lifecycle: false });
  expect(first.requests.length).toBeGreaterThan(3);
  const second = instance("files");
  expect(await second.store.abilities()).toEqual(found);
  expect(second.requests).toEqual([]);
  const other = instance("others");
  await other.store.abilities();
  expect(other.requests.length).toBeGreaterThan(3);
  const kept = JSON.stringify(await db.sql`select * from eve.media_stores`);
  expect(kept).not.toContain("s3cr3t");
});

test("after a week it is found out again", async () => {
  await instance("old").store.abilities();
  await clock.advance(7 * 86_400_000 - 1);
  const still = instance("old");
  await still.store.abilities();
  expect(still.requests).toEqual([]);
  await clock.advance(1);
  const again = instance("old");
  await again.store.abilities();
  expect(again.requests.length).toBeGreaterThan(3);
});
