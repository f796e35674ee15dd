import type { TenantChanges, TenantMember, TenantRow } from "../../../shared/database/tenants.ts";
import type { Command, Given, Option, Outcome } from "../command.ts";
import type { Connection } from "../connection.ts";
import { CliFailure, misuse } from "../failure.ts";
import { bold, bytes, count, green, instant, pairs, table } from "../table.ts";
import { readAmount, UUID } from "../values.ts";

const GB = 1e9;

const options: Record<string, Option> = {
  name: { value: "TEXT", help: "what people call it; none: nothing" },
  "storage-limit-gb": {
    value: "N",
    help: "how much it may store, such as 2 or 0.5; none: the limit that all have alike; 1 GB is 10^9 bytes",
  },
  default: { help: "what names no tenant is this one's from now on" },
};

export const tenantCommands: Command[] = [
  {
    name: "tenants list",
    summary: "whose files and chats are kept apart from others'",
    arguments: [],
    options: {},
    examples: ["tenants list", "tenants list --json"],
    async run(_given, { connect }) {
      const tenants = await connect().tenants.list();
      const rows = tenants.map((row) => [
        row.id,
        row.name ?? "",
        row.is_default ? green("yes") : "",
        limitOf(row),
        count(row.consumers),
        count(row.members),
      ]);
      return {
        json: tenants,
        text: table(["id", "name", "default", "storage limit>", "consumers>", "members>"], rows),
      };
    },
  },
  {
    name: "tenants show",
    summary: "one, with the signed-in users who may act for it",
    arguments: ["ID"],
    options: {},
    examples: ["tenants show acme"],
    async run(given, { connect }) {
      const connection = connect();
      const tenant = await theOne(connection, given.arguments[0]!);
      const members = await connection.tenants.members(tenant.id);
      return { json: { ...tenant, members }, text: `${described(tenant)}\n\n${listed(tenant, members)}` };
    },
  },
  {
    name: "tenants add",
    summary: "add one; then give it consumers or members",
    about:
      "An ID has 1 to 100 letters, digits or . _ -, and does not begin with a dot: it is a part of the\n" +
      "keys of its files, and stays.",
    arguments: ["ID"],
    options,
    examples: ["tenants add acme", 'tenants add acme --name "Acme Ltd" --storage-limit-gb 0.5'],
    async run(given, { connect }) {
      const tenant = await connect().tenants.add(given.arguments[0]!, readChanges(given));
      return saved(tenant, `${tenant.id} was added.`);
    },
  },
  {
    name: "tenants set",
    summary: "change its name or its storage limit, or make it the default",
    about: "What is not named stays.",
    arguments: ["ID"],
    options,
    examples: ["tenants set acme --storage-limit-gb 2", "tenants set acme --storage-limit-gb none --default"],
    async run(given, { connect }) {
      const changes = readChanges(given);
      if (Object.keys(changes).length === 0) {
        throw misuse("Say what is to change: at least one of --name, --storage-limit-gb and --default.");
      }
      const tenant = await connect().tenants.change(given.arguments[0]!, changes);
      return saved(tenant, `${tenant.id} was changed.`);
    },
  },
  member("add-member", true, "let a signed-in user act for it"),
  member("remove-member", false, "take a signed-in user out of it"),
];

function member(verb: string, isMember: boolean, summary: string): Command {
  return {
    name: `tenants ${verb}`,
    summary,
    about: "A user is named by the id of Supabase Auth (Authentication, Users). The next call knows.",
    arguments: ["ID", "USER_ID"],
    options: {},
    examples: [`tenants ${verb} acme 4f8b1c1e-6a1d-4a3f-9d53-0c2b6f0f7a11`],
    async run(given, { connect }) {
      const [id, userId] = given.arguments as [string, string];
      if (!UUID.test(userId)) {
        throw misuse(`A user's id looks like 4f8b1c1e-6a1d-4a3f-9d53-0c2b6f0f7a11, not ${userId}.`);
      }
      const changed = await connect().tenants.setMember(id, userId, isMember);
      const state = `${isMember ? "a member" : "no member"} of ${id}`;
      return {
        json: { tenant_id: id, user_id: userId, is_member: isMember, changed },
        text: changed ? `${userId} is now ${state}.` : `${userId} is ${state} already.`,
      };
    },
  };
}

function readChanges(given: Given): TenantChanges {
  const name = given.option("name");
  const limit = given.option("storage-limit-gb");
  return {
    ...(name !== undefined && { name: name === "none" ? null : name }),
    ...(limit !== undefined && {
      storage_limit_bytes: limit === "none" ? null : Math.round(readAmount(given, "storage-limit-gb")! * GB),
    }),
    ...(given.switch("default") && { is_default: true }),
  };
}

async function theOne({ tenants }: Connection, id: string): Promise<TenantRow> {
  const [tenant] = await tenants.list(id);
  if (tenant === undefined) throw new CliFailure(`There is no tenant ${id}. See \`tenants list\`.`);
  return tenant;
}

const saved = (tenant: TenantRow, message: string): Outcome => ({
  json: tenant,
  text: `${message}\n\n${described(tenant)}`,
});

const limitOf = ({ storage_limit_bytes }: TenantRow) =>
  storage_limit_bytes === null ? "as all" : bytes(storage_limit_bytes);

function described(row: TenantRow): string {
  return pairs([
    ["id", bold(row.id)],
    ["name", row.name ?? ""],
    ["default", row.is_default ? green("yes") : "no"],
    ["storage limit", limitOf(row)],
    ["consumers", count(row.consumers)],
    ["members", count(row.members)],
    ["added", instant(row.created_at)],
  ]);
}

function listed({ id, members: all }: TenantRow, members: TenantMember[]): string {
  if (members.length === 0) {
    return `No signed-in user may act for it. Add one: tenants add-member ${id} USER_ID`;
  }
  const rows = table(
    ["member", "since"],
    members.map(({ user_id, added_at }) => [user_id, instant(added_at)]),
  );
  return all > members.length ? `${rows}\n... and ${count(all - members.length)} more` : rows;
}
