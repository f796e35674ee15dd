/** The admin API from outside: who comes in, a stage that is set up, its history, and what the console's pages read. */
import { createClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect } from "../../cli/eve/connection.ts";
import { eve } from "../../cli/eve.ts";
import { createKeyEncryption } from "../../shared/secrets/key_encryption.ts";
import { fakeOpenAi } from "../fakes/openai_api.ts";
import { type FakeServer, serveFake } from "../fakes/fake_api.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

const PASSWORD = "correct horse battery staple 9";
const openai = fakeOpenAi();
let upstream: FakeServer;
let stack: TestStack;
let sql: postgres.Sql;
/** Access tokens of sessions. */
let ann: string;
let bob: string;

beforeAll(async () => {
  upstream = serveFake(openai.handler);
  stack = await startTestStack();
  sql = postgres(stack.databaseUrl, { max: 2, onnotice: () => {} });
  ann = await signUp("ann@example.com");
  bob = await signUp("bob@example.com");
  await sql`
    update auth.users
    set raw_app_meta_data = jsonb_build_object('provider', 'email', 'role', 'admin')
    where email = 'ann@example.com'
  `;
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
  await upstream?.close();
});

async function signUp(email: string): Promise<string> {
  const client = createClient(stack.url, stack.keys.publishable, { auth: { persistSession: false } });
  const { data, error } = await client.auth.signUp({ email, password: PASSWORD });
  if (error) throw error;
  return data.session!.access_token;
}

// deno-lint-ignore no-explicit-any -- JSON whose fields the tests look at.
async function admin(path: string, body?: unknown, init: RequestInit = {}): Promise<any> {
  const response = await fetch(`${stack.url}/functions/v1/admin${path}`, {
    method: body === undefined ? "GET" : "POST",
    body: body === undefined ? undefined : JSON.stringify(body),
    ...init,
    headers: { apikey: stack.keys.publishable, authorization: `Bearer ${ann}`, ...init.headers },
  });
  return { status: response.status, headers: response.headers, ...await response.json() };
}

const openaiStage = (more: Record<string, unknown> = {}) => ({
  stage_type: "POEM",
  provider_kind: "openai",
  api_key: "sk-good",
  settings: { base_url: `${upstream.url}/v1` },
  ...more,
});

describe("[security.administrator-page] who is admitted", () => {
  test("an administrator, and the secret key", async () => {
    expect(await admin("/me")).toMatchObject({
      status: 200,
      kind: "user",
      email: "ann@example.com",
      administrator: true,
    });
    expect(await admin("/me", undefined, { headers: { authorization: `Bearer ${stack.keys.secret}` } }))
      .toMatchObject({ status: 200, kind: "project", id: null });
  });

  test.each([
    ["an ordinary user", () => bob, 403, "credential_insufficient"],
    ["a session that is none", () => `${ann.slice(0, -6)}AAAAAA`, 401, "credential_invalid"],
    ["the publishable key", () => stack.keys.publishable, 401, "credential_missing"],
    ["a key of nobody", () => "sb_secret_wrong", 401, "credential_invalid"],
  ])("not %s", async (_, token, status, code) => {
    for (const path of ["/me", "/providers", "/consumers", "/requests"]) {
      expect(await admin(path, undefined, { headers: { authorization: `Bearer ${token()}` } })).toMatchObject(
        {
          status,
          error: { code },
        },
      );
    }
    expect(
      await admin("/providers/update", openaiStage(), { headers: { authorization: `Bearer ${token()}` } }),
    )
      .toMatchObject({ status });
  });

  test("the `key` of a query is what a list is filtered by, and lets nobody in", async () => {
    const [row] = await sql`select key_alias from public.google_ai_api_keys limit 1`;
    for (const path of ["/requests", "/usage"]) {
      expect(await admin(`${path}?key=${encodeURIComponent(row!.key_alias)}`), path).toMatchObject({
        status: 200,
      });
    }
    const headers = { authorization: "", apikey: "" };
    expect(await admin(`/requests?key=${stack.keys.secret}`, undefined, { headers })).toMatchObject({
      status: 401,
      error: { code: "credential_missing" },
    });
  });

  test("a user who has lost the role is refused at once", async () => {
    await sql`update auth.users set raw_app_meta_data = '{}' where email = 'ann@example.com'`;
    expect(await admin("/me")).toMatchObject({ status: 403 });
    await sql`update auth.users set raw_app_meta_data = '{"role": "admin"}' where email = 'ann@example.com'`;
    expect(await admin("/me")).toMatchObject({ status: 200 });
  });

  test("a page elsewhere may not ask; one of this machine may", async () => {
    const preflight = (origin: string) =>
      fetch(`${stack.url}/functions/v1/admin/me`, {
        method: "OPTIONS",
        headers: { origin, "access-control-request-method": "GET" },
      });
    expect((await preflight("http://localhost:5173")).headers.get("access-control-allow-origin")).toBe(
      "http://localhost:5173",
    );
    expect((await preflight("https://evil.example")).headers.get("access-control-allow-origin")).toBeNull();
    const asked = await admin("/me", undefined, { headers: { origin: "https://evil.example" } });
    expect(asked.headers.get("access-control-allow-origin")).toBeNull();
  });
});

