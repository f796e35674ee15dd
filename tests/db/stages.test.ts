/** Stages as the database keeps them: what admission sees of them, what happens to a vanished model, and who may look. */
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { addKey, addModel, clearLedger, freezeClock, reserve } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";

/** What a Fernet token looks like; the database never opens one. */
const token = (text: string) => `gAAAA${btoa(text).replaceAll(/[+/=]/g, "A")}==`;
const REFUSED = { code: "42501" };

let database: TestDatabase;
let sql: TestDatabase["sql"];
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
  await freezeClock(sql);
});
afterAll(() => database?.drop());
beforeEach(() => clearLedger(sql));
afterEach(async () => {
  await sql`delete from public.provider_configs`;
  await sql`delete from public.api_keys`;
  await empty(sql, "eve.provider_history", "eve.alerts");
  await sql`update eve.stages set seeded_at = null`;
  await sql`delete from public.google_ai_api_keys`;
});

// deno-lint-ignore no-explicit-any -- JSON whose fields the tests look at.
async function call(name: string, args: Record<string, unknown> = {}): Promise<any> {
  const names = Object.keys(args);
  const list = names.map((key, place) => `${key} => $${place + 1}`).join(", ");
  const [row] = await sql.unsafe(`select public.${name}(${list}) as answer`, Object.values(args) as string[]);
  return row!.answer;
}

function save(stage: string, kind: string, model: string, key?: string, more: Record<string, unknown> = {}) {
  return call("eve_provider_save", {
    stage_type: stage,
    provider_kind: kind,
    model,
    actor: "ann@example.com",
    ...(key !== undefined &&
      { api_key_encrypted: token(key), key_fingerprint: `f-${key}`, key_last_four: key.slice(-4) }),
    ...more,
  });
}

const configOf = async (stage = "POEM") =>
  (await call("eve_provider_configs", { stage_type: stage }))[0].config;
const history = () => call("eve_provider_history");

describe("which provider may serve which stage", () => {
  test.each([
    ["POEM", ["yandexgpt", "gemini", "openai", "gigachat"]],
    ["VOICE", ["speechkit"]],
    ["SONG", ["suno"]],
    ["CLIP", ["pika"]],
  ])("%s", async (stage, kinds) => {
    const [row] = await call("eve_provider_configs", { stage_type: stage });
    expect(row.provider_kinds.map(({ kind }: { kind: string }) => kind)).toEqual(kinds);
  });

  test("is a constraint of the table, not a form's", async () => {
    await expect(
      sql`insert into public.provider_configs (stage_type, provider_kind, model) values ('POEM', 'suno', 'V5')`,
    )
      .rejects.toMatchObject({ code: "23503", constraint_name: "provider_configs_stage_provider_fkey" });
    await expect(save("VOICE", "gemini", "gemini-3.5-flash")).rejects.toMatchObject({
      code: "EV400",
      message: "gemini may not serve VOICE: it may be served by speechkit",
    });
    await expect(save("DANCE", "gemini", "m")).rejects.toMatchObject({
      code: "EV400",
      message: "there is no stage DANCE: the stages are POEM, VOICE, SONG, CLIP",
    });
  });

  test("a provider that makes something else cannot be allowed", async () => {
    await expect(
      sql`insert into eve.stage_providers (stage_type, provider_kind, produces) values ('VOICE', 'gemini', 'speech')`,
    ).rejects.toMatchObject({ code: "23503" });
  });

  test("a stage is added by rows", async () => {
    await sql`insert into eve.stages (stage_type, produces) values ('TITLE', 'text')`;
    await sql`insert into eve.stage_providers (stage_type, provider_kind, produces) values ('TITLE', 'openai', 'text')`;
    expect(await save("TITLE", "openai", "gpt-5-mini", "sk-title")).toMatchObject({
      config: { model: "gpt-5-mini" },
    });
    await sql`delete from public.provider_configs where stage_type = 'TITLE'`;
    await sql`delete from eve.stages where stage_type = 'TITLE'`;
  });
});

