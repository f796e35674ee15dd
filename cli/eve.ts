/** `npm run eve -- COMMAND`: the gateway's owner at the command line. See docs/consumers.md, or --help. */
import { GatewayError } from "../shared/contract/gateway_error.ts";
import { readCommandLine } from "./eve/arguments.ts";
import { consumerCommands } from "./eve/commands/consumers.ts";
import { invokeCommand } from "./eve/commands/invoke.ts";
import { keyCommands } from "./eve/commands/keys.ts";
import { modelCommands } from "./eve/commands/models.ts";
import { tokenCommands } from "./eve/commands/tokens.ts";
import { connectFromEnvironment, type Connection } from "./eve/connection.ts";
import { CliFailure, EXIT } from "./eve/failure.ts";
import { helpFor, overview } from "./eve/help.ts";

const COMMANDS = [...consumerCommands, ...tokenCommands, ...keyCommands, ...modelCommands, invokeCommand];

/** Runs one command line; answers the exit code. Answers go to `say`, complaints to `complain`. */
export async function eve(
  args: readonly string[],
  { say, complain, connect }: {
    say: (text: string) => void;
    complain: (text: string) => void;
    connect: () => Connection;
  },
): Promise<number> {
  const wantsJson = args.includes("--json");
  try {
    const asked = readCommandLine(args, COMMANDS);
    if (asked.kind === "overview") say(overview(COMMANDS));
    else if (asked.kind === "help") say(helpFor(asked.command));
    else {
      const { json, text, exitCode } = await asked.command.run(asked.given, connect);
      say(asked.json ? JSON.stringify(json, undefined, 2) : text);
      return exitCode ?? EXIT.done;
    }
    return EXIT.done;
  } catch (thrown) {
    const { message, exitCode } = explain(thrown);
    if (wantsJson) say(JSON.stringify({ error: { message } }, undefined, 2));
    else complain(message);
    return exitCode;
  }
}

function explain(thrown: unknown): { message: string; exitCode: number } {
  if (thrown instanceof CliFailure) return thrown;
  if (thrown instanceof GatewayError) {
    // The owner may see what a caller may not.
    const detail = thrown.code === "invalid_argument" || thrown.detail === null ? "" : ` (${thrown.detail})`;
    return { message: `${thrown.publicMessage}${detail}`, exitCode: EXIT.failed };
  }
  return { message: thrown instanceof Error ? thrown.message : String(thrown), exitCode: EXIT.failed };
}

if (import.meta.main) {
  Deno.exit(
    await eve(Deno.args, {
      say: (text) => console.log(text),
      complain: (text) => console.error(text),
      connect: connectFromEnvironment,
    }),
  );
}
