import type { Command } from "../command.ts";
import { type Check, judge, verdict } from "../doctor/checks.ts";
import { collectFacts } from "../doctor/facts.ts";
import { EXIT } from "../failure.ts";
import { bold, dim, green, red, yellow } from "../table.ts";

const MARKS: Readonly<Record<Check["state"], string>> = {
  green: green("✓"),
  yellow: yellow("!"),
  red: red("✗"),
};

export const doctorCommand: Command = {
  name: "doctor",
  summary: "check a project from end to end, and say what to do",
  about:
    `Whether it can be reached and takes the key; the local stack's disk; migrations, against those of this checkout; clocks;
functions; extensions, scheduled jobs and their last runs; secrets of keys, and whether upstream can be reached; whether
the database takes anything down; limits for files; alerts; and a real call of a model, which costs one request.
Green is as it should be, yellow works and wants a look, red does not work. It ends with 1 if anything is red.`,
  arguments: [],
  options: {
    "no-call": { help: "make no call of a model" },
    model: { value: "NAME", help: "the model to call" },
    strict: { help: "end with 1 for yellow too" },
  },
  examples: ["doctor", "doctor --profile production", "doctor --no-call --json"],
  async run(given, around) {
    const connection = around.connect();
    const facts = await collectFacts(
      connection,
      { testCall: !given.switch("no-call"), model: given.option("model") },
      around,
    );
    const checks = judge(facts);
    const state = verdict(checks);
    const failed = state === "red" || (state === "yellow" && given.switch("strict"));
    return {
      json: { project: connection.url, state, checks },
      text: `${bold(connection.name)}\n\n${linesOf(checks)}\n\n${conclusion(checks)}`,
      exitCode: failed ? EXIT.failed : EXIT.done,
    };
  },
};

function linesOf(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return checks.map(({ name, state, found, todo }) => {
    const line = `${MARKS[state]} ${bold(name.padEnd(width))}  ${found}`;
    return todo === null ? line : `${line}\n    ${dim("→")} ${todo}`;
  }).join("\n");
}

function conclusion(checks: readonly Check[]): string {
  const count = (state: Check["state"]) => checks.filter((check) => check.state === state).length;
  const [reds, yellows] = [count("red"), count("yellow")];
  if (reds > 0) return red(`${reds} of ${checks.length} checks found something that does not work.`);
  if (yellows > 0) return yellow(`It works; ${yellows} of ${checks.length} checks want a look.`);
  return green(`All ${checks.length} checks are green.`);
}
