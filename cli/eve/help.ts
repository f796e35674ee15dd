import type { Command } from "./command.ts";
import { bold, dim } from "./table.ts";

export const RUN = "npm run eve --";

const GLOBAL_OPTIONS: readonly [string, string][] = [
  ["--json", "the answer for programs; its shapes are in docs/cli.md"],
  ["--profile NAME", "the project of that profile: see profiles add"],
  ["--help", "this text"],
];

/** Every command, one a line. */
export function overview(commands: readonly Command[]): string {
  const width = Math.max(...commands.map((command) => usage(command).length));
  // A blank line between subjects; commands of one word stand together.
  const lines: string[] = [];
  let last: string | undefined;
  for (const command of commands) {
    const [first, second] = command.name.split(" ");
    const subject = second === undefined ? "" : first;
    if (last !== undefined && subject !== last) lines.push("");
    lines.push(`  ${usage(command).padEnd(width)}  ${dim(command.summary)}`);
    last = subject;
  }
  return `The gateway's owner at the command line.

  ${RUN} COMMAND [arguments] [options]

${lines.join("\n")}

${optionLines(GLOBAL_OPTIONS)}

It talks to the project of --profile (or EVE_PROFILE), else to the one that SUPABASE_URL and SUPABASE_SECRET_KEY
name, else to the local stack (npm start).
It ends with 0 when it was done and nothing is wrong, 1 when something wrong was found or it could not be done, 2 when
the command line makes no sense, 3 when the project could not be reached or refused the key.`;
}

/** The commands about one thing. */
export function groupHelp(group: string, commands: readonly Command[]): string {
  const members = commands.filter(({ name }) => name.startsWith(`${group} `));
  const width = Math.max(...members.map((command) => usage(command).length));
  return `${members.map((command) => `  ${usage(command).padEnd(width)}  ${dim(command.summary)}`).join("\n")}

More about one: ${RUN} ${members[0]?.name} --help`;
}

export function helpFor(command: Command): string {
  const options: [string, string][] = [
    ...Object.entries(command.options).map(([name, { value, help }]): [string, string] => [
      value === undefined ? `--${name}` : `--${name} ${value}`,
      help,
    ]),
    ...GLOBAL_OPTIONS,
  ];
  return `${bold(usage(command))}: ${command.summary}
${command.about === undefined ? "" : `\n${command.about}\n`}
${optionLines(options)}

For example:
${command.examples.map((example) => `  ${RUN} ${example}`).join("\n")}`;
}

function optionLines(options: readonly (readonly [string, string])[]): string {
  const width = Math.max(...options.map(([name]) => name.length));
  return options.map(([name, help]) => `  ${name.padEnd(width)}  ${help}`).join("\n");
}

/** `consumers show NAME` */
export function usage(command: Command): string {
  const names = command.arguments.map((name) => name.endsWith("?") ? `[${name.slice(0, -1)}]` : name);
  return [command.name, ...names].join(" ");
}
