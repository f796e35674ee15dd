/**
 * The last thing of a deployment: the schedule in the database learns where the functions are and with which key it may
 * call them. The function maintenance puts both into Vault itself, so the key goes from Supabase to the project and
 * through no file, no command line and no statement.
 */
import { z } from "zod";
import type { Target } from "./project.ts";
import type { RunCli } from "./supabase_cli.ts";

export interface ConnectOptions {
  run: RunCli;
  target: Target;
  /** The twenty letters. */
  ref: string;
  fetch: typeof fetch;
  sleep: (ms: number) => Promise<void>;
}

/** A function that was just deployed is served within seconds. */
const TRIES = 4;
const PAUSE_MS = 3_000;
const ANSWER_MS = 20_000;

const keysAnswer = z.object({
  keys: z.array(z.object({ api_key: z.string().nullish(), type: z.string().nullish() })),
});

/** Connects, and says how it went. Never throws: the gateway serves without a schedule, and the next run connects it. */
export async function connectSchedule(options: ConnectOptions): Promise<string[]> {
  const address = `https://${options.ref}.supabase.co/functions/v1/maintenance/connect`;
  let why: string;
  try {
    const key = await secretKeyOf(options);
    why = key === undefined
      ? "this access token may not read the project's secret key, or there is none"
      : await ask(address, key, options);
  } catch (error) {
    why = error instanceof Error ? error.message : String(error);
  }
  if (why === "") {
    return ["The schedule knows where the functions are: pg_cron runs the maintenance from now on."];
  }
  return [
    `Not done: telling the schedule where the functions are (${why}).`,
    "Until it knows, key_health, models_sync and alerts do not run by themselves. With a secret key of the project:",
    `  curl -X POST ${address} -H "apikey: $SUPABASE_SECRET_KEY"`,
  ];
}

/** The project's secret key; undefined where the access token may not read it. */
export async function secretKeyOf(
  { run, target }: Pick<ConnectOptions, "run" | "target">,
): Promise<string | undefined> {
  const done = await run(["projects", "api-keys", target.project, "--reveal", "--output-format=json"]);
  if (!done.success) return undefined;
  const { keys } = keysAnswer.parse(JSON.parse(done.stdout));
  // Without the right to reveal, a key comes with its middle left out.
  return keys.find(({ type, api_key }) => type === "secret" && /^sb_secret_[\w-]+$/.test(api_key ?? ""))
    ?.api_key ?? undefined;
}

/** An empty text when it is done, else why not. */
async function ask(address: string, key: string, { fetch, sleep }: ConnectOptions): Promise<string> {
  for (let tries = 1;; tries++) {
    const response = await fetch(address, {
      method: "POST",
      headers: { apikey: key },
      redirect: "error",
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    const text = (await response.text()).slice(0, 300);
    if (response.ok) return "";
    const isEarly = response.status === 404 || response.status >= 500;
    if (!isEarly || tries === TRIES) return `maintenance answered ${response.status}: ${text}`.trim();
    await sleep(PAUSE_MS);
  }
}
