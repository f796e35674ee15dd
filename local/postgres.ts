/**
 * One PostgreSQL 17 server in a folder: made when it is missing, taken back when an earlier run left it behind, and
 * never outliving the process that started it.
 */
import { statfs } from "node:fs/promises";
import { eachLine } from "./lines.ts";
import { type Account, serverAccount } from "./postgres_account.ts";
import { type Place, possibleClusters, preparePlace } from "./postgres_place.ts";
import { diskFull, StartError, startErrorForFolder } from "./start_error.ts";

export interface ClusterOptions {
  /** An existing folder; the cluster becomes a folder in it, or elsewhere when the server's account cannot enter it. */
  dataDir: string;
  /** TCP port on 127.0.0.1. */
  port: number;
  /** False gives up durability for speed. For tests. */
  durable?: boolean;
  /** Receives the server's own log, line by line. */
  log?: (line: string) => void;
  /** Settings of its own, over those of every local cluster, which keep it small. */
  settings?: Record<string, string>;
  /** Another server than the checkout's own, such as one of the system's packages. For tests. */
  server?: OtherServer;
}

export interface OtherServer {
  /** The folder with `bin/postgres` and `bin/initdb`. */
  binaries: string;
  /** The arguments of `initdb` for the locale: the built-in one came with PostgreSQL 17. */
  localeArgs: string[];
  /** Settings beside those of every local cluster. */
  settings: Record<string, string>;
}

export interface Cluster {
  port: number;
  /** The server's process id (the postmaster). */
  pid: number;
  /** A connection string for `postgres`, the owner of the database; works once the platform baseline is there. */
  url(database?: string): string;
  /** A connection string for the superuser. */
  superuserUrl(database?: string): string;
  /** Resolves when the server has ended for any reason. */
  exited: Promise<void>;
  /** Ends the server: open transactions are rolled back, committed ones are on disk. Safe to call twice. */
  stop(): Promise<void>;
}

/** As on hosted Supabase, the superuser is not the account that owns the database and runs the migrations. */
const SUPERUSER = "supabase_admin";
/** Everybody's password: a local cluster listens on the loopback interface only. */
const PASSWORD = "postgres";

/** A first start, recovery after a crash included, takes a second or two; a slow disk takes longer. */
const START_TIMEOUT_MS = 60_000;
/** Long enough for a checkpoint on a slow disk. */
const STOP_TIMEOUT_MS = 20_000;
/** Backends of a killed server notice within a second or so that it is gone; until then they hold its memory. */
const ORPHAN_TIMEOUT_MS = 15_000;
const POLL_MS = 50;
/** What a new cluster takes up. */
const CLUSTER_BYTES = 40 * 1024 * 1024;
/** Lines of the server's log to show when it does not start. */
const KEPT_LOG_LINES = 40;

const SETTINGS: Record<string, string> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: "200",
  shared_buffers: "64MB",
  timezone: "UTC",
  log_timezone: "UTC",
  // The messages are read below; they must not depend on the machine's language.
  lc_messages: "C",
  // Nothing replicates from a local cluster, and without this the log is half the size.
  wal_level: "minimal",
  max_wal_senders: "0",
  max_wal_size: "256MB",
  // Containers often have 64 MB of /dev/shm; plain files do for the few segments used here.
  dynamic_shared_memory_type: "mmap",
  // Compiling a query costs more than any query here.
  jit: "off",
};

/** What is committed survives the server, as tests that kill it expect, but not the machine. */
const NOT_DURABLE: Record<string, string> = { fsync: "off", full_page_writes: "off" };

/** It needs nothing from the machine and sorts the same everywhere. */
const BUILT_IN_LOCALE = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"];

/**
 * Runs "$@" and interrupts it (PostgreSQL: fast shutdown) when standard input ends, which it does when the process
 * holding the other end of the pipe ends, in whatever way.
 */
const GUARD = `
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
trap 'kill -INT $server 2>/dev/null' INT TERM HUP
(cat <&3 >/dev/null 2>&1; kill -INT $server 2>/dev/null) >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait $server; code=$?
while kill -0 $server 2>/dev/null; do wait $server; code=$?; done
kill $watch 2>/dev/null
exit $code
`;

