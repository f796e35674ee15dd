import type { ConsumerRow } from "../../../shared/database/admin.ts";
import { SCOPES } from "../../../shared/contract/actor.ts";
import { mintConsumerSecret } from "../../../shared/tokens/consumer_secret.ts";
import type { Command, Option, Outcome } from "../command.ts";
import type { Connection } from "../connection.ts";
import { CliFailure, misuse } from "../failure.ts";
import { bold, count, green, instant, pairs, table, yellow } from "../table.ts";
import { rollUp } from "./usage.ts";
import { readChoice, readDuration, readLimit, readModels, readScopes } from "../values.ts";

const GRACE_BY_DEFAULT = "24h";

const scopes = (stays: string): Option => ({
  value: "A,B",
  help: `what it may use, of ${SCOPES.join(", ")}; ${stays}`,
});

export const consumerCommands: Command[] = [
  {
    name: "consumers add",
    summary: "add a bot or a notebook, and print its secret once",
    arguments: ["NAME"],
    options: {
      kind: {
        value: "KIND",
        help: "service (calls with its own key) or notebook (exchanges its secret for tokens)",
      },
      scopes: scopes("llm alone by default"),
      tenant: { value: "ID", help: "whose it is; the default tenant's by default" },
      models: { value: "A,B", help: "models that it may call; all by default" },
      class: { value: "CLASS", help: "the highest class it gets: interactive (default) or batch" },
      rpm: { value: "N", help: "requests it may begin in any minute" },
      "requests-per-day": { value: "N", help: "requests in a Pacific day" },
      "tokens-per-day": { value: "N", help: "tokens in a Pacific day: input, answer and thinking" },
      ttl: { value: "TIME", help: "the longest life of its tokens: 60s to 24h, 2h by default" },
    },
    examples: [
      "consumers add telegram-bot --kind service",
      "consumers add kaggle --kind notebook --models gemma-4-31b-it --class batch --requests-per-day 5000 --ttl 6h",
      "consumers add archive --kind service --scopes llm,media --tenant acme",
    ],
    async run(given, { connect }) {
      const kind = readChoice(given, "kind", ["service", "notebook"]);
      if (kind === undefined) throw misuse("--kind is missing: service or notebook.");
      const ttl = given.option("ttl");
      const secret = await mintConsumerSecret(kind);
      const consumer = await connect().admin.addConsumer({
        name: given.arguments[0]!,
        kind,
        keyId: secret.keyId,
        proof: secret.proof,
        models: readModels(given),
        maxClass: readChoice(given, "class", ["interactive", "batch"]),
        rpm: readLimit(given, "rpm"),
        requestsPerDay: readLimit(given, "requests-per-day"),
        tokensPerDay: readLimit(given, "tokens-per-day"),
        tokenTtlSeconds: ttl === undefined ? undefined : readDuration("ttl", ttl),
        scopes: readScopes(given),
        tenantId: given.option("tenant"),
      });
      return withSecret(consumer, secret.text, `${consumer.name} was added.`);
    },
  },
  {
    name: "consumers list",
    summary: "all consumers, with what they spent today",
    arguments: [],
    options: {},
    examples: ["consumers list", "consumers list --json"],
    async run(_given, around) {
      const { admin, reading } = around.connect();
      await rollUp(reading, around);
      const consumers = await admin.consumers();
      const rows = consumers.map((row) => [
        row.name,
        row.kind,
        row.is_active ? green("on") : yellow("off"),
        row.scopes.join(", "),
        row.tenant_id,
        row.models?.join(", ") ?? "all",
        row.max_class,
        count(row.requests_today),
        count(row.tokens_today),
        of(row.requests_of_budget, row.requests_per_day),
        of(row.tokens_of_budget, row.tokens_per_day),
        row.kind === "notebook" ? String(row.live_tokens) : "",
      ]);
      const text = rows.length === 0
        ? "There is no consumer yet. Add one: npm run eve -- consumers add NAME --kind service"
        : table(
          [
            "name",
            "kind",
            "state",
            "scopes",
            "tenant",
            "models",
            "class",
            "requests today>",
            "tokens today>",
            "of requests",
            "of tokens",
            "live tokens",
          ],
          rows,
        );
      return { json: consumers, text };
    },
  },
  {
    name: "consumers show",
    summary: "everything about one",
    arguments: ["NAME"],
    options: {},
    examples: ["consumers show kaggle"],
    async run(given, around) {
      const connection = around.connect();
      await rollUp(connection.reading, around);
      const consumer = await theOne(connection, given.arguments[0]!);
      return { json: consumer, text: described(consumer) };
    },
  },
  {
    name: "consumers access",
    summary: "its scopes and its tenant, shown or changed; the next call knows",
    about:
      "What is not named stays, so that without options nothing changes. Its tokens lose what it loses at once; what it gains, only new ones have.",
    arguments: ["NAME"],
    options: {
      scopes: scopes("all that it is to have"),
      tenant: { value: "ID", help: "whose it is: see tenants list" },
    },
    examples: [
      "consumers access telegram-bot",
      "consumers access telegram-bot --scopes llm,chats",
      "consumers access telegram-bot --tenant acme",
    ],
    async run(given, { connect }) {
      const scopes = readScopes(given);
      const tenant = given.option("tenant");
      const connection = connect();
      const name = given.arguments[0]!;
      const { scopes: has, tenant_id } = scopes === undefined && tenant === undefined
        ? await theOne(connection, name)
        : await connection.admin.setConsumerAccess(name, {
          ...(scopes !== undefined && { scopes }),
          ...(tenant !== undefined && { tenant_id: tenant }),
        });
      return {
        json: { name, scopes: has, tenant_id },
        text: pairs([["consumer", bold(name)], ["scopes", has.join(", ")], ["tenant", tenant_id]]),
      };
    },
  },
  {
    name: "consumers rotate",
    summary: "give it a new secret; the old one stays valid for a while",
    arguments: ["NAME"],
    options: {
      grace: {
        value: "TIME",
        help: `how long the old secret stays valid: 0 to 30d, ${GRACE_BY_DEFAULT} by default`,
      },
    },
    examples: ["consumers rotate telegram-bot", "consumers rotate kaggle --grace 0"],
    async run(given, { connect }) {
      const connection = connect();
      const grace = readDuration("grace", given.option("grace") ?? GRACE_BY_DEFAULT);
      const { name, kind, key_id } = await theOne(connection, given.arguments[0]!);
      const secret = await mintConsumerSecret(kind, key_id ?? undefined);
      const consumer = await connection.admin.rotateConsumer(name, secret.proof, grace);
      const until = consumer.previous_secret_until;
      return withSecret(
        consumer,
        secret.text,
        until === null
          ? "The old secret is not valid any more."
          : `The old secret is valid until ${instant(until)}.`,
      );
    },
  },
  switching("disable", false, "switch it off; the next call is refused"),
  switching("enable", true, "switch it on again"),
  {
    name: "consumers delete",
    summary: "remove it with its tokens; the audit keeps what it did",
    arguments: ["NAME"],
    options: { yes: { help: "do it" } },
    examples: ["consumers delete kaggle --yes"],
    async run(given, { connect }) {
      const connection = connect();
      const { name, live_tokens } = await theOne(connection, given.arguments[0]!);
      if (!given.switch("yes")) {
        throw misuse(
          `This removes ${name} and its ${live_tokens} live tokens for good. Say it again with --yes, or use \`consumers disable\`.`,
        );
      }
      await connection.admin.removeConsumer(name);
      return { json: { removed: name }, text: `${name} was removed.` };
    },
  },
];

