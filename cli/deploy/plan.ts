/** What a deployment will do, made from what the checkout has and what the project has, before anything is done. */
import { changedMigrations, fewOf } from "../../local/migration_sums.ts";
import { unreleasedMigrations } from "../../local/unreleased_migrations.ts";
import { functionsIn, migrationsIn } from "./checkout.ts";
import {
  appliedSums,
  deployedFunctions,
  findProject,
  type KeyVariable,
  keyVariables,
  migrationHistory,
  type Project,
  type Target,
} from "./project.ts";
import { DeployError } from "./deploy_error.ts";
import { ALL_PARTS, functionsOf, type Part, PARTS } from "../install/parts.ts";
import type { RunCli } from "./supabase_cli.ts";

export interface Plan {
  project: Project;
  /** What people call the project, if the access token may read it. */
  projectName: string | undefined;
  /** File names, in order; undefined when the database is left as it is. */
  migrations: string[] | undefined;
  secrets: { file: string; names: string[] } | undefined;
  functions: { name: string; deployedVersion: number | undefined; isNew: boolean }[];
  /** What the user should know, but may ignore. */
  warnings: string[];
  /** Those that were chosen, undefined if nothing was said of them. */
  parts: readonly Part[] | undefined;
  /** No active key names a secret: the gateway has nothing to call with yet. */
  needsKeys: boolean;
}

export interface PlanInput {
  root: string;
  target: Target;
  functionsOnly: boolean;
  /** Functions of other parts stay undeployed; undefined: all are deployed. */
  parts?: readonly Part[];
  /** The file as the user named it, and the names in it. */
  secrets: { file: string; names: string[] } | undefined;
}

/** Looks at both sides. Throws DeployError for what would fail half-way or surprise the user. */
export async function makePlan(run: RunCli, input: PlanInput): Promise<Plan> {
  const { root, target, secrets } = input;
  const left = input.parts === undefined ? [] : functionsOf(ALL_PARTS);
  const chosen = new Set(functionsOf(input.parts ?? []));
  const local = (await functionsIn(root)).filter((name) => !left.includes(name) || chosen.has(name));
  // First and alone: it says what is wrong with the token or the link, in one place.
  const project = await findProject(run, target);
  const [deployed, migrations, keys] = await Promise.all([
    deployedFunctions(run, target),
    input.functionsOnly ? undefined : pendingFiles(run, root, target),
    keyVariables(run, target),
    refuseChanged(run, root, target),
  ]);
  const known = new Set([...project.secrets, ...secrets?.names ?? []]);
  return {
    project,
    projectName: deployed.projectName,
    migrations,
    secrets,
    functions: local.map((name) => ({
      name,
      deployedVersion: deployed.functions.get(name),
      isNew: !deployed.functions.has(name),
    })),
    warnings: keys.filter((key) => !known.has(key.variable)).map(missingSecret),
    needsKeys: keys.length === 0,
    parts: input.parts,
  };
}

function missingSecret({ alias, variable }: KeyVariable): string {
  return `Key ${alias} is read from the secret ${variable}, which is neither on the project nor in a secrets file: ` +
    `calls cannot use that key until you set it (npm run deploy again, with --secrets-file).`;
}

async function pendingFiles(run: RunCli, root: string, target: Target): Promise<string[]> {
  const [history, files] = await Promise.all([migrationHistory(run, target), migrationsIn(root)]);
  const unreleased = unreleasedMigrations(history.unknown);
  if (unreleased.length > 0) {
    throw new DeployError(
      `This database was made by an edition of the gateway from before its first release (migrations ${
        unreleased[0]
      } to ${unreleased.at(-1)}), which cannot be brought up to date.
Deploy to a new project. Or begin again in this one, without what the gateway wrote down in it (your own tables stay, and are adopted): in the SQL editor
  drop schema eve cascade; delete from supabase_migrations.schema_migrations where version like '20261121%';
and run this again.
Nothing was changed.`,
    );
  }
  if (history.unknown.length > 0) {
    throw new DeployError(
      `The database has migrations that this checkout does not have: ${history.unknown.join(", ")}.
- If they come from a newer version of the gateway: update this checkout. To put these older functions back over the newer database, add --functions-only.
- If they are another project's, in the same database: npx supabase migration fetch ${target.database} writes them into supabase/migrations, and then this works.
Nothing was changed.`,
    );
  }
  return history.pending.sort().map((version) => files.get(version) ?? version);
}

/** Functions go with what the migrations here define, whether or not the database is left as it is. */
async function refuseChanged(run: RunCli, root: string, target: Target): Promise<void> {
  const [applied, files] = await Promise.all([appliedSums(run, target), migrationsIn(root)]);
  const here = [...files].map(([version, file]) => ({
    version,
    file,
    path: `${root}/supabase/migrations/${file}`,
  }));
  const changed = await changedMigrations(here, applied);
  if (changed.length === 0) return;
  const versions = [...files.keys()].sort();
  throw new DeployError(
    `The database was made with another text of ${
      fewOf(changed)
    } than this checkout has. A migration that has been applied is not applied again, so what it defines now would not be there.
- If you have edited a migration: put it back as it was, and add another one.
- If the database was made by another edition of the gateway: deploy from its checkout, or to a new project. Or begin again in this one, without what the gateway wrote down in it (your own tables stay, and are adopted): in the SQL editor
  drop schema eve cascade; delete from supabase_migrations.schema_migrations where version between '${
      versions[0]
    }' and '${versions.at(-1)}';
and run this again.
Nothing was changed.`,
  );
}

/** The plan in words, as lines. Names of secrets are in it, values cannot be. */
export function describePlan(plan: Plan): string[] {
  const { project, migrations, secrets, functions, warnings } = plan;
  const name = plan.projectName === undefined ? "project" : `"${plan.projectName}"`;
  const lines = [`Deploying to ${name} (${project.ref}):`, ""];
  for (const part of plan.parts ?? []) lines.push(`   part ${part.padEnd(8)} ${PARTS[part].adds}`);
  if (plan.parts !== undefined) lines.push("");
  if (migrations === undefined) lines.push("1. Database: left as it is (--functions-only).");
  else if (migrations.length === 0) lines.push("1. Database: up to date.");
  else {
    lines.push(`1. Database: ${count(migrations.length, "migration")} to apply`);
    lines.push(...migrations.map((file) => `     ${file}`));
  }
  if (secrets === undefined) lines.push("2. Secrets: left as they are (no --secrets-file).");
  else {
    lines.push(`2. Secrets: ${count(secrets.names.length, "value")} to set, from ${secrets.file}`);
    lines.push(
      ...secrets.names.map((each) =>
        `     ${each} (${project.secrets.has(each) ? "replaces the one there" : "new"})`
      ),
    );
  }
  lines.push(`3. Functions: ${count(functions.length, "function")} to deploy`);
  lines.push(
    ...functions.map((each) => `     ${each.name} (${each.isNew ? "new" : replaces(each.deployedVersion)})`),
  );
  if (warnings.length > 0) lines.push("", ...warnings.map((warning) => `Warning: ${warning}`));
  return lines;
}

function replaces(version: number | undefined): string {
  return version === undefined ? "replaces the one there" : `replaces version ${version}`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
