/** Tenants and scopes, by actor: each asks with the role it has, and the state is looked at after every refusal. */
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { asRole } from "../harness/as_role.ts";
import { mediaCalls, PROJECT, shaOf } from "../harness/media.ts";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";

let db: TestDatabase;
let sql: TestDatabase["sql"];
const ANN = "a0000000-0000-4000-8000-000000000001";
const BOB = "b0000000-0000-4000-8000-000000000002";
const ids: Record<string, string> = {};

async function addConsumer(
  name: string,
  kind: "service" | "notebook",
  scopes: string[],
  tenant: string | null,
) {
  const secret = await mintConsumerSecret(kind);
  await sql`select public.eve_consumer_add(${name}, ${kind}, key_id => ${secret.keyId}, proof => ${secret.proof})`;
  await sql`select public.eve_consumer_access(${name}, ${scopes}::text[], ${tenant})`;
  ids[name] = (await sql`select id from eve.consumers where name = ${name}`)[0]!.id;
  return secret;
}

async function issue(name: string) {
  const [row] = await sql`select public.eve_issue_token(consumer => ${name}) as token`;
  return row!.token.token_id as string;
}

beforeAll(async () => {
  db = await cloneDatabase();
  sql = db.sql;
  await sql`select public.eve_tenant_save('acme'), public.eve_tenant_save('other')`;
  await sql`select public.eve_tenant_member('acme', ${ANN})`;
  await addConsumer("bot", "service", ["llm", "media"], "acme");
  await addConsumer("talker", "service", ["llm"], "acme");
  await addConsumer("notebook", "notebook", ["llm", "media"], "acme");
  const { reserve, stored } = mediaCalls(sql);
  for (const tenant_id of ["acme", "other"]) {
    await reserve(shaOf(1), 1000, { tenant_id });
    await stored(shaOf(1), 1000, { tenant_id });
  }
});
afterAll(() => db?.drop());

const consumer = (name: string, token_id?: string) => ({
  kind: "consumer",
  consumer_id: ids[name],
  token_id,
});
const user = (user_id: string) => ({ kind: "user", user_id });

