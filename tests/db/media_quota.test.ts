/** Media within its limits: reserved before a byte is sent, counted once, given back. With connections of their own, as callers have. */
import fc from "fast-check";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { countersOf, expectExactCounters, mediaCalls, PROJECT, setLimit, shaOf } from "../harness/media.ts";

let db: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
const UPLOADERS = 50;

beforeAll(async () => {
  db = await cloneDatabase();
  sql = postgres(db.url, { max: UPLOADERS + 10, onnotice: () => {} });
  clock = await freezeClock(sql);
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await db?.drop();
});
beforeEach(async () => {
  await empty(sql, "eve.media_references", "public.media_objects", "eve.media_spool");
  await sql`update eve.media_counters set used_bytes = 0, reserved_bytes = 0, objects = 0`;
  await sql`delete from eve.tenants where id <> 'default'`;
  await sql`delete from eve.media_counters where scope = 'tenant' and subject <> 'default'`;
  await setLimit(sql, { total: 15e9, tenant: 2e9, media: 10e9, vision: 2e9, crawl: 2e9, spool: 1e8 });
  await clock.set("2026-11-18T12:00:00Z");
});

const media = () => mediaCalls(sql);

describe("a reservation", () => {
  test("counts in all, for the tenant and for the kind, and becomes use", async () => {
    const { reserve, stored } = media();
    expect(await reserve(shaOf(1), 1000)).toMatchObject({
      status: "reserved",
      object: {
        tenant_id: "default",
        state: "reserved",
        s3_key: `media/default/${shaOf(1).slice(0, 2)}/${shaOf(1)}.bin`,
      },
    });
    expect(await countersOf(sql)).toEqual({
      "kind media": [0, 1000, 0],
      "tenant default": [0, 1000, 0],
      "total ": [0, 1000, 0],
    });
    expect(await stored(shaOf(1), 1000)).toMatchObject({ status: "stored", object: { state: "verified" } });
    expect(await countersOf(sql)).toEqual({
      "kind media": [1000, 0, 1],
      "tenant default": [1000, 0, 1],
      "total ": [1000, 0, 1],
    });
    // Twice is the same as once.
    expect(await stored(shaOf(1), 1000)).toMatchObject({ status: "stored" });
    expect(await reserve(shaOf(1), 1000)).toMatchObject({ status: "present", object: { state: "verified" } });
    await expectExactCounters(sql);
  });

  test.each([
    ["tenant", { tenant: 1000 }],
    ["kind", { media: 1000 }],
    ["total", { total: 1000 }],
  ])("is refused by the limit %s, with the figures, and takes nothing of any", async (limit, limits) => {
    const { reserve } = media();
    await setLimit(sql, limits);
    expect(await reserve(shaOf(1), 600)).toMatchObject({ status: "reserved" });
    expect(await reserve(shaOf(2), 401)).toMatchObject({
      status: "refused",
      code: "storage_quota_exceeded",
      details: { limit, limit_bytes: 1000, used_bytes: 600, asked_bytes: 401 },
    });
    expect(await sql`select count(*)::int as n from public.media_objects`).toEqual([{ n: 1 }]);
    await expectExactCounters(sql);
    expect(await reserve(shaOf(2), 400)).toMatchObject({ status: "reserved" });
    await expectExactCounters(sql);
  });

  test("a tenant's own limit stands before the common one", async () => {
    await sql`select public.eve_tenant_save('small', storage_limit_bytes => 100)`;
    const { reserve } = media();
    expect(await reserve(shaOf(1), 101, { tenant_id: "small" })).toMatchObject({
      code: "storage_quota_exceeded",
      details: { limit: "tenant", limit_bytes: 100 },
    });
    expect(await reserve(shaOf(1), 101)).toMatchObject({ status: "reserved" });
  });

  test("of the same file by two is one", async () => {
    const { reserve } = media();
    await Promise.all(Array.from({ length: 10 }, () => reserve(shaOf(1), 1000)));
    expect((await countersOf(sql))["total "]).toEqual([0, 1000, 0]);
    // One who says another size corrects it, up or down.
    await reserve(shaOf(1), 1500);
    expect((await countersOf(sql))["total "]).toEqual([0, 1500, 0]);
    await reserve(shaOf(1), 200);
    await expectExactCounters(sql);
  });

  test("the same file of two tenants is two objects, and neither learns of the other's", async () => {
    await sql`select public.eve_tenant_save('other')`;
    const { reserve, stored } = media();
    await reserve(shaOf(1), 1000);
    await stored(shaOf(1), 1000);
    expect(await reserve(shaOf(1), 1000, { tenant_id: "other" })).toMatchObject({ status: "reserved" });
    await expectExactCounters(sql);
  });
});

