/**
 * `npm run bench:storage`: what a request leaves in the database, table by table, in bytes. A database is made from the
 * migrations, thousands of requests are reserved and settled in it, it is vacuumed, and the tables are weighed.
 */
import postgres from "postgres";
import { applyMigrations, applyPlatform } from "../local/database.ts";
import { freePorts } from "../local/ports.ts";
import { startCluster } from "../local/postgres.ts";
import { removeHomeElsewhere } from "../local/postgres_place.ts";

const QUICK = Deno.args.includes("--quick");
const REQUESTS = QUICK ? 2_000 : 20_000;
/** Each in a transaction of its own, as over the REST API. */
const CONNECTIONS = 4;
const MODEL = "weighed";

interface Weight {
  table: string;
  bytes: number;
}

async function withDatabase<Result>(
  run: (url: string) => Promise<Result>,
): Promise<Result> {
  const folder = await Deno.makeTempDir({ prefix: "eve-gateway-storage-" });
  try {
    // The server's account may be another one than ours.
    await Deno.chmod(folder, 0o755);
    const cluster = await startCluster({
      dataDir: folder,
      port: freePorts(1)[0]!,
      durable: false,
    });
    try {
      await applyPlatform(cluster.superuserUrl());
      await applyMigrations(cluster.url());
      return await run(cluster.url());
    } finally {
      await cluster.stop();
      await removeHomeElsewhere(folder);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Every table of ours with its indexes and what is kept apart from it, after a vacuum. */
async function weigh(sql: postgres.Sql): Promise<Map<string, number>> {
  await sql`vacuum analyze`;
  const rows = await sql<Weight[]>`
    select c.oid::regclass::text as table, pg_total_relation_size(c.oid)::float8 as bytes
    from pg_class c
    where c.relnamespace in ('eve'::regnamespace, 'public'::regnamespace) and c.relkind = 'r'
  `;
  return new Map(rows.map(({ table, bytes }) => [table, bytes]));
}

async function difference(
  sql: postgres.Sql,
  each: (place: number) => Promise<unknown>,
): Promise<Weight[]> {
  const before = await weigh(sql);
  let next = 0;
  await Promise.all(Array.from({ length: CONNECTIONS }, async () => {
    while (next < REQUESTS) await each(next++);
  }));
  const after = await weigh(sql);
  return [...after].map(([table, bytes]) => ({
    table,
    bytes: (bytes - (before.get(table) ?? 0)) / REQUESTS,
  }))
    .filter(({ bytes }) => bytes >= 1).sort((a, b) => b.bytes - a.bytes);
}

const { empty, succeeded, refused } = await withDatabase(async (url) => {
  const sql = postgres(url, { max: CONNECTIONS, onnotice: () => {} });
  try {
    const [size] = await sql`select pg_database_size(current_database())::float8 as bytes`;
    await sql`insert into public.google_ai_model_limits (model, rpm, tpm, rpd) values (${MODEL}, null, null, null)`;
    await sql`
      insert into public.google_ai_api_keys (key_alias, env_var_name, quota_project)
      values ('one', 'GOOGLE_API_KEY_ONE', 'one')
    `;
    const reserve = async (place: number) => {
      const [row] = await sql`
        select public.eve_reserve(
          ${crypto.randomUUID()}, ${[MODEL]}, ${400 + place % 500}, trace_id => md5(${place}::text),
          request_hash => encode(sha256(${String(place)}::text::bytea), 'hex')
        ) as answer
      `;
      return row!.answer;
    };
    const succeeded = await difference(sql, async (place) => {
      const { request_no } = await reserve(place);
      await sql`
        select public.eve_settle(
          ${request_no}, 1, 'succeeded', input_tokens => ${410 + place % 500}, output_tokens => 180,
          total_tokens => ${
        590 + place % 500
      }, upstream_status => 200, finish_reason => 'STOP', latency_ms => 1800
        )
      `;
    });
    await sql`update public.google_ai_model_limits set rpd = 0 where model = ${MODEL}`;
    return {
      empty: size!.bytes as number,
      succeeded,
      refused: await difference(sql, reserve),
    };
  } finally {
    await sql.end();
  }
});

const total = (weights: Weight[]) => weights.reduce((sum, { bytes }) => sum + bytes, 0);
const show = (weights: Weight[]) =>
  weights.map(({ table, bytes }) => `  ${table.padEnd(36)} ${Math.round(bytes).toString().padStart(6)}`)
    .join("\n");
const tell = Deno.args.includes("--json") ? console.error : console.log;
tell(
  `Bytes that a request leaves, of ${REQUESTS} with one attempt:\n${show(succeeded)}`,
);
tell(
  `  ${"in all".padEnd(36)} ${Math.round(total(succeeded)).toString().padStart(6)}\n`,
);
tell(`Bytes that a refusal leaves:\n${show(refused)}\n`);
tell(`An empty gateway: ${(empty / 1e6).toFixed(1)} MB\n`);

const rounded = (weights: Weight[]) =>
  Object.fromEntries(
    weights.map(({ table, bytes }) => [table, Math.round(bytes)]),
  );
console.log(JSON.stringify({
  figures: {
    requests: REQUESTS,
    empty_bytes: empty,
    bytes_a_request: rounded(succeeded),
    bytes_a_refusal: rounded(refused),
  },
  ratios: {},
  goals: {},
  met: true,
}));