describe("who may act for which tenant", () => {
  const find = (actor: Record<string, unknown>, tenant: string | null) =>
    mediaCalls(sql, actor).find(shaOf(1), tenant);
  const found = (tenant_id: string) => ({ status: "found", object: { tenant_id } });

  test("the project for all", async () => {
    expect(await find(PROJECT, "acme")).toMatchObject(found("acme"));
    expect(await find(PROJECT, "other")).toMatchObject(found("other"));
    expect(await find(PROJECT, "nobody")).toMatchObject({ code: "unknown_tenant" });
    expect(await find(PROJECT, null)).toMatchObject({ status: "none", tenant_id: "default" });
  });

  test("a consumer with the scope media for its own, said or not", async () => {
    expect(await find(consumer("bot"), null)).toMatchObject(found("acme"));
    expect(await find(consumer("bot"), "acme")).toMatchObject(found("acme"));
    // Whether there is such a tenant is not told.
    for (const tenant of ["other", "nobody"]) {
      expect(await find(consumer("bot"), tenant)).toEqual({ status: "refused", code: "tenant_not_allowed" });
    }
  });

  test("a consumer without the scope for none", async () => {
    expect(await find(consumer("talker"), null)).toMatchObject({ code: "credential_insufficient" });
    expect(await mediaCalls(sql, consumer("talker")).reserve(shaOf(2), 10)).toMatchObject({
      code: "credential_insufficient",
    });
    expect(await sql`select from public.media_objects where file_sha256 = ${shaOf(2)}`).toHaveLength(0);
  });

  test("a token as far as it and its consumer do, until either is ended", async () => {
    const token = await issue("notebook");
    expect(await sql`select scopes from eve.scoped_tokens where id = ${token}`).toEqual([{
      scopes: ["llm", "media"],
    }]);
    expect(await find(consumer("notebook", token), null)).toMatchObject(found("acme"));
    await sql`select public.eve_consumer_access('notebook', '{llm}')`;
    expect(await find(consumer("notebook", token), null)).toMatchObject({ code: "credential_insufficient" });
    const narrow = await issue("notebook");
    await sql`select public.eve_consumer_access('notebook', '{llm,media}')`;
    expect(await find(consumer("notebook", narrow), null)).toMatchObject({ code: "credential_insufficient" });
    await sql`select public.eve_token_revoke(token_id => ${token})`;
    expect(await find(consumer("notebook", token), null)).toMatchObject({ code: "token_revoked" });
    // Another consumer's token is no token.
    expect(await find(consumer("bot", narrow), null)).toMatchObject({ code: "token_revoked" });
  });

  test("a token may carry less than its consumer has, and never more", async () => {
    const issueWith = async (scopes: string[]) =>
      (await sql`select public.eve_issue_token(consumer => 'notebook', scopes => ${scopes}::text[]) as token`)[
        0
      ]!.token;
    expect(await find(consumer("notebook", (await issueWith(["llm"])).token_id), null)).toMatchObject({
      code: "credential_insufficient",
    });
    expect(await issueWith(["media"])).toMatchObject({ status: "issued", scopes: ["media"] });
    expect(await issueWith(["chats"])).toMatchObject({ status: "refused", code: "invalid_scope" });
  });

  test("models are for those who have the scope llm", async () => {
    const call = async (name: string, token: string | null = null) =>
      (await sql`
        select public.eve_reserve(${crypto.randomUUID()}, '{gemma-4-31b-it}', 10, consumer_id => ${ids[
        name
      ]!}, token_id => ${token})
          as answer`)[0]!.answer;
    const code = { code: "model_not_allowed" };
    expect(await call("bot")).not.toMatchObject(code);
    await sql`select public.eve_consumer_access('bot', '{media}')`;
    expect(await call("bot")).toMatchObject(code);
    await sql`select public.eve_consumer_access('bot', '{llm,media}')`;
    const [row] =
      await sql`select public.eve_issue_token(consumer => 'notebook', scopes => '{media}') as token`;
    expect(await call("notebook", row!.token.token_id)).toMatchObject(code);
  });

  test("one issued before there were scopes has llm alone", async () => {
    const token = await issue("notebook");
    await sql`update eve.scoped_tokens set scopes = null where id = ${token}`;
    expect(await find(consumer("notebook", token), null)).toMatchObject({ code: "credential_insufficient" });
  });

  test("a consumer that is switched off for none", async () => {
    await sql`update eve.consumers set is_active = false where name = 'bot'`;
    expect(await find(consumer("bot"), null)).toEqual({ status: "refused", code: "consumer_disabled" });
    await sql`update eve.consumers set is_active = true where name = 'bot'`;
  });

  test("a signed-in user for those they are a member of", async () => {
    expect(await find(user(ANN), null)).toMatchObject(found("acme"));
    expect(await find(user(ANN), "other")).toEqual({ status: "refused", code: "tenant_not_allowed" });
    expect(await find(user(BOB), null)).toEqual({ status: "refused", code: "tenant_not_allowed" });
    expect(await find(user(BOB), "acme")).toEqual({ status: "refused", code: "tenant_not_allowed" });
  });

  test("what is for the project is for nobody else", async () => {
    for (const actor of [consumer("bot"), user(ANN)]) {
      const [row] = await sql`select public.eve_storage_stats(${sql.json(actor as never)}) as answer`;
      expect(row!.answer).toMatchObject({ code: "credential_insufficient" });
    }
    const [row] = await sql`select public.eve_storage_stats(${sql.json(PROJECT)}) as answer`;
    expect(row!.answer.tenants.map(({ tenant_id }: { tenant_id: string }) => tenant_id)).toEqual([
      "acme",
      "default",
      "other",
    ]);
  });

  test("nobody deletes another tenant's", async () => {
    for (const actor of [consumer("bot"), user(ANN)]) {
      expect(await mediaCalls(sql, actor).remove(shaOf(1), { tenant_id: "other" })).toMatchObject({
        code: "tenant_not_allowed",
      });
    }
    expect(await sql`select state from public.media_objects where tenant_id = 'other'`).toEqual([{
      state: "verified",
    }]);
  });
});

