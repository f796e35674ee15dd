/** Media in a database, as the functions ask for it. */
import type postgres from "postgres";
import { expect } from "vitest";

export const PROJECT = { kind: "project" } as const;

/** A hash like any other, by a number. */
export const shaOf = (number: number) => number.toString(16).padStart(4, "0").repeat(16);

// deno-lint-ignore no-explicit-any -- JSON whose fields the tests look at.
export type Answer = any;

export function mediaCalls(sql: postgres.Sql, actor: Record<string, unknown> = PROJECT) {
  const json = (value: unknown) => sql.json(value as postgres.JSONValue);
  const only = async (query: postgres.PendingQuery<postgres.Row[]>): Promise<Answer> =>
    (await query)[0]!.answer;
  return {
    reserve: (
      sha: string,
      bytes: number,
      { tenant_id = null, kind = "media", ttl_s = null, address_s = null, in_spool = false, links = {} }: {
        tenant_id?: string | null;
        kind?: string;
        ttl_s?: number | null;
        address_s?: number | null;
        in_spool?: boolean;
        links?: Record<string, unknown>;
      } = {},
    ) =>
      only(sql`
        select public.eve_media_reserve(
          ${json(actor)}, ${tenant_id}, ${sha}, ${bytes}, ${bytes}, 'application/octet-stream', ${kind},
          ${`${sha.slice(0, 2)}/${sha}.bin`}, links => ${
        json(links)
      }, in_spool => ${in_spool}, ttl_s => ${ttl_s},
          address_s => ${address_s}
        ) as answer`),
    stored: (
      sha: string,
      bytes: number,
      { tenant_id = "default", state = "verified", stored_in = "s3", links = {} }: {
        tenant_id?: string;
        state?: string;
        stored_in?: string;
        links?: Record<string, unknown>;
      } = {},
    ) =>
      only(
        sql`select public.eve_media_stored(${tenant_id}, ${sha}, ${state}, ${bytes}, ${stored_in}, ${
          json(links)
        }) as answer`,
      ),
    find: (name: string, tenant_id: string | null = null, uses = false) =>
      only(sql`select public.eve_media_find(${json(actor)}, ${tenant_id}, ${name}, ${uses}) as answer`),
    list: (
      options: { tenant_id?: string; prefix?: string; after?: string; at_most?: number; aliases?: boolean } =
        {},
    ) =>
      only(sql`
        select public.eve_media_list(
          ${json(actor)}, ${options.tenant_id ?? null}, ${options.prefix ?? ""}, null, ${
        options.aliases ?? false
      },
          ${options.after ?? null}, ${options.at_most ?? 100}
        ) as answer`),
    remove: (
      name: string,
      { tenant_id = null, ref_kind = null, ref_id = null }: {
        tenant_id?: string | null;
        ref_kind?: string | null;
        ref_id?: string | null;
      } = {},
    ) =>
      only(
        sql`select public.eve_media_delete(${
          json(actor)
        }, ${tenant_id}, ${name}, ${ref_kind}, ${ref_id}) as answer`,
      ),
    claim: (kind: string | null, min_age_s: number, at_most: number, need_bytes: number | null = null) =>
      only(sql`select public.eve_media_claim(${kind}, ${min_age_s}, ${at_most}, ${need_bytes}) as answer`),
    deleted: (items: Answer[]) => only(sql`select public.eve_media_deleted(${json(items)}) as answer`),
    fail: (tenant_id: string, sha: string) =>
      only(sql`select public.eve_media_failed(${tenant_id}, ${sha}) as answer`),
    recount: () => only(sql`select public.eve_media_recount() as answer`),
  };
}

export async function setLimit(sql: postgres.Sql, limits: Record<string, number>): Promise<void> {
  for (const [name, bytes] of Object.entries(limits)) {
    await sql`update eve.media_limits set limit_bytes = ${bytes} where name = ${name}`;
  }
}

/** [used, reserved, objects] by "scope subject", without those that are empty. */
export async function countersOf(sql: postgres.Sql): Promise<Record<string, number[]>> {
  const rows = await sql`
    select scope || ' ' || subject as name, used_bytes::float8 as used, reserved_bytes::float8 as reserved, objects::float8
    from eve.media_counters
    where scope = 'total' or (used_bytes, reserved_bytes, objects) <> (0, 0, 0)
    order by 1`;
  return Object.fromEntries(
    rows.map(({ name, used, reserved, objects }) => [name, [used, reserved, objects]]),
  );
}

/** What the counters say is what the rows add up to, by a sum of its own. */
export async function expectExactCounters(sql: postgres.Sql): Promise<void> {
  const rows = await sql`
    select tenant_id, kind, state, coalesce(stored_bytes, size_bytes, 0)::float8 as bytes, counts_as from public.media_objects`;
  const spooled = await sql`select size_bytes::float8 as bytes from eve.media_spool`;
  const sums: Record<string, number[]> = { "total ": [0, 0, 0] };
  const add = (name: string, counts_as: string, bytes: number) => {
    const sum = sums[name] ??= [0, 0, 0];
    if (counts_as === "used") {
      sum[0]! += bytes;
      sum[2]! += 1;
    } else sum[1]! += bytes;
  };
  for (const { tenant_id, kind, bytes, counts_as } of rows) {
    for (const name of ["total ", `tenant ${tenant_id}`, `kind ${kind}`]) add(name, counts_as, bytes);
  }
  for (const { bytes } of spooled) add("spool ", "used", bytes);
  const nonZero = Object.fromEntries(
    Object.entries(sums).filter(([name, sum]) => name === "total " || sum.some((n) => n !== 0)),
  );
  expect(await countersOf(sql)).toEqual(nonZero);
}
