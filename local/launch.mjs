// What the npm scripts share: an up-to-date node_modules, Deno's place in it, and signals passed on.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const CHECKOUT = dirname(dirname(fileURLToPath(import.meta.url)));

/** The first Node that everything here is tested with. */
const OLDEST_NODE = 20;
/** npm's warnings are about packages of the tests and frighten newcomers; errors are shown. */
const NPM_CI = ["ci", "--loglevel=error", "--no-fund", "--no-audit"];

/** Runs `start(deno)`, which answers a child process, passes signals on to it and ends as it ends. */
export function launch(start) {
  refuseOldNode();
  installIfNeeded();
  // No look for newer versions: what runs here is what package.json pins, and it has to run offline.
  process.env.DENO_NO_UPDATE_CHECK = "1";
  const child = start(denoExecutable());
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("error", (error) => fail(`Deno did not start (${error.message}): run npm ci.`));
  child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}

function refuseOldNode() {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < OLDEST_NODE) fail(`Node ${OLDEST_NODE} or newer is needed; this is ${process.versions.node}.`);
}

/** Runs npm ci unless node_modules is as package-lock.json says. Ends the process if that fails. */
export function installIfNeeded() {
  if (isInstalled(CHECKOUT)) return;
  console.log("Installing packages (npm ci) ...");
  if (!install(CHECKOUT)) {
    fail("npm ci failed: see above. It needs the npm registry and a writable checkout.");
  }
}

/** The same for the console's own packages; without them everything else runs. */
export function installConsoleIfNeeded() {
  const folder = join(CHECKOUT, "console");
  if (isInstalled(folder)) return;
  console.log("Installing the console's packages (npm ci) ...");
  if (!install(folder)) console.error("The console's packages could not be installed: see above.");
}

function install(folder) {
  const npm = process.env.npm_execpath;
  const [program, args] = npm ? [process.execPath, [npm, ...NPM_CI]] : ["npm", NPM_CI];
  // npm tells scripts where it runs by variables, which a second npm would take for its own settings.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => name !== "npm_config_local_prefix"),
  );
  return spawnSync(program, args, { cwd: folder, env, stdio: ["ignore", "inherit", "inherit"] }).status === 0;
}

/** Whether node_modules holds what package-lock.json asks for; npm notes in a hidden file what it installed. */
function isInstalled(folder) {
  const wanted = packages(folder, "package-lock.json");
  const installed = packages(folder, "node_modules/.package-lock.json");
  if (!wanted || !installed) return false;
  return Object.entries(wanted).every(([path, entry]) =>
    path === "" || installed[path]?.version === entry.version || (entry.optional && !installed[path])
  );
}

function packages(folder, path) {
  try {
    return JSON.parse(readFileSync(join(folder, path), "utf8")).packages;
  } catch {
    return undefined;
  }
}

/** Deno's install script puts the program beside its package; where scripts may not run, its own code finds it. */
function denoExecutable() {
  const placed = join(CHECKOUT, "node_modules/deno/deno");
  if (existsSync(placed)) return placed;
  try {
    return createRequire(import.meta.url)("../node_modules/deno/install_api.cjs").runInstall();
  } catch (error) {
    fail(`Deno is not installed for this machine (${error.message}): run npm ci.`);
  }
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