describe("a stage that is set up", () => {
  test("is a model like any other, served by its own key, and the next reservation knows a change", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
    const first = await reserve(sql, "a", { models: ["stage:POEM"] });
    expect(first).toMatchObject({
      status: "granted",
      requested_model: "stage:POEM",
      model: "openai/gpt-5-mini",
      quota_project: "openai:f-sk-one",
      key: { alias: "stage-poem", env_var_name: "stage:POEM", provider: "openai" },
    });
    await save("POEM", "openai", "gpt-5-nano");
    expect(await reserve(sql, "b", { models: ["stage:POEM"] })).toMatchObject({ model: "openai/gpt-5-nano" });
    await save("POEM", "gigachat", "GigaChat-2", "giga-key");
    expect(await reserve(sql, "c", { models: ["stage:POEM"] })).toMatchObject({
      model: "gigachat/GigaChat-2",
      key: { id: first.key.id, provider: "gigachat" },
      quota_project: "gigachat:f-giga-key",
    });
  });

  test("has limits like any other", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
    await sql`update public.google_ai_model_limits set rpm = 1 where model = 'openai/gpt-5-mini'`;
    expect(await reserve(sql, "a", { models: ["stage:POEM"] })).toMatchObject({ status: "granted" });
    expect(await reserve(sql, "b", { models: ["stage:POEM"] })).toMatchObject({
      code: "rate_limited",
      limit: "rpm",
    });
    await save("POEM", "openai", "gpt-5-mini");
    expect(
      (await sql`select rpm from public.google_ai_model_limits where model = 'openai/gpt-5-mini'`)[0]!.rpm,
    ).toBe(1);
    await sql`update public.google_ai_model_limits set rpm = null where model = 'openai/gpt-5-mini'`;
  });

  test("is served by its key alone: the other keys of the provider are named", async () => {
    await addKey(sql, "pool");
    await save("POEM", "gemini", "gemini-3.5-flash", "own");
    const { exclude_keys, ...stage } = await call("eve_stage", { stage_type: "poem" });
    expect(stage).toEqual({
      status: "set_up",
      stage_type: "POEM",
      produces: "text",
      provider_kind: "gemini",
      model: "gemini-3.5-flash",
      config_status: "active",
      config_reason: null,
    });
    expect(exclude_keys).toHaveLength(1);
    const call_ = { models: ["stage:POEM"], excludeKeys: exclude_keys };
    expect(await reserve(sql, "a", call_)).toMatchObject({
      key: { alias: "stage-poem" },
      model: "gemini-3.5-flash",
    });
    // A caller that names the model is served by the pool first.
    expect(await reserve(sql, "b", { models: ["gemini-3.5-flash"] })).toMatchObject({
      key: { alias: "pool" },
    });
  });

  test("without a key of its own is served by the pool, and by no other stage's key", async () => {
    await sql`insert into eve.stages (stage_type, produces) values ('TITLE', 'text')`;
    await sql`insert into eve.stage_providers (stage_type, provider_kind, produces) values ('TITLE', 'gemini', 'text')`;
    await addKey(sql, "pool");
    await save("POEM", "gemini", "gemini-3.5-flash");
    await save("TITLE", "gemini", "gemini-3.5-flash", "own");
    const { exclude_keys } = await call("eve_stage", { stage_type: "POEM" });
    const [own] = await sql`select id from public.google_ai_api_keys where env_var_name = 'stage:TITLE'`;
    expect(exclude_keys).toEqual([own!.id]);
    await sql`delete from public.provider_configs where stage_type = 'TITLE'`;
    await sql`delete from eve.stages where stage_type = 'TITLE'`;
    expect(await reserve(sql, "a", { models: ["stage:POEM"] })).toMatchObject({ key: { alias: "pool" } });
  });

  test("keeps a key's blocks until another key comes", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
    await sql`update public.google_ai_api_keys set is_active = false, blocked_until = 'infinity', blocked_reason = 'x'`;
    await save("POEM", "openai", "gpt-5-mini");
    expect((await configOf()).key).toMatchObject({ is_active: false, blocked_reason: "x" });
    await save("POEM", "openai", "gpt-5-mini", "sk-two");
    expect((await configOf()).key).toMatchObject({
      is_active: true,
      blocked_until: null,
      blocked_reason: null,
    });
  });

  test("that is removed leaves no way to it", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
    await call("eve_provider_remove", { stage_type: "POEM", actor: "ann@example.com" });
    expect(await reserve(sql, "a", { models: ["stage:POEM"] })).toMatchObject({ code: "unknown_model" });
    expect(await call("eve_stage", { stage_type: "POEM" })).toEqual({
      status: "not_set_up",
      stage_type: "POEM",
      produces: "text",
      seeded: true,
      provider_kinds: ["yandexgpt", "gemini", "openai", "gigachat"],
    });
    expect((await history())[0]).toMatchObject({ event: "removed", actor: "ann@example.com", after: null });
    expect(await sql`select used_until is not null as ended from public.api_keys`).toEqual([{ ended: true }]);
  });

  test("needs a key where the pool has none, and a model of its own provider", async () => {
    await expect(save("POEM", "openai", "gpt-5-mini")).rejects.toMatchObject({
      code: "EV400",
      message: "OpenAI and compatible needs a key: send api_key",
    });
    await sql`insert into public.google_ai_model_limits (model, provider) values ('openai/mine', 'other')`;
    await expect(save("POEM", "openai", "mine", "k")).rejects.toMatchObject({ code: "EV400" });
    await sql`delete from public.google_ai_model_limits where model = 'openai/mine'`;
  });

  test("an unknown stage: the error lists those that there are", async () => {
    expect(await call("eve_stage", { stage_type: "DANCE" })).toEqual({
      status: "unknown",
      stages: ["POEM", "VOICE", "SONG", "CLIP"],
    });
  });
});

