import { parseArgs } from "node:util";
import type { Command, Given } from "./command.ts";
import { misuse } from "./failure.ts";
import { usage } from "./help.ts";

/** What the user asked for, before anything is done. */
export type Asked =
  | { kind: "overview" }
  | { kind: "help"; command: Command }
  | { kind: "run"; command: Command; given: Given; json: boolean };

/** Reads a command line. @throws CliFailure with exit code 2 */
export function readCommandLine(args: readonly string[], commands: readonly Command[]): Asked {
  const words = args.filter((word) => !word.startsWith("-"));
  const command = commands.find((one) => words.slice(0, one.name.split(" ").length).join(" ") === one.name);
  const wantsHelp = args.includes("--help") || args.includes("-h");
  if (command === undefined) {
    if (wantsHelp || args.length === 0) return { kind: "overview" };
    throw misuse(
      `There is no command \`${words.slice(0, 2).join(" ")}\`${nearest(words, commands)}. See --help.`,
    );
  }
  if (wantsHelp) return { kind: "help", command };
  const { values, positionals } = parse(args, command);
  const given = positionals.slice(command.name.split(" ").length);
  const required = command.arguments.filter((name) => !name.endsWith("?"));
  if (given.length < required.length) {
    throw misuse(`${required[given.length]?.replace("...", "")} is missing: ${usage(command)}`);
  }
  if (given.length > command.arguments.length && !command.arguments.at(-1)?.endsWith("...")) {
    throw misuse(`There is one word too many, ${given.at(-1)}: ${usage(command)}`);
  }
  return {
    kind: "run",
    command,
    json: values.json === true,
    given: {
      arguments: given,
      option: (name) => typeof values[name] === "string" ? values[name] : undefined,
      switch: (name) => values[name] === true,
    },
  };
}

function parse(args: readonly string[], command: Command) {
  const options = Object.fromEntries(
    Object.entries({ ...command.options, json: { value: undefined } }).map(([name, { value }]) => [
      name,
      { type: value === undefined ? "boolean" as const : "string" as const },
    ]),
  );
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (thrown) {
    // node:util names the option; what it advises beyond that is about its own interface.
    const [reason] = (thrown as Error).message.split(". ");
    throw misuse(`${reason}. See: npm run eve -- ${command.name} --help`);
  }
}

/** The commands about the same thing, where there are any. */
function nearest([first]: readonly string[], commands: readonly Command[]): string {
  const same = commands.filter(({ name }) => name.split(" ")[0] === first).map(({ name }) => name);
  return same.length === 0 ? "" : `; there are ${same.join(", ")}`;
}
