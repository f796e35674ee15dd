/** A bench that has goals says with its exit code whether they are met: a script can rely on it. */
import { expect, test } from "vitest";
import { CHECKOUT } from "../../../local/paths.ts";

/** They print what is met beside figures of other programs, which is for people to judge. */
const PRINT_ONLY = ["admission.ts", "estimate.ts", "gateway.ts", "intake.ts", "quota.ts", "storage.ts"];

test("benches whose goals are not met end with 1", () => {
  const benches = [...Deno.readDirSync(`${CHECKOUT}/bench`)].map(({ name }) => name)
    .filter((name) => name.endsWith(".ts") && !PRINT_ONLY.includes(name))
    .filter((name) => /\bmet\b/.test(Deno.readTextFileSync(`${CHECKOUT}/bench/${name}`)));
  expect(benches).toContain("bodies.ts");
  const silent = benches.filter((name) =>
    !/Deno\.exit\([\w.]+ \? 0 : 1\);\s*$/.test(Deno.readTextFileSync(`${CHECKOUT}/bench/${name}`))
  );
  expect(silent).toEqual([]);
});
