/** `npm run eve -- COMMAND`: the gateway's owner at the command line. See docs/cli.md, or --help. */
import { CHECKOUT } from "../local/paths.ts";
import { GatewayError } from "../shared/contract/gateway_error.ts";
import { supabaseCli } from "./deploy/supabase_cli.ts";
import { readCommandLine } from "./eve/arguments.ts";
import type { CommandDependencies } from "./eve/command.ts";
import { COMMANDS } from "./eve/commands.ts";
import { connectFromEnvironment, type Connection, isLoopback } from "./eve/connection.ts";
import { CliFailure, EXIT, unreachable } from "./eve/failure.ts";
import { terminalProgress } from "./eve/progress.ts";
import { readSecret } from "./eve/secret_prompt.ts";
import { coloured } from "./eve/table.ts";
import { safeForTerminal } from "./eve/terminal.ts";

export interface Place extends Partial<CommandDependencies> {
  /** A line for the standard output. */
  say: (text: string) => void;
  /** A line for the standard error. */
  complain: (text: string) => void;
  connect: (profile?: string) => Connection;
}

/** Runs one command line; answers the exit code. Answers go to `say`, complaints to `complain`. */
export async function eve(args: readonly string[], unguarded: Place): Promise<number> {
  const place = guarded(unguarded);
  const { say, complain } = place;
  const wantsJson = args.includes("--json");
  const signal = place.signal ?? new AbortController().signal;
  const progress = place.progress ?? (() => {});
  let connection: Connection | undefined;
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
      secret: readSecret,
      supabase: (hidden) => supabaseCli(CHECKOUT, hidden),
      variable: (name) => Deno.env.get(name),
      signal,
      width: DEFAULT_WIDTH,
      now: Date.now,
      sleep: (ms) => sleep(ms, signal),
      ...place,
      connect: () => connection = place.connect(asked.profile),
      json: asked.json,
    });
    progress("");
    if (outcome === undefined) return EXIT.done;
    say(asked.json ? JSON.stringify(outcome.json, undefined, 2) : outcome.text);
    return outcome.exitCode ?? EXIT.done;
  } catch (thrown) {
    progress("");
    if (signal.aborted) return EXIT.interrupted;
    let { message, exitCode } = explain(thrown);
    if (exitCode === EXIT.unreachable && connection && await isStoppedLocalStack(connection)) {
      message =
        `The local stack does not run: start it with \`npm start\`. (Nothing listens at ${connection.url}.)`;
    }
    if (wantsJson) say(JSON.stringify({ error: { message } }, undefined, 2));
    else complain(message);
    return exitCode;
  }
}

/** The same place, where all that is written is safe for a terminal: the one way out of here. */
function guarded(place: Place): Place {
  const safely = <Out extends ((text: string) => void) | undefined>(out: Out) =>
    out && ((text: string) => out(safeForTerminal(text, coloured)));
  return {
    ...place,
    say: safely(place.say),
    complain: safely(place.complain),
    ...(place.write && { write: safely(place.write) }),
    ...(place.progress && { progress: safely(place.progress) }),
  };
}

/** One Ctrl-C arrives several times (from the terminal, from npm, from the launcher); a later one is impatience. */
const IMPATIENT_AFTER_MS = 1_500;

/** A refused connection is reported at once. */
const LOCAL_ANSWER_MS = 2_000;

/** What a printer and an old terminal agree on. */
const DEFAULT_WIDTH = 100;

function explain(thrown: unknown): { message: string; exitCode: number } {
  if (thrown instanceof CliFailure) return thrown;
  if (thrown instanceof GatewayError) {
    const { code, detail } = thrown;
    // The owner may see what a caller may not, and needs other advice.
    const why = detail === null ? "" : ` (${detail})`;
    if (code === "database_unavailable") {
      return unreachable(`The project does not answer${why}. Is the address right, and the project running?`);
    }
    if (code === "gateway_misconfigured") {
      return unreachable(`The project refused${why}. \`doctor\` says what to do.`);
    }
    if (code === "invalid_argument") return new CliFailure(capitalised(thrown.publicMessage));
    return new CliFailure(`${thrown.publicMessage}${why}`);
  }
  return { message: thrown instanceof Error ? thrown.message : String(thrown), exitCode: EXIT.failed };
}

/** Whether the project is on this machine, and nobody listens there. */
async function isStoppedLocalStack({ url, fetch }: Connection): Promise<boolean> {
  if (!isLoopback(url)) return false;
  try {
    await (await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(LOCAL_ANSWER_MS) })).body
      ?.cancel();
    return false;
  } catch (error) {
    return !(error instanceof DOMException);
  }
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
  let interruptedAt = 0;
  Deno.addSignalListener("SIGINT", () => {
    if (!interrupted.signal.aborted) {
      interruptedAt = Date.now();
      interrupted.abort();
    } else if (Date.now() - interruptedAt > IMPATIENT_AFTER_MS) Deno.exit(EXIT.interrupted);
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
