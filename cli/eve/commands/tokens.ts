import { base64url } from "jose";
import type { Command } from "../command.ts";
import { CliFailure, misuse } from "../failure.ts";
import { bold, count, green, instant, table, yellow } from "../table.ts";
import { readChoice, readDuration, readLimit, readModels, readScopes, UUID } from "../values.ts";

/** As long as the digest of HS256. */
const SIGNING_KEY_BYTES = 32;

export const tokenCommands: Command[] = [
  {
    name: "tokens list",
    summary: "tokens of notebooks, with what was spent of them",
    arguments: [],
    options: {
      consumer: { value: "NAME", help: "of this consumer only" },
      all: { help: "those that are expired or revoked too" },
    },
    examples: ["tokens list", "tokens list --consumer kaggle --all"],
    async run(given, { connect }) {
      const tokens = await connect().admin.tokens({
        consumer: given.option("consumer"),
        includeEnded: given.switch("all"),
      });
      const rows = tokens.map((token) => [
        token.id,
        token.consumer,
        token.state === "live" ? green(token.state) : yellow(token.state),
        token.scopes.join(", "),
        token.models?.join(", ") ?? "all",
        token.class,
        of(token.requests_used, token.requests_budget),
        of(token.tokens_used, token.tokens_budget),
        instant(token.expires_at),
        token.address ?? "",
      ]);
      const headings = [
        "id",
        "consumer",
        "state",
        "scopes",
        "models",
        "class",
        "requests",
        "tokens",
        "expires",
        "issued to",
      ];
      return { json: tokens, text: rows.length === 0 ? "There is no token." : table(headings, rows) };
    },
  },
  {
    name: "tokens issue",
    summary: "a token for a notebook, without its enrolment secret",
    arguments: ["CONSUMER"],
    options: {
      scopes: { value: "A,B", help: "only these of the consumer's scopes; all of them by default" },
      models: { value: "A,B", help: "only these of the consumer's models" },
      class: { value: "CLASS", help: "interactive or batch" },
      requests: { value: "N", help: "requests in all" },
      tokens: { value: "N", help: "input and output tokens in all" },
      ttl: { value: "TIME", help: "its life, such as 30m; the consumer's longest by default" },
    },
    examples: ["tokens issue kaggle --ttl 30m --requests 100", "tokens issue kaggle --scopes media"],
    async run(given, { connect }) {
      const connection = connect();
      const ttl = given.option("ttl");
      const response = await connection.fetch(`${connection.functions}issue-kaggle-token`, {
        method: "POST",
        headers: { "content-type": "application/json", apikey: connection.secretKey },
        body: JSON.stringify({
          grant_type: "client_credentials",
          client_id: given.arguments[0],
          scope: readScopes(given)?.join(" "),
          models: readModels(given),
          class: readChoice(given, "class", ["interactive", "batch"]),
          requests: readLimit(given, "requests"),
          tokens: readLimit(given, "tokens"),
          ttl: ttl === undefined ? undefined : readDuration("ttl", ttl),
        }),
        redirect: "manual",
      });
      const body = await response.json().catch(() => ({}));
      if (body.error === "invalid_client") {
        throw new CliFailure(
          `There is no consumer named ${given.arguments[0]}, or the project's key is not current.`,
        );
      }
      if (!response.ok) {
        throw new CliFailure(`No token was issued: ${body.error_description ?? response.status}.`);
      }
      return {
        json: body,
        text: `${bold(body.access_token)}\n\nIt is valid for ${body.expires_in} s, for ${body.scope}.`,
      };
    },
  },
  {
    name: "tokens revoke",
    summary: "end one token, or all of a consumer's; the next call is refused",
    arguments: ["ID?"],
    options: {
      consumer: { value: "NAME", help: "all live tokens of this consumer" },
      reason: { value: "TEXT", help: "kept in the audit" },
    },
    examples: [
      "tokens revoke 9b7a3a52-30f7-4a9f-8a44-1f9b0a7c2b22",
      "tokens revoke --consumer kaggle --reason leaked",
    ],
    async run(given, { connect }) {
      const [tokenId] = given.arguments;
      const consumer = given.option("consumer");
      if ((tokenId === undefined) === (consumer === undefined)) {
        throw misuse("Give either the token's id or --consumer.");
      }
      if (tokenId !== undefined && !UUID.test(tokenId)) {
        throw misuse("A token's id looks like 9b7a3a52-30f7-4a9f-8a44-1f9b0a7c2b22: see `tokens list`.");
      }
      const revoked = await connect().admin.revokeTokens({
        ...(tokenId !== undefined ? { tokenId } : { consumer: consumer! }),
        reason: given.option("reason"),
      });
      const text = revoked.length === 1 ? "One token was revoked." : `${revoked.length} tokens were revoked.`;
      return { json: { revoked }, text };
    },
  },
  {
    name: "tokens signing-key",
    summary: "make a key for EVE_TOKEN_SIGNING_KEYS",
    arguments: [],
    options: {},
    examples: ["tokens signing-key"],
    run() {
      const bytes = crypto.getRandomValues(new Uint8Array(SIGNING_KEY_BYTES));
      const key = {
        kid: new Date().toISOString().slice(0, 19).replace(/[-:]/g, ""),
        k: base64url.encode(bytes),
      };
      return Promise.resolve({
        json: key,
        text: `EVE_TOKEN_SIGNING_KEYS='${JSON.stringify([key])}'

Put this line into the secrets file of the functions. To rotate, put the new key in front of the old one in the same
array, and drop the old one when the last token that it signed has expired.`,
      });
    },
  },
];

const of = (used: number, budget: number | null) =>
  budget === null ? count(used) : `${count(used)} of ${count(budget)}`;
