/** The migrations over a media_objects that somebody made by hand: nothing gets lost, and what is lacking is added. */
import { describe, expect, test } from "vitest";
import { keepUp } from "../../shared/media/upkeep.ts";
import { freezeClock } from "../harness/admission.ts";
import { apiOver } from "../harness/media_api.ts";
import { memoryStore } from "../harness/memory_store.ts";
import type { TestDatabase } from "../harness/database.ts";
import { tablesByHand } from "../harness/tables_by_hand.ts";
import { countersOf, expectExactCounters, mediaCalls, shaOf } from "../harness/media.ts";

const { adopted, current } = tablesByHand("20261123000200");

const TABLE = `
  create table public.media_objects (
    file_sha256 text primary key,
    s3_key text not null,
    mime text,
    size bigint,
    refs_count integer default 1,
    owner text,
    created_at timestamptz default '2026-01-01'
  );
  insert into public.media_objects (file_sha256, s3_key, mime, size, refs_count, owner) values
    ('${shaOf(1)}', 'old/1.jpg', 'image/jpeg', 100, 2, 'ann'),
    ('${shaOf(2)}', 'old/2.png', 'image/png', 250, 0, null);
`;

describe("a hand-made media_objects", () => {
  test("keeps its rows, columns and values, and gets a key by tenant and hash", async () => {
    const { sql } = await adopted(TABLE);
    expect(
      await sql`select tenant_id, file_sha256, s3_key, mime, size::int, owner, created_at from public.media_objects order by 2`,
    ).toEqual([
      {
        tenant_id: "default",
        file_sha256: shaOf(1),
        s3_key: "old/1.jpg",
        mime: "image/jpeg",
        size: 100,
        owner: "ann",
        created_at: new Date("2026-01-01"),
      },
      {
        tenant_id: "default",
        file_sha256: shaOf(2),
        s3_key: "old/2.png",
        mime: "image/png",
        size: 250,
        owner: null,
        created_at: new Date("2026-01-01"),
      },
    ]);
    expect(
      await sql`
        select array_agg(a.attname::text order by a.attname) as key
        from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any (c.conkey)
        where c.conrelid = 'public.media_objects'::regclass and c.contype = 'p'`,
    ).toEqual([{ key: ["file_sha256", "tenant_id"] }]);
    // What it knew under other names.
    expect(
      await sql`select mime_type, size_bytes::int, state, first_seen_at from public.media_objects order by file_sha256 limit 1`,
    ).toEqual([{
      mime_type: "image/jpeg",
      size_bytes: 100,
      state: "stored",
      first_seen_at: new Date("2026-01-01"),
    }]);
    expect((await countersOf(sql))["total "]).toEqual([350, 0, 2]);
    await expectExactCounters(sql);
    // And is found by its own key.
    expect(await mediaCalls(sql).find("old/2.png")).toMatchObject({
      status: "found",
      object: { sha256: shaOf(2) },
    });
  });

  test("keeps what it counted as used, and a program that writes as before goes on", async () => {
    const { sql } = await adopted(TABLE);
    expect(await sql`select file_sha256, ref_kind, ref_id from eve.media_references order by ref_id`).toEqual(
      [
        { file_sha256: shaOf(1), ref_kind: "adopted", ref_id: "1" },
        { file_sha256: shaOf(1), ref_kind: "adopted", ref_id: "2" },
      ],
    );
    await sql`insert into public.media_objects (file_sha256, s3_key, mime, size) values (${
      shaOf(3)
    }, 'old/3', 'a/b', 7)`;
    expect(await mediaCalls(sql).remove(shaOf(1))).toMatchObject({ status: "kept" });
    expect(await mediaCalls(sql).find(shaOf(3))).toMatchObject({ status: "found" });
  });

  test("is the default tenant's, whatever the environment calls that", async () => {
    const { sql } = await adopted(TABLE);
    await sql`select public.eve_media_seed('{}', 'acme')`;
    const { find, reserve } = mediaCalls(sql);
    expect(await find(shaOf(1))).toMatchObject({
      status: "found",
      object: { tenant_id: "acme", s3_key: "old/1.jpg", refs_count: 2 },
    });
    expect(await countersOf(sql)).toEqual({
      "kind media": [350, 0, 2],
      "tenant acme": [350, 0, 2],
      "total ": [350, 0, 2],
    });
    expect(await sql`select count(*)::int as n from eve.media_references where tenant_id = 'acme'`).toEqual([{
      n: 2,
    }]);
    // Once: another name later takes nothing from it.
    await sql`select public.eve_media_seed('{}', 'elsewhere')`;
    expect(await reserve(shaOf(1), 100)).toMatchObject({ status: "present", object: { tenant_id: "acme" } });
    await expectExactCounters(sql);
  });

  test("where it counted no uses, nothing of it leaves by itself", async () => {
    const { sql } = await adopted(
      `create table public.media_objects (file_sha256 char(64) primary key, tenant_id uuid);
       insert into public.media_objects values ('${shaOf(1)}', 'a0000000-0000-4000-8000-000000000001');`,
    );
    expect(await sql`select tenant_id, refs_count from public.media_objects`).toEqual([
      { tenant_id: "a0000000-0000-4000-8000-000000000001", refs_count: 1 },
    ]);
    expect(await sql`select id from eve.tenants order by id`).toEqual([
      { id: "a0000000-0000-4000-8000-000000000001" },
      { id: "default" },
    ]);
    await sql`update public.media_objects set last_seen_at = '2020-01-01'`;
    expect(await mediaCalls(sql).claim("media", 0, 10)).toEqual([]);
  });

  describe("with objects that it counted as unused, long ago", () => {
    const OLD = `
      create table public.media_objects (
        file_sha256 text primary key, s3_key text, size_bytes bigint, refs_count integer, last_seen_at timestamptz
      );
      insert into public.media_objects values
        ('${shaOf(1)}', 'old/1', 3, 0, '2024-01-01'), ('${shaOf(2)}', 'old/2', 3, 0, null);`;
    const time = { signal: new AbortController().signal, leftMs: () => 60_000 };
    /** Its bucket, with files whose hashes are not what the table says. */
    async function lookedAfter(sql: TestDatabase["sql"]) {
      const bucket = memoryStore();
      for (const key of ["old/1", "old/2"]) {
        await bucket.put(key, { body: new TextEncoder().encode("own"), sha256: "", contentType: "a/b" });
      }
      const clock = await freezeClock(sql, Date.now());
      const api = apiOver(current(), { s3: bucket });
      return { bucket, clock, api, [Symbol.asyncDispose]: () => api.close() };
    }

    test("the owner's files stay in the first run, also with another content, which is reported", async () => {
      const { sql } = await adopted(OLD);
      await using run = await lookedAfter(sql);
      const { details } = await keepUp(run.api.media, time);
      expect([...run.bucket.objects.keys()]).toEqual(["old/1", "old/2"]);
      expect(details.unproven).toEqual([
        { key: "old/1", outcome: "wrong" },
        { key: "old/2", outcome: "wrong" },
      ]);
      expect(run.api.logged.filter((line) => line.includes("media_content_mismatch"))).toHaveLength(2);
      expect(await sql`select state from public.media_objects`).toEqual([
        { state: "stored" },
        { state: "stored" },
      ]);
    });

    test("they leave after their days without use, counted from the installation", async () => {
      const { sql } = await adopted(OLD);
      await using run = await lookedAfter(sql);
      await run.clock.advance(29 * 86_400_000);
      expect((await keepUp(run.api.media, time)).details).not.toHaveProperty("unused_media");
      await run.clock.advance(2 * 86_400_000);
      expect((await keepUp(run.api.media, time)).details).toMatchObject({ unused_media: 2 });
      expect(run.bucket.objects.size).toBe(0);
    });
  });

  test.each([
    [
      "bytes as its key",
      "create table public.media_objects (file_sha256 bytea primary key)",
      /file_sha256 .* has type bytea/,
    ],
    [
      "another's reference to its key",
      `${TABLE} create table public.posts (id int, picture text references public.media_objects)`,
      /posts refers to public.media_objects/,
    ],
    [
      "a view of that name",
      "create view public.media_objects as select 1 as file_sha256",
      /not an ordinary table/,
    ],
  ])("%s stops the migration with what to do", async (_, byHand, message) => {
    await expect(adopted(byHand)).rejects.toThrow(message);
  });
});
