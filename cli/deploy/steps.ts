/** Doing what the plan says. Every step may be done again without harm, so the way on from a failure is the same command. */
import type { Plan } from "./plan.ts";
import { adoptionWarnings, type Target } from "./project.ts";
import { DeployError } from "./deploy_error.ts";
import type { RunCli } from "./supabase_cli.ts";

export interface Step {
  /** What is being done, for the user to read. */
  title: string;
  /** What has been done, for the account given when a later step fails. */
  done: string;
  /** What a failure of this step means. */
  onFailure: string;
  args: string[];
  /** What the CLI did not report of it. Asked for after a failure as well: a part may have been done. */
  warningsOf?: (run: RunCli) => Promise<string[]>;
}

/** The migration that adopts tables made by hand. */
const ADOPTION = /_adopt_tables\.sql$/;

/** The steps of a plan in their order: the functions need the schema, and read the secrets. */
export function stepsOf(plan: Plan, target: Target): Step[] {
  const steps: Step[] = [];
  const confirmed = "--yes";
  if (plan.migrations !== undefined && plan.migrations.length > 0) {
    steps.push({
      title: "Applying migrations",
      done: "the migrations are applied",
      onFailure:
        "Each migration is applied whole or not at all; those listed above before the error are applied and will be skipped.",
      // A version merged late may be older than the newest one applied; it is still wanted.
      args: ["db", "push", target.database, "--include-all", "--skip-vault", confirmed],
      // They are of the moment of adoption. What was corrected since need not be heard of at each upgrade.
      ...plan.migrations.some((file) => ADOPTION.test(file)) && {
        warningsOf: async (run) =>
          (await adoptionWarnings(run, target)).map((message) => `Warning: ${message}`),
      },
    });
  }
  if (plan.secrets !== undefined) {
    steps.push({
      title: "Setting secrets",
      done: "the secrets are set",
      onFailure: "The secrets are set all together or not at all, so they are as they were.",
      args: ["secrets", "set", `--env-file=${plan.secrets.file}`, target.project, confirmed],
    });
  }
  // One by one: given several, the CLI activates those that bundle even if another one does not, and says so nowhere.
  for (const { name } of plan.functions) {
    steps.push({
      title: `Deploying ${name}`,
      done: `${name} is deployed`,
      onFailure: `The ${name} that was deployed before, if any, is still running.`,
      args: ["functions", "deploy", name, "--use-api", target.project, confirmed],
    });
  }
  return steps;
}

/** Runs the steps, and stops at the first that fails with an account of where that leaves the project. */
export async function runSteps(run: RunCli, steps: Step[], say: (line: string) => void): Promise<void> {
  const done: string[] = [];
  for (const [index, step] of steps.entries()) {
    say(`${step.title} (${index + 1} of ${steps.length})`);
    const { success } = await run(step.args, { onLine: (line) => line.trim() !== "" && say(`  ${line}`) });
    if (step.warningsOf !== undefined) (await step.warningsOf(run)).forEach((line) => say(`  ${line}`));
    if (!success) throw new DeployError(account(step, done, steps.slice(index + 1)));
    done.push(step.done);
  }
}

function account(failed: Step, done: string[], left: Step[]): string {
  return [
    `${failed.title} failed; the reason is above.`,
    failed.onFailure,
    `Done: ${done.length === 0 ? "nothing else" : done.join(", ")}.`,
    ...left.length === 0
      ? []
      : [`Not begun: ${left.map((step) => step.title[0]!.toLowerCase() + step.title.slice(1)).join(", ")}.`],
    "When the cause is gone, run the same command again: what is done already is skipped, or repeated without harm.",
  ].join("\n");
}
