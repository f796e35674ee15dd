import { installed } from "../../local/packages.mjs";
import { CHECKOUT } from "../../local/paths.ts";

/** Whether the console's packages are there, with those of its tools; a run of the tests begins by installing them. */
export const installedConsole = (): boolean => installed(`${CHECKOUT}/console`, true);
