/** What the tests of the examples share: a stack with consumers, and a Python to run the examples by. */
import { eve } from "../../cli/eve.ts";
import { connect } from "../../cli/eve/connection.ts";
import { CHECKOUT } from "../../local/paths.ts";
import type { TestStack } from "../harness/stack.ts";

export interface Ran {
  code: number;
  said: string;
  complained: string;
}

/** `npm run eve` on a stack. Throws what it complained of if it failed. */
export async function runEve(stack: TestStack, ...args: string[]) {
  const complained: string[] = [];
  const said: string[] = [];
  const code = await eve([...args, "--json"], {
    say: (text) => said.push(text),
    complain: (text) => complained.push(text),
    connect: () => connect(stack.url, stack.keys.secret),
  });
  if (code !== 0) throw new Error([...complained, ...said].join("\n"));
  return JSON.parse(said.join("\n"));
}

/** Runs a program to its end, without writing byte code into the checkout. */
export async function run(
  program: string,
  args: string[],
  env: Record<string, string>,
  cwd: string = CHECKOUT,
): Promise<Ran> {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args,
    cwd,
    env: { PYTHONDONTWRITEBYTECODE: "1", PYTHONIOENCODING: "utf-8", ...env },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, said: text(stdout), complained: text(stderr) };
}
