/** What docs/architecture.md works out and draws: the example of the window, and the tables of its diagram. */
import type postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { readPage, section } from "../docs/pages.ts";
import {
  addKey,
  addModel,
  type Answer,
  clearLedger,
  freezeClock,
  reserve,
  settle,
  type TestClock,
} from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

const PAGE = readPage("docs/architecture.md");

let db: TestDatabase;
let clock: TestClock;
let sql: postgres.Sql;

beforeAll(async () => {
  db = await cloneDatabase();
  sql = db.sql;
  clock = await freezeClock(sql);
});
afterAll(() => db?.drop());

/** The cells of every row below the heads of a page's tables. */
function tableRows(text: string): string[][] {
  return text.split("\n").filter((line) => /^\| (?!-)/.test(line)).map((line) =>
    line.split("|").slice(1, -1).map((cell) => cell.trim())
  );
}

describe("the example of the window", () => {
  const rows = tableRows(section(PAGE, "The window").text);
  const booked = rows.filter(([at, starts]) => /^12:/.test(at!) && starts === "1").map(([at, , tokens]) => ({
    at: at!,
    tokens: Number(tokens),
  }));
  const asked = rows.filter((row) => /^[\d,]+$/.test(row[0]!)).map(([tokens, start, why]) => ({
    tokens: Number(tokens!.replaceAll(",", "")),
    start: start!,
    limit: /^`(\w+)`/.exec(why!)?.[1] ?? null,
  }));
  const instant = (time: string) => `2026-11-18T${time}Z`;
  const granted: Answer[] = [];

  beforeEach(async () => {
    await clearLedger(sql);
    await addModel(sql, "m", { rpm: 5, tpm: 1_000 });
    await addKey(sql, "one", { project: "p" });
    granted.length = 0;
    for (const { at, tokens } of booked) {
      await clock.set(instant(at));
      granted.push(await reserve(sql, at, { tokens, counted: true }));
    }
    await clock.set(instant("12:00:40.000"));
  });

  const wait = (tokens: number, name = "asked") =>
    reserve(sql, name, { tokens, counted: true, maxWaitMs: 100_000 });
  const refused = (tokens: number) => reserve(sql, "refused", { tokens, counted: true });
  const startOf = (answer: Answer) => new Date(answer.start_at).toISOString().slice(11, 23);

  test("has rows", () => expect([booked.length, asked.length]).toEqual([4, 4]));

  test.each(asked)("$tokens tokens start at $start", async ({ tokens, start, limit }) => {
    if (start === "never") return expect(await wait(tokens)).toMatchObject({ code: "prompt_too_large" });
    if (limit !== null) expect((await refused(tokens)).limit).toBe(limit);
    expect(startOf(await wait(tokens))).toBe(start);
  });

  test("goes on as it says", async () => {
    expect(startOf(await wait(100, "fifth"))).toBe("12:00:40.000");
    expect((await refused(10)).limit).toBe("rpm");
    expect(startOf(await wait(10, "sixth"))).toBe("12:01:00.250");
  });

  test("settling makes room at its own place", async () => {
    expect((await refused(300)).limit).toBe("tpm");
    await settle(sql, granted[1], { inputTokens: 40 });
    expect(startOf(await wait(300))).toBe("12:00:40.000");
  });
});

test("the diagram's tables have its columns and keys", async () => {
  const drawn = [...PAGE.text.matchAll(/^ {2}(\w+) \{\n((?: {4}.*\n)+) {2}\}/gm)].map(([, table, body]) => ({
    table: table!,
    columns: [...body!.matchAll(/^ {4}(\w+) (\w+)(?: (PK|FK|UK))?/gm)].map(([, type, name, key]) => ({
      type: type!,
      name: name!,
      key,
    })),
  }));
  expect(drawn.length).toBeGreaterThan(10);
  for (const { table, columns } of drawn) {
    const there = await sql`
      select a.attname as name, format_type(a.atttypid, null) as type, coalesce(bool_or(i.indisprimary), false) as "isKey"
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace and n.nspname in ('eve', 'public')
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      left join pg_index i on i.indrelid = c.oid and i.indisprimary and a.attnum = any (i.indkey)
      where c.relname = ${table}
      group by a.attname, a.atttypid`;
    const short: Record<string, string> = {
      "timestamp with time zone": "timestamptz",
      "double precision": "float8",
    };
    const actual = new Map(
      there.map(({ name, type, isKey }) => [name, { type: short[type] ?? type, isKey }]),
    );
    for (const { name, type, key } of columns) {
      expect({ table, name, ...actual.get(name) }).toEqual({ table, name, type, isKey: key === "PK" });
    }
    const keys = there.filter(({ isKey }) => isKey).map(({ name }) => name).sort();
    expect(columns.filter(({ key }) => key === "PK").map(({ name }) => name).sort(), table).toEqual(keys);
  }
});
