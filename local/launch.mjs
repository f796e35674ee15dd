// What the npm scripts share: an up-to-date node_modules, Deno's place in it, and an end with those who started it.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { installIfNeeded } from "./packages.mjs";

export const CHECKOUT = dirname(dirname(fileURLToPath(import.meta.url)));

/** The first Node that everything here is tested with. */
const OLDEST_NODE = 20;
/** How soon it is noticed that npm was killed. */
const PARENT_POLL_MS = 500;

/**
 * Installs what is missing and runs `start(deno)`, which answers a child process; passes signals on to it and ends as it
 * ends. `development` is false for what runs with the packages of the gateway alone.
 */
export async function launch(start, { development = true } = {}) {
  refuseOldNode();
  // npm, while it installs, is told so by the same way as when somebody ends this.
  let end = () => process.kill(process.pid, "SIGTERM");
  whenNpmEnds(() => end());
  await install({ folder: CHECKOUT, development });
  // No look for newer versions: what runs here is what package.json pins, and it has to run offline.
  process.env.DENO_NO_UPDATE_CHECK = "1";
  // Deno keeps what it has compiled; in the home folder it would outlive the checkout.
  process.env.DENO_DIR ||= join(CHECKOUT, "node_modules/.cache/deno");
  const child = start(denoExecutable());
  end = () => child.kill("SIGTERM");
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("error", (error) => fail(`Deno did not start (${error.message}): run npm ci.`));
  child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}

/** Installs what is missing; ends the process, with the reason, if that fails. */
export async function install(wanted) {
  try {
    await installIfNeeded(wanted);
  } catch (error) {
    fail(error.message);
  }
}

/** npm that is killed takes nothing along by itself. A program that npm did not start may outlive its parent. */
function whenNpmEnds(end) {
  if (!process.env.npm_lifecycle_event) return;
  const npm = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === npm) return;
    // Once: a stack that is told again and again takes it for impatience.
    clearInterval(watch);
    end();
  }, PARENT_POLL_MS).unref();
}

function refuseOldNode() {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < OLDEST_NODE) fail(`Node ${OLDEST_NODE} or newer is needed; this is ${process.versions.node}.`);
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
