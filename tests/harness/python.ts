/** Which Pythons there are: those of this machine, and those with the packages of tests/python. */
import { CHECKOUT } from "../../local/paths.ts";
import { hasProgram } from "./programs.ts";

/** Debian's own stands apart: it is the one that sees Debian's packages. */
const PYTHONS = ["python3", "/usr/bin/python3"];

/** The first Python that can run this statement, `preferred` before others; undefined if there is none. */
export function pythonThat(statement: string, preferred: string[] = []): string | undefined {
  return [...preferred, ...PYTHONS].find((python) => hasProgram(python, ["-c", statement]));
}

const FOLDER = `${CHECKOUT}/tests/python`;

function isInstalled(place: string, list: string): boolean {
  try {
    return Deno.readTextFileSync(`${FOLDER}/${place}/installed.txt`) ===
      Deno.readTextFileSync(`${FOLDER}/${list}`);
  } catch {
    return false;
  }
}

/**
 * Null: the packages are not there, and tests with them are left out. CI installs them, so there it is never null: a test
 * that is skipped in CI would never prove anything.
 */
function pythonIn(place: string, list: string): string | null {
  return isInstalled(place, list) || Deno.env.get("CI") !== undefined
    ? `${FOLDER}/${place}/bin/python`
    : null;
}

export const PACKAGES_PYTHON: string | null = pythonIn(".venv", "requirements.txt");
/** The same with the packages of tests/python/frameworks.txt. */
export const FRAMEWORKS_PYTHON: string | null = pythonIn(".venv-frameworks", "frameworks.txt");

/** For a Python that imports packages: compiled once, they come in half the time. Its files lie beside none of ours. */
export const compiledOnce = (python: string): Record<string, string> => ({
  PYTHONPYCACHEPREFIX: `${python}.cache`,
  PYTHONDONTWRITEBYTECODE: "",
});