describe("a stage", () => {
  test("nobody has set up is served by the pool", async () => {
    const { stages, encryption } = await admin("/providers");
    expect(encryption).toEqual({ ready: true, problem: null });
    expect(stages.map((stage: { stage_type: string }) => stage.stage_type)).toEqual([
      "POEM",
      "VOICE",
      "SONG",
      "CLIP",
    ]);
    expect(stages[0]).toMatchObject({
      config: null,
      environment: { provider_kind: "gemini", variable: null, model: "gemini-3.5-flash" },
    });
    expect(stages[1]).toMatchObject({ config: null, environment: null });
  });

  test("[security.administrator-page] is saved with its models, and never shows its key again", async () => {
    const { status, stage } = await admin("/providers/update", openaiStage());
    expect(status).toBe(200);
    expect(stage.config).toMatchObject({
      provider_kind: "openai",
      model: "gpt-5-mini",
      models: ["gpt-5", "gpt-5-mini", "text-embedding-3-small"],
      status: "active",
      key_last_four: "",
      updated_by: "ann@example.com",
    });
    expect(openai.seen.at(-1)).toMatchObject({ path: "/models", key: "sk-good" });
    const shown = JSON.stringify(
      await Promise.all(
        ["/providers", "/providers/history", "/providers/keys", "/keys"].map((path) => admin(path)),
      ),
    );
    expect(shown).not.toContain("sk-good");
    expect(shown).not.toContain("gAAAA");
    const [row] = await sql`select api_key_encrypted from public.provider_configs`;
    expect(row!.api_key_encrypted).toMatch(/^gAAAA/);
  });

  test("keeps its key while another model is chosen, and refuses one that is not offered", async () => {
    expect(await admin("/providers/update", { stage_type: "POEM", provider_kind: "openai", model: "gpt-5" }))
      .toMatchObject({ stage: { config: { model: "gpt-5", status: "active" } } });
    expect(await admin("/providers/update", { stage_type: "POEM", provider_kind: "openai", model: "gpt-2" }))
      .toMatchObject({ status: 400, error: { code: "invalid_request", details: [{ field: "model" }] } });
  });

  test("with a key that is refused says so, and one that cannot be asked about says that", async () => {
    expect(await admin("/providers/update", openaiStage({ api_key: "sk-wrong-1234" }))).toMatchObject({
      status: 200,
      stage: {
        config: {
          status: "invalid",
          key_last_four: "1234",
          models: ["gpt-5", "gpt-5-mini", "text-embedding-3-small"],
        },
      },
    });
    const { alerts } = await admin("/alerts?kind=provider_key_invalid");
    expect(alerts).toMatchObject([{ subject: "stage:POEM", severity: "critical" }]);
    expect(await admin("/providers/update", openaiStage({ settings: { base_url: "http://127.0.0.1:1/v1" } })))
      .toMatchObject({ stage: { config: { status: "error" } } });
    expect(await admin("/providers/update", openaiStage())).toMatchObject({
      stage: { config: { status: "active" } },
    });
    expect(await admin("/alerts?kind=provider_key_invalid")).toMatchObject({ alerts: [] });
  });

  test("whose model has gone serves by another one, and warns", async () => {
    await admin("/providers/update", openaiStage({ model: "gpt-5" }));
    openai.models = ["gpt-6", "gpt-6-mini"];
    const { results } = await admin("/providers/refresh", { stage_type: "poem" });
    expect(results).toMatchObject([{
      stage_type: "POEM",
      outcome: "noted",
      config_status: "warning",
      replaced: true,
    }]);
    openai.models = ["gpt-5-mini", "gpt-5"];
    const { history } = await admin("/providers/history?stage_type=POEM&limit=1");
    expect(history).toMatchObject([{
      event: "model_vanished",
      actor: "ann@example.com",
      before: { model: "gpt-5" },
      after: { model: "gpt-6" },
    }]);
    await admin("/providers/update", openaiStage({ model: "gpt-5" }));
  });

  test("of the wrong provider, with unknown fields and settings, is refused in words", async () => {
    const refused = async (body: unknown) => (await admin("/providers/update", body)).error;
    expect(await refused(openaiStage({ stage_type: "VOICE" }))).toMatchObject({
      code: "invalid_request",
      details: [{
        field: "provider_kind",
        problem: "openai may not serve VOICE: it may be served by speechkit",
      }],
    });
    expect(await refused(openaiStage({ stage_type: "DANCE" }))).toMatchObject({ code: "not_found" });
    expect(await refused(openaiStage({ settings: { folder: "x" } }))).toMatchObject({
      details: [{ field: "settings.folder" }],
    });
    expect(await refused(openaiStage({ settings: { base_url: "ftp://x" } }))).toMatchObject({
      details: [{ field: "settings.base_url" }],
    });
    expect(await refused(openaiStage({ key: "x" }))).toMatchObject({ details: [{ field: "key" }] });
    expect(await refused({ stage_type: "POEM", provider_kind: "yandexgpt", api_key: "x" })).toMatchObject({
      details: [{ field: "settings.folder_id", problem: "is needed" }],
    });
  });

  test("is removed, and the history stays", async () => {
    expect(await admin("/providers/remove", { stage_type: "POEM" })).toMatchObject({
      stage: { config: null, environment: { provider_kind: "gemini" } },
    });
    expect((await admin("/providers/history?limit=1")).history).toMatchObject([{ event: "removed" }]);
    expect((await admin("/providers/keys")).keys.length).toBeGreaterThan(1);
  });

  test("with a key of the pool is counted with the pool", async () => {
    await admin("/providers/update", { stage_type: "POEM", provider_kind: "gemini", api_key: "demo-key-c" });
    const { stages } = await admin("/providers?stage_type=POEM");
    expect(stages[0].config).toMatchObject({
      status: "active",
      quota_project: "demo-two",
      key_last_four: "ey-c",
    });
    await admin("/providers/remove", { stage_type: "POEM" });
  });
});

