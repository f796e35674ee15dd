// Puts packages where they are missing: those that serving needs, or all of them. Plain Node, so that it runs before anything
// is installed; the stack itself uses it too, for the console's.
import { spawn } from "node:child_process";
import { existsSync, linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { constants, setPriority } from "node:os";
import { join } from "node:path";

/** Held while npm works in a folder. Left behind by one that was killed: what it has put there cannot be trusted. */
const IN_WORK = ".installing";
const WAIT_POLL_MS = 500;
/** A registry that cannot be reached is reported once npm has tried for as long. */
const REGISTRY_TIMEOUT_MS = 8_000;
/** npm's own pauses (10 s, then 60 s) make a user wait for what an answer or its absence shows at once. */
const NPM_OPTIONS = [
  // Its warnings are about packages of the tests and frighten newcomers; errors are shown.
  "--loglevel=error",
  "--no-fund",
  "--no-audit",
  "--no-update-notifier",
  "--prefer-offline",
  "--fetch-retries=3",
  "--fetch-retry-mintimeout=500",
  "--fetch-retry-maxtimeout=3000",
];
/** What is there only since a package would like to have it beside itself (TypeScript, for its types) does not serve. */
const SERVING = ["--omit=dev", "--omit=peer"];
/** Beside work that somebody waits for. */
const LOW_PRIORITY = 10;

/**
 * @typedef {object} Wanted
 * @property {string} folder the one that holds package.json and package-lock.json
 * @property {boolean} [development] true: those that only tests and tools use, too
 * @property {boolean} [background] true: with low priority, and not a word about it
 * @property {AbortSignal} [signal] ends npm
 * @property {(line: string) => void} [say]
 */

/**
 * Installs what is missing. Throws an Error that says what to do when that fails.
 * @param {Wanted} wanted
 */
export async function installIfNeeded(wanted) {
  const { folder, development = false, say = console.log } = wanted;
  if (installed(folder, development) && !existsSync(join(folder, IN_WORK))) return;
  const lock = await oneAtATime(join(folder, IN_WORK), wanted.signal, () => {
    if (!wanted.background) say("Another script is installing packages here: waiting for it ...");
  });
  try {
    if (!lock.interrupted && installed(folder, development)) return lock.release();
    const startedAt = Date.now();
    if (!wanted.background) say("Installing packages ...");
    // npm ci begins by emptying node_modules, which a stack that runs from it would not survive; so what is only
    // incomplete is completed. What may be half written, or is of other versions, is made again.
    const complete = !lock.interrupted && installed(folder, false);
    const command = complete
      ? ["install", "--no-save", "--include=dev", "--include=peer"]
      : ["ci", ...(development ? ["--include=dev", "--include=peer"] : SERVING)];
    await npm(command, wanted, lock);
    if (!installed(folder, development)) throw new Error("packages are still missing afterwards");
    if (!wanted.background) say(`Installed in ${Math.round((Date.now() - startedAt) / 1000)} s.`);
    lock.release();
  } catch (error) {
    // So the next process sees that this was not finished.
    lock.abandon();
    throw new Error(`npm ci failed: ${error.message}`);
  }
}

/** Whether node_modules holds what package-lock.json asks for: npm notes in a hidden file what it installed. */
export function installed(folder, development) {
  const wanted = packages(folder, "package-lock.json");
  const there = packages(folder, "node_modules/.package-lock.json");
  if (!wanted || !there) return false;
  const asAsked = Object.entries(wanted).every(([path, entry]) => {
    if (path === "" || ((entry.dev || entry.peer) && !development)) return true;
    // Packages for other systems, and what others would like to have, are left out by npm.
    return there[path] ? there[path].version === entry.version : entry.optional || entry.devOptional;
  });
  return asAsked && Object.keys(there).every((path) => existsSync(join(folder, path, "package.json")));
}

function packages(folder, path) {
  try {
    return JSON.parse(readFileSync(join(folder, path), "utf8")).packages;
  } catch {
    return undefined;
  }
}

/**
 * Runs npm; beside it, asks whether there is a registry at all. Where there is none, what npm has kept of earlier
 * installations may still do.
 */
async function npm(command, wanted, lock) {
  const done = new AbortController();
  const unreachable = registryProblem(wanted.folder, AbortSignal.any([done.signal, ...given(wanted.signal)]));
  const running = runNpm(command, wanted, lock);
  const problem = await Promise.race([running.ended.then(() => undefined), unreachable]);
  if (problem !== undefined) running.end();
  const { code, errors } = await running.ended;
  if (code === 0) return done.abort();
  wanted.signal?.throwIfAborted();
  const why = problem ?? await unreachable;
  done.abort();
  if (why === undefined) throw new Error(`${errors.trim()}\n(npm ${command.join(" ")} in ${wanted.folder})`);
  const offline = runNpm([...command, "--offline"], wanted, lock);
  if ((await offline.ended).code === 0) return;
  throw new Error(
    `no npm registry answers (${why}). Connect to the network, or set the proxy that npm is to use.`,
  );
}

/** Resolves with npm's word for it when the registry cannot be reached; with nothing when it can, or on `signal`. */
async function registryProblem(folder, signal) {
  const ping = ["ping", "--loglevel=error", "--fetch-retries=0", `--fetch-timeout=${REGISTRY_TIMEOUT_MS}`];
  const { code, errors } = await runNpm(ping, { folder, background: true, signal }).ended;
  if (code === 0 || signal.aborted) return undefined;
  // A registry that knows no ping answers with a status (E404): it is there.
  const reason = /npm error code (\S+)/.exec(errors)?.[1];
  return reason === undefined || /^E\d{3}$/.test(reason) ? undefined : reason;
}

/** @returns {{ ended: Promise<{ code: number | null, errors: string }>, end: () => void }} */
function runNpm(args, { folder, background, signal }, lock) {
  const script = process.env.npm_execpath;
  const [program, first] = script ? [process.env.npm_node_execpath ?? "node", [script]] : ["npm", []];
  // npm tells scripts where it runs by variables, which a second npm would take for its own settings.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => name !== "npm_config_local_prefix"),
  );
  const child = spawn(program, [...first, ...args, ...(args[0] === "ping" ? [] : NPM_OPTIONS)], {
    cwd: folder,
    env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  if (background) lowerPriority(child.pid);
  lock?.note(child.pid);
  const end = () => kill(child);
  const unwatch = endWith(child, signal);
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text) => errors += text);
  const ended = new Promise((resolve) => {
    child.on("error", (error) => resolve({ code: 1, errors: `npm did not start (${error.message})` }));
    child.on("close", (code) => resolve({ code, errors }));
  }).finally(unwatch);
  return { ended, end };
}

