/** The Python with the packages of tests/python/requirements.txt, and what to do where it is not. */
import { CHECKOUT } from "../../local/paths.ts";

const PLACE = `${CHECKOUT}/tests/python/.venv`;

function isInstalled(): boolean {
  try {
    return Deno.readTextFileSync(`${PLACE}/installed.txt`) ===
      Deno.readTextFileSync(`${CHECKOUT}/tests/python/requirements.txt`);
  } catch {
    return false;
  }
}

/**
 * Null: the packages are not there, and tests with them are left out. CI installs them, so there it is never null: a test
 * that is skipped in CI would never prove anything.
 */
export const PACKAGES_PYTHON: string | null = isInstalled() || Deno.env.get("CI") !== undefined
  ? `${PLACE}/bin/python`
  : null;
