/** Vitest global setup: the console's packages, which `npm test` installs as it does the gateway's. */
import { installIfNeeded } from "../../local/packages.mjs";
import { CHECKOUT } from "../../local/paths.ts";

export default async function setup(): Promise<void> {
  try {
    await installIfNeeded({ folder: `${CHECKOUT}/console`, development: true });
  } catch (error) {
    // What needs them is left out then, as what needs a browser is.
    console.log(`Left out: what needs the console's packages (${(error as Error).message})`);
  }
}
