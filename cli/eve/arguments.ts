import { Command as Parser, CommanderError } from "commander";
import type { Command, Given } from "./command.ts";
import { misuse } from "./failure.ts";
import { groupHelp, helpFor, overview, RUN } from "./help.ts";

/** What the user asked for, before anything is done. */
export type Asked =
  | { kind: "help"; text: string }
  | { kind: "run"; command: Command; given: Given; json: boolean; profile: string | undefined };

/** Reads a command line. @throws CliFailure with exit code 2 */
export function readCommandLine(args: readonly string[], commands: readonly Command[]): Asked {
  let asked: Asked | undefined;
  /** What the line had got to when it stopped making sense. */
  let place = "";
  let help = "";

  const prepare = (parser: Parser, name: string, helpText: () => string) => {
    parser.exitOverride((error) => {
      place = name;
      throw error;
    });
    parser.configureOutput({ writeOut: (text) => help += text, writeErr: () => {}, outputError: () => {} });
    parser.helpInformation = helpText;
    parser.helpOption("-h, --help");
    return parser;
  };

  const root = prepare(new Parser("eve"), "", () => overview(commands));
  root.option("--json").option("--profile <NAME>");
  const groups = new Map<string, Parser>();

  const add = (command: Command) => {
    const [first, second] = command.name.split(" ") as [string, string?];
    let parent = root;
    if (second !== undefined) {
      parent = groups.get(first) ?? prepare(root.command(first), first, () => groupHelp(first, commands));
      groups.set(first, parent);
    }
    const parser = prepare(parent.command(second ?? first), command.name, () => helpFor(command));
    for (const name of command.arguments) {
      const optional = name.endsWith("?");
      const plain = optional ? name.slice(0, -1) : name;
      parser.argument(optional ? `[${plain}]` : `<${plain}>`);
    }
    for (const [name, { value }] of Object.entries(command.options)) {
      parser.option(value === undefined ? `--${name}` : `--${name} <${value}>`);
    }
    parser.action(() => {
      const values = parser.optsWithGlobals();
      asked = {
        kind: "run",
        command,
        json: values.json === true,
        profile: values.profile,
        given: {
          arguments: parser.args,
          option: (name) => text(values[camelCase(name)]),
          // To the parser `--no-call` is `call`, and true unless it is said.
          switch: (name) =>
            name.startsWith("no-")
              ? values[camelCase(name.slice(3))] === false
              : values[camelCase(name)] === true,
        },
      };
    });
  };
  for (const command of commands) add(command);

  if (args.length === 0) return { kind: "help", text: overview(commands) };
  try {
    root.parse([...args], { from: "user" });
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown;
    if (thrown.exitCode === 0) return { kind: "help", text: help.trimEnd() };
    throw misuse(explain(thrown, place, commands));
  }
  if (asked === undefined) throw misuse(`Nothing was asked for. See: ${RUN} --help`);
  return asked;
}

/** `--grace 24h` is `grace`, `--requests-per-day` is `requestsPerDay`. */
function camelCase(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function explain(error: CommanderError, place: string, commands: readonly Command[]): string {
  if (error.code === "commander.help") {
    // A group without what to do with it.
    const names = commands.map(({ name }) => name).filter((name) => name.startsWith(`${place} `));
    return `\`${place}\` needs to know what to do: ${names.join(", ")}.`;
  }
  const said = error.message.replace(/^error: /, "").replace(/\s*\n\s*/g, " ");
  const [first = ""] = said;
  const more = place === "" ? `${RUN} --help` : `${RUN} ${place} --help`;
  return `${first.toUpperCase()}${said.slice(1).replace(/(?<![.?])$/, ".")} See: ${more}`;
}
