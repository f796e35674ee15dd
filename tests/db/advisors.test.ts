/** Supabase's own security and performance advisors, run offline by the real CLI against what the migrations make. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { supabaseCli } from "../../local/supabase_cli.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await cloneDatabase();
});
afterAll(() => database?.drop());

/** Worth knowing, but right here: nothing has been used yet, and nobody but the service role gets past the row security. */
const EXPECTED_HINTS = ["rls_enabled_no_policy", "unused_index"];

test("the advisors have nothing to say, at warning level or below", async () => {
  const findings = await advise(database);
  expect(findings.filter((finding) => finding.level !== "INFO")).toEqual([]);
  expect(findings.filter((finding) => !EXPECTED_HINTS.includes(finding.name))).toEqual([]);
});

test("they would have found a table that is open and a function without a search path", async () => {
  await database.sql.unsafe(`
    create table public.open_to_all (id int primary key);
    grant select on public.open_to_all to anon;
    create function public.careless() returns int language sql as 'select 1';
  `).simple();
  const names = (await advise(database)).filter((finding) => finding.level !== "INFO").map((each) =>
    each.name
  );
  expect(names.sort()).toEqual(["function_search_path_mutable", "rls_disabled_in_public"]);
});

interface Finding {
  name: string;
  level: "INFO" | "WARN" | "ERROR";
  detail: string;
}

async function advise({ url }: TestDatabase): Promise<Finding[]> {
  const said = await supabaseCli([
    "db",
    "advisors",
    `--remote=${url}`,
    "--type=all",
    "--level=info",
    "--fail-on=none",
    "--output-format=json",
  ]);
  const { results } = JSON.parse(said) as { results: Finding[] };
  return results.map(({ name, level, detail }) => ({ name, level, detail }));
}
