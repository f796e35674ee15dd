import { freePorts } from "../local/ports.ts";
import { removeHomeElsewhere } from "../local/postgres_place.ts";
import { type Stack, type StackOptions, startStack } from "../local/stack.ts";
import { makeTestFolder } from "../tests/harness/folders.ts";

/** Runs with a whole stack of its own, on free ports and in a folder that goes with it. */
export async function withStack<Value>(
  options: Omit<StackOptions, "dataDir" | "port">,
  run: (stack: Stack) => Promise<Value>,
): Promise<Value> {
  const folder = await makeTestFolder();
  // The stack locks it, and the test folder is locked already.
  const dataDir = `${folder.path}/data`;
  try {
    const stack = await startStack({ ...options, dataDir, port: freePorts(3)[0]! });
    try {
      return await run(stack);
    } finally {
      await stack.stop();
    }
  } finally {
    await removeHomeElsewhere(dataDir);
    await folder.remove();
  }
}
