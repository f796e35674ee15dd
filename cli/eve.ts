/** `npm run eve -- COMMAND`: the gateway's owner at the command line. See docs/cli.md, or --help. */
import { GatewayError } from "../shared/contract/gateway_error.ts";
import { readCommandLine } from "./eve/arguments.ts";
import type { Surroundings } from "./eve/command.ts";
import { COMMANDS } from "./eve/commands.ts";
import { connectFromEnvironment, type Connection } from "./eve/connection.ts";
import { CliFailure, EXIT } from "./eve/failure.ts";
import { terminalProgress } from "./eve/progress.ts";

export interface Place extends Partial<Surroundings> {
  /** A line for the standard output. */
  say: (text: string) => void;
  /** A line for the standard error. */
  complain: (text: string) => void;
  connect: (profile?: string) => Connection;
}

/** Runs one command line; answers the exit code. Answers go to `say`, complaints to `complain`. */
export async function eve(args: readonly string[], place: Place): Promise<number> {
  const { say, complain } = place;
  const wantsJson = args.includes("--json");
  const signal = place.signal ?? new AbortController().signal;
  const progress = place.progress ?? (() => {});
  try {
    const asked = readCommandLine(args, COMMANDS);
    if (asked.kind === "help") {
      say(asked.text);
      return EXIT.done;
    }
    const outcome = await asked.command.run(asked.given, {
      progress,
      write: say,
      read: readFile,
      variable: (name) => Deno.env.get(name),
      signal,
      width: DEFAULT_WIDTH,
      now: Date.now,
      sleep: (ms) => sleep(ms, signal),
      ...place,
      connect: () => place.connect(asked.profile),
      json: asked.json,
    });
    progress("");
    if (outcome === undefined) return EXIT.done;
    say(asked.json ? JSON.stringify(outcome.json, undefined, 2) : outcome.text);
    return outcome.exitCode ?? EXIT.done;
  } catch (thrown) {
    progress("");
    if (signal.aborted) return EXIT.interrupted;
    const { message, exitCode } = explain(thrown);
    if (wantsJson) say(JSON.stringify({ error: { message } }, undefined, 2));
    else complain(message);
    return exitCode;
  }
}

/** What a printer and an old terminal agree on. */
const DEFAULT_WIDTH = 100;

/** The codes that say that we did not get as far as asking. */
const NOT_REACHED: readonly string[] = ["database_unavailable", "gateway_misconfigured"];

function explain(thrown: unknown): { message: string; exitCode: number } {
  if (thrown instanceof CliFailure) return thrown;
  if (thrown instanceof GatewayError) {
    // The owner may see what a caller may not.
    const detail = thrown.code === "invalid_argument" || thrown.detail === null ? "" : ` (${thrown.detail})`;
    return {
      message: `${capitalised(thrown.publicMessage)}${detail}`,
      exitCode: NOT_REACHED.includes(thrown.code) ? EXIT.unreachable : EXIT.failed,
    };
  }
  return { message: thrown instanceof Error ? thrown.message : String(thrown), exitCode: EXIT.failed };
}

/** What the database says of a value begins like a log line. */
function capitalised(message: string): string {
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}`.replace(/(?<![.?!])$/, ".");
}

async function readFile(file: string): Promise<string> {
  if (file === "-") return await new Response(Deno.stdin.readable).text();
  try {
    return await Deno.readTextFile(file);
  } catch (error) {
    throw new CliFailure(
      error instanceof Deno.errors.NotFound
        ? `There is no file ${file}.`
        : `${file} cannot be read: ${error instanceof Error ? error.message : error}`,
    );
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
}

if (import.meta.main) {
  const interrupted = new AbortController();
  Deno.addSignalListener("SIGINT", () => {
    // Whoever presses it twice does not want to wait.
    if (interrupted.signal.aborted) Deno.exit(EXIT.interrupted);
    interrupted.abort();
  });
  Deno.exit(
    await eve(Deno.args, {
      say: (text) => console.log(text),
      write: (text) => Deno.stdout.writeSync(new TextEncoder().encode(text)),
      complain: (text) => console.error(text),
      connect: connectFromEnvironment,
      progress: terminalProgress(),
      signal: interrupted.signal,
      width: Deno.stdout.isTerminal() ? Deno.consoleSize().columns : DEFAULT_WIDTH,
    }),
  );
}
