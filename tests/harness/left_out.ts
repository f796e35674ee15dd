/** Says at the end of a run which tests this machine cannot run, and what to do about it. In CI none is left out. */
import { chromiumPath } from "../console/browser.ts";
import { FRAMEWORKS_PYTHON, PACKAGES_PYTHON } from "./python.ts";
import { HAS_TESSERACT } from "./tesseract.ts";

/** One line for each part that is left out. */
export function leftOut(
  has: { packages: boolean; chromium: boolean; firefox: boolean; node22: boolean; tesseract: boolean },
): string[] {
  return [
    ...(has.packages ? [] : ["Left out: what needs Python's packages. To have it: tests/python/install"]),
    ...(has.chromium
      ? []
      : ["Left out: what needs a browser. To have it: install Chromium, or name it in EVE_CHROMIUM"]),
    ...(has.firefox
      ? []
      : ["Left out: clients in Firefox. To have it: install one, and name it in EVE_FIREFOX"]),
    ...(has.node22 ? [] : [
      "Left out: JavaScript's clients in Node 22 (in Deno they ran). To have it: CI=1 npm test -- tests/endpoints/node.test.ts",
    ]),
    ...(has.tesseract
      ? []
      : ["Left out: what needs tesseract. To have it: install tesseract-ocr and tesseract-ocr-rus"]),
  ];
}

/** Vitest calls it after the last test. */
export function teardown(): void {
  if (Deno.env.get("CI") !== undefined) return;
  for (
    const line of leftOut({
      packages: PACKAGES_PYTHON !== null && FRAMEWORKS_PYTHON !== null,
      chromium: chromiumPath() !== undefined,
      firefox: Deno.env.get("EVE_FIREFOX") !== undefined,
      node22: false,
      tesseract: HAS_TESSERACT,
    })
  ) console.log(line);
}
