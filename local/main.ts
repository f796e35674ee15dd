/** `npm start`: brings the stack up, shows that it works, and keeps it up until it is told to end. */
import { safeForTerminal } from "../cli/eve/terminal.ts";
import { FIRST_FUNCTION, firstCall } from "./first_call.ts";
import { CHECKOUT } from "./paths.ts";
import { StartError } from "./start_error.ts";
import { overriddenSecrets, settingsFromEnvironment } from "./settings.ts";
import { type Stack, startStack } from "./stack.ts";

/** One Ctrl-C arrives several times (from the terminal, from npm, from the launcher); a later one is impatience. */
const IMPATIENT_AFTER_MS = 1_500;
/** How soon the stack notices that its launcher was killed. */
const LAUNCHER_POLL_MS = 1_000;

const LOG_FILE = "stack.log";
const ENV_FILE = "env";
/** What a function says while it does not start: enough for the error and where it comes from. */
const LAST_WORDS = 15;

/** For the one line that says why there is no stack. */
const complain = console.error.bind(console);
let record: (text: string) => void = () => {};
// The embedded API prints every request that it refuses, stack trace included: worth keeping, not worth a terminal.
console.error = (...parts) => record(`[api] ${parts.map((part) => Deno.inspect(part)).join(" ")}`);

let askedToEndAt: number | undefined;
const ending = new AbortController();

function end(): void {
  if (askedToEndAt === undefined) {
    askedToEndAt = Date.now();
    ending.abort();
  } else if (Date.now() - askedToEndAt > IMPATIENT_AFTER_MS) {
    // The parts notice that the stack is gone, and end themselves.
    Deno.exit(130);
  }
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) Deno.addSignalListener(signal, end);

const launcher = Deno.ppid;
const launcherWatch = setInterval(() => {
  if (Deno.ppid === launcher) return;
  clearInterval(launcherWatch);
  end();
}, LAUNCHER_POLL_MS);

async function run(): Promise<void> {
  const settings = settingsFromEnvironment();
  console.log("Starting the local stack ...");
  for (const name of overriddenSecrets()) {
    console.log(`${name} is taken from the environment, not the one that was set with \`keys set\`.`);
  }
  const lastWords: string[] = [];
  const stack = await startStack({
    ...settings,
    console: true,
    log: (line) => {
      console.log(safeForTerminal(line, false));
      record(line);
    },
    output: (part, line) => {
      record(`[${part}] ${line}`);
      if (part !== FIRST_FUNCTION) return;
      lastWords.push(line);
      if (lastWords.length > LAST_WORDS) lastWords.shift();
    },
    opened: (dataDir) => record = openLog(`${dataDir}/${LOG_FILE}`),
  });
  try {
    if (!ending.signal.aborted) await present(stack, settings.dataDir, lastWords);
    await new Promise<void>((resolve) => {
      if (ending.signal.aborted) resolve();
      ending.signal.addEventListener("abort", () => resolve());
    });
    console.log("Ending the local stack ...");
  } finally {
    await stack.stop();
  }
}

async function present(stack: Stack, dataDir: string, lastWords: string[]): Promise<void> {
  const variables = {
    SUPABASE_URL: stack.url,
    SUPABASE_PUBLISHABLE_KEY: stack.keys.publishable,
    SUPABASE_SECRET_KEY: stack.keys.secret,
    DATABASE_URL: stack.databaseUrl,
  };
  const lines = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
  await Deno.writeTextFile(`${dataDir}/${ENV_FILE}`, `${lines.join("\n")}\n`, { mode: 0o600 });
  console.log(`\n${lines.join("\n")}\n(also in ${readable(`${dataDir}/${ENV_FILE}`)})\n`);
  if (stack.functions.has(FIRST_FUNCTION)) {
    const { reached, lines } = await firstCall(stack);
    if (ending.signal.aborted) return;
    if (!reached) throw new StartError(noFunction(dataDir, lastWords));
    // A model's answer, or an upstream's error.
    console.log(safeForTerminal(`${lines.join("\n")}\n`, false));
  }
  if (stack.console) {
    const { url, administrator } = stack.console;
    console.log(`Console: ${url}${stack.console.isBuilt() ? "" : " (being built; until then it says so)"}`);
    console.log(
      `  e-mail ${administrator.email}, password ${administrator.password} (demo administrator)\n`,
    );
  }
  console.log(`What the functions print is in ${readable(`${dataDir}/${LOG_FILE}`)}\n`);
  console.log("ready");
}

/** Without it nothing useful is served. */
function noFunction(dataDir: string, lastWords: string[]): string {
  const words = lastWords.map((line) => `  ${line}`).join("\n");
  return `The function ${FIRST_FUNCTION} does not start: run npm ci if a package is missing. It says:\n${words}\n` +
    `All of it is in ${readable(`${dataDir}/${LOG_FILE}`)}`;
}

/** From the checkout, where it lies below it: that is where npm scripts are run. */
function readable(path: string): string {
  return path.startsWith(`${CHECKOUT}/`) ? path.slice(CHECKOUT.length + 1) : path;
}

/** One log per run; the previous run's is kept beside it. */
function openLog(path: string): (text: string) => void {
  try {
    Deno.renameSync(path, `${path}.old`);
  } catch {
    // The first run.
  }
  const file = Deno.openSync(path, { create: true, write: true, truncate: true });
  const encoder = new TextEncoder();
  return (text) => {
    try {
      file.writeSync(encoder.encode(`${new Date().toISOString()} ${text}\n`));
    } catch {
      // A full disk must not end what still works.
    }
  };
}

try {
  await run();
  clearInterval(launcherWatch);
  Deno.exit(0);
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  complain(error instanceof StartError ? message : `The local stack did not start: ${message}`);
  Deno.exit(1);
}
