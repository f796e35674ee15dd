/** The Supabase CLI of this checkout, working on a local database. It is a development package: `npm start` does without. */
import { CHECKOUT } from "./paths.ts";

/** Applying everything takes seconds; a lock held by somebody else must not block it forever. */
const TIMEOUT_MS = 120_000;

/** No reports, no update checks: this has to work offline, and nothing is reported about what runs here. */
const QUIET = {
  SUPABASE_TELEMETRY_DISABLED: "1",
  DO_NOT_TRACK: "1",
  SUPABASE_NO_UPDATE_NOTIFIER: "1",
  // A local server speaks no TLS; saying so spares a warning.
  PGSSLMODE: "disable",
};

/** Applies the migrations of `workdir`/supabase as a deployment does. */
export async function pushMigrations(databaseUrl: string, workdir = CHECKOUT): Promise<string> {
  return await supabaseCli(
    ["db", "push", `--remote=${databaseUrl}`, "--yes", "--include-all", "--skip-vault"],
    workdir,
  );
}

/** Runs it and answers its standard output. Throws with what it printed if it failed. */
export async function supabaseCli(args: string[], workdir = CHECKOUT): Promise<string> {
  const done = await new Deno.Command(`${CHECKOUT}/node_modules/.bin/supabase`, {
    args: [...args, `--workdir=${workdir}`],
    env: QUIET,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).output();
  const [out, err] = [done.stdout, done.stderr].map((bytes) => new TextDecoder().decode(bytes).trim());
  if (!done.success) throw new Error(`supabase ${args.slice(0, 2).join(" ")} failed:\n${err}\n${out}`.trim());
  return out!;
}
