#!/usr/bin/env node
// The Supabase CLI in the version of this package. CI's platform has its binary from package-lock.json, by its integrity. For the
// others no integrity was to be had when the lock was made, and a lock that npm cannot check against is none: there npx fetches
// the very same version from the registry, and checks it by what the registry says, the first time that it is asked for.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";

const require = createRequire(import.meta.url);
const { version } = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8"));
const args = process.argv.slice(2);

const binary = locked();
const child = binary === undefined ? throughNpx() : spawn(binary, args, { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  console.error(`The Supabase CLI did not start (${error.message}): run npm ci.`);
  process.exit(1);
});
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));

/** The binary that package-lock.json names; undefined: this platform has none there. */
function locked() {
  try {
    const path = join(dirname(require.resolve("@supabase/cli-linux-x64/package.json")), "bin", "supabase");
    return existsSync(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

/** Its words to npm go before `--`; what follows is the CLI's own. */
function throughNpx() {
  const npx = process.platform === "win32" ? "npx.cmd" : "npx";
  return spawn(
    npx,
    ["--yes", "--loglevel=error", `--package=supabase@${version}`, "--", "supabase", ...args],
    {
      stdio: "inherit",
      shell: process.platform === "win32",
    },
  );
}
