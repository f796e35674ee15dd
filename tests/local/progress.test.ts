/** What `npm test` prints while it runs, where it does not write to a terminal: as in CI. */
import { expect, onTestFinished, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { makeTestFolder } from "../harness/folders.ts";

test("says how far it is with every file, and what failed at once", async () => {
  const folder = await makeTestFolder();
  onTestFinished(() => folder.remove());
  const suites = {
    "a.test.js": 'test("holds", () => {}); test("holds too", () => {});',
    "b.test.js":
      'test("breaks", () => { throw new Error("on purpose"); }); test.skip("needs what is not here", () => {});',
  };
  for (const [name, tests] of Object.entries(suites)) {
    await Deno.writeTextFile(`${folder.path}/${name}`, tests);
  }
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--cached-only",
      "--unstable-no-legacy-abort",
      `${CHECKOUT}/node_modules/vitest/vitest.mjs`,
      "run",
      `--root=${folder.path}`,
      "--globals",
      "--no-file-parallelism",
      `--reporter=${CHECKOUT}/tests/harness/progress.ts`,
    ],
    cwd: CHECKOUT,
    // Of what names something that is left out elsewhere, nothing here.
    clearEnv: true,
    env: { ...without(["CI", "EVE_FIREFOX"], Deno.env.toObject()), NO_COLOR: "1" },
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)) as [string, string];
  expect(code).toBe(1);
  expect(out).toMatch(/^\[1\/2 \d+:\d\d\] .*[ab]\.test\.js/m);
  expect(out).toMatch(/^\[2\/2 \d+:\d\d\] .*[ab]\.test\.js/m);
  expect(out).toMatch(/a\.test\.js \(2 tests\)/);
  expect(out).toMatch(/Tests {2}1 failed \| 2 passed \| 1 skipped \(4\)/);
  expect(out).toMatch(/^Left out: clients in Firefox\. To have it: install one/m);
  // Once when it happens, and once more in the end.
  expect(err.match(/on purpose/g)!.length).toBeGreaterThanOrEqual(2);
  expect(err).toMatch(/^FAIL b\.test\.js > breaks$/m);
  // Nothing is rewritten where nobody can see it.
  expect(out).not.toContain("\r");
});

function without(names: string[], variables: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(variables).filter(([name]) => !names.includes(name)));
}
