/** The whole local system in one call: database, API, functions and the Google AI emulator behind one reverse proxy. */
import { type Api, startApi } from "./api.ts";
import { CronJobs } from "./cron_jobs.ts";
import { applyMigrations, applyPlatform } from "./database.ts";
import { CONSOLE_PATH, type ConsoleSite, consoleSite } from "./console.ts";
import { type DemoAdministrator, demoAdministrator } from "./demo_administrator.ts";
import { lockFolder, lockNote } from "./folder_lock.ts";
import { functionProcesses, runtimeVariables } from "./functions_host.ts";
import { SupervisedPostgres } from "./supervised_postgres.ts";
import { type ProjectKeys, projectKeys } from "./keys.ts";
import { PgNetWorker } from "./pg_net_worker.ts";
import { type ReverseProxy, type ReverseProxyOptions, startReverseProxy } from "./reverse_proxy.ts";
import { CHECKOUT } from "./paths.ts";
import { portIsFree, portObstacle } from "./ports.ts";
import { endLeftoverServer, portTaken } from "./postgres.ts";
import { StartError, startErrorForFolder } from "./start_error.ts";
import { DEMO_KEYS, REAL_KEY_VARIABLE, type SeedKey, seedKeys, useNewSecrets } from "./seed.ts";
import { SupervisedProcess } from "./supervised_process.ts";
import { type LocalBot, localBot } from "./telegram/local_bot.ts";
import { connectSchedule } from "./vault.ts";

export interface StackOptions {
  /** Everything the stack keeps; created if missing. */
  dataDir: string;
  /** The reverse proxy's port; the database listens on the next one, the emulator on the one after that. */
  port?: number;
  /** A real key of Google's: the stack then talks to Google instead of the emulator. */
  googleApiKey?: { secret: string; alias: string };
  /** Another upstream than the emulator or Google. */
  googleApiBaseUrl?: string;
  /** Further settings for the emulator (see local/emulator/), e.g. other limits. */
  emulator?: Record<string, unknown>;
  /** More variables for every function, e.g. more keys. */
  env?: Record<string, string>;
  /** The folder with the functions; the checkout's if not given. */
  functionsDir?: string;
  /** Functions that start at their first request, as hosted ones do; the others start with the stack. For tests. */
  startLate?: readonly string[];
  /** The configuration whose import map the functions use; the checkout's if not given. */
  denoConfig?: string;
  /** The folder that holds `supabase/migrations`; the checkout if not given. */
  migrationsFrom?: string;
  /** True: the console is served, with a demo administrator to sign in as. It is built if need be, once the stack serves. */
  console?: boolean;
  /** False: what is scheduled stays undone. For tests that count what happens. */
  schedule?: boolean;
  /** False: the database gives up durability for speed. For tests. */
  durable?: boolean;
  /** What happens, for people: one line at a time. */
  log?: (line: string) => void;
  /** What the parts themselves print. `part` is "postgres", "emulator" or a function's name. */
  output?: (part: string, line: string) => void;
  /** Called as soon as the folder is this stack's, before anything runs. */
  opened?: (dataDir: string) => void;
}

export interface Stack {
  /** The reverse proxy's address, without a trailing slash. */
  url: string;
  keys: ProjectKeys;
  /** As `postgres`, who owns the database. */
  databaseUrl: string;
  database: SupervisedPostgres;
  /** Undefined when another upstream is used. */
  emulatorUrl: string | undefined;
  emulator: SupervisedProcess | undefined;
  /** Undefined when the user has a bot of their own. */
  telegram: LocalBot | undefined;
  /** By name; each can be killed, restarted and asked for its process id. */
  functions: Map<string, SupervisedProcess>;
  /** Undefined when the console was not asked for. */
  console: StackConsole | undefined;
  /** Ends everything in order: functions finish what they began, then the rest goes. Safe to call twice. */
  stop(): Promise<void>;
}

export interface StackConsole {
  url: string;
  administrator: DemoAdministrator;
  /** False: until it is, its address says so. */
  isBuilt(): boolean;
  /** Resolves when it is built; with the reason when that has failed. */
  built: Promise<string | undefined>;
}

