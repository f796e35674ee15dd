// npm start: installs what serving needs, then runs the local stack.
import { spawn } from "node:child_process";
import { CHECKOUT, launch } from "./launch.mjs";

launch((deno) =>
  spawn(deno, [
    "run",
    "-A",
    "--cached-only",
    "--unstable-no-legacy-abort",
    `${CHECKOUT}/local/main.ts`,
  ], {
    stdio: "inherit",
  }), { development: false });
