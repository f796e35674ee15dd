/**
 * The functions of the checkout, each in a process of its own with the permissions a hosted function has: the network
 * and its own environment. No files, no programs, no other variables: what works here works there.
 */
import { SupervisedProcess } from "./supervised_process.ts";

export interface FunctionsOptions {
  /** The folder with one folder per function. */
  functionsDir: string;
  /** The configuration whose import map the functions use. */
  denoConfig: string;
  /** Existing folder for the generated entry modules. */
  entriesDir: string;
  /** The environment every function sees. */
  env: Record<string, string>;
  /** What the functions print. */
  output: (name: string, line: string) => void;
  /** What happens to them. */
  log: (line: string) => void;
  changed?: () => void;
}

/** A hosted function has 256 MB in all; most of a process's memory is its JavaScript heap. */
const HEAP_MB = 256;

/** The names of the functions in a folder: those that have an `index.ts`. Empty when there is no such folder. */
export async function functionNames(functionsDir: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(functionsDir)) {
      const index = await Deno.stat(`${functionsDir}/${entry.name}/index.ts`).catch(() => undefined);
      if (index?.isFile) names.push(entry.name);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names.sort();
}

/** Deno's arguments for a function: with the rights and the memory that it has on the platform. */
export function functionArguments(denoConfig: string, entry: string): string[] {
  return [
    "run",
    "--allow-net",
    "--allow-env",
    "--no-prompt",
    "--cached-only",
    // The signal of a request means that the client went away, and nothing else.
    "--unstable-no-legacy-abort",
    `--v8-flags=--max-old-space-size=${HEAP_MB}`,
    `--config=${denoConfig}`,
    entry,
  ];
}

/** Prepares one process per function; nothing runs before `start()`. */
export async function functionProcesses(options: FunctionsOptions): Promise<Map<string, SupervisedProcess>> {
  const processes = new Map<string, SupervisedProcess>();
  for (const name of await functionNames(options.functionsDir)) {
    const entry = `${options.entriesDir}/${name}.ts`;
    await Deno.writeTextFile(entry, entryModule(name, `${options.functionsDir}/${name}/index.ts`));
    processes.set(
      name,
      new SupervisedProcess({
        name: `function ${name}`,
        args: functionArguments(options.denoConfig, entry),
        env: { ...runtimeVariables(), ...options.env },
        listening: /^eve-worker listening (http:\S+)$/,
        output: (line) => options.output(name, line),
        log: options.log,
        changed: options.changed,
      }),
    );
  }
  return processes;
}

/**
 * Static imports need no permission, computed ones do: so the module that joins a function and its environment
 * (worker.ts) is written out. The environment comes first, since a function may use `EdgeRuntime` while it loads.
 */
function entryModule(name: string, index: string): string {
  const here = new URL("./worker.ts", import.meta.url).href;
  return `// Made by the local stack.
import { serveFunction } from ${JSON.stringify(here)};
import * as module from ${JSON.stringify(new URL(`file://${encodeURI(index)}`).href)};
serveFunction(${JSON.stringify(name)}, module);
`;
}

/** For Deno itself (its cache); worker.ts takes them away before the function can see them. */
export function runtimeVariables(): Record<string, string> {
  const variables: Record<string, string> = { DENO_NO_UPDATE_CHECK: "1" };
  for (const name of ["HOME", "DENO_DIR"]) {
    const value = Deno.env.get(name);
    if (value) variables[name] = value;
  }
  return variables;
}
