/** What is on the project now. Everything here only reads. */
import { z } from "zod";
import { type AppliedSum, SUMS_QUERY } from "../../local/migration_sums.ts";
import { DeployError } from "./deploy_error.ts";
import type { Finished, RunCli } from "./supabase_cli.ts";

export interface Target {
  /** `--remote`, for the commands that speak to the Management API. */
  project: string;
  /** `--remote`, for the commands that open a connection to the database. */
  database: string;
}

/** The arguments that tell the CLI where to connect. `sslMode` is the user's own choice for connections, as in PGSSLMODE. */
export function targetOf(options: { projectRef?: string; dbUrl?: string }, sslMode?: string): Target {
  const project = options.projectRef === undefined ? "--remote" : `--remote=${options.projectRef}`;
  const database = options.dbUrl === undefined ? project : `--remote=${encrypted(options.dbUrl, sslMode)}`;
  return { project, database };
}

/** Left to itself, the CLI goes on without TLS where it finds none, and a password would cross the network in the clear. */
export function encrypted(dbUrl: string, sslMode?: string): string {
  const url = new URL(dbUrl);
  const local = ["127.0.0.1", "localhost", "[::1]"].includes(url.hostname);
  if (local || sslMode !== undefined || url.searchParams.has("sslmode")) return dbUrl;
  url.searchParams.set("sslmode", "require");
  return url.href;
}

const target = z.object({ project_ref: z.string(), project_name: z.string().optional() });
const secretsAnswer = z.object({ secrets: z.array(z.object({ name: z.string() })), target });

export interface Project {
  ref: string;
  /** Names of the secrets it has. */
  secrets: Set<string>;
}

/** Finds the project, and by that checks the access token, the link and the token's rights. */
export async function findProject(run: RunCli, target: Target): Promise<Project> {
  const { secrets, target: found } = secretsAnswer.parse(
    await readJson(run, ["secrets", "list", target.project]),
  );
  return {
    ref: found.project_ref,
    secrets: new Set(secrets.map((secret) => secret.name)),
  };
}

const functionsAnswer = z.object({
  functions: z.array(z.object({ slug: z.string(), version: z.number().optional() })),
  target,
});

export interface Deployed {
  /** The functions on the project: slug to version. */
  functions: Map<string, number | undefined>;
  /**
   * What people call the project; undefined if the access token may not read it. The CLI asks for the name after a
   * command and tells it with the next one, so this must not be the first command.
   */
  projectName?: string;
}

export async function deployedFunctions(run: RunCli, target: Target): Promise<Deployed> {
  const answer = functionsAnswer.parse(await readJson(run, ["functions", "list", target.project]));
  return {
    functions: new Map(answer.functions.map((each) => [each.slug, each.version])),
    projectName: answer.target.project_name,
  };
}

const migrationsAnswer = z.object({
  migrations: z.array(z.object({ local: z.string(), remote: z.string() })),
});

export interface MigrationHistory {
  /** Versions that the checkout has and the database has not. */
  pending: string[];
  /** Versions that the database has and the checkout has not. */
  unknown: string[];
}

export async function migrationHistory(run: RunCli, target: Target): Promise<MigrationHistory> {
  const { migrations } = migrationsAnswer.parse(await readJson(run, ["migration", "list", target.database]));
  return {
    pending: migrations.filter((each) => each.remote === "").map((each) => each.local),
    unknown: migrations.filter((each) => each.local === "").map((each) => each.remote),
  };
}

const sumsAnswer = z.array(z.object({ version: z.string(), sum: z.string().nullable() }));

/** What the database has of the texts of its migrations. Empty on a project that has had none. */
export async function appliedSums(run: RunCli, target: Target): Promise<AppliedSum[]> {
  const done = await run(["db", "query", target.database, "--read-only", SUMS_QUERY, "--output-format=json"]);
  if (!done.success && /does not exist/.test(done.stdout)) return [];
  return sumsAnswer.parse(parseOrRefuse(done, "db query"));
}

