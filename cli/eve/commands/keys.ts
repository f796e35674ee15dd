import type { Command } from "../command.ts";
import type { Connection } from "../connection.ts";
import { CliFailure, misuse } from "../failure.ts";
import { answered } from "../rows.ts";
import { green, instant, red, table, yellow } from "../table.ts";
import { readLimit } from "../values.ts";

/** As shells and the Edge secret store take it. */
const VARIABLE_NAME = /^[A-Z][A-Z0-9_]{0,127}$/;
const DEFAULT_PRIORITY = 100;

export const keyCommands: Command[] = [
  {
    name: "keys list",
    summary: "the Google AI keys and their state",
    arguments: [],
    options: {},
    examples: ["keys list"],
    async run(_given, connect) {
      const keys = answered(
        await connect().tables.from("google_ai_api_keys")
          .select(
            "key_alias, env_var_name, quota_project, priority, is_active, blocked_until, blocked_reason, notes",
          )
          .order("priority").order("key_alias"),
      );
      const rows = keys.map((key) => [
        key.key_alias ?? "",
        stateOf(key),
        key.env_var_name ?? red("none"),
        key.quota_project ?? "its own",
        String(key.priority ?? ""),
        key.notes ?? "",
      ]);
      const text = rows.length === 0
        ? "There is no key yet. Add one: npm run eve -- keys add ALIAS --env GOOGLE_API_KEY_1"
        : table(["alias", "state", "secret's name", "quota project", "priority", "notes"], rows);
      return { json: keys, text };
    },
  },
  {
    name: "keys add",
    summary: "add a key by the name of its Edge secret",
    arguments: ["ALIAS"],
    options: {
      env: { value: "NAME", help: "the Edge secret that holds the key; the key itself is never given here" },
      project: { value: "NAME", help: "the Google Cloud project: keys of one project share its quota" },
      priority: { value: "N", help: `lower is used first; ${DEFAULT_PRIORITY} by default` },
      notes: { value: "TEXT", help: "a note for people" },
    },
    examples: ["keys add main --env GOOGLE_API_KEY_MAIN --project events-1 --priority 10"],
    async run(given, connect) {
      const name = given.option("env");
      if (name === undefined) {
        throw misuse("--env is missing: the name of the Edge secret that holds the key.");
      }
      if (!VARIABLE_NAME.test(name)) {
        throw misuse(
          "--env must be the name of a secret, in capitals, digits and underscores. Never give the key itself here.",
        );
      }
      const alias = given.arguments[0]!;
      const { tables } = connect();
      const same = answered(
        await tables.from("google_ai_api_keys").select("key_alias").eq("key_alias", alias),
      );
      if (same.length > 0) throw new CliFailure(`There is a key named ${alias} already.`);
      const [key] = answered(
        await tables.from("google_ai_api_keys").insert({
          key_alias: alias,
          provider: "google",
          env_var_name: name,
          quota_project: given.option("project") ?? null,
          priority: readLimit(given, "priority") ?? DEFAULT_PRIORITY,
          notes: given.option("notes") ?? null,
          is_active: true,
        }).select("key_alias, env_var_name, quota_project, priority, is_active"),
      );
      return { json: key, text: `${alias} was added. Set the Edge secret ${name} if it is not set yet.` };
    },
  },
  {
    name: "keys enable",
    summary: "switch a key on, and lift what blocks it",
    arguments: ["ALIAS"],
    options: {},
    examples: ["keys enable main"],
    run: (given, connect) =>
      change(
        connect(),
        given.arguments[0]!,
        { is_active: true, blocked_until: null, blocked_reason: null },
        "on",
      ),
  },
  {
    name: "keys disable",
    summary: "switch a key off; the next reservation takes another",
    arguments: ["ALIAS"],
    options: {},
    examples: ["keys disable main"],
    run: (given, connect) => change(connect(), given.arguments[0]!, { is_active: false }, "off"),
  },
];

async function change(
  { tables }: Connection,
  alias: string,
  values: { is_active: boolean; blocked_until?: null; blocked_reason?: null },
  word: string,
) {
  const changed = answered(
    await tables.from("google_ai_api_keys").update(values).eq("key_alias", alias)
      .select("key_alias, is_active, blocked_until"),
  );
  if (changed.length === 0) throw new CliFailure(`There is no key named ${alias}. See \`keys list\`.`);
  return { json: changed, text: `${alias} is ${word}.` };
}

function stateOf(
  key: { is_active: boolean | null; blocked_until: string | null; blocked_reason: string | null },
) {
  if (key.is_active !== true) return yellow("off");
  if (key.blocked_until === null || Date.parse(key.blocked_until) <= Date.now()) return green("on");
  return red(
    `blocked ${key.blocked_until === "infinity" ? "" : "until "}${instant(key.blocked_until)}: ${
      key.blocked_reason ?? ""
    }`,
  );
}
