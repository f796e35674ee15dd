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
