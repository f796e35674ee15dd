// npm test: installs what is missing, then runs Vitest inside Deno with the given arguments.
import { spawn } from "node:child_process";
import { CHECKOUT, launch } from "./launch.mjs";

const vitest = `${CHECKOUT}/node_modules/vitest/vitest.mjs`;
launch((deno) =>
  spawn(deno, [
    "run",
    "-A",
    "--cached-only",
    "--unstable-no-legacy-abort",
    vitest,
    "run",
    ...process.argv.slice(2),
  ], {
    cwd: CHECKOUT,
    stdio: "inherit",
  })
);