/** The Supabase CLI's own, so that clients' examples fit. */
export const DEFAULT_PORT = 54321;
/** The reverse proxy's, the database's and the emulator's. */
const PORTS_IN_A_ROW = 3;
/** The parts of a stack that was killed notice it at once and are gone within about a second; on a busy machine, later. */
const LEFTOVERS_END_MS = 30_000;
const PORT_POLL_MS = 50;
const STATE_FILE = "stack.json";
/** Open connections of clients that do not go away on their own. */
const ORIGIN_SHUTDOWN_MS = 2_000;

/**
 * Starts the stack; resolves when it serves. Throws {@link StartError} when the user has to do something first;
 * whatever had been started by then has ended again.
 */
export async function startStack(options: StackOptions): Promise<Stack> {
  const cleanups: (() => unknown)[] = [];
  const stop = once(async () => {
    while (cleanups.length > 0) await cleanups.pop()!();
  });
  try {
    return await bringUp(options, cleanups, stop);
  } catch (error) {
    await stop();
    const folderIsFull = /No space left on device/.test(error instanceof Error ? error.message : "");
    throw (folderIsFull && startErrorForFolder(error, options.dataDir)) || error;
  }
}

async function bringUp(
  options: StackOptions,
  cleanups: (() => unknown)[],
  stop: () => Promise<void>,
): Promise<Stack> {
  const log = options.log ?? (() => {});
  const output = options.output ?? (() => {});
  const port = options.port ?? DEFAULT_PORT;
  const url = `http://127.0.0.1:${port}`;

  const { dataDir, release } = await takeFolder(options.dataDir, url);
  cleanups.push(release);
  options.opened?.(dataDir);
  const state = new StateFile(`${dataDir}/${STATE_FILE}`);
  await endLeftoverServer(dataDir);
  await portsFree(port, state.leftBehind() ? LEFTOVERS_END_MS : 0);
  const keys = await projectKeys(dataDir);

  cleanups.push(() => state.remove());

  const database = new SupervisedPostgres(
    { dataDir, port: port + 1, durable: options.durable, log: (line) => output("postgres", line) },
    log,
    () => state.save(),
  );
  cleanups.push(() => database.stop());

  const useEmulator = !options.googleApiKey && !options.googleApiBaseUrl;
  const emulator = useEmulator
    ? emulatorProcess(port + 2, options, log, output, () => state.save())
    : undefined;
  if (emulator) cleanups.push(() => emulator.stop());
  const upstream = options.googleApiBaseUrl ?? (emulator && `http://127.0.0.1:${port + 2}`);
  const googleKeys = options.googleApiKey ? [realKey(options.googleApiKey)] : DEMO_KEYS;

  const telegram = localBot(url, options.env ?? {}) ?? undefined;
  if (telegram) cleanups.push(() => telegram.stop());
  const keyVariables = {
    ...Object.fromEntries(googleKeys.map((key) => [key.envVarName, key.secret])),
    ...options.env,
  };
  await Deno.mkdir(`${dataDir}/functions`, { recursive: true });
  const functions = await functionProcesses({
    functionsDir: options.functionsDir ?? `${CHECKOUT}/supabase/functions`,
    denoConfig: options.denoConfig ?? `${CHECKOUT}/deno.json`,
    entriesDir: `${dataDir}/functions`,
    env: {
      SUPABASE_URL: url,
      SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: keys.publishable }),
      SUPABASE_SECRET_KEYS: JSON.stringify({ default: keys.secret }),
      SUPABASE_DB_URL: database.url,
      EVE_TOKEN_SIGNING_KEYS: JSON.stringify([{ kid: "local", k: keys.tokenSigningKey }]),
      ADMIN_SECRET_KEY: keys.adminSecretKey,
      EVE_ALLOW_PRIVATE_UPSTREAMS: "true",
      EVE_WEBHOOK_HOSTS: "127.0.0.1,localhost",
      // For the demo page: the reverse proxy answers strangers with nothing that is anybody's.
      EVE_CRAWL_HOSTS: `127.0.0.1:${port}`,
      ...(upstream ? { GOOGLE_API_BASE_URL: upstream } : {}),
      ...telegram?.env,
      ...keyVariables,
    },
    output,
    log,
    changed: () => state.save(),
  });

  state.describe = () => ({
    pid: Deno.pid,
    url,
    postgres: { pid: database.pid, port: port + 1 },
    emulator: emulator && { pid: emulator.pid, url: emulator.url },
    functions: Object.fromEntries(
      [...functions].map(([name, { pid, url, restarts }]) => [name, { pid, url, restarts }]),
    ),
  });

  const opened: {
    api?: Api;
    reverseProxy?: ReverseProxy;
    administrator?: DemoAdministrator;
    schedule?: { stop(): Promise<void> }[];
  } = {};
  cleanups.push(() => opened.api?.close());
  cleanups.push(() =>
    opened.reverseProxy && Promise.race([opened.reverseProxy.shutdown(), sleep(ORIGIN_SHUTDOWN_MS)])
  );
  // First of all the functions finish what they began: for that they need everything else.
  cleanups.push(() => Promise.all([...functions.values()].map((process) => process.stop())));
  // And before them what calls them by itself.
  cleanups.push(() => Promise.all((opened.schedule ?? []).map((part) => part.stop())));

  const startDatabase = async () => {
    await database.start();
    await applyPlatform(database.superuserUrl);
    const applied = await applyMigrations(database.url, options.migrationsFrom);
    if (applied > 0) log(`${applied} migrations applied`);
    await seedKeys(database.url, dataDir, googleKeys);
    for (const alias of await useNewSecrets(database.url, keyVariables)) {
      log(`The key ${alias} is used again: its secret is another one than was rejected`);
    }
    await connectSchedule(database.url, url, keys.secret);
    await telegram?.connect(database.url);
    opened.api = await startApi({ databaseUrl: database.url, superuserUrl: database.superuserUrl, keys });
    if (options.console) {
      opened.administrator = await demoAdministrator({
        dataDir,
        superuserUrl: database.superuserUrl,
        api: opened.api.fetch,
        publishableKey: keys.publishable,
      });
    }
  };
  const ended = new AbortController();
  const site = options.console
    ? await consoleSite({ supabaseUrl: url, publishableKey: keys.publishable }, ended.signal)
    : undefined;
  // Functions meet the database at their first request, not while they load: everything starts side by side.
  await allOrThrow([
    startDatabase(),
    emulator?.start(),
    ...[...functions].map(([name, process]) =>
      options.startLate?.includes(name) ? undefined : process.start()
    ),
  ]);
  opened.reverseProxy = openOrigin(port, {
    port,
    functions,
    api: opened.api!.fetch,
    console: site && ((request) => site.fetch(request)),
    telegram: telegram && ((request) => telegram.handle(request)),
    log,
  });
  if (options.schedule !== false) opened.schedule = startSchedule(database.url, log);
  const building = site && buildInBackground(site, ended, log);
  cleanups.push(() => {
    ended.abort();
    return building;
  });

  return {
    url,
    keys,
    databaseUrl: database.url,
    database,
    emulatorUrl: emulator?.url,
    emulator,
    telegram,
    functions,
    console: site && {
      url: `${url}${CONSOLE_PATH}/`,
      administrator: opened.administrator!,
      isBuilt: () => site.built(),
      built: building!,
    },
    stop,
  };
}

