/** The functions of jobs as a worker and a caller use them, over a connection of the test. */
import type postgres from "postgres";
import { empty } from "./rows.ts";

// deno-lint-ignore no-explicit-any -- the answers are JSON whose fields the tests look at.
export type Json = any;

export interface GivenJob {
  kind?: string;
  body?: unknown;
  id?: string;
  request_id?: string;
  request_hash?: string;
  class?: "interactive" | "batch";
  models?: string[];
  run_at?: string;
  expires_at?: string;
  batch_id?: string;
  place?: number;
  custom_id?: string;
}

export interface Held {
  id: string;
  lease_token: string;
}

export const LEASE_MS = 30_000;

export function jobCalls(sql: postgres.Sql) {
  const one = async (query: postgres.PendingQuery<postgres.Row[]>): Promise<Json> => (await query)[0]!.answer;
  return {
    submit: (
      jobs: GivenJob[],
      { consumerId = null as string | null, tokenId = null as string | null } = {},
    ) =>
      one(sql`select public.eve_jobs_submit(
        ${sql.json(jobs.map((job) => ({ kind: "llm", body: { n: 1 }, models: ["m"], ...job })) as never)},
        ${consumerId}, ${tokenId}) as answer`),
    claim: async (
      at_most = 1,
      {
        worker = crypto.randomUUID() as string,
        kinds = ["llm"],
        lease = LEASE_MS,
        left = null as number | null,
      } = {},
    ): Promise<Json[]> =>
      (await one(
        sql`select public.eve_jobs_claim(${worker}, ${kinds}, ${at_most}, ${lease}, ${left}) as answer`,
      )).jobs,
    renew: (
      held: (Held & { progress?: unknown })[],
      worker: string = crypto.randomUUID(),
      lease = LEASE_MS,
    ) =>
      one(
        sql`select public.eve_jobs_renew(${worker}, ${
          sql.json(held.map(only) as never)
        }, ${lease}) as answer`,
      ),
    complete: (results: (Held & { result?: unknown })[]) =>
      one(
        sql`select public.eve_jobs_complete(${
          sql.json(results.map((one) => ({ ...only(one), result: one.result ?? { ok: true } })) as never)
        }) as answer`,
      ),
    fail: ({ id, lease_token }: Held, code = "upstream_unavailable", retryable = true) =>
      one(sql`select public.eve_job_fail(${id}, ${lease_token}, ${code}, 'words', ${retryable}) as answer`),
    release: (held: (Held & { pause_ms?: number })[]) =>
      one(
        sql`select public.eve_jobs_release(${
          sql.json(held.map((one) => ({ ...only(one), pause_ms: one.pause_ms ?? null })) as never)
        }) as answer`,
      ),
    cancel: (ids: string[], consumerId: string | null = null) =>
      one(sql`select public.eve_jobs_cancel(ids => ${ids}, consumer_id => ${consumerId}) as answer`),
    job: (id: string, consumerId: string | null = null) =>
      one(sql`select public.eve_job(${id}, ${consumerId}) as answer`),
    list: (filters: Record<string, unknown> = {}) =>
      one(sql`select public.eve_jobs(
        consumer_id => ${filters.consumerId as string ?? null}, states => ${
        filters.states as string[] ?? null
      },
        kinds => ${filters.kinds as string[] ?? null}, before => ${filters.before as number ?? null},
        at_most => ${filters.atMost as number ?? 50}) as answer`),
    sweep: () => one(sql`select public.eve_jobs_sweep() as answer`),
    due: () => one(sql`select public.eve_jobs_due() as answer`),
  };
}

function only({ id, lease_token, ...more }: Held & { progress?: unknown }) {
  return { id, lease_token, ...("progress" in more && { progress: more.progress }) };
}

/** The counts of queues are those of the jobs in them. */
export const miscounted = (sql: postgres.Sql) =>
  sql`
    select q.id, q.queued, q.bytes, w.queued as are, w.bytes as have
    from eve.job_queues q
    left join lateral (
      select count(*)::integer as queued, coalesce(sum(j.body_bytes), 0) as bytes
      from eve.jobs j where j.queue_id = q.id and j.state = 'queued'
    ) w on true
    where (q.queued, q.bytes) <> (w.queued, w.bytes)`;

export async function clearJobs(sql: postgres.Sql): Promise<void> {
  await empty(sql, "eve.jobs", "eve.job_queues", "eve.job_workers", "eve.alerts");
  await sql`update eve.job_wake set asked_at = '-infinity'`;
  await sql`
    update eve.settings s set value = d.value
    from (values ('jobs_queued_max', 100000), ('jobs_queued_max_bytes', 268435456), ('jobs_workers', 2)) d (name, value)
    where s.name = d.name`;
}

export async function addConsumer(
  sql: postgres.Sql,
  name: string,
  columns: Record<string, unknown> = {},
): Promise<string> {
  const [row] = await sql`
    insert into eve.consumers ${
    sql({ name, kind: "service", secret_hash: `hash of ${name}`, ...columns })
  } returning id`;
  return row!.id;
}
