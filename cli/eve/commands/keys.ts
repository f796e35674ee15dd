import { isReservedName } from "../../../shared/runtime/secrets.ts";
import type { KeyState } from "../../../shared/database/reading.ts";
import { secretSourceOf } from "../../../shared/contract/secret_source.ts";
import type { Command } from "../command.ts";
import type { Connection } from "../connection.ts";
import { CliFailure, misuse } from "../failure.ts";
import { isOfInterest, laneTable } from "../lanes.ts";
import { answered } from "../rows.ts";
import { bold, count, dim, green, instant, pairs, red, table, yellow } from "../table.ts";
import { because, troubleOf } from "../key_advice.ts";
import { readLimit } from "../values.ts";
import { keyTestCommand } from "./key_check.ts";
import { callFunction, refused } from "../function_call.ts";
import { asKey, keyDeleteCommand, keySetCommand, theKey } from "./key_secret.ts";

/** As shells and the Edge secret store take it. */
const VARIABLE_NAME = /^[A-Z][A-Z0-9_]{0,127}$/;
const DEFAULT_PRIORITY = 100;

export const keyCommands: Command[] = [
  {
    name: "keys list",
    summary: "the Google AI keys, their state, and what is left of their quota",
    about:
      "Quota belongs to the quota project, so what is left is shown by quota project and model. A * marks limits\n" +
      "of its own (see limits list).",
    arguments: [],
    options: { all: { help: "models that nobody has used today too" } },
    examples: ["keys list", "keys list --all --json"],
    async run(given, { connect }) {
      const connection = connect();
      const keys = (await connection.reading.keys()).map((key) => ({
        ...key,
        trouble: troubleOf(key, connection.url),
      }));
      if (keys.length === 0) {
        return {
          json: keys,
          text: "There is no key yet. Add one: npm run eve -- keys add ALIAS --env GOOGLE_API_KEY_1",
        };
      }
      const rows = keys.map((key) => [
        key.alias ?? key.id,
        stateOf(key),
        secretOf(key),
        key.quota_project ?? "its own",
        String(key.priority ?? ""),
        count(key.today.requests),
        count(key.today.input_tokens),
        key.notes ?? "",
      ]);
      const lanes = [
        ...new Map(keys.flatMap((key) => key.lanes.map((lane) => [laneId(lane), lane]))).values(),
      ];
      const shown = given.switch("all") ? lanes : lanes.filter(isOfInterest);
      const hidden = lanes.length - shown.length;
      const parts = [
        table(
          [
            "alias",
            "state",
            "secret's name",
            "quota project",
            "priority",
            "requests today>",
            "tokens in today>",
            "notes",
          ],
          rows,
        ),
        ...keys.flatMap(({ alias, id, trouble }) =>
          trouble === null ? [] : [`${bold(alias ?? id)} is not used: ${trouble.why}.\n  → ${trouble.todo}.`]
        ),
        ...(shown.length === 0 ? [] : [laneTable(shown)]),
        ...(hidden === 0 ? [] : [
          dim(
            `${shown.length === 0 ? "No" : hidden} ${
              shown.length === 0 ? "quota was used today" : "more are whole and unused today"
            }; --all shows every model.`,
          ),
        ]),
      ];
      return { json: keys, text: parts.join("\n\n") };
    },
  },
  {
    name: "keys show",
    summary: "everything about one key, with every model of its quota project",
    arguments: ["ALIAS"],
    options: {},
    examples: ["keys show main"],
    async run(given, { connect }) {
      const alias = given.arguments[0]!;
      const connection = connect();
      const key = await theKey(connection, alias);
      const trouble = troubleOf(key, connection.url);
      const facts: [string, string][] = [
        ["alias", bold(key.alias ?? "none")],
        ["state", stateOf(key)],
        ...(trouble === null ? [] : [
          ["not used, since", trouble.why] satisfies [string, string],
          ["what to do", trouble.todo] satisfies [string, string],
        ]),
        ["secret's name", secretOf(key)],
        ["quota project", key.quota_project ?? `its own (${key.quota_key})`],
        ["priority", String(key.priority ?? "")],
        ["requests today", count(key.today.requests)],
        ["tokens in today", count(key.today.input_tokens)],
        ["last used", instant(key.last_used_at) || "never"],
        ["added", instant(key.created_at)],
        ...key.blocked_models.map((block): [string, string] => [
          "not used for",
          `${block.model}, ${
            block.blocked_until === "infinity" ? "for good" : `until ${instant(block.blocked_until)}`
          }: ${because(block.reason)}`,
        ]),
        ["notes", key.notes ?? ""],
      ];
      return { json: { ...key, trouble }, text: `${pairs(facts)}\n\n${laneTable(key.lanes)}` };
    },
  },
  {
    name: "keys add",
    summary: "add a key: by the name of its Edge secret, or the key itself",
    about:
      "With --secret the key itself is asked for, or read from the standard input: never an argument, which the shell would\n" +
      "keep. Google is asked about it; then the function admin encrypts it with ADMIN_SECRET_KEY and keeps it in the database.",
    arguments: ["ALIAS"],
    options: {
      env: { value: "NAME", help: "the Edge secret that holds the key" },
      secret: { help: "the key itself, to be kept in the database, in place of --env" },
      project: { value: "NAME", help: "the Google Cloud project: keys of one project share its quota" },
      priority: { value: "N", help: `lower is used first; ${DEFAULT_PRIORITY} by default` },
      notes: { value: "TEXT", help: "a note for people" },
    },
    examples: [
      "keys add main --env GOOGLE_API_KEY_MAIN --project events-1 --priority 10",
      "keys add main --secret --project events-1 < key.txt",
    ],
    async run(given, { connect, secret }) {
      const name = given.option("env");
      if ((name === undefined) !== given.switch("secret")) {
        throw misuse(
          "Give either --env, the name of the Edge secret that holds the key, or --secret, to give the key itself.",
        );
      }
      const alias = given.arguments[0]!;
      const fields = {
        quota_project: given.option("project") ?? null,
        priority: readLimit(given, "priority") ?? DEFAULT_PRIORITY,
        notes: given.option("notes") ?? null,
      };
      if (name === undefined) {
        const connection = connect();
        const answer = await callFunction(connection, "admin/keys/add", {
          alias,
          api_key: asKey(await secret(`Key ${alias}, not shown: `)),
          ...fields,
        });
        if (answer.status !== 200) throw refused(answer, "The function admin");
        const { alias: key_alias, quota_project, priority, is_active, env_var_name } = answer.body.key;
        return {
          json: { key_alias, env_var_name, quota_project, priority, is_active },
          text: `${alias} was added, and is kept in the database, encrypted.`,
        };
      }
      if (!VARIABLE_NAME.test(name)) {
        throw misuse(
          "--env must be the name of a secret, in capitals, digits and underscores. Never give the key itself here.",
        );
      }
      if (isReservedName(name)) {
        throw misuse(
          `${name} is reserved: the gateway, the platform or the system has it for itself, and it is never taken for a key. ` +
            "Use a name such as GOOGLE_API_KEY_1.",
        );
      }
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
          ...fields,
          is_active: true,
        }).select("key_alias, env_var_name, quota_project, priority, is_active"),
      );
      return {
        json: key,
        text:
          `${alias} was added. Set its secret ${name} if it is not set yet: npm run eve -- keys set ${alias}\nThen try it: npm run eve -- keys test ${alias}`,
      };
    },
  },
  {
    name: "keys enable",
    summary: "switch a key on, and lift what blocks it",
    arguments: ["ALIAS"],
    options: {},
    examples: ["keys enable main"],
    run: (given, { connect }) =>
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
    about: "It stays off until `keys enable`, whatever upstream says of it and whatever its secret becomes.",
    arguments: ["ALIAS"],
    options: {},
    examples: ["keys disable main"],
    // Without what it was blocked for: only a key that upstream has rejected is ever switched on by itself.
    run: (given, { connect }) =>
      change(
        connect(),
        given.arguments[0]!,
        { is_active: false, blocked_until: null, blocked_reason: null },
        "off",
      ),
  },
  keySetCommand,
  keyDeleteCommand,
  keyTestCommand,
];

