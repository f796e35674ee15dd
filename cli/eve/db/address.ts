/** Which database `db` works on: its own address, since migrations go through no API. */
import postgres from "postgres";
import { dataDirFromEnvironment } from "../../../local/settings.ts";
import { encrypted } from "../../deploy/project.ts";
import type { CommandDependencies } from "../command.ts";
import { CliFailure, unreachable } from "../failure.ts";

/** A database that does not answer is said so after this long. */
const CONNECT_TIMEOUT_S = 10;

/** What people's programs say where it is missing (clients/python has the same words). */
const MISSING = "DATABASE_URL не установлена";

/**
 * DATABASE_URL; without it, and with no other project named, the local stack's.
 * @throws CliFailure that says how to have one
 */
export function databaseUrl(
  { variable }: Pick<CommandDependencies, "variable">,
  folder = dataDirFromEnvironment(),
): string {
  const given = variable("DATABASE_URL") || localUrl(variable, folder);
  if (given === undefined) {
    throw unreachable(
      `${MISSING}. Set it to the database's address (postgresql://...; on a hosted project the session pooler's, Connect in the dashboard), or start the local stack with \`npm start\`.`,
    );
  }
  if (!URL.canParse(given) || !/^postgres(ql)?:$/.test(new URL(given).protocol)) {
    throw unreachable(
      "DATABASE_URL is no address of a database. It looks like postgresql://USER:PASSWORD@HOST:5432/postgres.",
    );
  }
  return encrypted(given, variable("PGSSLMODE"));
}

/** Anyone who names a project elsewhere does not mean the local stack's database. */
function localUrl(variable: CommandDependencies["variable"], folder: string): string | undefined {
  if (variable("SUPABASE_URL") || variable("EVE_PROFILE")) return undefined;
  try {
    return /^DATABASE_URL=(.+)$/m.exec(Deno.readTextFileSync(`${folder}/env`))?.[1];
  } catch {
    return undefined;
  }
}

/** `127.0.0.1:54322/postgres`, without the user and the password. */
export function placeOf(url: string): string {
  const { host, pathname } = new URL(url);
  return `${host}${pathname}`;
}

/** Runs something with one connection. @throws CliFailure that says what is wrong with the address */
export async function withDatabase<Result>(
  url: string,
  run: (sql: postgres.Sql) => Promise<Result>,
): Promise<Result> {
  const sql = postgres(url, { max: 1, onnotice: () => {}, connect_timeout: CONNECT_TIMEOUT_S });
  try {
    try {
      await sql`select 1`;
    } catch (error) {
      throw unreachable(
        `The database at ${placeOf(url)} does not let us in (${
          (error as Error).message || (error as { code?: string }).code
        }): is DATABASE_URL right, and the database running?`,
      );
    }
    return await run(sql);
  } catch (error) {
    if (error instanceof postgres.PostgresError) {
      throw new CliFailure([error.message, error.detail, error.hint].filter(Boolean).join("\n"));
    }
    throw error;
  } finally {
    await sql.end({ timeout: 5 });
  }
}
