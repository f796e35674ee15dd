/** docs/cli.md has every command, as the program explains it. */
import { describe, expect, test } from "vitest";
import { readCommandLine } from "../../../cli/eve/arguments.ts";
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

describe("every command line in the README and in docs/", () => {
  const names = [...Deno.readDirSync(`${CHECKOUT}/docs`)].map(({ name }) => `docs/${name}`).filter((name) =>
    name.endsWith(".md")
  );
  const lines = ["README.md", ...names].flatMap((name) => {
    const text = Deno.readTextFileSync(`${CHECKOUT}/${name}`).replaceAll("\\\n", " ");
    // To the end of the line, or of the code between backticks; what the shell does with the answer is its own.
    return [...text.matchAll(/npm run (?:-s )?eve -- ([^`\n]*)/g)].map(([, rest]) => ({
      name,
      line: rest!.replace(/\s+(#|>|<|\||\|\|) .*$/, "").trim(),
    }));
  });

  test("there are some", () => expect(lines.length).toBeGreaterThan(60));

  test.each(lines)("$name: $line", ({ line }) => {
    const words = [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, double, single, plain]) =>
      double ?? single ?? plain!
    );
    // `...` stands for any command.
    if (words[0] === "..." || words[0] === "COMMAND") return;
    try {
      readCommandLine(words, COMMANDS);
    } catch (thrown) {
      // A command may be named without what it takes.
      expect((thrown as Error).message).toMatch(/^Missing required argument/);
    }
  });
});

describe("docs/capacity.md", () => {
  const capacity = Deno.readTextFileSync(`${CHECKOUT}/docs/capacity.md`);
  const numbers = (cell: string) =>
    [...cell.matchAll(/\d[\d,]*/g)].map(([text]) => Number(text.replaceAll(",", "")));

  test("has what its formula gives, for 12 hours", () => {
    const rows = capacity.split("\n").filter((line) => /^\| (`ge|the same)/.test(line)).map((line) =>
      line.split("|").map((cell) => cell.trim())
    );
    expect(rows.length).toBe(5);
    let limits: number[] = [];
    for (const [, model, given, calls, bound, ...needed] of rows) {
      limits = numbers(given!).length === 3 ? numbers(given!) : limits;
      const [rpm, tpm, rpd] = limits as [number, number, number];
      const tokens = /calls of/.test(model!) ? numbers(model!)[0]! : 500;
      const most = { RPD: rpd, RPM: 60 * 12 * rpm, TPM: Math.floor(60 * 12 * tpm / tokens) };
      const least = Math.min(...Object.values(most));
      expect([model, ...numbers(calls!)]).toEqual([model, least]);
      expect(most[bound as keyof typeof most]).toBe(least);
      expect([model, ...needed.slice(0, 4).map((cell) => numbers(cell)[0])]).toEqual([
        model,
        ...[1_000, 10_000, 50_000, 100_000].map((wanted) => Math.ceil(wanted / least)),
      ]);
    }
  });
});