describe("a new ADMIN_SECRET_KEY", () => {
  test("is applied by a command: every stored key is encrypted again, and decrypts with the new secret alone", async () => {
    await admin("/providers/update", openaiStage());
    const newSecret = "a-new-secret-of-more-than-22-characters";
    const run = async (secret: string) => {
      const said: string[] = [];
      const code = await eve(["providers", "reencrypt", "--json"], {
        say: (text) => said.push(text),
        complain: (text) => said.push(text),
        connect: () => connect(stack.url, stack.keys.secret),
        variable: (name) => name === "ADMIN_SECRET_KEY" ? secret : undefined,
      });
      return { code, said: said.join("\n") };
    };
    const { code, said } = await run(`${newSecret},${stack.keys.adminSecretKey}`);
    expect(code, said).toBe(0);
    const { kept, renewed } = JSON.parse(said);
    expect(kept).toBeGreaterThan(1);
    expect(renewed).toBe(kept);
    const [row] = await sql`select api_key_encrypted from public.provider_configs`;
    expect(await createKeyEncryption(newSecret).decrypt(row!.api_key_encrypted)).toBe("sk-good");
    expect((await run("another-secret-of-more-than-22-characters")).said).toContain(
      "another ADMIN_SECRET_KEY",
    );
    // The function still has the old one: it says what to do, and nothing was lost.
    const { results } = await admin("/providers/refresh", { stage_type: "POEM" });
    expect(results).toMatchObject([{ config_status: "error" }]);
    await run(`${stack.keys.adminSecretKey},${newSecret}`);
    expect(await admin("/providers/refresh", {})).toMatchObject({ results: [{ config_status: "active" }] });
  });
});

