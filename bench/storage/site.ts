import postgres from "postgres";
import { sha256Of } from "../../shared/runtime/sha256.ts";

export const MODEL = "gemma-4-31b-it";
export const LANES = 2;
/** Of the row that ships for Gemma. */
export const STARTS_A_MINUTE = 30;
/** A little more than the minute's share of one start, with the guard. */
const BETWEEN_CALLS_MS = Math.ceil(60_250 / (STARTS_A_MINUTE * LANES)) + 1;

/** What the database has written so far. */
interface Written {
  walBytes: number;
  transactionId: number;
  /** Rows inserted and updated, by table. */
  versions: Map<string, number>;
  deleted: number;
}

/** A gateway's database whose clock is moved by hand, without a row being written for it. */
export class Site {
  /** Calls of lists that had to be reserved by themselves. */
  notBatched = 0;
  #nowMs = Date.UTC(2026, 10, 18, 12);

  private constructor(readonly sql: postgres.Sql) {}

  static async open(url: string): Promise<Site> {
    const site = new Site(postgres(url, { max: 1, onnotice: () => {} }));
    await site.sql.unsafe(`
      create or replace function eve.clock_ms() returns bigint language sql volatile set search_path = ''
      as $$ select current_setting('bench.now_ms')::bigint $$`);
    await site
      .sql`alter table public.token_usage alter column ts set default eve.clock()`;
    await site.setClock(site.#nowMs);
    await site.sql`select eve.make_partitions(eve.clock())`;
    for (let lane = 1; lane <= LANES; lane++) {
      await site.sql`
        insert into public.google_ai_api_keys (key_alias, env_var_name, quota_project)
        values (${`key-${lane}`}, ${`GOOGLE_API_KEY_${lane}`}, ${`project-${lane}`})`;
    }
    return site;
  }

  close(): Promise<void> {
    return this.sql.end();
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  async setClock(ms: number): Promise<void> {
    this.#nowMs = ms;
    await this.sql`select set_config('bench.now_ms', ${String(ms)}, false)`;
  }

  /** One call from its reservation to its settlement, as the gateway makes it. */
  async call(place: number, choosesId = false): Promise<void> {
    await this.setClock(this.#nowMs + BETWEEN_CALLS_MS);
    const [row] = await this.sql`
      select public.eve_reserve(
        ${crypto.randomUUID()}, ${[MODEL]}, ${tokensOf(place)}, trace_id => md5(${place}::text),
        request_hash => ${choosesId ? await sha256Of(String(place)) : null}, call_id => gen_random_uuid()
      ) as answer`;
    await this.#settle([expectGranted(row!.answer)], place);
  }

  /** So many at once. */
  async calls(
    place: number,
    count: number,
    { afterMs = BETWEEN_CALLS_MS * count, of = "interactive" }: {
      afterMs?: number;
      of?: "interactive" | "batch";
    } = {},
  ): Promise<void> {
    await this.setClock(this.#nowMs + afterMs);
    const asked = Array.from({ length: count }, (_, n) => ({
      request_id: crypto.randomUUID(),
      models: [MODEL],
      tokens: tokensOf(place + n),
      class: of,
      max_wait_ms: 0,
      attempt: 1,
      exclude_keys: [],
      avoid_keys: [],
      lease_ms: 180_000,
      endpoint: "native",
      metadata: {},
      trace_id: crypto.randomUUID().replaceAll("-", ""),
      call_id: crypto.randomUUID(),
    }));
    const [row] = await this.sql`select public.eve_reserve_many(${this.sql.json(asked)}) as answers`;
    const granted: number[] = [];
    for (const [n, answer] of row!.answers.entries()) {
      granted.push(
        expectGranted(answer ?? await this.#reserveAlone(asked[n]!)),
      );
      if (answer === null) this.notBatched++;
    }
    await this.#settle(granted, place);
  }

  /**
   * Of `count` calls that come evenly, so many a minute and lane, the share that the fast path books (eve_reserve_many, here in
   * lists of one); the others go through eve_reserve.
   */
  async fastShare(perMinute: number, of: "interactive" | "batch", count: number): Promise<number> {
    // Nothing of the rate before is left in the window.
    await this.setClock(this.#nowMs + 180_000);
    const before = this.notBatched;
    for (let place = 0; place < count; place++) {
      await this.calls(place, 1, { afterMs: Math.ceil(60_000 / (perMinute * LANES)), of });
    }
    return 1 - (this.notBatched - before) / count;
  }

  /** As the gateway does with what could not be reserved in a list. */
  async #reserveAlone(
    { request_id, tokens, trace_id, class: of }: {
      request_id: string;
      tokens: number;
      trace_id: string;
      class: string;
    },
  ) {
    const [row] = await this.sql`
      select public.eve_reserve(
        ${request_id}, ${[
      MODEL,
    ]}, ${tokens}, class => ${of}, trace_id => ${trace_id}, call_id => gen_random_uuid()
      ) as answer`;
    return row!.answer;
  }

  async #settle(requestNos: number[], place: number): Promise<void> {
    const settlements = requestNos.map((requestNo, n) => ({
      request_no: requestNo,
      attempt: 1,
      outcome: "succeeded",
      final: true,
      dispatched: true,
      input_tokens: tokensOf(place + n) + 10,
      output_tokens: 180,
      total_tokens: tokensOf(place + n) + 190,
      usage_estimated: false,
      upstream_status: 200,
      finish_reason: "STOP",
      latency_ms: 1_800,
      block: null,
      result: null,
    }));
    const [row] = await this.sql`select public.eve_settle_many(${this.sql.json(settlements)}) as answers`;
    for (const answer of row!.answers) {
      if (answer?.status !== "settled") {
        throw new Error(`not settled: ${JSON.stringify(answer)}`);
      }
    }
  }

  async closeLanes(): Promise<void> {
    await this
      .sql`update public.google_ai_model_limits set rpd = 0 where model = ${MODEL}`;
  }

  async refusedCall(place: number): Promise<void> {
    await this.setClock(this.#nowMs + BETWEEN_CALLS_MS);
    const [row] = await this.sql`
      select public.eve_reserve(
        ${crypto.randomUUID()}, ${[MODEL]}, ${tokensOf(place)}, trace_id => md5(${place}::text)
      ) as answer`;
    if (row!.answer.status !== "refused") {
      throw new Error(`not refused: ${JSON.stringify(row!.answer)}`);
    }
  }

  async vacuum(): Promise<void> {
    await this.sql`vacuum analyze`;
  }

  /** The tables of calls that are running. Answers how much that wrote to the log. */
  async vacuumRunning(): Promise<number> {
    const before = await this.#walBytes();
    await this
      .sql`vacuum eve.inflight, eve.lanes, eve.lane_buckets, eve.routes, public.google_ai_model_limits`;
    return await this.#walBytes() - before;
  }

  async #walBytes(): Promise<number> {
    const [row] = await this
      .sql`select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 as bytes`;
    return row!.bytes;
  }

  /** Every table of ours with its indexes, what is kept apart from it, and its partitions. */
  async weigh(): Promise<Map<string, number>> {
    const rows = await this.sql<{ name: string; bytes: number }[]>`
      select coalesce(i.inhparent, c.oid)::regclass::text as name, sum(pg_total_relation_size(c.oid))::float8 as bytes
      from pg_class c
      left join pg_inherits i on i.inhrelid = c.oid
      where c.relnamespace in ('eve'::regnamespace, 'public'::regnamespace) and c.relkind = 'r'
      group by 1`;
    return new Map(rows.map(({ name, bytes }) => [name, bytes]));
  }

  async databaseBytes(): Promise<number> {
    const [row] = await this
      .sql`select pg_database_size(current_database())::float8 as bytes`;
    return row!.bytes;
  }

  async written(): Promise<Written> {
    await this.sql`select pg_stat_force_next_flush()`;
    const [now] = await this.sql`
      select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 as wal,
        pg_snapshot_xmax(pg_current_snapshot())::text::float8 as transaction_id`;
    const rows = await this.sql<
      { name: string; versions: number; deleted: number }[]
    >`
      select coalesce(i.inhparent, t.relid)::regclass::text as name, sum(t.n_tup_ins + t.n_tup_upd)::float8 as versions,
        sum(t.n_tup_del)::float8 as deleted
      from pg_stat_user_tables t
      left join pg_inherits i on i.inhrelid = t.relid
      group by 1`;
    return {
      walBytes: now!.wal,
      transactionId: now!.transaction_id,
      versions: new Map(rows.map(({ name, versions }) => [name, versions])),
      deleted: rows.reduce((total, { deleted }) => total + deleted, 0),
    };
  }
}

/** Between 100 and 499: 30 of them fit into a minute's 16,000. */
function tokensOf(place: number): number {
  return 100 + place * 7 % 400;
}

function expectGranted(
  answer: { status: string; request_no: number } | null,
): number {
  if (answer?.status !== "granted") {
    throw new Error(`not granted: ${JSON.stringify(answer)}`);
  }
  return answer.request_no;
}
