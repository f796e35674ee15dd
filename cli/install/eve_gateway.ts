/** The command `eve-gateway`, as Node runs it: bundled into one file by `npm run pack`. */
import process from "node:process";
import { inspect } from "node:util";
import { createInterface } from "node:readline/promises";
import { fileURLToPath } from "node:url";
import { safeForTerminal } from "../eve/terminal.ts";
import { InstallError } from "./error.ts";
import { main } from "./main.ts";

async function ask(question: string): Promise<boolean | undefined> {
  if (!process.stdin.isTTY) return undefined;
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return /^y(es)?$/i.test((await terminal.question(safeForTerminal(`${question} [y/N] `, false))).trim());
  } finally {
    terminal.close();
  }
}

try {
  await main(process.argv.slice(2), {
    root: process.cwd(),
    payload: fileURLToPath(new URL("./payload", import.meta.url)),
    variable: (name) => process.env[name],
    say: (line) => console.log(safeForTerminal(line, false)),
    ask,
    now: () => new Date(),
  });
} catch (error) {
  // Names of files and tables, and what the database says, are from elsewhere.
  const said = error instanceof InstallError ? error.message : inspect(error);
  console.error(safeForTerminal(said, false));
  process.exitCode = 1;
}
