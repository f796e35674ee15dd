import { CliFailure, EXIT } from "./failure.ts";
import { safeForTerminal } from "./terminal.ts";

const ENTER = [0x0a, 0x0d];
const CTRL_C = 0x03;
const CTRL_D = 0x04;
const BACKSPACE = [0x08, 0x7f];

/**
 * A line that is typed and not shown, or everything that is piped in. Never an argument: those are in the shell's history and in
 * the list of processes.
 * @throws CliFailure at Ctrl-C
 */
export async function readSecret(question: string): Promise<string> {
  const { stdin, stderr } = Deno;
  if (!stdin.isTerminal()) return (await new Response(stdin.readable).text()).trim();
  const say = (text: string) => stderr.writeSync(new TextEncoder().encode(safeForTerminal(text, false)));
  say(question);
  const typed: number[] = [];
  const bytes = new Uint8Array(1_024);
  stdin.setRaw(true);
  try {
    for (;;) {
      const count = await stdin.read(bytes);
      if (count === null) break;
      for (const byte of bytes.subarray(0, count)) {
        if (ENTER.includes(byte) || byte === CTRL_D) {
          return new TextDecoder().decode(new Uint8Array(typed)).trim();
        }
        if (byte === CTRL_C) throw new CliFailure("Nothing was changed.", EXIT.interrupted);
        if (BACKSPACE.includes(byte)) typed.pop();
        else typed.push(byte);
      }
    }
    return new TextDecoder().decode(new Uint8Array(typed)).trim();
  } finally {
    stdin.setRaw(false);
    say("\n");
  }
}