/**
 * Starts the cluster of `dataDir`, creating it first if needed.
 * Throws {@link StartError} when the user has to do something first.
 */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  try {
    const account = await serverAccount();
    const found = await preparePlace(options.dataDir, account);
    const place = options.server ? { ...found, binaries: options.server.binaries } : found;
    await takeBack(place.cluster);
    await createMissing(place, account, options);
    return await launch(place, account && await ownerOf(place.cluster), options);
  } catch (error) {
    throw startErrorForFolder(error, options.dataDir) ?? error;
  }
}

/** The server runs only as the owner of its files: root may find those of an earlier run under another account. */
async function ownerOf(cluster: string): Promise<Account> {
  const { uid, gid } = await Deno.stat(cluster);
  return { name: String(uid), uid: uid!, gid: gid! };
}

/** Makes the cluster under another name first, so that a half-made one is never taken for a whole one. */
async function createMissing(
  place: Place,
  account: Account | undefined,
  options: ClusterOptions,
): Promise<void> {
  const { cluster, binaries } = place;
  if (await fileText(`${cluster}/PG_VERSION`) !== undefined) return;

  await requireSpace(cluster.slice(0, cluster.lastIndexOf("/")));
  const unfinished = `${cluster}.unfinished`;
  const passwordFile = `${cluster}.password`;
  await Deno.remove(unfinished, { recursive: true }).catch(ignoreMissing);
  await Deno.mkdir(unfinished, { mode: 0o700 });
  await Deno.writeTextFile(passwordFile, `${PASSWORD}\n`, { mode: 0o600 });
  if (account) {
    await Deno.chown(unfinished, account.uid, account.gid);
    await Deno.chown(passwordFile, account.uid, account.gid);
  }
  const args = [
    `--pgdata=${unfinished}`,
    `--username=${SUPERUSER}`,
    `--pwfile=${passwordFile}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    ...(options.server?.localeArgs ?? BUILT_IN_LOCALE),
    ...(options.durable === false ? ["--no-sync"] : []),
  ];
  const done = await new Deno.Command(`${binaries}/bin/initdb`, {
    args,
    cwd: "/",
    env: { LC_ALL: "C" },
    ...identity(account),
    stdout: "null",
    stderr: "piped",
  }).output();
  await Deno.remove(passwordFile);
  if (!done.success) {
    throw new Error(`PostgreSQL could not make its files: ${new TextDecoder().decode(done.stderr).trim()}`);
  }
  await Deno.remove(cluster, { recursive: true }).catch(ignoreMissing);
  await Deno.rename(unfinished, cluster);
}

/** A full disk makes initdb fail in many ways, few of which say so. */
async function requireSpace(folder: string): Promise<void> {
  const disk = await statfs(folder);
  if (disk.bavail * disk.bsize < CLUSTER_BYTES) throw diskFull(folder);
}

async function launch(place: Place, account: Account | undefined, options: ClusterOptions): Promise<Cluster> {
  const settings = {
    ...SETTINGS,
    port: String(options.port),
    ...(options.durable === false ? NOT_DURABLE : {}),
    ...options.server?.settings,
    ...options.settings,
  };
  const guard = new Deno.Command("/bin/sh", {
    args: [
      "-c",
      GUARD,
      "guard",
      `${place.binaries}/bin/postgres`,
      "-D",
      place.cluster,
      ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ],
    cwd: "/",
    env: { LC_ALL: "C" },
    ...identity(account),
    // A terminal's Ctrl-C goes to its whole process group; the server must outlive the functions that still write.
    detached: true,
    stdin: "piped",
    stdout: "null",
    stderr: "piped",
  }).spawn();

  const recent: string[] = [];
  const ready = Promise.withResolvers<boolean>();
  const logEnd = eachLine(guard.stderr, (line) => {
    recent.push(line);
    if (recent.length > KEPT_LOG_LINES) recent.shift();
    if (line.includes("database system is ready to accept connections")) ready.resolve(true);
    options.log?.(line);
  });
  const exited = guard.status.then(async () => {
    await guard.stdin.close().catch(() => {});
    await logEnd;
    ready.resolve(false);
  });
  const timer = setTimeout(() => ready.resolve(false), START_TIMEOUT_MS);
  const started = await ready.promise;
  clearTimeout(timer);

  const endGuard = async () => {
    await guard.stdin.close().catch(() => {});
    await exited;
  };
  if (!started) {
    await endGuard();
    throw startFailure(recent, options);
  }
  const pid = (await readPostmaster(place.cluster))!.pid;
  const urlFor = (user: string) => (database = "postgres") =>
    `postgresql://${user}:${PASSWORD}@127.0.0.1:${options.port}/${database}`;
  return {
    port: options.port,
    pid,
    url: urlFor("postgres"),
    superuserUrl: urlFor(SUPERUSER),
    exited,
    stop: once(() => stopServer(pid, endGuard)),
  };
}

async function stopServer(pid: number, endGuard: () => Promise<void>): Promise<void> {
  const timer = setTimeout(() => signal(pid, "SIGQUIT"), STOP_TIMEOUT_MS);
  await endGuard();
  clearTimeout(timer);
}

function startFailure(recent: string[], options: ClusterOptions): Error {
  const text = recent.join("\n");
  if (/Address already in use/.test(text)) return portTaken(options.port);
  return startErrorForFolder(new Error(text), options.dataDir) ??
    new Error(`PostgreSQL did not start. Its last words:\n${text}`);
}

/** What to say when the database's port belongs to somebody else. */
export function portTaken(port: number): StartError {
  return new StartError(
    `Port ${port} is taken: stop the program that listens there, or choose other ports with EVE_PORT.`,
  );
}

/** Ends the server that an earlier run left behind in this data folder, if there is one. */
export async function endLeftoverServer(dataDir: string): Promise<void> {
  for (const cluster of await possibleClusters(dataDir)) await takeBack(cluster);
}

/**
 * Ends a server of this cluster that an earlier run left behind, and clears a lock file whose process id now belongs to
 * some other program (PostgreSQL itself would refuse to start).
 */
async function takeBack(cluster: string): Promise<void> {
  const left = await readPostmaster(cluster);
  if (!left) return;
  const command = await commandOf(left.pid);
  if (!command?.includes(cluster)) {
    await Deno.remove(`${cluster}/postmaster.pid`).catch(ignoreMissing);
  } else {
    signal(left.pid, "SIGINT");
    if (!await gone(left.pid, STOP_TIMEOUT_MS)) signal(left.pid, "SIGQUIT");
    if (!await gone(left.pid, ORPHAN_TIMEOUT_MS)) {
      throw new StartError(
        `An earlier PostgreSQL (process ${left.pid}) does not end: end it with "kill -9 ${left.pid}" and start again.`,
      );
    }
  }
  await backendsGone(cluster);
}

/** Waits for backends of a server that was killed: a new one must not share the files with them. */
async function backendsGone(cluster: string): Promise<void> {
  if (Deno.build.os !== "linux") return;
  const deadline = Date.now() + ORPHAN_TIMEOUT_MS;
  for (;;) {
    const pids: number[] = [];
    for await (const entry of Deno.readDir("/proc")) {
      if (!/^\d+$/.test(entry.name)) continue;
      const cwd = await Deno.readLink(`/proc/${entry.name}/cwd`).catch(() => "");
      if (cwd === cluster) pids.push(Number(entry.name));
    }
    if (pids.length === 0) return;
    if (Date.now() > deadline) {
      for (const pid of pids) signal(pid, "SIGKILL");
      return;
    }
    await sleep(POLL_MS);
  }
}

async function readPostmaster(cluster: string): Promise<{ pid: number } | undefined> {
  const pid = Number((await fileText(`${cluster}/postmaster.pid`))?.split("\n")[0]);
  return Number.isInteger(pid) && pid > 0 ? { pid } : undefined;
}

/** The command line of a living process, or undefined. */
async function commandOf(pid: number): Promise<string | undefined> {
  const proc = await fileText(`/proc/${pid}/cmdline`);
  if (proc !== undefined) return proc.replaceAll("\0", " ");
  if (Deno.build.os === "linux") return undefined;
  const done = await new Deno.Command("ps", { args: ["-o", "command=", "-p", String(pid)] }).output();
  return done.success ? new TextDecoder().decode(done.stdout).trim() : undefined;
}

async function gone(pid: number, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (await commandOf(pid)) {
    if (Date.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}

function signal(pid: number, name: Deno.Signal): void {
  try {
    Deno.kill(pid, name);
  } catch {
    // Already gone.
  }
}

function identity(account: Account | undefined): { uid?: number; gid?: number } {
  return account ? { uid: account.uid, gid: account.gid } : {};
}

async function fileText(path: string): Promise<string | undefined> {
  return await Deno.readTextFile(path).catch(() => undefined);
}

function once<T>(run: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => result ??= run();
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
