/** What the README and the pages of docs/ refer to is there, and their SQL runs. */
import { dirname, join } from "node:path/posix";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import postgres from "postgres";
import { CHECKOUT } from "../../local/paths.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { allPages, codeBlocks, type Page, readPage, section, tableNames } from "./pages.ts";

const PAGES = allPages();

test("every page of docs/ is linked from the README", () => {
  const links = PAGES[0]!.text;
  expect(PAGES.slice(1).map(({ path }) => path).filter((path) => !links.includes(`](${path})`))).toEqual([]);
});

/** GitHub's anchor of a heading. */
function anchorOf(heading: string): string {
  return heading.toLowerCase().replaceAll(/[^\p{L}\p{N}\s_-]/gu, "").trim().replaceAll(" ", "-");
}

function anchorsIn({ text }: Page): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map((match) => anchorOf(match[1]!));
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(`${CHECKOUT}/${path}`).then(() => true, () => false);
}

describe.each([...PAGES, readPage("tests/README.md"), readPage("bench/README.md")])("$path", (page) => {
  test("its links lead somewhere", async () => {
    for (const [, target] of page.text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https:\/\//.test(target!)) continue;
      const [file, anchor] = target!.split("#") as [string, string | undefined];
      const path = file === "" ? page.path : join(dirname(page.path), file);
      expect(await exists(path), `${target} in ${page.path}`).toBe(true);
      if (anchor !== undefined) expect(anchorsIn(readPage(path))).toContain(anchor);
    }
  });

  test("the files and folders that it names are there", async () => {
    const named = page.text.matchAll(/`((?:bench|cli|docs|local|shared|supabase|tests|\.ci)\/[\w./-]*)`/g);
    for (const [, path] of named) {
      // The Supabase CLI makes it.
      if (path === "supabase/.temp") continue;
      expect(await exists(path!), `${path} in ${page.path}`).toBe(true);
    }
  });

  test("the npm scripts that it names are there", async () => {
    const { scripts } = JSON.parse(await Deno.readTextFile(`${CHECKOUT}/package.json`));
    for (const [, script] of page.text.matchAll(/\bnpm run ([a-z:]+)/g)) {
      expect(scripts, page.path).toHaveProperty(script!);
    }
  });
});

describe("the SQL", () => {
  let stack: TestStack;
  let sql: postgres.Sql;

  beforeAll(async () => {
    stack = await startTestStack();
    sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
  });

  afterAll(async () => {
    await sql?.end();
    await stack?.stop();
  });

  // docs/deploy.md has a test of its own, whose statements build on each other.
  const statements = PAGES.filter(({ path }) => path !== "docs/deploy.md").flatMap((page) =>
    codeBlocks(page, "sql").map((statement) => ({ path: page.path, statement }))
  );

  test("there is some", () => expect(statements.length).toBeGreaterThan(8));

  test.each(statements)("of $path runs: $statement", async ({ statement }) => {
    const ran = sql.begin(async (transaction) => {
      await transaction.unsafe(statement);
      await transaction`rollback and chain`;
      return "to its end";
    });
    await expect(ran).resolves.toBe("to its end");
  });
});

describe("docs/how-it-works.md", () => {
  const page = readPage("docs/how-it-works.md");

  test("has every file of the migrations, in their order", () => {
    const files = [...Deno.readDirSync(`${CHECKOUT}/supabase/migrations`)].map(({ name }) => name).sort();
    const table = section(page, "The files").text.split("| file in")[1];
    expect(tableNames({ path: page.path, text: table ?? "" })).toEqual(
      files.map((name) => name.replace(/^\d+_(\w+)\.sql$/, "$1")),
    );
  });

  test("lists tables that the migrations make", () => {
    const migrations = [...Deno.readDirSync(`${CHECKOUT}/supabase/migrations`)]
      .map(({ name }) => Deno.readTextFileSync(`${CHECKOUT}/supabase/migrations/${name}`)).join("\n");
    const tables = tableNames(section(page, "Tables"));
    expect(tables.length).toBeGreaterThan(10);
    for (const table of tables) {
      const made = [`create table if not exists ${table} (`, `create or replace view ${table} with (`];
      expect(made.some((words) => migrations.includes(words)), table).toBe(true);
    }
  });
});

describe("docs/adding-keys-and-models.md", () => {
  const page = readPage("docs/adding-keys-and-models.md");

  test("explains every reason for which a key is switched off", async () => {
    const source = await Deno.readTextFile(`${CHECKOUT}/shared/providers/google/errors.ts`);
    const lists = /const KEY_REASONS[^]*?\n};|const KEY_MESSAGES[^]*?\n\];/g;
    const reasons = [...source.matchAll(lists)].flatMap(([list]) =>
      [...list.matchAll(/"([a-z]+_[a-z]+)"/g)].map((match) => match[1]!)
    );
    expect(reasons.length).toBeGreaterThan(5);
    const explained = tableNames(section(page, "A key is off. Why?"));
    expect(explained).toEqual(expect.arrayContaining([...new Set(reasons), "secret_missing"]));
  });
});

describe("docs/local-stack.md", () => {
  const documented = tableNames(section(readPage("docs/local-stack.md"), "It does not start"));
  const sources = sourcesIn(`${CHECKOUT}/local`).map((path) => Deno.readTextFileSync(path))
    .join("\n").replaceAll(/\$\{[^}]*\}/g, "...");

  test("quotes messages that exist", () => {
    expect(documented.length).toBeGreaterThan(10);
    for (const message of documented) {
      expect(sources.includes(message), message).toBe(true);
    }
  });

  test("explains every refusal", () => {
    const thrown = sources.matchAll(/(?:new StartError|\bfail)\(\s*[`"]([^`"]+)[`"]/g);
    const refusals = [...thrown].map((match) => match[1]!);
    expect(refusals.length).toBeGreaterThan(10);
    const isExplained = (refusal: string) => documented.some((message) => refusal.startsWith(message));
    expect(refusals.filter((refusal) => !isExplained(refusal))).toEqual([]);
  });
});

describe("docs/adopting-existing-tables.md", () => {
  test("quotes refusals that exist", () => {
    const migration = readPage("supabase/migrations/20261122000200_adopt_tables.sql").text
      .replaceAll("%", "...");
    const messages = tableNames(section(readPage("docs/adopting-existing-tables.md"), "What stops it"));
    expect(messages.length).toBeGreaterThan(4);
    for (const message of messages) {
      expect(migration.includes(`adoption: ${message}`), message).toBe(true);
    }
  });
});

function sourcesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap((entry) =>
    entry.isDirectory
      ? sourcesIn(`${folder}/${entry.name}`)
      : /\.(ts|mjs)$/.test(entry.name)
      ? [`${folder}/${entry.name}`]
      : []
  );
}
