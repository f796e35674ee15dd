/** docs/deploy.md says what is so. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { readOptions, USAGE } from "../../cli/deploy/options.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { ERRORS } from "../../shared/contract/errors.ts";
import { readSettings } from "../../shared/runtime/settings.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

const PAGE = await Deno.readTextFile(`${CHECKOUT}/docs/deploy.md`);

const blocks = (language: string) =>
  [...PAGE.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\``, "gm"))].map((match) => match[1]!);

let database: TestDatabase;

beforeAll(async () => {
  database = await cloneDatabase();
  // As `npm run eve -- maintenance connect` does, a step of the page.
  await database.sql`select public.eve_connect('https://abcdefghijklmnopqrst.supabase.co', 'sb_secret_1')`;
});

afterAll(() => database?.drop());

test("its SQL runs, and each statement finds its rows", async () => {
  const statements = blocks("sql");
  expect(statements.length).toBeGreaterThan(0);
  for (const statement of statements) {
    expect((await database.sql.unsafe(statement)).count, statement).toBeGreaterThan(0);
  }
});

test("after its removal nothing runs by itself, and no key is left", async () => {
  const jobs = await database.sql`select jobname from cron.job`;
  expect(jobs.filter(({ jobname }) => jobname.startsWith("eve_"))).toEqual([]);
  expect([...await database.sql`select name from vault.secrets`]).toEqual([]);
});

test("its commands are understood", () => {
  const commands = blocks("sh").flatMap((block) => block.split("\n"))
    .filter((line) => line.startsWith("npm run deploy"));
  expect(commands.length).toBeGreaterThan(0);
  for (const command of commands) {
    const args = command.replace(/^npm run deploy( --)?/, "").replaceAll('"', "").trim()
      .replaceAll("<ref>", "abcdefghijklmnopqrst").replaceAll(/<[a-z ]+>/g, "any");
    expect(() => readOptions(args === "" ? [] : args.split(/\s+/)), command).not.toThrow();
  }
});

test("its table of options is the command's own", () => {
  const documented = [...PAGE.matchAll(/^\| `(--[a-z-]+)/gm)].map((match) => match[1]);
  const offered = [...USAGE.matchAll(/^ {2}(--[a-z-]+)/gm)].map((match) => match[1])
    .filter((option) => option !== "--help");
  expect(documented.sort()).toEqual(offered.sort());
});

test("its table of settings has the defaults", () => {
  const settings = readSettings((name) =>
    ({ SUPABASE_URL: "http://127.0.0.1", SUPABASE_SECRET_KEYS: '{"default":"sb_secret_x"}' })[name]
  );
  const defaults = new Set(Object.values(settings).filter((value) => typeof value === "number"));
  const documented = new Set(
    [...PAGE.matchAll(/^\| `EVE_\w+` .*\| (\d+) +\|$/gm)].map((match) => Number(match[1])),
  );
  expect(documented).toEqual(defaults);
});

test("its error codes are the gateway's", () => {
  const named = [...PAGE.matchAll(/^\| (\d{3}) `([a-z_]+)`/gm)];
  expect(named.length).toBeGreaterThan(0);
  for (const [, status, code] of named) {
    expect((ERRORS as Record<string, { status: number }>)[code!]?.status, code).toBe(Number(status));
  }
});
