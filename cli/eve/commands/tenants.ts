import { SCOPES } from "../../../shared/database/tenants.ts";
import { BYTES_PER_GB } from "../../../shared/media/storage.ts";
import type { Command } from "../command.ts";
import { CliFailure, misuse } from "../failure.ts";
import { bytes, count, green, pairs, table } from "../table.ts";

const GIGABYTES = /^\d{1,7}(\.\d{1,9})?$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export const accessCommand: Command = {
  name: "consumers access",
  summary: "what a consumer may use (scopes), and whose it is (tenant)",
  about: `Scopes are ${
    SCOPES.join(", ")
  }; a new consumer has llm alone. What is left out stays. A token carries what its consumer
has when it is issued, and loses what the consumer loses.`,
  arguments: ["NAME"],
  options: {
    scopes: { value: "A,B", help: `all that it is to have: of ${SCOPES.join(", ")}` },
    "tenant-id": { value: "ID", help: "for whom it acts" },
  },
  examples: [
    "consumers access telegram-bot",
    "consumers access telegram-bot --scopes llm,media --tenant-id acme",
  ],
  async run(given, { connect }) {
    const scopes = given.option("scopes")?.split(",").map((scope) => scope.trim());
    const unknown = scopes?.filter((scope) => !SCOPES.some((one) => one === scope)) ?? [];
    if (unknown.length > 0) {
      throw misuse(`--scopes must be of ${SCOPES.join(", ")}, not ${unknown.join(", ")}.`);
    }
    const { tenants } = connect();
    const name = given.arguments[0]!;
    const tenantId = given.option("tenant-id");
    const answer = scopes === undefined && tenantId === undefined
      ? await tenants.access(name)
      : await tenants.setAccess(name, scopes ?? null, tenantId ?? null);
    if (answer === null) throw new CliFailure(`There is no consumer ${name}.`);
    const text = pairs([
      ["consumer", answer.name],
      ["scopes", answer.scopes.join(", ")],
      ["tenant", answer.tenant_id],
    ]);
    return { json: { name: answer.name, scopes: answer.scopes, tenant_id: answer.tenant_id }, text };
  },
};

export const tenantCommands: Command[] = [
  {
    name: "tenants list",
    summary: "whose files and chats there are: all tenants, with their members and consumers",
    arguments: [],
    options: {},
    examples: ["tenants list"],
    async run(_given, { connect }) {
      const tenants = await connect().tenants.list();
      const text = table(
        ["tenant", "name", "", "files at most>", "members>", "consumers>"],
        tenants.map(({ id, name, is_default, storage_limit_bytes, members, consumers }) => [
          id,
          name ?? "",
          is_default ? green("default") : "",
          storage_limit_bytes === null ? "" : bytes(storage_limit_bytes),
          count(members),
          count(consumers),
        ]),
      );
      return { json: tenants, text };
    },
  },
  {
    name: "tenants save",
    summary: "add a tenant, or change one; what is left out stays",
    arguments: ["ID"],
    options: {
      name: { value: "TEXT", help: "what people call it" },
      "limit-gb": {
        value: "N",
        help: "how much it may store, in GB of 10^9 bytes; none: as the limit tenant says",
      },
      default: { help: "whoever names no tenant acts for this one" },
    },
    examples: ['tenants save acme --name "Acme" --limit-gb 0.5', "tenants save acme --default"],
    async run(given, { connect }) {
      const { tenants } = connect();
      const id = given.arguments[0]!;
      const known = (await tenants.list()).find((tenant) => tenant.id === id);
      const limit = given.option("limit-gb");
      if (limit !== undefined && limit !== "none" && !GIGABYTES.test(limit)) {
        throw misuse(`--limit-gb must be a number such as 0.5, or none, not ${limit}.`);
      }
      await tenants.save({
        id,
        name: given.option("name") ?? known?.name ?? null,
        storage_limit_bytes: limit === undefined
          ? known?.storage_limit_bytes ?? null
          : limit === "none"
          ? null
          : Math.round(Number(limit) * BYTES_PER_GB),
        is_default: given.switch("default"),
      });
      const saved = (await tenants.list()).find((tenant) => tenant.id === id);
      return { json: saved, text: `${id} was ${known === undefined ? "added" : "changed"}.` };
    },
  },
  {
    name: "tenants member",
    summary: "let a signed-in user act for a tenant, or no longer",
    arguments: ["ID"],
    options: {
      user: { value: "UUID", help: "the user's id, as Authentication in the dashboard shows it" },
      remove: { help: "no longer" },
    },
    examples: ["tenants member acme --user 6f1c2f5e-2f0a-4c53-9a55-0d3f2f1f7a11"],
    async run(given, { connect }) {
      const user = given.option("user");
      if (user === undefined || !UUID.test(user)) throw misuse("--user must be a user's id, a UUID.");
      const isMember = !given.switch("remove");
      const id = given.arguments[0]!;
      await connect().tenants.setMember(id, user, isMember);
      return {
        json: { tenant_id: id, user_id: user, is_member: isMember },
        text: isMember ? `${user} acts for ${id}.` : `${user} does not act for ${id} any more.`,
      };
    },
  },
];