describe("keys", () => {
  test("all that were ever entered are recorded, with who, when and until when, and shown by four characters", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
    await save("POEM", "openai", "gpt-5-mini", "sk-two");
    await save("POEM", "gemini", "gemini-3.5-flash");
    const keys = await call("eve_provider_keys");
    expect(keys).toMatchObject([
      { stage_type: "POEM", provider_kind: "openai", last_four: "-two", entered_by: "ann@example.com" },
      { stage_type: "POEM", provider_kind: "openai", last_four: "-one" },
    ]);
    expect(keys.every((key: { used_until: string | null }) => key.used_until !== null)).toBe(true);
    const shown = JSON.stringify([keys, await call("eve_provider_configs"), await history()]);
    expect(shown).not.toContain("gAAAA");
  });

  test("what is no Fernet token is not taken for an encrypted key", async () => {
    await expect(save("POEM", "openai", "m", undefined, {
      api_key_encrypted: "sk-plain-text",
      key_fingerprint: "f",
      key_last_four: "text",
    })).rejects.toMatchObject({ code: "23514" });
  });

  test("are encrypted again if they are still the same", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
    const before = await call("eve_provider_ciphertexts");
    expect(before).toHaveLength(2);
    const replaced = before.map((each: { token: string }) => ({ ...each, replacement: token("again") }));
    expect(await call("eve_provider_reencrypt", { tokens: replaced, actor: "rotation" })).toEqual({
      changed: 2,
    });
    expect(await call("eve_provider_reencrypt", { tokens: replaced, actor: "rotation" })).toEqual({
      changed: 0,
    });
    expect((await history())[0]).toMatchObject({ event: "reencrypted", actor: "rotation" });
    expect((await configOf()).key).toMatchObject({ is_active: true });
  });
});

