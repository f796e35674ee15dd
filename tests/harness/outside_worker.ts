/** `npm run worker`, beside a stack of a test. */
import { CHECKOUT } from "../../local/paths.ts";
import { DEMO_KEYS } from "../../local/seed.ts";
import type { TestStack } from "./stack.ts";

export interface OutsideWorker {
  /** What it has told its owner. */
  said(): string;
  /** Interrupts it, as an owner does. @returns its exit code */
  stop(): Promise<number>;
}

/** @param given what the functions are given beside the demonstration's keys */
export function startOutsideWorker(stack: TestStack, given: Record<string, string> = {}): OutsideWorker {
  const { env } = Deno;
  const process = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--cached-only",
      "--unstable-no-legacy-abort",
      `--config=${CHECKOUT}/deno.json`,
      `${CHECKOUT}/cli/worker.ts`,
    ],
    env: {
      ...Object.fromEntries(DEMO_KEYS.map(({ envVarName, secret }) => [envVarName, secret])),
      SUPABASE_URL: stack.url,
      SUPABASE_SECRET_KEYS: JSON.stringify({ default: stack.keys.secret }),
      GOOGLE_API_BASE_URL: stack.emulatorUrl!,
      HOME: env.get("HOME") ?? "/tmp",
      DENO_DIR: env.get("DENO_DIR") ?? "",
      ...given,
    },
    stdout: "null",
    stderr: "piped",
  }).spawn();
  let said = "";
  const reading = (async () => {
    for await (const text of process.stderr.pipeThrough(new TextDecoderStream())) said += text;
  })();
  return {
    said: () => said,
    async stop() {
      process.kill("SIGTERM");
      await reading;
      return (await process.status).code;
    },
  };
}