describe("under concurrency", () => {
  test("50 uploaders against room for 20: 20 stored, 30 refused, counters equal to what is stored", async () => {
    await setLimit(sql, { tenant: 20 * 1000 + 999 });
    const { reserve, stored } = media();
    const answers = await Promise.all(
      Array.from({ length: UPLOADERS }, async (_, n) => {
        const reserved = await reserve(shaOf(n), 1000);
        if (reserved.status !== "reserved") return reserved;
        return await stored(shaOf(n), 1000);
      }),
    );
    expect(answers.filter(({ status }) => status === "stored")).toHaveLength(20);
    expect(answers.filter(({ code }) => code === "storage_quota_exceeded")).toHaveLength(30);
    expect(await sql`select count(*)::int as n, sum(stored_bytes)::int as bytes from public.media_objects`)
      .toEqual([
        { n: 20, bytes: 20_000 },
      ]);
    expect((await countersOf(sql))["total "]).toEqual([20_000, 0, 20]);
    await expectExactCounters(sql);
  });

  test("uploads, deletions, sweeps and recounts of several tenants and kinds end without a deadlock, and exact", async () => {
    for (const tenant of ["a", "b", "c"]) await sql`select public.eve_tenant_save(${tenant})`;
    await setLimit(sql, { total: 60_000, tenant: 25_000 });
    const { reserve, stored, claim, deleted, remove, recount } = media();
    const tenants = ["a", "b", "c", "default"];
    const kinds = ["media", "vision", "crawl"];
    const round = async (worker: number) => {
      for (let step = 0; step < 40; step++) {
        const dice = (worker * 7919 + step * 104729) % 100;
        const sha = shaOf(dice % 30);
        const tenant_id = tenants[(worker + step) % 4]!;
        if (dice < 50) {
          const answer = await reserve(sha, 500 + dice * 10, {
            tenant_id,
            kind: kinds[dice % 3]!,
            address_s: dice % 2 === 0 ? 3600 : null,
          });
          if (answer.status === "reserved" && dice % 5 > 0) await stored(sha, 500 + dice * 10, { tenant_id });
        } else if (dice < 70) {
          const answer = await remove(sha, { tenant_id });
          if (answer.status === "deleting") await deleted([answer.delete]);
        } else if (dice < 80) {
          await deleted(await claim(kinds[dice % 3]!, 0, 5));
        } else if (dice < 90) {
          await sql`select public.eve_media_spool_put(${sha}, 'aGVsbG8=', '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824', 'text/plain')`;
        } else if (dice < 95) {
          await sql`select public.eve_media_spool_delete(${[sha]}::text[])`;
        } else await recount();
      }
    };
    await Promise.all(Array.from({ length: 16 }, (_, worker) => round(worker)));
    await expectExactCounters(sql);
    expect(await recount()).toEqual([]);
  });

  test("random runs leave counters that equal the rows", async () => {
    const step = fc.record({
      action: fc.constantFrom("reserve", "stored", "remove", "claim", "expire", "fail"),
      file: fc.integer({ min: 0, max: 5 }),
      bytes: fc.integer({ min: 0, max: 900 }),
      tenant_id: fc.constantFrom("default", "p"),
      kind: fc.constantFrom("media", "vision", "crawl"),
    });
    await sql`select public.eve_tenant_save('p')`;
    await setLimit(sql, { total: 3000, tenant: 2000, media: 1500 });
    const { reserve, stored, remove, claim, deleted, fail } = media();
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        await empty(sql, "public.media_objects");
        await sql`update eve.media_counters set used_bytes = 0, reserved_bytes = 0, objects = 0`;
        for (const { action, file, bytes, tenant_id, kind } of steps) {
          const sha = shaOf(file);
          if (action === "reserve") {
            await reserve(sha, bytes, { tenant_id, kind, address_s: bytes % 2 === 0 ? 600 : null });
          }
          if (action === "stored") await stored(sha, bytes, { tenant_id });
          if (action === "remove") await remove(sha, { tenant_id });
          if (action === "claim") await deleted(await claim(kind, 0, 3));
          if (action === "fail") await fail(tenant_id, sha);
          if (action === "expire") {
            await clock.advance(86_400_000);
            await deleted(await claim(null, 0, 10));
          }
          await expectExactCounters(sql);
        }
      }),
      { numRuns: 40 },
    );
  });
});

