/**
 * The runtime of hosted functions is compatible with Deno 2.1, the local one is newer. What was uploaded runs in Deno 2.1 here, so that
 * code which only the newer one understands is noticed. It is installed for CI's platform alone, by the package of that
 * platform: a lockfile that names the others would name them without an integrity.
 */
import { installIfNeeded } from "../../local/packages.mjs";
import { fromFileUrl } from "../../local/paths.ts";

const FOLDER = fromFileUrl(new URL("runtime", import.meta.url));

/** Installs it where it is missing. @returns the program's path; elsewhere than on CI's platform that of the Deno which runs the tests. */
export async function hostedRuntime(): Promise<string> {
  if (Deno.build.target !== "x86_64-unknown-linux-gnu") return Deno.execPath();
  await installIfNeeded({ folder: FOLDER, development: false });
  return `${FOLDER}/node_modules/@deno/linux-x64-glibc/deno`;
}
