/** What every test must be, and what docs/ may say of tests. */
import { describe, expect, test } from "vitest";
import { GEMINI_METHODS } from "../../shared/endpoints/gemini/route.ts";
import { allPages, readPage, section, tableNames } from "../docs/pages.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { idsIn, pathsUnder, readTests } from "../harness/test_sources.ts";

const TESTS = readTests();
const PAGES = allPages();

test("every test expects something", () => {
  expect(TESTS.filter(({ kind }) => kind === "test").length).toBeGreaterThan(1_500);
  expect(TESTS.filter(({ asserts }) => !asserts).map(({ at, title }) => `${at} ${title}`)).toEqual([]);
});

test("none is switched off, and none runs alone", () => {
  expect(TESTS.filter(({ off }) => off).map(({ at }) => at)).toEqual([]);
});

describe("on the server that tests share", () => {
  const shared = /^tests\/(db|graph|deploy|maintenance|observability\/db|harness)\//;
  const statements = pathsUnder("tests").filter((path) => shared.test(path)).flatMap((path) => {
    const text = Deno.readTextFileSync(`${CHECKOUT}/${path}`);
    const transactions = new Set([...text.matchAll(/\.begin\(async \((\w+)\)/g)].map(([, name]) => name));
    return [...text.matchAll(/(\w+)(?:<[^`\n]*>)?`[^`]*\bpg_(?:locks|stat_activity)\b[^`]*`/g)]
      .map(([statement, asked]) => ({
        statement: `${path}: ${statement}`,
        inTransaction: transactions.has(asked!),
      }));
  });
  const wrong = (isRight: (one: typeof statements[number]) => boolean) =>
    statements.filter((one) => !isRight(one)).map(({ statement }) => statement);

  test("each looks at the locks and connections of its own database alone", () => {
    expect(statements.length).toBeGreaterThan(10);
    expect(wrong(({ statement }) => statement.includes("current_database()"))).toEqual([]);
  });

  test("none asks in a transaction who waits: it would be told the same for as long as that lasts", () => {
    expect(wrong(({ statement, inTransaction }) => !inTransaction || !statement.includes("pg_stat_activity")))
      .toEqual([]);
  });
});

describe("ids", () => {
  const ofTests = new Set(TESTS.flatMap(({ ids }) => ids));
  const ofDocs = new Set(PAGES.flatMap(({ text }) => idsIn(text)));

  test("that docs/ names are those of tests, all of them", () => {
    expect(ofDocs.size).toBeGreaterThan(100);
    expect([...ofDocs].filter((id) => !ofTests.has(id)), "no test has them").toEqual([]);
    expect([...ofTests].filter((id) => !ofDocs.has(id)), "no page names them").toEqual([]);
  });

  test("are written as ids are", () => {
    const odd = TESTS.filter(({ title }) => /^\[[^\]]*\.[^\]]*\]/.test(title)).map(({ at, title }) =>
      `${at} ${title}`
    );
    expect(odd).toEqual([]);
  });

  test.each([
    ["native.md", "What is supported", 15],
    ["openai.md", "What is supported", 30],
    ["anthropic.md", "What is supported", 20],
    ["gemini.md", "What is supported", 20],
    ["faults.md", "What was broken", 14],
    ["architecture.md", "What happens when", 20],
    ["security.md", "What holds against whom", 24],
    ["security.md", "Wrong credentials", 2],
    ["guarantees.md", "", 8],
  ])("stand in every row of docs/%s, %s", (name, heading, least) => {
    const page = readPage(`docs/${name}`);
    const { text } = heading === "" ? { text: page.text.split("\n## ")[0]! } : section(page, heading);
    const rows = text.split("\n").filter((line) =>
      /^\| (?!wh(at|en)\b[^|]*\||threat +\|| |-)/.test(line) && line.split(" | ").length > 2
    );
    expect(rows.length).toBeGreaterThanOrEqual(least);
    // What a bench measures is no test's to hold, and what is out of scope is nobody's.
    const isHeld = (row: string) =>
      idsIn(row.split(" | ").at(-1)!).length > 0 || /`npm run bench:\w+`/.test(row.split(" | ").at(-1)!) ||
      / Out of scope +\|/.test(row);
    expect(rows.filter((row) => !isHeld(row))).toEqual([]);
  });

  test("stand in every row of docs/guarantees.md, each guarantee's own, or the benchmark that measures it", () => {
    const { scripts } = JSON.parse(readPage("package.json").text) as { scripts: Record<string, string> };
    const rows = readPage("docs/guarantees.md").text.split("\n").filter((line) => /^\| G\d+ /.test(line));
    expect(rows.length).toBeGreaterThanOrEqual(8);
    const bare = rows.filter((row) => {
      const [, name, , proof] = row.split(" | ").join("|").split("|").map((cell) => cell.trim());
      const [bench] = /(?<=`npm run )[\w:]+(?=`)/.exec(proof!) ?? [];
      return !idsIn(proof!).some((id) => id.startsWith(`${name}.`)) &&
        (bench === undefined || !(bench in scripts));
    });
    expect(bare).toEqual([]);
  });

  test.each([
    ["openai", "tests/endpoints/openai/", 35],
    ["anthropic", "tests/endpoints/anthropic/", 19],
    ["gemini", "tests/endpoints/gemini/", 50],
  ])("of %s are on every test of its clients", (topic, folder, least) => {
    const clients = TESTS.filter(({ at, kind }) => kind === "test" && at.startsWith(folder));
    expect(clients.length).toBeGreaterThan(least);
    const bare = clients.filter(({ ids }) => !ids.some((id) => id.startsWith(`${topic}.`)));
    expect(bare.map(({ at, title }) => `${at} ${title}`)).toEqual([]);
  });
});

describe("rows", () => {
  const rowsOf = (name: string, heading: string) =>
    section(readPage(`docs/${name}`), heading).text.split("\n").filter((line) => line.startsWith("| "));

  test("of docs/native.md have every field of the request", () => {
    const fields = tableNames(section(readPage("docs/native.md"), "The request"));
    const rows = rowsOf("native.md", "What is supported");
    expect(fields.length).toBeGreaterThan(15);
    // `stage` has a page of its own.
    expect(fields.filter((field) => field !== "stage" && !rows.some((row) => row.includes(`\`${field}\``))))
      .toEqual([]);
  });

  test.each([...GEMINI_METHODS])("of docs/gemini.md have %s", (method) => {
    expect(rowsOf("gemini.md", "What is supported").some((row) => row.startsWith(`| \`${method}`))).toBe(
      true,
    );
  });
});
