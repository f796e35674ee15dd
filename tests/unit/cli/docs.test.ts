/** docs/cli.md has every command, as the program explains it. */
import { describe, expect, test } from "vitest";
import { COMMANDS } from "../../../cli/eve/commands.ts";
import { usage } from "../../../cli/eve/help.ts";
import { CHECKOUT } from "../../../local/paths.ts";

const page = Deno.readTextFileSync(`${CHECKOUT}/docs/cli.md`);
const sections = new Map(
  page.split(/\n(?=### )/).slice(1).map((section) => [/^### `([^`]+)`/.exec(section)?.[1], section]),
);

describe("docs/cli.md", () => {
  test.each(COMMANDS.map((command) => [command.name, command] as const))("has %s", (_, command) => {
    const section = sections.get(usage(command));
    expect(section, usage(command)).toBeDefined();
    for (const name of Object.keys(command.options)) expect(section).toContain(`--${name}`);
    for (const example of command.examples) expect(section).toContain(`npm run eve -- ${example}\n`);
    expect(section).toMatch(/`--json`:\s\S/);
  });

  test("has no other", () => {
    expect([...sections.keys()].sort()).toEqual(COMMANDS.map(usage).sort());
  });

  test("explains every exit code", async () => {
    const { EXIT } = await import("../../../cli/eve/failure.ts");
    for (const code of Object.values(EXIT)) expect(page).toMatch(new RegExp(`^\\| ${code} +\\|`, "m"));
  });
});

describe("docs/operating.md", () => {
  const operating = Deno.readTextFileSync(`${CHECKOUT}/docs/operating.md`);
  const folder = `${CHECKOUT}/supabase/migrations`;
  const migrations = [...Deno.readDirSync(folder)].map(({ name }) =>
    Deno.readTextFileSync(`${folder}/${name}`)
  ).join("\n");
  /** The first values of the rows that the migrations put into a table. */
  const rowsOf = (table: string) =>
    [...migrations.matchAll(new RegExp(`insert into ${table} \\([^)]*\\) values\n((?: {2}\\('.*\n)+)`, "g"))]
      .flatMap(([, rows]) => [...rows!.matchAll(/^ {2}\('([a-z_]+)'/gm)].map((match) => match[1]!));

  test("says of every alert what to do", () => {
    const kinds = rowsOf("eve.alert_kinds");
    expect(kinds.length).toBeGreaterThan(9);
    expect(kinds.filter((kind) => !operating.includes(`\`${kind}\``))).toEqual([]);
  });

  test("has every operation with its schedule", () => {
    const operations = rowsOf("eve.operations");
    expect(operations).toContain("sweep");
    expect(operations.filter((name) => !new RegExp(`^\\| \`${name}\` `, "m").test(operating))).toEqual([]);
  });
});