const laneId = ({ quota_project, model }: { quota_project: string; model: string }) =>
  `${quota_project}\n${model}`;

const noSuchKey = (alias: string) => new CliFailure(`There is no key named ${alias}. See \`keys list\`.`);

async function change(
  { tables }: Connection,
  alias: string,
  values: { is_active: boolean; blocked_until: null; blocked_reason: null },
  word: string,
) {
  const changed = answered(
    await tables.from("google_ai_api_keys").update(values).eq("key_alias", alias)
      .select("key_alias, is_active, blocked_until"),
  );
  if (changed.length === 0) throw noSuchKey(alias);
  return { json: changed, text: `${alias} is ${word}.` };
}

function secretOf({ env_var_name: name }: KeyState): string {
  if (name === null) return red("none");
  return secretSourceOf(name).kind === "stored" ? dim("in the database") : name;
}

/** What keeps it from being used, in a word or two. */
export function stateOf(key: KeyState): string {
  switch (key.state) {
    case "on":
      return green("on");
    case "off":
      return yellow(key.blocked_reason === null ? "off" : `off: ${key.blocked_reason}`);
    case "no_secret_name":
      return red("has no secret's name");
    case "blocked":
      return red(
        `blocked ${key.blocked_until === "infinity" ? "" : "until "}${instant(key.blocked_until)}: ${
          key.blocked_reason ?? ""
        }`,
      );
  }
}
