/** Keys of the pool and models, as two people edit them at once. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

const MODEL = "edited-model";
let db: TestDatabase;
let sql: TestDatabase["sql"];

beforeAll(async () => {
  db = await cloneDatabase();
  sql = db.sql;
});
afterAll(() => db?.drop());

describe("keys of the pool", () => {
  type Fields = Record<string, string | number | boolean | null>;
  let key: Fields & { id: string };
  const add = async (alias: string, env_var_name = "GOOGLE_API_KEY_7") =>
    (await sql`select public.eve_key_add(${alias}, ${env_var_name}) as key`)[0]!.key;
  const change = async (seen: Fields | null, changes: Fields, id = key.id) =>
    (await sql`select public.eve_key_change(${id}, ${sql.json(seen)}, ${sql.json(changes)}) as key`)[0]!.key;
  const row = async () =>
    (await sql`select key_alias, priority, is_active, blocked_until, blocked_reason from public.google_ai_api_keys where id = ${key.id}`)[
      0
    ]!;

  beforeEach(async () => {
    await sql`delete from public.google_ai_api_keys`;
    key = await add("first");
  });

  test("one is removed for good, with the models it is barred from; a stage's is removed with the stage", async () => {
    const remove = async (id: string) => (await sql`select public.eve_key_remove(${id}) as was`)[0]!.was;
    await sql`insert into eve.key_model_blocks (key_id, model, blocked_until, reason) values (${key.id}, 'm', 'infinity', 'no_quota')`;
    // Switched on once more, it is tried for them again.
    await change({}, { is_active: true });
    expect(await sql`select from eve.key_model_blocks`).toHaveLength(0);
    expect(await remove(key.id)).toBe("first");
    expect(await sql`select from public.google_ai_api_keys`).toHaveLength(0);
    await expect(remove(key.id)).rejects.toMatchObject({ code: "EV400" });
    const stages = await add("of a stage");
    await sql`update public.google_ai_api_keys set env_var_name = 'stage:POEM' where id = ${stages.id}`;
    await expect(remove(stages.id)).rejects.toMatchObject({ code: "EV400" });
  });

  test("what somebody else has changed since is not written over, and the field is named", async () => {
    await change({ priority: 100 }, { priority: 51 });
    await expect(change({ priority: 100 }, { priority: 52 })).rejects.toMatchObject({
      code: "EV409",
      message: expect.stringContaining("priority"),
    });
    expect(await row()).toMatchObject({ priority: 51 });
    // What the other one did not touch can be changed; null is a value that is seen, too.
    expect(await change({ alias: "first", quota_project: null }, { quota_project: "shared" })).toMatchObject({
      quota_project: "shared",
      priority: 51,
    });
    await expect(change({ quota_project: null }, { notes: "late" })).rejects.toMatchObject({ code: "EV409" });
  });

  test("of two at the same instant one is refused", async () => {
    const both = await Promise.allSettled(
      [51, 52].map((priority) => change({ priority: 100 }, { priority })),
    );
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    const won = both.findIndex(({ status }) => status === "fulfilled");
    expect(await row()).toMatchObject({ priority: 51 + won });
  });

  test("an alias is given once, and a stage's key is changed at its stage", async () => {
    await add("second");
    await expect(add("second")).rejects.toMatchObject({ code: "EV400" });
    await expect(change({}, { alias: "second" })).rejects.toMatchObject({ code: "EV400" });
    expect(await change({}, { alias: "first" })).toMatchObject({ alias: "first" });
    await expect(add("stage:POEM")).rejects.toMatchObject({ code: "EV400" });
    const [stages] = await sql`
      insert into public.google_ai_api_keys (key_alias, provider, env_var_name) values ('stage:POEM', 'google', 'stage:POEM')
      returning id`;
    await expect(change({}, { env_var_name: "GOOGLE_API_KEY_8" }, stages!.id)).rejects.toMatchObject({
      code: "EV400",
    });
    expect(await change({}, { priority: 3 }, stages!.id)).toMatchObject({ priority: 3 });
  });

  test("to switch on lifts what blocked it; another change leaves that", async () => {
    await sql`update public.google_ai_api_keys set is_active = false, blocked_until = 'infinity', blocked_reason = 'key_rejected'`;
    await change({}, { priority: 5 });
    expect(await row()).toMatchObject({ is_active: false, blocked_reason: "key_rejected" });
    await change({ is_active: false }, { is_active: true });
    expect(await row()).toMatchObject({ is_active: true, blocked_until: null, blocked_reason: null });
  });

  test("nothing else of a row is reached, nor a key that is not there", async () => {
    const unknown: Fields[] = [{ id: crypto.randomUUID() }, { blocked_until: null }, {
      env_var_name: "no name",
    }];
    for (const changes of unknown) {
      await expect(change({}, changes)).rejects.toMatchObject({ code: "EV400" });
    }
    await expect(change(null, { priority: 1 })).rejects.toMatchObject({ code: "EV400" });
    await expect(change({}, { priority: 1 }, crypto.randomUUID())).rejects.toMatchObject({ code: "EV400" });
    expect(await row()).toMatchObject({ key_alias: "first", priority: 100 });
  });
});

describe("keys whose secret is stored here", () => {
  const token = (text: string) => `gAAAA${text}==`;
  const secret = (text: string) => ({
    api_key_encrypted: token(text),
    fingerprint: "0123456789abcdef".repeat(2),
    last_four: text.slice(-4),
  });
  // deno-lint-ignore no-explicit-any
  type Json = any;
  const add = async (alias: string, entered: Json, name: string | null = null): Promise<Json> =>
    (await sql`
      select public.eve_key_add(alias => ${alias}, env_var_name => ${name}, secret => ${
      sql.json(entered)
    }, actor => 'owner@example.com') as key`)[0]!.key;
  const change = async (id: string, seen: Json, changes: Json, entered: Json = null): Promise<Json> =>
    (await sql`
      select public.eve_key_change(
        ${id}, ${sql.json(seen)}, ${sql.json(changes)}, ${entered && sql.json(entered)}, 'owner@example.com'
      ) as key`)[0]!.key;
  const credential = async (name: string): Promise<Json> =>
    (await sql`select public.eve_stage_credential(${name}) as found`)[0]!.found;
  const stored = async () =>
    (await sql`select s.last_four, k.env_var_name = 'stored:' || s.id as named from eve.stored_keys s left join public.google_ai_api_keys k on k.id = s.key_id`)
      .map((row) => ({ ...row }));

  beforeEach(() => sql`delete from public.google_ai_api_keys`);

  test("its row leads to it, and nothing that is answered has it", async () => {
    const key = await add("first", secret("firstsecret"));
    expect(await credential(key.env_var_name)).toEqual({
      provider_kind: "gemini",
      api_key_encrypted: token("firstsecret"),
      settings: {},
    });
    expect(await credential(`stored:${crypto.randomUUID()}`)).toBeNull();
    const [{ keys }] = await sql`select public.eve_stored_keys() as keys` as unknown as [{ keys: Json }];
    expect(keys).toMatchObject([{ key_id: key.id, last_four: "cret", entered_by: "owner@example.com" }]);
    expect(JSON.stringify([key, keys])).not.toContain("firstsecret");
  });

  test("another secret has another name, and takes the place of the first", async () => {
    const { id, env_var_name } = await add("first", secret("firstsecret"));
    const after = await change(id, { env_var_name }, { notes: "new" }, secret("nextone"));
    expect(after).toMatchObject({ notes: "new", env_var_name: expect.stringMatching(/^stored:/) });
    expect(after.env_var_name).not.toBe(env_var_name);
    expect(await credential(env_var_name)).toBeNull();
    expect(await stored()).toEqual([{ last_four: "tone", named: true }]);
    // Who saw the first is told so.
    await expect(change(id, { env_var_name }, {}, secret("third"))).rejects.toMatchObject({ code: "EV409" });
  });

  test("what upstream rejected is over with another secret, what a person switched off is not", async () => {
    const { id } = await add("first", secret("firstsecret"));
    const state = async () =>
      (await sql`select is_active, blocked_reason from public.google_ai_api_keys`).map((row) => ({ ...row }));
    await sql`update public.google_ai_api_keys set is_active = false, blocked_until = 'infinity', blocked_reason = 'key_invalid'`;
    await sql`insert into eve.key_model_blocks (key_id, model, blocked_until, reason) values (${id}, 'm', 'infinity', 'no_quota')`;
    await change(id, {}, {}, secret("nextone"));
    expect(await state()).toEqual([{ is_active: true, blocked_reason: null }]);
    expect((await sql`select from eve.key_model_blocks`).length).toBe(0);
    await sql`update public.google_ai_api_keys set is_active = false`;
    await change(id, {}, {}, secret("third"));
    expect(await state()).toEqual([{ is_active: false, blocked_reason: null }]);
  });

  test("it goes with its row, and where its row names an Edge secret, by anyone who changes that", async () => {
    const one = await add("first", secret("firstsecret"));
    await change(one.id, {}, { env_var_name: "GOOGLE_API_KEY_7" });
    expect(await stored()).toEqual([]);
    // And back: a row that named a secret is given one.
    await change(one.id, { env_var_name: "GOOGLE_API_KEY_7" }, {}, secret("nextone"));
    expect(await stored()).toEqual([{ last_four: "tone", named: true }]);
    // By a role that reaches nothing of schema eve; taken back with the transaction.
    const undone = new Error("undone");
    await expect(sql.begin(async (other) => {
      await other`grant select, delete on public.google_ai_api_keys to authenticated`;
      await other`create policy for_test on public.google_ai_api_keys to authenticated using (true)`;
      await other`set local role authenticated`;
      await other`delete from public.google_ai_api_keys`;
      await other`reset role`;
      expect((await other`select from eve.stored_keys`).length).toBe(0);
      throw undone;
    })).rejects.toBe(undone);
  });

  test("a key has one source, and a stage's or another provider's is not given one here", async () => {
    for (const wrong of [null, {}, { ...secret("x"), api_key_encrypted: "AIza-plain" }]) {
      await expect(add("first", wrong)).rejects.toMatchObject({ code: "EV400" });
    }
    await expect(add("first", secret("both"), "GOOGLE_API_KEY_7")).rejects.toMatchObject({ code: "EV400" });
    const { id } = await add("first", secret("firstsecret"));
    await expect(change(id, {}, { env_var_name: "GOOGLE_API_KEY_7" }, secret("both"))).rejects.toMatchObject({
      code: "EV400",
    });
    // The name is given with a secret, never typed.
    await expect(change(id, {}, { env_var_name: `stored:${id}` })).rejects.toMatchObject({ code: "EV400" });
    const others = await sql`
      insert into public.google_ai_api_keys (key_alias, provider, env_var_name)
      values ('stage:POEM', 'google', 'stage:POEM'), ('open', 'openai', 'OPENAI_API_KEY') returning id`;
    for (const other of others) {
      await expect(change(other.id, {}, {}, secret("x"))).rejects.toMatchObject({ code: "EV400" });
    }
    expect(await stored()).toEqual([{ last_four: "cret", named: true }]);
  });

  test("it is encrypted again with the others", async () => {
    const { env_var_name } = await add("first", secret("firstsecret"));
    const [{ found }] = await sql`select public.eve_provider_ciphertexts() as found` as unknown as [
      { found: Json },
    ];
    expect(found).toEqual([{ place: "stored_keys", id: env_var_name.slice(7), token: token("firstsecret") }]);
    const tokens = [{ ...found[0], replacement: token("renewed") }, {
      ...found[0],
      replacement: token("late"),
    }];
    const [{ done }] = await sql`select public.eve_provider_reencrypt(${
      sql.json(tokens)
    }, 'test') as done` as unknown as [{ done: Json }];
    expect(done).toEqual({ changed: 1 });
    expect(await credential(env_var_name)).toMatchObject({ api_key_encrypted: token("renewed") });
  });
});

describe("prices and tenants", () => {
  // deno-lint-ignore no-explicit-any
  const ask = async (text: string, values: any[]) =>
    (await sql.unsafe(`select ${text} as answer`, values))[0]!.answer;

  test("a price that was changed meanwhile is not written over, also where two set the first one", async () => {
    const none = { input_usd: null, cached_usd: null, output_usd: null };
    const set = (usd: number, seen: unknown) =>
      ask("public.eve_price_set($1, $2, null, 1, false, $3)", ["priced", usd, sql.json(seen as never)]);
    const both = await Promise.allSettled([set(0.3, none), set(0.4, none)]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    const first = both.find(({ status }) => status === "fulfilled") as PromiseFulfilledResult<
      Record<string, unknown>
    >;
    const { input_usd, is_free } = first.value;
    expect(await set(0.5, { input_usd, output_usd: 1, is_free })).toMatchObject({ input_usd: 0.5 });
    await expect(set(0.6, { input_usd })).rejects.toMatchObject({ code: "EV409" });
  });

  test("a tenant that was changed meanwhile is not written over", async () => {
    await ask("public.eve_tenant_add('edited', 'Edited', 1000)", []);
    const change = (seen: unknown, changes: unknown, id = "edited") =>
      ask("public.eve_tenant_change_seen($1, $2, $3)", [
        id,
        sql.json(seen as never),
        sql.json(changes as never),
      ]);
    const seen = { name: "Edited", storage_limit_bytes: 1000, is_default: false };
    expect(await change(seen, { storage_limit_bytes: 2000 })).toMatchObject({ storage_limit_bytes: 2000 });
    await expect(change(seen, { storage_limit_bytes: 3000 })).rejects.toMatchObject({ code: "EV409" });
    expect(await change({ name: "Edited" }, { name: null })).toMatchObject({
      name: null,
      storage_limit_bytes: 2000,
    });
    await expect(change({ name: null }, { name: "x" }, "nobody")).rejects.toMatchObject({ code: "EV400" });
  });
});

describe("models", () => {
  // deno-lint-ignore no-explicit-any
  type Json = any;
  const change = async (
    { model = MODEL, seen = {}, changes = {}, limits = null, project = null }: {
      model?: string;
      seen?: Json;
      changes?: Json;
      limits?: Json;
      project?: string | null;
    },
  ) =>
    (await sql`
      select public.eve_model_change(${model}, ${sql.json(seen)}, ${sql.json(changes)}, ${
      limits && sql.json(limits)
    }, ${project}) as model`)[0]!.model;
  const own = async () =>
    (await sql`select rpm, tpm, rpd from eve.quota_overrides where model = ${MODEL}`).map((one) => ({
      ...one,
    }));

  beforeEach(async () => {
    await sql`delete from eve.quota_overrides`;
    await sql`delete from public.google_ai_api_keys`;
    await sql`delete from public.google_ai_model_limits where model like 'edited-%'`;
    await sql`insert into public.google_ai_model_limits (model, rpm, tpm, rpd) values (${MODEL}, 10, 1000, 100), ('edited-next', 1, 1, 1)`;
    await sql`select public.eve_key_add('first', 'GOOGLE_API_KEY_7', 'shared')`;
  });

  test("a stale form changes nothing, neither what it can nor its limits", async () => {
    await change({ changes: { supports_tools: false }, limits: { rpm: 20 } });
    const stale = { seen: { rpm: 10 }, changes: { is_active: false }, limits: { rpd: 5 } };
    await expect(change(stale)).rejects.toMatchObject({
      code: "EV409",
      message: expect.stringContaining("rpm"),
    });
    expect(await change({})).toMatchObject({ is_active: true, supports_tools: false, rpm: 20, rpd: 100 });
  });

  test("limits of one quota project are compared with what that project has", async () => {
    const seen = { rpm: 10, tpm: 1000, rpd: 100 };
    // Of all: what the project was shown before it had any of its own.
    await change({ seen, limits: { rpd: 7 }, project: "shared" });
    expect(await own()).toEqual([{ rpm: 10, tpm: 1000, rpd: 7 }]);
    await expect(change({ seen, limits: { rpd: 8 }, project: "shared" })).rejects.toMatchObject({
      code: "EV409",
    });
    await change({ seen: { ...seen, rpd: 7 }, limits: { rpd: null }, project: "shared" });
    expect(await own()).toEqual([{ rpm: 10, tpm: 1000, rpd: null }]);
    expect(await change({ seen })).toMatchObject(seen);
  });

  test("all of a form or none: limits out of bounds take the rest back", async () => {
    await expect(change({ changes: { supports_tools: false }, limits: { rpm: -1 } })).rejects.toMatchObject({
      code: "EV400",
    });
    await expect(change({ changes: { supports_tools: false }, limits: { rpm: 1 }, project: "unknown" }))
      .rejects
      .toMatchObject({ code: "EV400" });
    expect(await change({})).toMatchObject({ supports_tools: true, rpm: 10 });
  });

  test("a successor is another model that is not replaced itself", async () => {
    for (const replaced_by of [MODEL, "unknown"]) {
      await expect(change({ changes: { replaced_by } })).rejects.toMatchObject({ code: "EV400" });
    }
    expect(await change({ changes: { replaced_by: "edited-next" } })).toMatchObject({
      replaced_by: "edited-next",
    });
    await expect(change({ model: "edited-next", changes: { replaced_by: MODEL } })).rejects.toMatchObject({
      code: "EV400",
    });
    expect(await change({ changes: { replaced_by: null } })).toMatchObject({ replaced_by: null });
  });
});
