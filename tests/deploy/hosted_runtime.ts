/**
 * The runtime of hosted functions is compatible with Deno 2.1, the local one is newer. What was uploaded runs in Deno 2.1 here, so that
 * code which only the newer one understands is noticed.
 */
import { installIfNeeded } from "../../local/packages.mjs";
import { fromFileUrl } from "../../local/paths.ts";

const FOLDER = fromFileUrl(new URL("runtime", import.meta.url));

/** Installs it where it is missing. @returns the program's path */
export async function hostedRuntime(): Promise<string> {
  await installIfNeeded({ folder: FOLDER, development: false });
  const packages = `${FOLDER}/node_modules/@deno`;
  const [platform] = [...Deno.readDirSync(packages)];
  return `${packages}/${platform!.name}/${Deno.build.os === "windows" ? "deno.exe" : "deno"}`;
}
