/** The command `eve-gateway`, as Node runs it: bundled into one file by `npm run pack`. */
import process from "node:process";
import { createInterface } from "node:readline/promises";
import { fileURLToPath } from "node:url";
import { InstallError } from "./error.ts";
import { main } from "./main.ts";

async function ask(question: string): Promise<boolean | undefined> {
  if (!process.stdin.isTTY) return undefined;
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}

try {
  await main(process.argv.slice(2), {
    root: process.cwd(),
    payload: fileURLToPath(new URL("./payload", import.meta.url)),
    variable: (name) => process.env[name],
    say: (line) => console.log(line),
    ask,
    now: () => new Date(),
  });
} catch (error) {
  if (!(error instanceof InstallError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