/** The gateway serves without the console; the stack's end is the end of this, too. */
async function buildInBackground(
  site: ConsoleSite,
  ended: AbortController,
  log: (line: string) => void,
): Promise<string | undefined> {
  const problem = await site.build();
  if (problem !== undefined && !ended.signal.aborted) log(`There is no console: ${problem}`);
  return problem;
}

/** What pg_cron and pg_net do on a hosted project, beside their stand-ins. */
function startSchedule(databaseUrl: string, log: (line: string) => void): { stop(): Promise<void> }[] {
  const parts = [new CronJobs({ databaseUrl, log }), new PgNetWorker({ databaseUrl, log })];
  for (const part of parts) part.start();
  return parts;
}

/** Throws if one of the stack's ports is still taken after `patienceMs`. */
async function portsFree(first: number, patienceMs: number): Promise<void> {
  const deadline = Date.now() + patienceMs;
  const ports = Array.from({ length: PORTS_IN_A_ROW }, (_, index) => first + index);
  for (;;) {
    const unusable = ports.find((port) => !portIsFree(port));
    if (unusable === undefined) return;
    if (portObstacle(unusable) === "forbidden") {
      throw new StartError(
        `Only root may listen on port ${unusable}: choose one from 1024 up with EVE_PORT.`,
      );
    }
    if (Date.now() >= deadline) throw portTaken(unusable);
    await sleep(PORT_POLL_MS);
  }
}

