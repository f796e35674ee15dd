/** A program of the system that a test starts beside it. It ends with the test process, however that ends. */
import { eachLine } from "../../local/lines.ts";

/** Reads its input, which ends when the test process does, and ends the program then. It tells the program's id first. */
const GUARD = `
exec 3<&0
"$@" </dev/null 3<&- 2>&1 &
program=$!
echo $program
(cat <&3 >/dev/null 2>&1; kill -KILL $program 2>/dev/null) >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait $program; code=$?
kill $watch 2>/dev/null
exit $code
`;

const KEPT_LINES = 40;

export interface BackgroundProcess {
  pid: number;
  /** What it printed last. */
  said(): string;
  /** Resolves when it has ended, by itself or not. */
  ended: Promise<number>;
  /** Ends it with SIGKILL, as a crash would, and waits until it is gone. */
  kill(): Promise<void>;
}

export async function startProcess(
  command: string[],
  env: Record<string, string> = {},
): Promise<BackgroundProcess> {
  const guard = new Deno.Command("/bin/sh", {
    args: ["-c", GUARD, "guard", ...command],
    env,
    // A terminal's Ctrl-C is for the test run.
    detached: true,
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const lines: string[] = [];
  const pid = Promise.withResolvers<number>();
  const read = eachLine(guard.stdout, (line) => {
    if (lines.push(line) === 1) return pid.resolve(Number(line));
    if (lines.length > KEPT_LINES) lines.splice(1, 1);
  });
  const ended = guard.status.then(async ({ code }) => {
    await guard.stdin.close().catch(() => {});
    await read;
    pid.reject(new Error(`${command[0]} did not start`));
    return code;
  });
  return {
    pid: await pid.promise,
    said: () => lines.slice(1).join("\n"),
    ended,
    async kill() {
      await guard.stdin.close().catch(() => {});
      await ended;
    },
  };
}