const keysAnswer = z.array(z.object({ key_alias: z.string().nullable(), env_var_name: z.string() }));

export interface KeyVariable {
  /** The key's alias, for a person to recognise it. */
  alias: string;
  /** The secret that must hold the key. */
  variable: string;
}

const KEYS_QUERY = "select key_alias, env_var_name from public.google_ai_api_keys " +
  // The key of a stage, or one that was entered, is in the database, not among the secrets.
  "where is_active and env_var_name !~ '^(stage|stored):' order by env_var_name";

/** The variables that active keys name. Empty on a project that has no such table yet. */
export async function keyVariables(run: RunCli, target: Target): Promise<KeyVariable[]> {
  const done = await run(["db", "query", target.database, "--read-only", KEYS_QUERY, "--output-format=json"]);
  if (!done.success && /does not exist/.test(done.stdout)) return [];
  return keysAnswer.parse(parseOrRefuse(done, "db query"))
    .map((row) => ({ alias: row.key_alias ?? "(no alias)", variable: row.env_var_name }));
}

const warningsAnswer = z.array(z.object({ message: z.string() }));

/** What the adoption of hand-made tables warned of; `supabase db push` shows none of it. Empty if nothing was adopted. */
export async function adoptionWarnings(run: RunCli, target: Target): Promise<string[]> {
  const query = "select message from eve.adoption_warnings order by id";
  const done = await run(["db", "query", target.database, "--read-only", query, "--output-format=json"]);
  if (!done.success && /does not exist/.test(done.stdout)) return [];
  return warningsAnswer.parse(parseOrRefuse(done, "db query")).map(({ message }) => message);
}

async function readJson(run: RunCli, args: string[]): Promise<unknown> {
  const done = await run([...args, "--output-format=json"]);
  return parseOrRefuse(done, args.slice(0, 2).join(" "));
}

const failure = z.object({
  error: z.object({ code: z.string(), message: z.string(), suggestion: z.string().optional() }),
});

function parseOrRefuse(done: Finished, command: string): unknown {
  let answer: unknown;
  try {
    answer = JSON.parse(done.stdout);
  } catch {
    answer = undefined;
  }
  if (done.success && answer !== undefined) return answer;
  const failed = failure.safeParse(answer);
  if (failed.success) throw new DeployError(explain(failed.data.error, command));
  throw new DeployError(
    `supabase ${command} failed. Nothing was changed.\n${done.stderr}\n${done.stdout}`.trim(),
  );
}

const LOGIN = "run npx supabase login, or set SUPABASE_ACCESS_TOKEN " +
  "(make a token at https://supabase.com/dashboard/account/tokens)";

/** What a failure of the CLI means to the user, and what to do about it. */
function explain(error: z.infer<typeof failure>["error"], command: string): string {
  if (error.code === "AccessTokenRequiredError") return `There is no access token: ${LOGIN}.`;
  if (error.code === "InvalidAccessTokenError") {
    return `The access token is not one of Supabase's (sbp_...): ${LOGIN}.`;
  }
  if (error.code === "ProjectRefNotLinkedError") {
    return "No project is linked to this checkout: run npx supabase link --project-ref <ref>, or pass --project-ref <ref>.";
  }
  const status = error.message.match(/status (\d{3})\b/)?.[1];
  if (status === "401") return `Supabase refused the access token: ${LOGIN}.`;
  if (status === "403" || status === "404") {
    return `This access token sees no such project, or may not manage it: check the project ref, and whose token it is. (${error.message})`;
  }
  const advice = error.suggestion === undefined ? "" : `\n${error.suggestion}`;
  const elsewhere = error.code.startsWith("Db")
    ? "\nIf the database cannot be reached this way, pass --db-url with the session pooler's address from the dashboard (Connect), and its password in PGPASSWORD."
    : "";
  return `supabase ${command} failed, nothing was changed: ${error.message}${advice}${elsewhere}`;
}