test("scopes and tenants that there are not are no one's", async () => {
  await expect(sql`select public.eve_consumer_access('bot', '{llm,root}')`).rejects.toMatchObject({
    code: "EV400",
  });
  await expect(sql`select public.eve_consumer_access('bot', '{}')`).rejects.toMatchObject({ code: "EV400" });
  await expect(sql`select public.eve_consumer_access('bot', '{llm}', 'nobody')`).rejects.toMatchObject({
    code: "EV400",
  });
  await expect(sql`select public.eve_tenant_save('../x')`).rejects.toMatchObject({ code: "EV400" });
  expect((await sql`select scopes, tenant_id from eve.consumers where name = 'bot'`)[0]).toEqual({
    scopes: ["llm", "media"],
    tenant_id: "acme",
  });
});

describe("what the owner does with tenants", () => {
  const one = async (id: string) => (await sql`select public.eve_tenants(${id}) as t`)[0]!.t[0];
  const change = (id: string, changes: Record<string, unknown>) =>
    sql`select public.eve_tenant_change(${id}, ${sql.json(changes as never)}) as t`.then(([row]) => row!.t);

  test("one is added once, and changed in what is named alone", async () => {
    const added = (await sql`select public.eve_tenant_add('team', 'Team', 500) as t`)[0]!.t;
    expect(added).toEqual({
      id: "team",
      name: "Team",
      is_default: false,
      storage_limit_bytes: 500,
      created_at: expect.any(String),
      members: 0,
      consumers: 0,
    });
    await expect(sql`select public.eve_tenant_add('team', 'Other')`).rejects.toMatchObject({
      code: "EV400",
      message: "there is a tenant team already",
    });
    expect(await change("team", { name: "The team" })).toEqual({ ...added, name: "The team" });
    expect(await change("team", { storage_limit_bytes: null })).toEqual({
      ...added,
      name: "The team",
      storage_limit_bytes: null,
    });
  });

  test.each([
    ["nobody", { name: "x" }, "there is no tenant nobody"],
    ["team", {}, "changes must be an object with at least one field"],
    ["team", { id: "x" }, "of a tenant name, storage_limit_bytes and is_default change, not id"],
    ["team", { storage_limit_bytes: "much" }, "a field of the tenant is of another type"],
    ["team", { storage_limit_bytes: -1 }, /must not be negative/],
    ["default", { is_default: false }, "there is always a default tenant: make another one it"],
  ])("not %s %j", async (id, changes, message) => {
    const before = await one(id);
    await expect(change(id, changes)).rejects.toMatchObject({
      code: "EV400",
      message: typeof message === "string" ? message : expect.stringMatching(message),
    });
    expect(await one(id)).toEqual(before);
  });

  test("many make different ones the default at once: all are done, and one is it", async () => {
    const ids = ["acme", "other", "team", "default"];
    const many = postgres(db.url, { max: ids.length, onnotice: () => {} });
    try {
      for (let round = 0; round < 50; round++) {
        await Promise.all(
          ids.map((id) => many`select public.eve_tenant_change(${id}, '{"is_default": true}')`),
        );
        expect(await sql`select from eve.tenants where is_default`).toHaveLength(1);
      }
    } finally {
      await many.end();
    }
    await change("default", { is_default: true });
  });

  test("members are listed, and whether somebody was one already is told", async () => {
    const member = (user: string, is: boolean) =>
      sql`select public.eve_tenant_member('team', ${user}, ${is}) as m`.then(([row]) => row!.m.changed);
    expect([await member(ANN, true), await member(ANN, true), await member(BOB, true)]).toEqual([
      true,
      false,
      true,
    ]);
    const members = async (at_most = 1000) =>
      (await sql`select public.eve_tenant_members('team', ${at_most}) as m`)[0]!.m;
    expect(await members()).toEqual([ANN, BOB].map((user_id) => ({ user_id, added_at: expect.any(String) })));
    expect(await members(1)).toHaveLength(1);
    expect(await one("team")).toMatchObject({ members: 2 });
    expect([await member(BOB, false), await member(BOB, false)]).toEqual([true, false]);
    await member(ANN, false);
    expect(await members()).toEqual([]);
    for (const call of ["eve_tenant_members('nobody')", `eve_tenant_member('nobody', '${ANN}')`]) {
      await expect(sql.unsafe(`select public.${call}`)).rejects.toMatchObject({
        code: "EV400",
        message: "there is no tenant nobody",
      });
    }
  });

  test("a consumer that names no tenant is counted with the default one", async () => {
    const before = (await one("default")).consumers;
    const { keyId, proof } = await mintConsumerSecret("service");
    const [row] =
      await sql`select public.eve_consumer_add_with_access('plain', 'service', ${keyId}, ${proof}) as c`;
    expect(row!.c).toMatchObject({ name: "plain", scopes: ["llm"], tenant_id: "default" });
    expect((await one("default")).consumers).toBe(before + 1);
  });

  test("a consumer is added with its scopes and tenant, or not at all", async () => {
    const add = async (name: string, scopes: string[], tenant: string) => {
      const { keyId, proof } = await mintConsumerSecret("service");
      const [row] = await sql`
        select public.eve_consumer_add_with_access(
          ${name}, 'service', ${keyId}, ${proof}, scopes => ${scopes}::text[], tenant_id => ${tenant}
        ) as c`;
      return row!.c;
    };
    expect(await add("whole", ["media", "llm"], "team")).toMatchObject({
      scopes: ["llm", "media"],
      tenant_id: "team",
    });
    await expect(add("half", ["llm"], "nobody")).rejects.toMatchObject({ code: "EV400" });
    await expect(add("half", ["root"], "team")).rejects.toMatchObject({ code: "EV400" });
    const listed = (await sql`select public.eve_consumers() as c`)[0]!.c;
    expect(listed.map(({ name }: { name: string }) => name)).not.toContain("half");
    expect(listed).toContainEqual(expect.objectContaining({ name: "whole", tenant_id: "team" }));
  });
});

