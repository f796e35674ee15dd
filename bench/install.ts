/** The packages that a benchmark compares the gateway with, or measures: installed when it first runs, since no user needs them. */
import { CHECKOUT } from "../local/paths.ts";
import { installIfNeeded } from "../local/packages.mjs";

/**
 * Installs what a folder's package-lock.json names, if it is missing. Says so on standard error.
 * @param folder `bench`, or one below it with a lock of its own
 * @throws {Error} npm failed; says what to do
 */
export async function installPackages(folder: "bench" | "bench/estimate"): Promise<void> {
  await installIfNeeded({ folder: `${CHECKOUT}/${folder}`, say: console.error });
}