describe("the model list", () => {
  const checked = (args: Record<string, unknown>) =>
    call("eve_provider_checked", {
      stage_type: "POEM",
      key_fingerprint: "f-sk-one",
      actor: "providers_sync",
      ...args,
    });
  const alerts = () =>
    sql`select kind, subject, severity, closed_at is null as open from eve.alerts order by id`;

  test("is stored with its time, and is no change for the history", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
    expect(await checked({ models: ["gpt-5-mini", "gpt-5"] })).toEqual({
      status: "noted",
      config_status: "active",
      model: "gpt-5-mini",
      replaced: false,
      models: 2,
    });
    expect(await configOf()).toMatchObject({
      models: ["gpt-5-mini", "gpt-5"],
      updated_by: "ann@example.com",
    });
    expect(await history()).toHaveLength(1);
  });

  test("a model that has gone is replaced by the first: warning, alert, before and after", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
    expect(await checked({ models: ["gpt-6", "gpt-6-mini"] })).toMatchObject({
      config_status: "warning",
      replaced: true,
    });
    expect(await configOf()).toMatchObject({
      model: "gpt-6",
      status: "warning",
      status_reason: "gpt-5-mini is no longer offered: gpt-6 serves in its place",
      updated_by: "providers_sync",
    });
    expect(await alerts()).toEqual([{
      kind: "model_vanished",
      subject: "stage:POEM",
      severity: "warning",
      open: true,
    }]);
    expect((await history())[0]).toMatchObject({
      event: "model_vanished",
      before: { model: "gpt-5-mini", status: "active" },
      after: { model: "gpt-6", status: "warning" },
    });
    expect(await reserve(sql, "a", { models: ["stage:POEM"] })).toMatchObject({ model: "openai/gpt-6" });
    // The warning stays until a person has chosen.
    await checked({ models: ["gpt-6", "gpt-6-mini"] });
    expect((await configOf()).status).toBe("warning");
    await save("POEM", "openai", "gpt-6-mini");
    expect((await configOf()).status).toBe("active");
    expect(await alerts()).toMatchObject([{ open: false }]);
  });

  test("by its successor, where one is known and offered", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
    await sql`update public.google_ai_model_limits set replaced_by = 'openai/gpt-6-mini' where model = 'openai/gpt-5-mini'`;
    expect(await checked({ models: ["gpt-6", "gpt-6-mini"] })).toMatchObject({ model: "gpt-6-mini" });
    await sql`update public.google_ai_model_limits set replaced_by = null where model = 'openai/gpt-5-mini'`;
  });

  test("one that is not complete takes no model away", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
    expect(await checked({ models: ["other"], complete: false })).toMatchObject({
      replaced: false,
      config_status: "active",
    });
  });

  test("a dead key is invalid and alerted, a silent provider an error, and the old list stays", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
    await checked({ models: ["gpt-5-mini"] });
    await checked({ status: "invalid", status_reason: "Incorrect API key provided" });
    expect(await configOf()).toMatchObject({ status: "invalid", models: ["gpt-5-mini"] });
    expect(await alerts()).toMatchObject([{
      kind: "provider_key_invalid",
      severity: "critical",
      open: true,
    }]);
    await checked({ status: "error", status_reason: "status 503" });
    expect(await configOf()).toMatchObject({
      status: "error",
      status_reason: "status 503",
      models: ["gpt-5-mini"],
    });
    await checked({ models: [] });
    expect(await configOf()).toMatchObject({ status: "error", models: ["gpt-5-mini"], model: "gpt-5-mini" });
    await checked({ models: ["gpt-5-mini"] });
    expect(await configOf()).toMatchObject({ status: "active", status_reason: null });
    expect(await alerts()).toMatchObject([{ open: false }]);
    expect((await history()).map(({ event }: { event: string }) => event)).toEqual([
      "status_changed",
      "status_changed",
      "status_changed",
      "status_changed",
      "created",
    ]);
  });

  test("what was learned about a key that is no longer there is not noted", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-two");
    expect(await checked({ models: ["x"] })).toEqual({ status: "overtaken" });
    expect((await configOf()).model).toBe("gpt-5-mini");
  });
});

