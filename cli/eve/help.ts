import type { Command } from "./command.ts";
import { bold, dim } from "./table.ts";

const RUN = "npm run eve --";

/** Every command, one a line. */
export function overview(commands: readonly Command[]): string {
  const width = Math.max(...commands.map((command) => usage(command).length));
  const lines = commands.map((command) => `  ${usage(command).padEnd(width)}  ${dim(command.summary)}`);
  return `The gateway's owner at the command line.

  ${RUN} COMMAND [arguments] [options]

${lines.join("\n")}

  --json     the answer for programs
  --help     this text, or a command's own: ${RUN} consumers add --help

It talks to the project that SUPABASE_URL and SUPABASE_SECRET_KEY name, or else to the local stack (npm start).
It ends with 0 when it was done, 1 when it could not be done, 2 when the command line makes no sense.`;
}

export function helpFor(command: Command): string {
  const options: [string, string][] = [
    ...Object.entries(command.options).map(([name, { value, help }]): [string, string] => [
      value === undefined ? `--${name}` : `--${name} ${value}`,
      help,
    ]),
    ["--json", "the answer for programs"],
  ];
  const width = Math.max(...options.map(([name]) => name.length));
  return `${bold(usage(command))}: ${command.summary}

${options.map(([name, help]) => `  ${name.padEnd(width)}  ${help}`).join("\n")}

For example:
${command.examples.map((example) => `  ${RUN} ${example}`).join("\n")}`;
}

/** `consumers show NAME` */
export function usage(command: Command): string {
  const names = command.arguments.map((name) => name.endsWith("?") ? `[${name.slice(0, -1)}]` : name);
  return [command.name, ...names].join(" ");
}
