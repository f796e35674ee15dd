import type { KeyState } from "../../../shared/database/reading.ts";
import { secretSourceOf } from "../../../shared/contract/secret_source.ts";
import type { Command } from "../command.ts";
import { CliFailure, EXIT } from "../failure.ts";
import { howToSet, troubleOf } from "../key_advice.ts";
import { duration, green, red, table, yellow } from "../table.ts";
import { runOperation } from "./maintenance.ts";

export const keyTestCommand: Command = {
  name: "keys test",
  summary: "ask upstream whether keys work; it costs no quota",
  about:
    "Has the function check every key (operation key_health) and shows what it found, of all keys or of those that\n" +
    "are named. A key whose passing trouble is over, or that has another secret than upstream rejected, is switched on by\n" +
    "it; one that upstream rejects is switched off.\n" +
    "It ends with 1 if one of them does not work.",
  arguments: ["ALIAS?"],
  options: {},
  examples: ["keys test", "keys test main"],
  async run(given, around) {
    const connection = around.connect();
    const [alias] = given.arguments;
    const find = (keys: KeyState[]) =>
      alias === undefined ? keys : keys.filter((key) => key.alias === alias || key.id === alias);
    // Before anything is asked of upstream.
    if (alias !== undefined && find(await connection.reading.keys()).length === 0) {
      throw new CliFailure(`There is no key named ${alias}. See \`keys list\`.`);
    }
    const run = await runOperation(connection, "key_health", 1, around);
    if (run.exitCode !== EXIT.done) return run;
    const { now } = await connection.reading.now();
    const keys = find(await connection.reading.keys());
    const rows = keys.map((key) => [
      key.alias ?? key.id,
      verdictOf(key),
      key.check === null ? "" : `${duration(Date.parse(now) - Date.parse(key.check.checked_at))} ago`,
      whatToDo(key, connection.url),
    ]);
    const bad = keys.some((key) => key.is_active && key.check?.outcome !== "works");
    return {
      json: keys.map(({ id, alias, state, blocked_reason, check }) => ({
        id,
        alias,
        state,
        blocked_reason,
        check,
      })),
      text: rows.length === 0 ? "There is no key yet." : table(["alias", "it", "asked", "what to do"], rows),
      exitCode: bad ? EXIT.failed : EXIT.done,
    };
  },
};

function verdictOf({ is_active, check }: KeyState): string {
  switch (check?.outcome) {
    case "works":
      return is_active ? green("works") : yellow("works, and is off");
    case "rejected":
      return red(`was rejected: ${check.reason ?? "no reason given"}`);
    case "secret_missing":
      return red("has no secret");
    case "unclear":
      return yellow(`could not be asked${check.detail === null ? "" : `: ${check.detail}`}`);
    default:
      return is_active ? yellow("was not asked") : yellow("is off, and not asked");
  }
}

function whatToDo(key: KeyState, url: string): string {
  const { check, env_var_name } = key;
  const isStages = env_var_name !== null && secretSourceOf(env_var_name).kind === "stage";
  if (check?.outcome === "secret_missing" && !isStages) return howToSet(key, url);
  return troubleOf(key, url)?.todo ?? (check?.outcome === "unclear" ? "ask again in a while" : "");
}
