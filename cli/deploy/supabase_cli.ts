/** Running the Supabase CLI of this checkout. */

export interface Finished {
  success: boolean;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  /** Receives what the command prints, line by line, while it runs. */
  onLine?: (line: string) => void;
}

/** Runs `supabase` with these arguments. The seam where a test puts its own. */
export type RunCli = (args: string[], options?: RunOptions) => Promise<Finished>;

/** Offline and quiet: the version is pinned by package.json, so no news about newer ones, and no reports. */
const QUIET = { SUPABASE_NO_UPDATE_NOTIFIER: "1", SUPABASE_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1" };

/** An agent's terminal would otherwise get its JSON in another shape. */
const SAME_OUTPUT_FOR_ALL = "--agent=no";

/**
 * The CLI of the checkout at `root`, working on that checkout. It takes its credentials from the environment and from
 * `supabase login`. Whatever it prints reaches the caller with `hidden` (secret values) blotted out.
 */
export function supabaseCli(root: string, hidden: Iterable<string> = []): RunCli {
  const blot = blotter(hidden);
  return async (args, options = {}) => {
    const child = spawn(`${root}/node_modules/.bin/supabase`, {
      args: [...args, SAME_OUTPUT_FOR_ALL, `--workdir=${root}`],
      env: QUIET,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
    const read = async (stream: ReadableStream<Uint8Array>) => {
      const lines: string[] = [];
      for await (const raw of linesOf(stream)) {
        const line = blot(raw);
        lines.push(line);
        options.onLine?.(line);
      }
      return lines.join("\n");
    };
    const [stdout, stderr, { success }] = await Promise.all([
      read(child.stdout),
      read(child.stderr),
      child.status,
    ]);
    return { success, stdout, stderr };
  };
}

/** A value this short is found in ordinary words; blotting it out would garble the output and hide nothing. */
const SHORTEST_HIDDEN = 4;

/** Replaces every hidden value in a text, the longest first: one may be part of another. */
export function blotter(hidden: Iterable<string>): (text: string) => string {
  const values = [...hidden].filter((value) => value.length >= SHORTEST_HIDDEN)
    .sort((a, b) => b.length - a.length);
  return (text) => values.reduce((rest, value) => rest.replaceAll(value, "[hidden]"), text);
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split(/\r?\n/);
    rest = lines.pop()!;
    yield* lines;
  }
  rest += decoder.decode();
  if (rest !== "") yield rest;
}

function spawn(program: string, options: Deno.CommandOptions): Deno.ChildProcess {
  try {
    return new Deno.Command(program, options).spawn();
  } catch (error) {
    // npm start and npm run eve do without it.
    if (error instanceof Deno.errors.NotFound) {
      throw new Error("The Supabase CLI is not installed in this checkout: run npm ci.");
    }
    throw error;
  }
}