describe("a process that dies in between", () => {
  test("before the upload has arrived: its room is given back after its time, and not before", async () => {
    const { reserve, claim, deleted } = media();
    await reserve(shaOf(1), 1000, { ttl_s: 600 });
    await clock.advance(599_000);
    expect(await claim(null, 0, 10)).toEqual([]);
    await clock.advance(1_000);
    const claimed = await claim(null, 0, 10);
    expect(claimed).toMatchObject([{ tenant_id: "default", sha256: shaOf(1), bytes: 1000 }]);
    // The object is deleted first: until then its room is taken.
    expect((await countersOf(sql))["total "]).toEqual([0, 1000, 0]);
    await deleted(claimed);
    expect((await countersOf(sql))["total "]).toEqual([0, 0, 0]);
    await expectExactCounters(sql);
  });

  test("between the mark and the delete: another run goes on with it once the mark has ended", async () => {
    const { reserve, stored, claim, deleted, remove } = media();
    await reserve(shaOf(1), 1000);
    await stored(shaOf(1), 1000);
    expect(await remove(shaOf(1))).toMatchObject({ status: "deleting" });
    expect(await claim(null, 0, 10)).toEqual([]);
    // Nobody uploads into a delete that is under way.
    expect(await reserve(shaOf(1), 1000)).toMatchObject({ code: "upload_busy" });
    await clock.advance(121_000);
    expect(await deleted(await claim(null, 0, 10))).toEqual({ objects: 1, bytes: 1000 });
    await expectExactCounters(sql);
    expect(await sql`select from public.media_objects`).toHaveLength(0);
  });

  test("a file whose delete nobody goes on with may be uploaded again, and is counted once", async () => {
    const { reserve, stored, deleted, remove } = media();
    await reserve(shaOf(1), 1000);
    await stored(shaOf(1), 1000);
    const marked = await remove(shaOf(1));
    await clock.advance(121_000);
    expect(await reserve(shaOf(1), 1000)).toMatchObject({ status: "reserved" });
    expect((await countersOf(sql))["total "]).toEqual([0, 1000, 0]);
    // A client that comes back late takes nothing away.
    expect(await deleted([marked.delete])).toEqual({ objects: 0, bytes: 0 });
    await stored(shaOf(1), 1000);
    expect((await countersOf(sql))["total "]).toEqual([1000, 0, 1]);
    await expectExactCounters(sql);
  });

  test("a connection that is killed in the midst of a reservation has taken nothing", async () => {
    const { reserve } = media();
    const dying = postgres(db.url, { max: 1, onnotice: () => {} });
    // Holds what it has locked until it is killed.
    const killed = dying.unsafe(`
      begin;
      select public.eve_media_reserve('{"kind": "project"}', null, '${
      shaOf(1)
    }', 1000, 1000, 'a/b', 'media', 'x');
      select pg_sleep(600)`).simple().catch((error) => error);
    const asleep = () =>
      sql`select pid from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`;
    await expect.poll(asleep).toHaveLength(1);
    const [{ pid }] = await asleep() as unknown as [{ pid: number }];
    // Another one waits for its counters.
    const waiting = reserve(shaOf(2), 500);
    await expect.poll(async () =>
      (await sql`select count(*)::int as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)[
        0
      ]!.n
    ).toBeGreaterThan(0);
    await sql`select pg_terminate_backend(${pid})`;
    expect(await waiting).toMatchObject({ status: "reserved" });
    expect(await killed).toBeInstanceOf(Error);
    await dying.end({ timeout: 1 });
    expect((await countersOf(sql))["total "]).toEqual([0, 500, 0]);
    await expectExactCounters(sql);
  });

  test("who holds an address to send a file to keeps its room, though it is deleted: or they could send it again uncounted", async () => {
    const { reserve, stored, claim, deleted, remove, find, fail } = media();
    await setLimit(sql, { tenant: 1500 });
    await reserve(shaOf(1), 1000, { address_s: 3600 });
    await stored(shaOf(1), 1000, { links: { key: "mine" } });
    const { delete: marked } = await remove(shaOf(1));
    expect(await deleted([marked])).toEqual({ objects: 1, bytes: 0 });
    expect(await find(shaOf(1))).toMatchObject({ status: "none" });
    expect(await find("mine")).toMatchObject({ status: "none" });
    expect((await countersOf(sql))["total "]).toEqual([0, 1000, 0]);
    expect(await reserve(shaOf(2), 600)).toMatchObject({ code: "storage_quota_exceeded" });
    // One that never arrived is no other case.
    await sql`update eve.media_limits set limit_bytes = 5000 where name = 'tenant'`;
    await reserve(shaOf(3), 7, { address_s: 3600 });
    await deleted([(await fail("default", shaOf(3))).delete]);
    expect((await countersOf(sql))["total "]).toEqual([0, 1007, 0]);
    // They may send it again, as what it is.
    expect(await reserve(shaOf(1), 1000)).toMatchObject({ status: "reserved" });
    expect((await countersOf(sql))["total "]).toEqual([0, 1007, 0]);
    await clock.advance(86_400_000);
    expect(await deleted(await claim(null, 0, 10))).toEqual({ objects: 2, bytes: 1007 });
    expect(await countersOf(sql)).toEqual({ "total ": [0, 0, 0] });
    await expectExactCounters(sql);
  });

  test("the recount repairs what somebody changed by hand, and says what was wrong", async () => {
    const { reserve, stored, recount } = media();
    await reserve(shaOf(1), 1000);
    await stored(shaOf(1), 1000);
    await sql`update eve.media_counters set used_bytes = 5 where scope = 'total'`;
    expect(await recount()).toEqual([{
      scope: "total",
      subject: "",
      was: { used_bytes: 5, reserved_bytes: 0, objects: 1 },
      is: { used_bytes: 1000, reserved_bytes: 0, objects: 1 },
    }]);
    await expectExactCounters(sql);
  });
});

describe("references and keys", () => {
  const entry = { ref_kind: "chat_message", ref_id: "17" };

  test("refs_count follows from the rows, and with any nothing is deleted", async () => {
    const { reserve, stored, claim, remove } = media();
    await reserve(shaOf(1), 1000);
    await stored(shaOf(1), 1000, { links: entry });
    await stored(shaOf(1), 1000, { links: { ...entry, ref_id: "18" } });
    expect(await sql`select refs_count from public.media_objects`).toEqual([{ refs_count: 2 }]);
    await clock.advance(400 * 86_400_000);
    expect(await claim("media", 0, 10)).toEqual([]);
    expect(await remove(shaOf(1), entry)).toMatchObject({ status: "kept", object: { refs_count: 1 } });
    // Dropped twice it is dropped once.
    expect(await remove(shaOf(1), entry)).toMatchObject({ status: "kept", object: { refs_count: 1 } });
    expect(await remove(shaOf(1), { ...entry, ref_id: "18" })).toMatchObject({ status: "deleting" });
  });

  test("a key that a program chose points to the content, and moves with a new one", async () => {
    const { reserve, stored, find, remove } = media();
    for (const file of [1, 2]) {
      await reserve(shaOf(file), 1000);
      await stored(shaOf(file), 1000, { links: { key: "chats/7/photo/a.jpg", metadata: { from: file } } });
      expect(await find("chats/7/photo/a.jpg")).toMatchObject({
        status: "found",
        object: { sha256: shaOf(file) },
        alias: { metadata: { from: file } },
      });
    }
    await stored(shaOf(2), 1000, { links: { key: "second" } });
    expect(await remove("chats/7/photo/a.jpg")).toMatchObject({ status: "kept" });
    expect(await remove("second")).toMatchObject({ status: "deleting" });
    expect(await find("second")).toMatchObject({ status: "none" });
  });
});

test("the environment sets limits once; later the rows rule, and what it says is kept", async () => {
  const seed = (limits: Record<string, number>, tenant?: string) =>
    sql`select public.eve_media_seed(${sql.json(limits)}, ${tenant ?? null})`;
  const limit = async () =>
    (await sql`select limit_bytes::float8, env_bytes::float8 from eve.media_limits where name = 'total'`)[0];
  await seed({ total: 5e9 }, "acme");
  expect(await limit()).toEqual({ limit_bytes: 5e9, env_bytes: 5e9 });
  await seed({ total: 6e9 });
  expect(await limit()).toEqual({ limit_bytes: 5e9, env_bytes: 6e9 });
  expect(await sql`select id from eve.tenants where is_default`).toEqual([{ id: "acme" }]);
  // Another one does not take over from it.
  await seed({}, "elsewhere");
  expect(await sql`select id from eve.tenants where is_default`).toEqual([{ id: "acme" }]);
  await sql`update eve.tenants set is_default = false`;
  await sql`update eve.tenants set is_default = true where id = 'default'`;
  await sql`update eve.media_limits set env_bytes = null`;
  expect(PROJECT.kind).toBe("project");
});

describe("the tenant that the environment names as the default one", () => {
  /** As the function does it, with its rights. */
  const seed = (tenant: string) =>
    sql.begin(async (own) => {
      await own`set local role service_role`;
      await own`select public.eve_media_seed('{}', ${tenant})`;
    });
  const defaultTenant = async () => (await sql`select eve.default_tenant() as id`)[0]!.id;
  const held = async () =>
    (await sql`select public.eve_storage_stats(${sql.json(PROJECT)}) -> 'default_tenant_held' as held`)[0]!
      .held;
  const tenantsOfFiles = async () =>
    (await sql`select distinct tenant_id from public.media_objects order by 1`).map((row) => row.tenant_id);
  afterEach(async () => {
    await empty(sql, "eve.media_references", "public.media_objects", "eve.jobs", "eve.vision_policies");
    await sql`update eve.tenants set is_default = false`;
    await sql`update eve.tenants set is_default = true where id = 'default'`;
  });

  test("becomes it also where it is there already, as what it is", async () => {
    await sql`select public.eve_tenant_save('acme', 'Acme Ltd', 7)`;
    await seed("acme");
    expect(await defaultTenant()).toBe("acme");
    expect(await sql`select name, storage_limit_bytes::int from eve.tenants where id = 'acme'`).toEqual([
      { name: "Acme Ltd", storage_limit_bytes: 7 },
    ]);
    expect(await held()).toBeNull();
  });

  test("takes the files over, one that is being read and hashed too", async () => {
    await media().reserve(shaOf(1), 1000);
    await media().stored(shaOf(1), 1000, { state: "stored", links: { key: "a" } });
    await sql`select public.eve_media_proof_keep('default', ${shaOf(1)}, 500, 'half')`;
    await seed("acme");
    expect(await media().find("a")).toMatchObject({ status: "found", object: { tenant_id: "acme" } });
    expect(await sql`select tenant_id, hashed_bytes::int from eve.media_proofs`).toEqual([
      { tenant_id: "acme", hashed_bytes: 500 },
    ]);
    await expectExactCounters(sql);
  });

  test("takes a bot over that has brought nothing yet", async () => {
    await sql`
      insert into eve.telegram_bots (bot_id, tenant_id, connected_at, updated_at) values (7, 'default', now(), now())`;
    await seed("acme");
    expect(await defaultTenant()).toBe("acme");
    expect(await sql`delete from eve.telegram_bots returning tenant_id`).toEqual([{ tenant_id: "acme" }]);
  });

  test("takes nothing from a job that waits with its body in a file: that is said, and put right by hand", async () => {
    const id = crypto.randomUUID();
    await media().reserve(shaOf(1), 1000);
    await media().stored(shaOf(1), 1000, { links: { ref_kind: "job", ref_id: id } });
    const job = { id, kind: "llm", body_media: `default/${shaOf(1)}`, request_id: id, class: "batch" };
    await sql`select public.eve_jobs_submit(${sql.json([job])})`;
    await seed("acme");
    expect([await defaultTenant(), await tenantsOfFiles()]).toEqual(["default", ["default"]]);
    expect(await held()).toEqual({ named: "acme", default: "default", held_by: ["eve.media_references"] });
    await sql`select public.eve_tenant_change('acme', '{"is_default": true}')`;
    expect([await held(), await tenantsOfFiles()]).toEqual([null, ["default"]]);
  });

  test("takes over nothing where the other has more than files, or both have files", async () => {
    await sql`insert into eve.vision_policies (tenant_id, policy) values ('default', '{}')`;
    await seed("acme");
    expect(await held()).toMatchObject({ held_by: ["eve.vision_policies"] });
    await sql`delete from eve.vision_policies`;
    await media().reserve(shaOf(1), 1000);
    await media().reserve(shaOf(1), 1000, { tenant_id: "acme" });
    await seed("acme");
    expect([await defaultTenant(), await held()]).toMatchObject([
      "default",
      { held_by: ["public.media_objects"] },
    ]);
    await sql`delete from public.media_objects where tenant_id = 'acme'`;
    // The next start of a function.
    await seed("acme");
    expect([await defaultTenant(), await tenantsOfFiles()]).toEqual(["acme", ["acme"]]);
  });
});