/** Creates the folder if needed and makes sure that this is the only stack in it. */
async function takeFolder(path: string, url: string): Promise<{ dataDir: string; release: () => void }> {
  try {
    await Deno.mkdir(path, { recursive: true });
    const dataDir = await Deno.realPath(path);
    const lock = await lockFolder(dataDir, `process ${Deno.pid} at ${url}`);
    if (lock) return { dataDir, release: () => lock.release() };
    throw new StartError(
      `The stack of ${dataDir} is running already (${await lockNote(dataDir)}): ` +
        `use it, stop it, or set EVE_DATA_DIR and EVE_PORT for a second one.`,
    );
  } catch (error) {
    const refusal = startErrorForFolder(error, path);
    if (refusal) throw refusal;
    const reason = error instanceof Error ? error.message : String(error);
    throw new StartError(
      `Cannot use ${path} (${reason}): set EVE_DATA_DIR to a folder that this user may write to.`,
    );
  }
}

function emulatorProcess(
  port: number,
  options: StackOptions,
  log: (line: string) => void,
  output: (part: string, line: string) => void,
  changed: () => void,
): SupervisedProcess {
  const keys = DEMO_KEYS.map((key) => ({ key: key.secret, project: key.quotaProject }));
  return new SupervisedProcess({
    name: "Google AI emulator",
    args: [
      "run",
      "--allow-net",
      "--allow-env",
      "--no-prompt",
      "--cached-only",
      `--config=${CHECKOUT}/deno.json`,
      `${CHECKOUT}/local/emulator_process.ts`,
    ],
    env: { ...runtimeVariables(), EMULATOR_CONFIG: JSON.stringify({ port, keys, ...options.emulator }) },
    listening: /^listening (http:\S+?)\/?$/,
    output: (line) => output("emulator", line),
    log,
    changed,
  });
}

function realKey(key: { secret: string; alias: string }): SeedKey {
  return {
    alias: key.alias,
    envVarName: REAL_KEY_VARIABLE,
    secret: key.secret,
    quotaProject: null,
    priority: 10,
  };
}

function openOrigin(port: number, options: ReverseProxyOptions): ReverseProxy {
  try {
    return startReverseProxy(options);
  } catch (error) {
    throw error instanceof Deno.errors.AddrInUse ? portTaken(port) : error;
  }
}

/** Waits for all to settle before it throws the first failure: nothing goes on in the background afterwards. */
async function allOrThrow(parts: (Promise<void> | undefined)[]): Promise<void> {
  const settled = await Promise.allSettled(parts);
  for (const part of settled) {
    if (part.status === "rejected") throw part.reason;
  }
}

/** Tells others (tests, `reset`, a curious user) the process ids and addresses of the running parts. */
class StateFile {
  describe: () => unknown = () => ({});
  readonly #path: string;
  #removed = false;

  constructor(path: string) {
    this.#path = path;
  }

  /** Whether a run that did not end in order left its file. */
  leftBehind(): boolean {
    try {
      return Deno.statSync(this.#path).isFile;
    } catch {
      return false;
    }
  }

  /** Written under another name first: a reader never sees half a file. */
  save(): void {
    if (this.#removed) return;
    try {
      Deno.writeTextFileSync(`${this.#path}.new`, `${JSON.stringify(this.describe(), undefined, 2)}\n`);
      Deno.renameSync(`${this.#path}.new`, this.#path);
    } catch {
      // The disk is full, or the folder was removed: the stack itself can go on.
    }
  }

  remove(): void {
    this.#removed = true;
    try {
      Deno.removeSync(this.#path);
    } catch {
      // Never written, or the folder is gone.
    }
  }
}

function once<T>(run: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => result ??= run();
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
