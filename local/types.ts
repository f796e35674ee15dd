/**
 * The TypeScript types of what the database exposes, as the Supabase CLI generates them. `npm run types` writes them to
 * shared/database/database_types.ts from a database that it makes for the purpose; a test compares the two.
 */
import postgres from "postgres";
import { applyMigrations, applyPlatform } from "./database.ts";
import { CHECKOUT } from "./paths.ts";
import { freePorts } from "./ports.ts";
import { startCluster } from "./postgres.ts";
import { removeHomeElsewhere } from "./postgres_place.ts";
import { supabaseCli } from "./supabase_cli.ts";

/** Where the types are committed. */
export const TYPES_FILE = `${CHECKOUT}/shared/database/database_types.ts`;

const HEADER = "// Generated from the migrations by `npm run types`. A test compares it; do not edit it.\n\n";

/** The types of schema `public` of a database that has the migrations, formatted as this checkout is. */
export async function databaseTypes(databaseUrl: string): Promise<string> {
  const generated = await supabaseCli(["gen", "types", `--remote=${databaseUrl}`, "--schema=public"]);
  return await formatted(`${HEADER}${generated}\n`);
}

async function formatted(source: string): Promise<string> {
  const deno = new Deno.Command(Deno.execPath(), {
    args: ["fmt", `--config=${CHECKOUT}/deno.json`, "--ext=ts", "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = deno.stdin.getWriter();
  await writer.write(new TextEncoder().encode(source));
  await writer.close();
  const { success, stdout, stderr } = await deno.output();
  if (!success) throw new Error(`deno fmt refused the generated types:\n${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

/** Makes a database from the migrations alone, hands out its URL, and removes it again. */
async function withMigratedDatabase<Result>(run: (databaseUrl: string) => Promise<Result>): Promise<Result> {
  const folder = await Deno.makeTempDir({ prefix: "eve-gateway-types-" });
  try {
    // The server's account may be another one than ours.
    await Deno.chmod(folder, 0o755);
    const [port] = freePorts(1);
    const cluster = await startCluster({ dataDir: folder, port: port!, durable: false });
    try {
      const superuser = postgres(cluster.superuserUrl(), { max: 1, onnotice: () => {} });
      await superuser.unsafe("create database types");
      await superuser.end();
      await applyPlatform(cluster.superuserUrl("types"));
      await applyMigrations(cluster.url("types"));
      return await run(cluster.url("types"));
    } finally {
      await cluster.stop();
      await removeHomeElsewhere(folder);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) {
  await Deno.writeTextFile(TYPES_FILE, await withMigratedDatabase(databaseTypes));
  console.log(`wrote ${TYPES_FILE}`);
}