describe("the environment", () => {
  const seed = (key: string) =>
    call("eve_provider_seed", {
      configs: [{
        stage_type: "POEM",
        provider_kind: "openai",
        model: "gpt-5-mini",
        api_key_encrypted: token(key),
        key_fingerprint: `f-${key}`,
        key_last_four: key.slice(-4),
        settings: {},
      }],
    });

  test("fills a stage once, and never again", async () => {
    expect(await seed("sk-env")).toEqual({ seeded: ["POEM"] });
    expect(await configOf()).toMatchObject({ updated_by: "environment", key_last_four: "-env" });
    expect(await seed("sk-new")).toEqual({ seeded: [] });
    await call("eve_provider_remove", { stage_type: "POEM", actor: "ann@example.com" });
    expect(await seed("sk-new")).toEqual({ seeded: [] });
    expect(await configOf()).toBeNull();
  });

  test("overwrites nothing that a person saved", async () => {
    await save("POEM", "gemini", "gemini-3.5-flash");
    expect(await seed("sk-env")).toEqual({ seeded: [] });
    expect(await configOf()).toMatchObject({ provider_kind: "gemini" });
  });
});

describe("a stage that nobody has set up", () => {
  const byEnvironment = (kind: string, model: string, variable: string | null = null) =>
    call("eve_stage_from_environment", {
      stage_type: "POEM",
      provider_kind: kind,
      model,
      ...(variable !== null && { env_var_name: variable }),
    });

  test("is served by a variable's key, and by what the environment says now", async () => {
    expect(await byEnvironment("openai", "gpt-5-mini", "OPENAI_API_KEY")).toEqual({ exclude_keys: [] });
    const first = await reserve(sql, "a", { models: ["stage:POEM"] });
    expect(first).toMatchObject({
      model: "openai/gpt-5-mini",
      key: { alias: "openai-api-key", env_var_name: "OPENAI_API_KEY", provider: "openai" },
    });
    await byEnvironment("openai", "gpt-5", "OPENAI_API_KEY");
    expect(await reserve(sql, "b", { models: ["stage:POEM"] })).toMatchObject({
      model: "openai/gpt-5",
      key: { id: first.key.id },
    });
    await sql`delete from public.google_ai_model_limits where model = 'stage:POEM'`;
  });

  test("or by the pool", async () => {
    await addKey(sql, "pool");
    expect(await byEnvironment("gemini", "gemini-3.5-flash")).toEqual({ exclude_keys: [] });
    expect(await reserve(sql, "a", { models: ["stage:POEM"] })).toMatchObject({ key: { alias: "pool" } });
    await sql`delete from public.google_ai_model_limits where model = 'stage:POEM'`;
  });

  test("changes nothing of one that somebody has set up meanwhile", async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
    await byEnvironment("gemini", "gemini-3.5-flash");
    expect(await reserve(sql, "a", { models: ["stage:POEM"] })).toMatchObject({ model: "openai/gpt-5-mini" });
  });
});

