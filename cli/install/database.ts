/** Taking the gateway out of a database: the ways down of the new parts, newest first, and then the gateway itself. */
import postgres from "postgres";
import { CliFailure } from "../eve/failure.ts";
import { inWords, type Step, undo } from "../eve/db/downgrade.ts";
import { parseWayDown } from "../eve/db/way_down.ts";
import { InstallError } from "./error.ts";
import type { Lock } from "./lock.ts";

const CONNECT_TIMEOUT_S = 15;

export interface DropOptions {
  url: string;
  migrations: Lock["migrations"];
  /** The way down of one of the gateway's migrations by its own file name, undefined for those of the gateway itself. */
  wayDown: (name: string) => string | undefined;
  /** Takes out what has no way down of its own. */
  uninstall: string;
  /** A new folder for the rows that go. */
  folder: string;
  say: (line: string) => void;
}

/**
 * Writes the rows of what goes to files, drops it and takes the versions out of the history: a step is done as a whole or not at
 * all, and the same command goes on where one was cut short. Tables that were there before and were adopted stay, with their rows.
 */
export async function dropData(options: DropOptions): Promise<void> {
  const { url, folder, say } = options;
  const sql = postgres(url, { max: 1, onnotice: () => {}, connect_timeout: CONNECT_TIMEOUT_S });
  try {
    for (const step of stepsOf(options, await appliedVersions(sql))) {
      const { lost } = await undo(sql, step, folder);
      for (const loss of lost) say(`  ${inWords(loss)} written to ${loss.file}`);
    }
  } catch (error) {
    if (error instanceof InstallError) throw error;
    if (error instanceof CliFailure || error instanceof postgres.PostgresError) {
      throw new InstallError(error.message);
    }
    throw new InstallError(
      `The database does not let us in (${(error as Error).message}): is the address right?`,
    );
  } finally {
    await sql.end({ timeout: 5 });
  }
}

async function appliedVersions(sql: postgres.Sql): Promise<Set<string>> {
  const [{ there }] = await sql<[{ there: boolean }]>`
    select to_regclass('supabase_migrations.schema_migrations') is not null as there
  `;
  if (!there) return new Set();
  const rows = await sql<{ version: string }[]>`select version from supabase_migrations.schema_migrations`;
  return new Set(rows.map(({ version }) => version));
}

function stepsOf({ migrations, wayDown, uninstall }: DropOptions, applied: ReadonlySet<string>): Step[] {
  const all = Object.entries(migrations).map(([original, { file }]) => ({
    original,
    version: file.match(/\/(\d+)_/)![1]!,
    name: file.match(/\/\d+_(.*)\.sql$/)![1]!,
  })).filter(({ version }) => applied.has(version)).sort((a, b) => a.version < b.version ? 1 : -1);
  const steps: Step[] = [];
  const base: typeof all = [];
  for (const { original, ...migration } of all) {
    const way = wayDown(original);
    if (way === undefined) base.push({ original, ...migration });
    else steps.push({ ...migration, way: parseWayDown(way) });
  }
  if (base.length > 0) {
    steps.push({
      version: base[0]!.version,
      name: "the gateway itself",
      way: parseWayDown(uninstall),
      versions: base.map(({ version }) => version),
    });
  }
  return steps;
}