describe("row-level security, with the role that the REST API takes on", () => {
  const as = <Value>(
    role: string,
    sub: string | null,
    run: (sql: postgres.TransactionSql) => Promise<Value>,
  ) => asRole(db.url, role, sub, run);
  const tenants = (transaction: postgres.TransactionSql) =>
    transaction`select tenant_id from public.media_objects order by tenant_id`.then((rows) =>
      rows.map((row) => row.tenant_id)
    );

  test("a member sees their tenant's objects, and no other's", async () => {
    expect(await as("authenticated", ANN, tenants)).toEqual(["acme"]);
    expect(await as("authenticated", BOB, tenants)).toEqual([]);
    expect(await as("authenticated", null, tenants)).toEqual([]);
  });

  test("the service role sees all; who is not signed in may not ask", async () => {
    expect(await as("service_role", null, tenants)).toEqual(["acme", "other"]);
    await expect(as("anon", null, tenants)).rejects.toMatchObject({ code: "42501" });
  });

  test.each([
    "update public.media_objects set refs_count = 0",
    "delete from public.media_objects",
    "insert into public.media_objects (file_sha256) values (repeat('a', 64))",
    "select stored_in from public.media_objects",
    "select from eve.tenants",
    "select from eve.tenant_members",
    "insert into eve.tenant_members values ('other', '" + ANN + "')",
    "select from eve.media_spool",
    "select eve.member_tenants()",
    `select public.eve_media_find('{"kind": "project"}', 'other', 'x')`,
  ])("a member may not: %s", async (statement) => {
    await expect(as("authenticated", ANN, (transaction) => transaction.unsafe(statement))).rejects
      .toMatchObject({ code: "42501" });
    expect(await sql`select from public.media_objects`).toHaveLength(2);
    expect(await sql`select from eve.tenant_members`).toHaveLength(1);
  });
});