describe("[security.project-user] row-level security, with the console's own client", () => {
  const clientOf = (token: string) =>
    createClient(stack.url, stack.keys.publishable, {
      auth: { persistSession: false },
      global: { headers: { authorization: `Bearer ${token}` } },
    });

  test("an administrator reads everything but keys; an ordinary user reads nothing", async () => {
    await admin("/providers/update", openaiStage());
    const columns = "stage_type, provider_kind, model, key_last_four, status";
    const mine = await clientOf(ann).from("provider_configs").select(columns);
    expect(mine.data).toMatchObject([{ stage_type: "POEM", model: "gpt-5-mini" }]);
    expect((await clientOf(bob).from("provider_configs").select(columns)).data).toEqual([]);
    expect((await clientOf(bob).from("api_keys").select("id, last_four")).data).toEqual([]);
    for (const token of [ann, bob]) {
      expect((await clientOf(token).from("provider_configs").select("api_key_encrypted")).data ?? []).toEqual(
        [],
      );
      expect((await clientOf(token).from("api_keys").select("*")).data ?? []).toEqual([]);
      expect((await clientOf(token).from("provider_configs").delete().eq("stage_type", "POEM")).error).not
        .toBeNull();
      expect((await clientOf(token).from("google_ai_api_keys").select("*")).data ?? []).toEqual([]);
    }
    expect((await clientOf(ann).from("provider_configs").select(columns)).data).toHaveLength(1);
  });
});

