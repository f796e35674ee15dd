import { describe, expect, test } from "vitest";
import { codeOfSqlstate, type ErrorCode, errorRow, ERRORS } from "../../shared/contract/errors.ts";
import { REFUSAL_CODES } from "../../shared/database/admission/reserve.ts";

const root = new URL("../../", import.meta.url);
const migrations = [...Deno.readDirSync(new URL("supabase/migrations/", root))]
  .map(({ name }) => Deno.readTextFileSync(new URL(`supabase/migrations/${name}`, root)))
  .join("\n");

const matches = (text: string, pattern: RegExp) =>
  [...new Set([...text.matchAll(pattern)].map((m) => m[1] ?? ""))].sort();

describe("the SQL functions and the table of errors agree", () => {
  test("every errcode of ours that leaves a function is in the table", () => {
    // EV0nn are raised to be caught again inside the same function.
    const raised = matches(migrations, /errcode = '(EV\d{3})'/g).filter((state) => !state.startsWith("EV0"));
    expect(raised.length).toBeGreaterThan(0);
    expect(raised.filter((state) => codeOfSqlstate(state) === null)).toEqual([]);
  });

  test("every refusal is one that the ledger knows", () => {
    const called = matches(migrations, /\beve\.refuse\([a-z_]*call, [^,]+, '([a-z_]+)'/g);
    const assigned = migrations.split("\n").filter((line) => line.includes(".refusal :=")).join("\n");
    const chosen = matches(assigned, /'([a-z]+_[a-z_]+)'/g);
    expect(called.length).toBeGreaterThan(0);
    expect(chosen.length).toBeGreaterThan(0);
    const known: readonly string[] = REFUSAL_CODES;
    expect([...called, ...chosen].filter((code) => !known.includes(code))).toEqual([]);
  });
});

/** Rows of docs/errors.md of the form `| `code` | status | yes or no | what to do |`. */
function documentedRows(): Record<string, string> {
  const page = Deno.readTextFileSync(new URL("docs/errors.md", root));
  const rows = page.matchAll(/^\| `([a-z_]+)` *\| (\d{3}) *\| (yes|no) *\|/gm);
  return Object.fromEntries([...rows].map(([, code = "", status, retry]) => [code, `${status} ${retry}`]));
}

test("docs/errors.md has every code, with its status and whether to retry", () => {
  const codes = Object.keys(ERRORS) as ErrorCode[];
  const actual = codes.map((
    code,
  ) => [code, `${errorRow(code).status} ${errorRow(code).retryable ? "yes" : "no"}`]);
  expect(documentedRows()).toEqual(Object.fromEntries(actual));
});