describe("row-level security", () => {
  const ADMIN = "11111111-1111-1111-1111-111111111111";
  const USER = "22222222-2222-2222-2222-222222222222";
  const BANNED = "33333333-3333-3333-3333-333333333333";
  const READABLE = "stage_type, provider_kind, model, key_last_four, status, models_cache";

  beforeAll(async () => {
    const superuser = postgres(database.superuserUrl, { max: 1, onnotice: () => {} });
    await superuser.unsafe(`
      create table auth.users (id uuid primary key, email text, raw_app_meta_data jsonb, banned_until timestamptz, deleted_at timestamptz);
      insert into auth.users values
        ('${ADMIN}', 'ann@example.com', '{"role": "admin"}', null, null),
        ('${USER}', 'bob@example.com', '{"provider": "email"}', null, null),
        ('${BANNED}', 'eve@example.com', '{"role": "admin"}', now() + interval '1 day', null);
      grant select, update on auth.users to postgres;
    `).simple();
    await superuser.end();
  });
  beforeEach(async () => {
    await save("POEM", "openai", "gpt-5-mini", "sk-one");
  });

  test("an administrator reads everything but the keys", () =>
    as("authenticated", ADMIN, async (client) => {
      expect(await client.unsafe(`select ${READABLE} from public.provider_configs`)).toHaveLength(1);
      expect(await client.unsafe("select last_four, entered_by from public.api_keys")).toHaveLength(1);
      for (const column of ["*", "api_key_encrypted"]) {
        for (const table of ["provider_configs", "api_keys"]) {
          await expect(client.unsafe(`select ${column} from public.${table}`)).rejects.toMatchObject(REFUSED);
        }
      }
      await expect(client.unsafe("update public.provider_configs set model = 'x'")).rejects.toMatchObject(
        REFUSED,
      );
    }));

  test.each([["an ordinary user", USER], ["a banned administrator", BANNED], [
    "nobody's session",
    crypto.randomUUID(),
  ]])(
    "%s sees nothing, whatever the token says",
    (_, id) =>
      as("authenticated", id, async (client) => {
        expect(await client.unsafe(`select ${READABLE} from public.provider_configs`)).toEqual([]);
        expect(await client.unsafe("select last_four from public.api_keys")).toEqual([]);
      }, { app_metadata: { role: "admin" } }),
  );

  test("anon may not even ask", () =>
    as("anon", null, async (client) => {
      await expect(client.unsafe("select stage_type from public.provider_configs")).rejects.toMatchObject(
        REFUSED,
      );
      await expect(client.unsafe("select id from public.api_keys")).rejects.toMatchObject(REFUSED);
    }));

  test("who has lost the role has lost it at once, with the session going on", () =>
    as("authenticated", ADMIN, async (client) => {
      await sql`update auth.users set raw_app_meta_data = '{}' where id = ${ADMIN}`;
      expect(await client.unsafe("select stage_type from public.provider_configs")).toEqual([]);
      expect(await call("eve_administrator", { user_id: ADMIN })).toEqual({ administrator: false });
      await sql`update auth.users set raw_app_meta_data = '{"role": "admin"}' where id = ${ADMIN}`;
      expect(await call("eve_administrator", { user_id: ADMIN })).toEqual({ administrator: true });
    }));
});

test("a consumer's scope is changed by what is named, and the audit says so", async () => {
  const { keyId, proof } = await mintConsumerSecret("service");
  await addModel(sql, "m");
  await call("eve_consumer_add", { name: "bot", kind: "service", key_id: keyId, proof });
  expect(await call("eve_consumer_scope", { name: "bot", changes: { models: ["m"], rpm: 5 } }))
    .toMatchObject({ models: ["m"], rpm: 5, max_class: "interactive" });
  expect(await call("eve_consumer_scope", { name: "bot", changes: { rpm: null } })).toMatchObject({
    models: ["m"],
    rpm: null,
  });
  for (
    const changes of [{}, { secret_hash: "x" }, { rpm: 0 }, { models: [] }, { models: ["nope"] }, {
      max_class: "x",
    }]
  ) {
    await expect(call("eve_consumer_scope", { name: "bot", changes }), JSON.stringify(changes)).rejects
      .toMatchObject({
        code: "EV400",
      });
  }
  expect((await sql`select event from eve.access_log order by id desc limit 1`)[0]!.event).toBe(
    "consumer_scoped",
  );
});

/** Connects as the REST API does, takes on a role and a user's claims. */
async function as(
  role: string,
  user: string | null,
  run: (client: postgres.ReservedSql) => Promise<void>,
  claims: Record<string, unknown> = {},
): Promise<void> {
  const url = new URL(database.url);
  url.username = "authenticator";
  const pool = postgres(url.href, { max: 1, onnotice: () => {} });
  try {
    const client = await pool.reserve();
    await client`select set_config('request.jwt.claims', ${
      JSON.stringify({ sub: user, role, ...claims })
    }, false)`;
    await client.unsafe(`set role ${role}`);
    await run(client);
    client.release();
  } finally {
    await pool.end();
  }
}