describe("what the pages read and do", () => {
  test("lanes, keys, models, limits", async () => {
    expect(await admin("/lanes?model=gemma-4-31b-it")).toMatchObject({
      status: 200,
      lanes: [{ quota_project: "demo-one" }, { quota_project: "demo-two" }],
    });
    expect((await admin("/keys")).keys.length).toBeGreaterThan(2);
    expect((await admin("/models")).models.map(({ model }: { model: string }) => model)).toContain(
      "gemma-4-31b-it",
    );
    expect((await admin("/limits")).models.length).toBeGreaterThan(5);
    expect(await admin("/limits/set", { changes: [{ model: "gemini-3.5-flash", rpm: 6 }] })).toMatchObject({
      changed: [{ model: "gemini-3.5-flash", rpm: 6 }],
    });
  });

  test.each([true, false])(
    "a call out of the playground ends when its reader goes, streamed: %s",
    async (stream) => {
      const model = "gemini-2.5-flash";
      const control = (method: string, body?: unknown) =>
        fetch(`${stack.emulatorUrl}/__control/faults`, {
          method,
          ...(body !== undefined && { body: JSON.stringify(body) }),
        }).then((answer) => answer.body?.cancel());
      await control("POST", [{ kind: "hang", match: { model }, times: null }]);
      const request_id = `stopped-${stream}`;
      const state = async () =>
        [
          ...await sql`select state from eve.requests where request_id = ${request_id}`,
          ...await sql`select 'running' as state from eve.inflight where request_id = ${request_id}`,
        ].map(({ state }) => state).join();
      const controller = new AbortController();
      try {
        const asking = fetch(`${stack.url}/functions/v1/admin/invoke`, {
          method: "POST",
          headers: { apikey: stack.keys.publishable, authorization: `Bearer ${ann}` },
          body: JSON.stringify({ model, prompt: "Hello", stream, request_id }),
          signal: controller.signal,
        }).then((answer) => answer.text()).catch(() => "");
        await expect.poll(state).toBe("running");
        controller.abort();
        await asking;
        await expect.poll(state, { timeout: 20_000 }).toBe("cancelled");
      } finally {
        await control("DELETE");
      }
    },
  );

  test("what somebody else has changed meanwhile is not switched, kept or cleared by those who saw it before", async () => {
    const stale = { status: 409, error: { code: "changed_meanwhile" } };
    const name = "seen-before";
    const { consumer: seen } = await admin("/consumers/add", { name, kind: "service", rpm: 5 });
    await admin("/consumers/scope", { name, rpm: 9 });
    const { rpm, is_active } = seen;
    expect(await admin("/consumers/enable", { name, enabled: false, seen: { rpm, is_active } }))
      .toMatchObject(
        stale,
      );
    expect((await admin(`/consumers?name=${name}`)).consumers[0].is_active).toBe(true);
    expect(await admin("/consumers/enable", { name, enabled: false, seen: { rpm: 9, is_active } }))
      .toMatchObject({ status: 200, consumer: { is_active: false } });

    const none = { ttl_s: null, by_tenant: null };
    const hour = { name, ttl_s: 3_600, by_tenant: true };
    expect(await admin("/cache/consumer", { ...hour, seen: none })).toMatchObject({ status: 200 });
    expect(await admin("/cache/consumer", { name, ttl_s: 60, seen: none })).toMatchObject(stale);
    expect((await admin(`/cache?consumer=${name}`)).consumers).toMatchObject([{
      ttl_s: 3_600,
      by_tenant: true,
    }]);
    expect(await admin("/cache/consumer", { name, ttl_s: null, seen: { ttl_s: 3_600, by_tenant: true } }))
      .toMatchObject({ status: 200, ttl_s: null });

    const lane = { quota_project: "demo-one", model: "gemini-3.5-flash" };
    const own = async (rpd: number) =>
      await admin("/limits/set", {
        changes: [{ model: lane.model, rpm: 1, tpm: null, rpd }],
        quota_project: lane.quota_project,
      });
    await own(7);
    await own(8);
    const limits = { rpm: 1, tpm: null, rpd: 7 };
    expect(await admin("/limits/clear", { ...lane, seen: limits })).toMatchObject(stale);
    expect(await admin("/limits/clear", { quota_project: lane.quota_project, seen: limits })).toMatchObject({
      status: 400,
    });
    expect(await admin("/limits/clear", { ...lane, seen: { ...limits, rpd: 8 } })).toMatchObject({
      cleared: [lane.model],
    });
    // Somebody else has cleared it.
    expect(await admin("/limits/clear", { ...lane, seen: { ...limits, rpd: 8 } })).toMatchObject(stale);
    await admin("/consumers/remove", { name });
  });

  test("a copied table of limits is compared first, and changes what was shown, or nothing", async () => {
    const table = "Model\tRPM\tTPM\tRPD\nGemini 3.5 Flash-Lite\t16\t250,000\t500\nSome Model\t1\t1\t1";
    const shown = await admin("/limits/import", { text: table });
    expect(shown).toMatchObject({
      applied: false,
      changes: [{ model: "gemini-3.5-flash-lite", before: { rpm: 15 }, after: { rpm: 16 } }],
      unknown: [{ name: "Some Model" }],
      problems: [],
    });
    const rpm = async () =>
      (await admin("/limits")).models.find(({ model }: { model: string }) =>
        model === "gemini-3.5-flash-lite"
      ).rpm;
    expect(await rpm()).toBe(15);
    await admin("/limits/set", { changes: [{ model: "gemini-3.5-flash-lite", rpm: 14 }] });
    expect(await admin("/limits/import", { text: table, planned: shown.changes })).toMatchObject({
      status: 409,
      error: { code: "changed_meanwhile" },
    });
    const { changes } = await admin("/limits/import", { text: table });
    expect(await admin("/limits/import", { text: table, planned: changes })).toMatchObject({ applied: true });
    expect(await rpm()).toBe(16);
    const wrong = "Model,RPM\ngemini-3.5-flash-lite,many";
    expect(await admin("/limits/import", { text: wrong })).toMatchObject({ problems: [{ line: 2 }] });
    expect(await admin("/limits/import", { text: wrong, planned: changes })).toMatchObject({ status: 400 });
    for (const more of [{ quota_project: "nobody's" }, { quota_project: "demo-one", add_models: true }]) {
      expect(await admin("/limits/import", { text: table, ...more })).toMatchObject({ status: 400 });
    }
  });

  test("a consumer is added, scoped, rotated, switched off and removed; its call is found", async () => {
    const { consumer, secret } = await admin("/consumers/add", { name: "bot", kind: "service" });
    expect(consumer).toMatchObject({ name: "bot", models: null });
    const said = await stack.invoke("llm-invoke", {
      model: "gemma-4-31b-it",
      prompt: "Hello",
      request_id: "of-bot",
    }, {
      headers: { apikey: secret },
    });
    expect(said.status).toBe(200);
    await said.body?.cancel();
    await expect.poll(async () => (await admin("/requests?consumer=bot")).requests)
      .toMatchObject([{ request_id: "of-bot", state: "succeeded" }]);
    expect(await admin("/requests/detail?request_id=of-bot")).toMatchObject({
      status: 200,
      request_id: "of-bot",
    });
    expect(await admin("/consumers/scope", { name: "bot", models: ["gemini-3.5-flash"], rpm: 3 }))
      .toMatchObject({
        consumer: { models: ["gemini-3.5-flash"], rpm: 3 },
      });
    const refused = await stack.invoke("llm-invoke", { model: "gemma-4-31b-it", prompt: "Hello" }, {
      headers: { apikey: secret },
    });
    expect(await refused.json()).toMatchObject({ error: { code: "model_not_allowed" } });
    expect((await admin("/consumers/rotate", { name: "bot" })).secret).not.toBe(secret);
    expect(await admin("/consumers/enable", { name: "bot", enabled: false })).toMatchObject({
      consumer: { is_active: false },
    });
    expect(await admin("/consumers/remove", { name: "bot" })).toMatchObject({ removed: "bot" });
    expect(JSON.stringify(await admin("/consumers"))).not.toContain(secret);
  });

  test("a consumer's scopes and tenant are set, and its next call knows", async () => {
    expect(await admin("/tenants/add", { id: "acme", name: "Acme", storage_limit_bytes: 1_000_000 }))
      .toMatchObject({ status: 200, tenant: { id: "acme", is_default: false, consumers: 0 } });
    const { consumer, secret } = await admin("/consumers/add", {
      name: "archive",
      kind: "service",
      scopes: ["llm", "media"],
      tenant_id: "acme",
    });
    expect(consumer).toMatchObject({ scopes: ["llm", "media"], tenant_id: "acme" });
    const quota = async () => {
      const response = await fetch(`${stack.url}/functions/v1/api/v1/storage/quota`, {
        headers: { apikey: secret },
      });
      return { status: response.status, ...await response.json() };
    };
    expect(await quota()).toMatchObject({
      status: 200,
      tenant_id: "acme",
      tenant: { limit_bytes: 1_000_000 },
    });
    expect(await admin("/consumers/access", { name: "archive", tenant_id: "default" })).toMatchObject({
      consumer: { scopes: ["llm", "media"], tenant_id: "default" },
    });
    expect(await quota()).toMatchObject({ status: 200, tenant_id: "default" });
    expect(await admin("/consumers/access", { name: "archive", scopes: ["llm"] })).toMatchObject({
      consumer: { scopes: ["llm"], tenant_id: "default" },
    });
    expect(await quota()).toMatchObject({ status: 403, error: { code: "credential_insufficient" } });
    for (
      const [changes, code, message] of [
        [{}, "invalid_request", /scopes \(some of llm, media/],
        [{ scopes: [] }, "invalid_request", /scopes/],
        [{ scopes: ["root"] }, "invalid_request", /some of llm, media, chats, vision, intake/],
        [{ scopes: ["llm"], x: 1 }, "invalid_request", /x: this endpoint knows no such field/],
        [{ tenant_id: "nobody" }, "invalid_argument", /no tenant nobody/],
      ] as const
    ) {
      expect(await admin("/consumers/access", { name: "archive", ...changes })).toMatchObject({
        status: 400,
        error: { code, message: expect.stringMatching(message) },
      });
    }
    expect(await admin("/consumers?name=archive")).toMatchObject({
      consumers: [{ scopes: ["llm"], tenant_id: "default" }],
    });
    await admin("/consumers/remove", { name: "archive" });
  });

  test("tenants are changed, and their members named", async () => {
    expect(await admin("/tenants/add", { id: "team" })).toMatchObject({
      tenant: { storage_limit_bytes: null },
    });
    expect(await admin("/tenants/change", { id: "team", storage_limit_bytes: 5 })).toMatchObject({
      tenant: { id: "team", storage_limit_bytes: 5 },
    });
    const user_id = crypto.randomUUID();
    const set = (is_member: boolean) =>
      admin("/tenants/members/set", { tenant_id: "team", user_id, is_member });
    expect([await set(true), await set(true)]).toMatchObject([{ changed: true }, { changed: false }]);
    expect(await admin("/tenants/members?tenant_id=team")).toMatchObject({ members: [{ user_id }] });
    expect(await admin("/tenants?id=team")).toMatchObject({ tenants: [{ id: "team", members: 1 }] });
    expect(await set(false)).toMatchObject({ changed: true });
    for (
      const [path, body, code, message] of [
        ["add", { id: "team" }, "invalid_argument", /a tenant team already/],
        ["add", { id: "../x" }, "invalid_argument", /does not begin with a dot/],
        ["change", { id: "team" }, "invalid_argument", /at least one field/],
        ["change", { id: "nobody", name: "x" }, "invalid_argument", /no tenant nobody/],
        ["change", { id: "team", is_default: false }, "invalid_request", /is_default/],
        ["members/set", { tenant_id: "team", user_id: "ann", is_member: true }, "invalid_request", /user_id/],
      ] as const
    ) {
      expect(await admin(`/tenants/${path}`, body)).toMatchObject({
        status: 400,
        error: { code, message: expect.stringMatching(message) },
      });
    }
  });

  test("usage, tokens and alerts answer", async () => {
    const week = await admin("/usage?by=day,model");
    expect(week).toMatchObject({ status: 200, by: ["day", "model"] });
    // Without a time it is seven whole days, and what is told beside it is of the same.
    const parts = await admin("/usage/parts");
    expect(new Date(parts.since)).toEqual(new Date(week.since));
    expect(week.since).toBe((await admin("/usage?by=model&days=7")).since);
    expect(await admin("/usage?by=consumer&top=1")).toMatchObject({
      status: 200,
      others_of: expect.any(Number),
    });
    for (const wrong of ["by=consumer&top=101", "by=day&top=3", "days=3&since=2026-11-01T00:00:00Z"]) {
      expect(await admin(`/usage?${wrong}`), wrong).toMatchObject({ status: 400 });
    }
    expect(await admin("/tokens")).toMatchObject({ tokens: [] });
    expect(await admin("/alerts")).toMatchObject({ status: 200 });
  });

  test("the playground calls a model, whole and as a stream, and the record says whose it was", async () => {
    expect(await admin("/invoke", { model: "gemma-4-31b-it", prompt: "Say hello" })).toMatchObject({
      status: 200,
      key_alias: expect.any(String),
    });
    const response = await fetch(`${stack.url}/functions/v1/admin/invoke`, {
      method: "POST",
      headers: { apikey: stack.keys.publishable, authorization: `Bearer ${ann}` },
      body: JSON.stringify({
        model: "gemma-4-31b-it",
        prompt: "Say hello",
        stream: true,
        request_id: "played",
      }),
    });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    expect(await response.text()).toContain("event: done");
    await expect.poll(async () => (await admin("/requests/detail?request_id=played")).metadata)
      .toMatchObject({ administrator: "ann@example.com" });
  });

  test("what is nowhere, or asked in another way, is refused", async () => {
    expect(await admin("/nowhere")).toMatchObject({ status: 404 });
    expect(await admin("/providers/update")).toMatchObject({ status: 405 });
    expect(await admin("/requests?colour=red")).toMatchObject({
      status: 400,
      error: { code: "invalid_request" },
    });
    expect(await admin("/requests/detail?request_no=999999")).toMatchObject({ status: 400 });
  });
});
