// npm start: installs what is missing, then runs the local stack.
import { spawn } from "node:child_process";
import { CHECKOUT, installConsoleIfNeeded, launch } from "./launch.mjs";

launch((deno) => {
  installConsoleIfNeeded();
  return spawn(deno, [
    "run",
    "-A",
    "--cached-only",
    "--unstable-no-legacy-abort",
    `${CHECKOUT}/local/main.ts`,
  ], {
    stdio: "inherit",
  });
});
