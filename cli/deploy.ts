/**
 * `npm run deploy`: puts this checkout on a Supabase project. It says what it will do, asks, and then runs the Supabase
 * CLI for the database, the secrets and the functions. See docs/deploy.md.
 */
import { isAbsolute, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { connectSchedule } from "./deploy/connect_schedule.ts";
import { readOptions, USAGE } from "./deploy/options.ts";
import { describePlan, makePlan, type Plan } from "./deploy/plan.ts";
import { targetOf } from "./deploy/project.ts";
import { DeployError } from "./deploy/deploy_error.ts";
import { parseSecretsFile } from "./deploy/secrets_file.ts";
import { runSteps, stepsOf } from "./deploy/steps.ts";
import { type RunCli, supabaseCli } from "./deploy/supabase_cli.ts";
import { safeForTerminal } from "./eve/terminal.ts";

/** What a deployment needs from outside, for a test to hold it still. */
export interface DeployDependencies {
  /** The checkout, without a trailing slash. */
  root: string;
  /** Makes the function that runs the CLI and blots the hidden values out of what it prints. */
  cli: (hidden: Iterable<string>) => RunCli;
  say: (line: string) => void;
  /** For the one call that a deployment makes itself; absent: the runtime's. */
  fetch?: typeof fetch;
  /** The user's answer, or undefined if there is nobody to ask. */
  ask: (question: string) => boolean | undefined;
}

/** Deploys, or throws DeployError with what is wrong and what to do. */
export async function deploy(args: string[], dependencies: DeployDependencies): Promise<void> {
  const { root, say } = dependencies;
  const options = readOptions(args);
  if (options.help) return say(USAGE);
  const secrets = options.secretsFile === undefined ? undefined : await readSecrets(options.secretsFile);
  const target = targetOf(options, Deno.env.get("PGSSLMODE"));
  const password = Deno.env.get("PGPASSWORD");
  const run = dependencies.cli([...secrets?.values ?? [], ...password === undefined ? [] : [password]]);

  const plan = await makePlan(run, {
    root,
    target,
    functionsOnly: options.functionsOnly,
    secrets,
    parts: options.parts,
  });
  describePlan(plan).forEach(say);
  say("");
  if (options.dryRun) return say("Dry run: nothing was changed.");
  if (!options.yes) confirm(dependencies.ask);
  await runSteps(run, stepsOf(plan, target), say);
  say("");
  if (plan.functions.some(({ name }) => name === "maintenance")) {
    const { ref } = plan.project;
    const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
    (await connectSchedule({
      run,
      target,
      ref,
      fetch: dependencies.fetch ?? fetch,
      sleep,
    })).forEach(say);
    say("");
  }
  afterwards(plan).forEach(say);
}

async function readSecrets(file: string): Promise<{ file: string; names: string[]; values: string[] }> {
  const path = isAbsolute(file) ? file : resolve(invocationFolder(), file);
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound ? "it is not there" : (error as Error).message;
    throw new DeployError(`Cannot read the secrets file ${path}: ${reason}.`);
  }
  const secrets = parseSecretsFile(text, file);
  if (secrets.size === 0) {
    throw new DeployError(
      `${file} has no NAME=value in it: fill it in, or leave --secrets-file away to keep the project's secrets.`,
    );
  }
  return { file: path, names: [...secrets.keys()], values: [...secrets.values()] };
}

/** Where the user typed the command: npm goes to the checkout's root before it runs a script. */
function invocationFolder(): string {
  return Deno.env.get("INIT_CWD") ?? Deno.cwd();
}

function confirm(ask: DeployDependencies["ask"]): void {
  const answer = ask("Go on?");
  if (answer === undefined) {
    throw new DeployError("There is nobody to ask here (no terminal): add --yes. Nothing was changed.");
  }
  if (!answer) throw new DeployError("Stopped. Nothing was changed.");
}

function afterwards(plan: Plan): string[] {
  return [
    "Deployed.",
    ...plan.needsKeys
      ? [
        "No active key is in google_ai_api_keys yet: add one, or no call has a key to go with (docs/deploy.md).",
      ]
      : [],
    ...plan.functions.map((each) => `  https://${plan.project.ref}.supabase.co/functions/v1/${each.name}`),
  ];
}

if (import.meta.main) {
  const root = fileURLToPath(new URL("..", import.meta.url)).replace(/[/\\]$/, "");
  try {
    await deploy(Deno.args, {
      root,
      cli: (hidden) => supabaseCli(root, hidden),
      say: (line) => console.log(safeForTerminal(line, false)),
      ask: (question) =>
        Deno.stdin.isTerminal() ? globalThis.confirm(safeForTerminal(question, false)) : undefined,
    });
  } catch (error) {
    console.error(safeForTerminal(error instanceof DeployError ? error.message : Deno.inspect(error), false));
    Deno.exitCode = 1;
  }
}