function switching(verb: string, enabled: boolean, summary: string): Command {
  return {
    name: `consumers ${verb}`,
    summary,
    arguments: ["NAME"],
    options: {},
    examples: [`consumers ${verb} kaggle`],
    async run(given, { connect }) {
      const consumer = await connect().admin.enableConsumer(given.arguments[0]!, enabled);
      return { json: consumer, text: `${consumer.name} is ${enabled ? "on" : "off"}.` };
    },
  };
}

async function theOne({ admin }: Connection, name: string): Promise<ConsumerRow> {
  const [consumer] = await admin.consumers(name);
  if (consumer === undefined) {
    throw new CliFailure(`There is no consumer named ${name}. See \`consumers list\`.`);
  }
  return consumer;
}

function withSecret(consumer: ConsumerRow, secret: string, message: string): Outcome {
  return {
    json: { ...consumer, secret },
    text: `${message}\n\n  ${
      bold(secret)
    }\n\nThis is its secret. It is kept nowhere and shown this once: put it where it is used.`,
  };
}

const of = (used: number | null, limit: number | null) =>
  limit === null ? "" : `${count(used)} of ${count(limit)}`;

function described(row: ConsumerRow): string {
  return pairs([
    ["name", bold(row.name)],
    ["kind", row.kind],
    ["state", row.is_active ? green("on") : yellow("off")],
    ["scopes", row.scopes.join(", ")],
    ["tenant", row.tenant_id],
    ["models", row.models?.join(", ") ?? "all"],
    ["class", row.max_class],
    ["requests a minute", count(row.rpm)],
    ["requests today", count(row.requests_today)],
    ["tokens today", count(row.tokens_today)],
    ["of its requests a day", of(row.requests_of_budget, row.requests_per_day) || "no limit"],
    ["of its tokens a day", of(row.tokens_of_budget, row.tokens_per_day) || "no limit"],
    ["life of its tokens", `${row.token_ttl_s} s`],
    ["live tokens", String(row.live_tokens)],
    ["added", instant(row.created_at)],
    ["secret", `eve_${row.kind}_${row.key_id}_..., since ${instant(row.secret_changed_at)}`],
    ["old secret until", instant(row.previous_secret_until) || "none"],
  ]);
}
