/**
 * What is in the database before any user's data: the platform baseline (this folder's `platform/`, standing in for
 * what hosted Supabase brings) and the migrations, applied by the real Supabase CLI.
 */
import postgres from "postgres";
import { CHECKOUT } from "./paths.ts";

/** Applying everything takes seconds; a lock held by somebody else must not hang a start for ever. */
const PUSH_TIMEOUT_MS = 120_000;

/** No reports, no update checks: this has to work offline, and what runs here is nobody else's business. */
const QUIET_CLI = {
  SUPABASE_TELEMETRY_DISABLED: "1",
  DO_NOT_TRACK: "1",
  SUPABASE_NO_UPDATE_NOTIFIER: "1",
  // A local server speaks no TLS; saying so spares a warning.
  PGSSLMODE: "disable",
};

/** Applies the platform baseline. `superuserUrl` belongs to a local cluster, never to a hosted one. Idempotent. */
export async function applyPlatform(superuserUrl: string): Promise<void> {
  const folder = `${CHECKOUT}/local/platform`;
  const files = [...Deno.readDirSync(folder)].map((entry) => entry.name).filter((name) =>
    name.endsWith(".sql")
  );
  const sql = postgres(superuserUrl, { max: 1, onnotice: () => {} });
  try {
    for (const name of files.sort()) {
      const text = await Deno.readTextFile(`${folder}/${name}`);
      await sql.begin((transaction) => transaction.unsafe(text).simple());
    }
  } finally {
    await sql.end();
  }
}

/** Applies the migrations of `workdir`/supabase that the database has not seen. Answers how many it applied. */
export async function applyMigrations(databaseUrl: string, workdir = CHECKOUT): Promise<number> {
  const pending = await pendingMigrations(databaseUrl, workdir);
  if (pending.length === 0) return 0;
  await supabaseCli(
    ["db", "push", `--remote=${databaseUrl}`, "--yes", "--include-all", "--skip-vault"],
    workdir,
  );
  return pending.length;
}

/** Runs the Supabase CLI of this checkout and answers its standard output. Throws with what it printed if it failed. */
export async function supabaseCli(args: string[], workdir = CHECKOUT): Promise<string> {
  const done = await new Deno.Command(`${CHECKOUT}/node_modules/.bin/supabase`, {
    args: [...args, `--workdir=${workdir}`],
    env: QUIET_CLI,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(PUSH_TIMEOUT_MS),
  }).output();
  const [out, err] = [done.stdout, done.stderr].map((bytes) => new TextDecoder().decode(bytes).trim());
  if (!done.success) throw new Error(`supabase ${args.slice(0, 2).join(" ")} failed:\n${err}\n${out}`.trim());
  return out!;
}

/** The versions in the folder that the database's history does not have, in order. */
async function pendingMigrations(databaseUrl: string, workdir: string): Promise<string[]> {
  const folder = `${workdir}/supabase/migrations`;
  const versions = [...Deno.readDirSync(folder)]
    .map((entry) => entry.name.match(/^(\d+)_.*\.sql$/)?.[1])
    .filter((version) => version !== undefined)
    .sort();
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  try {
    const [history] = await sql`select to_regclass('supabase_migrations.schema_migrations') as there`;
    if (!history?.there) return versions;
    const applied = await sql`select version from supabase_migrations.schema_migrations`;
    const seen = new Set(applied.map((row) => row.version as string));
    return versions.filter((version) => !seen.has(version));
  } finally {
    await sql.end();
  }
}
