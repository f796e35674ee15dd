/** docs/compatibility.md is of today's tests and versions; the rows of Python's packages are held by tests/endpoints/python.test.ts. */
import { expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { page, rowsOfJavascript } from "../endpoints/compatibility.ts";

test("docs/compatibility.md has what JavaScript's clients are tested with (written again by: npm test -- tests/unit/compatibility.test.ts -u)", async () => {
  const rows = rowsOfJavascript();
  expect(new Set(rows.map(({ client }) => client)).size).toBeGreaterThan(6);
  expect(rows.filter(({ version }) => version === "")).toEqual([]);
  await expect(await page(null, rows)).toMatchFileSnapshot(`${CHECKOUT}/docs/compatibility.md`);
});