/** At a gentler signal npm first waits for what it is fetching. What it leaves half done is marked as that. */
function kill(child) {
  child.kill("SIGKILL");
}

/** The child ends when this process is told to, or on `signal`. Answers what undoes that. */
function endWith(child, signal) {
  const names = ["SIGINT", "SIGTERM", "SIGHUP"];
  const end = () => kill(child);
  const endBoth = names.map((name) => () => {
    end();
    process.exit(128 + constants.signals[name]);
  });
  // The stack has its own ways with signals, and says so by giving one.
  if (signal) signal.addEventListener("abort", end);
  else names.forEach((name, i) => process.on(name, endBoth[i]));
  return () => {
    if (signal) signal.removeEventListener("abort", end);
    else names.forEach((name, i) => process.off(name, endBoth[i]));
  };
}

/** For work beside the work that somebody waits for. */
export function lowerPriority(pid) {
  try {
    setPriority(pid, LOW_PRIORITY);
  } catch {
    // It has ended, or this system does not do that.
  }
}

/**
 * Waits until nobody else holds `path`, and takes it. `interrupted` is true when the one who held it last was killed.
 * @param {string} path
 * @param {AbortSignal | undefined} signal
 * @param {() => void} waiting called once if there is somebody to wait for
 */
export async function oneAtATime(path, signal, waiting = () => {}) {
  let interrupted = false;
  let said = false;
  for (;;) {
    signal?.throwIfAborted();
    if (take(path)) {
      return {
        interrupted,
        /** Another process that is at work here; it may live on when this one is killed. */
        note: (pid) => pid && writeFileSync(path, `${process.pid}\n${pid}\n`),
        release: () => giveBack(path, () => rmSync(path, { force: true })),
        /** As if killed. */
        abandon: () => giveBack(path, () => writeFileSync(path, "")),
      };
    }
    if (held.has(path) || readHolders(path).some(isAlive)) {
      if (!said) waiting();
      said = true;
      await new Promise((resolve) => setTimeout(resolve, WAIT_POLL_MS));
    } else {
      interrupted = true;
      rmSync(path, { force: true });
    }
  }
}

/** What this process holds; its id in any other file was an earlier process's, as after the restart of a container. */
const held = new Set();

/** Makes the file, with its content, unless it is there. */
function take(path) {
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, `${process.pid}\n`);
  try {
    linkSync(draft, path);
    held.add(path);
    return true;
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

function giveBack(path, leave) {
  held.delete(path);
  leave();
}

function readHolders(path) {
  try {
    return readFileSync(path, "utf8").split("\n").map(Number).filter((pid) => pid > 0 && pid !== process.pid);
  } catch {
    return [];
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

const given = (value) => value === undefined ? [] : [value];
