/** The table of docs/migrating.md names tests of Python's packages: each is there, and each that is there is named. */
import { expect, test } from "vitest";
import { readPage, section } from "../../docs/pages.ts";

const FOLDER = new URL("../../endpoints/python/", import.meta.url);
const TABLE = section(readPage("docs/migrating.md"), "What Python's packages do here").text;

test("the rows name the tests of the packages, all of them", () => {
  const named = [...TABLE.matchAll(/`(\w+_package: test_\w+)`/g)].map(([, name]) => name!);
  const there = [...Deno.readDirSync(FOLDER)].filter(({ name }) => name.endsWith("_package.py")).flatMap(
    ({ name }) =>
      [...Deno.readTextFileSync(new URL(name, FOLDER)).matchAll(/^ {4}def (test_\w+)\(/gm)]
        .map(([, title]) => `${name.replace(".py", "")}: ${title}`),
  );
  expect(there.length).toBeGreaterThan(40);
  expect(named.sort()).toEqual(there.sort());
});
