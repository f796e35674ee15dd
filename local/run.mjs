// The launcher behind every npm script: plain Node, so that it runs before anything is installed. It installs what is
// missing, then runs a script of the checkout in Deno: node local/run.mjs <script.ts> [arguments]
import { spawn } from "node:child_process";
import { launch } from "./launch.mjs";

const [script, ...args] = process.argv.slice(2);
if (!script) {
  console.error("Say which script to run: node local/run.mjs <script.ts> [arguments]");
  process.exit(2);
}
launch((deno) =>
  spawn(deno, ["run", "-A", "--cached-only", "--unstable-no-legacy-abort", script, ...args], {
    stdio: "inherit",
  })
);
