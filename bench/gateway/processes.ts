/** Programs that a benchmark starts and ends, and what they take of the machine. */
import { CHECKOUT } from "../../local/paths.ts";

/** What is to be undone at the end, last first. */
export class Cleanups {
  readonly #undo: (() => unknown)[] = [];

  add(undo: () => unknown): void {
    this.#undo.push(undo);
  }

  async run(): Promise<void> {
    for (
      let undo = this.#undo.pop();
      undo !== undefined;
      undo = this.#undo.pop()
    ) await undo();
  }
}

export interface Spawned {
  process: Deno.ChildProcess;
  /** Waits for a line of its output; what follows is read and thrown away, so that the pipe never fills. */
  said(pattern: RegExp): Promise<RegExpMatchArray>;
}

export function spawn(
  program: string,
  args: string[],
  env: Record<string, string> = {},
): Spawned {
  const process = new Deno.Command(program, {
    args,
    env,
    cwd: CHECKOUT,
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  return { process, said: (pattern) => lineOf(process.stdout, pattern) };
}

async function lineOf(
  output: ReadableStream<Uint8Array>,
  pattern: RegExp,
): Promise<RegExpMatchArray> {
  const reader = output.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) {
      throw new Error(`ended before it said ${pattern}: ${text.slice(-500)}`);
    }
    text += value;
    const found = text.split("\n").map((line) => line.match(pattern)).find((
      match,
    ) => match);
    if (found) {
      (async () => {
        while (!(await reader.read()).done);
      })();
      return found;
    }
  }
}

/**
 * Memory of processes, in MB: what each has for itself and its part of what they share (PSS), so that the processes of
 * one PostgreSQL can be added up.
 */
export function memoryMb(pids: number[]): number {
  const kb = pids.map((pid) => {
    try {
      return Number(
        Deno.readTextFileSync(`/proc/${pid}/smaps_rollup`).match(
          /^Pss:\s+(\d+)/m,
        )?.[1] ?? 0,
      );
    } catch {
      return 0;
    }
  });
  return Math.round(kb.reduce((sum, one) => sum + one, 0) / 1024);
}

/** A process and all that it has started. */
export function withChildren(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = Deno.readTextFileSync(`/proc/${name}/stat`);
      parents.set(
        Number(name),
        Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]),
      );
    } catch {
      // It has ended.
    }
  }
  const found = [pid];
  for (const one of found) {
    for (const [child, parent] of parents) {
      if (parent === one) found.push(child);
    }
  }
  return found;
}
