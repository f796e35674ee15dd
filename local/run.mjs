// The launcher behind every npm script: plain Node, so that it runs before anything is installed. It installs what is
// missing, then runs a script of the checkout in Deno: node local/run.mjs [--serving] <script.ts> [arguments]
// With --serving the packages that the gateway itself needs are enough for the script.
import { spawn } from "node:child_process";
import { launch } from "./launch.mjs";

const development = process.argv[2] !== "--serving";
const [script, ...args] = process.argv.slice(development ? 2 : 3);
if (!script) {
  console.error("Say which script to run: node local/run.mjs [--serving] <script.ts> [arguments]");
  process.exit(2);
}
launch((deno) =>
  spawn(deno, ["run", "-A", "--cached-only", "--unstable-no-legacy-abort", script, ...args], {
    stdio: "inherit",
  }), { development });
