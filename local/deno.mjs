// npm run lint and the like: installs what is missing, then runs Deno with the given arguments.
import { spawn } from "node:child_process";
import { CHECKOUT, launch } from "./launch.mjs";

launch((deno) => spawn(deno, process.argv.slice(2), { cwd: CHECKOUT, stdio: "inherit" }));