describe("a model whose key is in the environment", () => {
  const known = (model = "GigaChat-2-Pro", kind = "gigachat", env_var_name = "GIGACHAT_CREDENTIALS") =>
    call("eve_model_from_environment", { provider_kind: kind, model, env_var_name });
  const rows = () =>
    sql`
      select m.model, m.provider, m.supports_json, k.env_var_name, k.key_alias, k.is_active
      from public.google_ai_model_limits m
      join public.google_ai_api_keys k on k.provider = m.provider
      where m.model = 'gigachat/GigaChat-2-Pro'`;

  test("is admitted, however often and by however many at once it is made known", async () => {
    const answers = await Promise.all(Array.from({ length: 5 }, () => known()));
    expect(answers).toEqual(Array(5).fill({ model: "gigachat/GigaChat-2-Pro" }));
    expect(await rows()).toEqual([{
      model: "gigachat/GigaChat-2-Pro",
      provider: "gigachat",
      supports_json: false,
      env_var_name: "GIGACHAT_CREDENTIALS",
      key_alias: "gigachat-credentials",
      is_active: true,
    }]);
    expect(await reserve(sql, "picture", { models: ["gigachat/GigaChat-2-Pro"] })).toMatchObject({
      status: "granted",
    });
  });

  test("stays as somebody has set it", async () => {
    await known();
    await sql`update public.google_ai_model_limits set rpm = 1, is_active = false where model = 'gigachat/GigaChat-2-Pro'`;
    await sql`update public.google_ai_api_keys set is_active = false`;
    await known();
    expect(await rows()).toMatchObject([{ is_active: false }]);
    const [row] =
      await sql`select rpm, is_active from public.google_ai_model_limits where model = 'gigachat/GigaChat-2-Pro'`;
    expect(row).toEqual({ rpm: 1, is_active: false });
  });

  test.each([
    ["GigaChat-2-Pro", "suno", "SUNO_API_KEY"],
    ["GigaChat-2-Pro", "nobody", "X"],
    ["", "gigachat", "X"],
    ["GigaChat 2", "gigachat", "X"],
    ["GigaChat-2-Pro", "gigachat", "path/to"],
  ])("is refused in another form: %s of %s by %s", async (model, kind, name) => {
    await expect(known(model, kind, name)).rejects.toMatchObject({ code: "EV400" });
  });
});

test("a save of what has been changed since it was read is refused, and of two at once one is saved", async () => {
  await save("POEM", "gemini", "gemini-3.5-flash", "key-one");
  const seen = { provider_kind: "gemini", model: "gemini-3.5-flash", key_last_four: "-one", settings: {} };
  const change = (model: string) => ({
    stage_type: "POEM",
    provider_kind: "gemini",
    model,
    actor: "ann@example.com",
  });
  const saved = await Promise.allSettled([
    call("eve_provider_save_seen", { seen, change: change("gemini-3.5-flash-lite") }),
    call("eve_provider_save_seen", { seen, change: change("gemma-4-31b-it") }),
  ]);
  expect(saved.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
  expect(saved.find(({ status }) => status === "rejected")).toMatchObject({
    reason: { code: "EV409", message: "model has been changed since it was read" },
  });
  // A stage that nobody had set up: seen as nothing.
  const nothing = { provider_kind: null, model: null };
  const first = {
    ...change("yandexgpt"),
    stage_type: "VOICE",
    provider_kind: "speechkit",
    api_key_encrypted: token("k"),
    key_fingerprint: "f-k",
    key_last_four: "kkkk",
  };
  await call("eve_provider_save_seen", { seen: nothing, change: first });
  await expect(call("eve_provider_save_seen", { seen: nothing, change: first })).rejects.toMatchObject({
    code: "EV409",
  });
});
