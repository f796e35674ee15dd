/** Stages from outside: what a person saves serves the next call, by the stage's own key, and every bound holds. */
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type FakeServer, serveFake } from "../fakes/fake_api.ts";
import { fakeOpenAi } from "../fakes/openai_api.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

const openai = fakeOpenAi();
openai.keys.set("sk-from-environment", "good");
let upstream: FakeServer;
beforeAll(() => {
  upstream = serveFake(openai.handler);
});
afterAll(() => upstream?.close());

// deno-lint-ignore no-explicit-any -- JSON whose fields the tests look at.
async function said(response: Response): Promise<any> {
  return { status: response.status, headers: response.headers, ...await response.json() };
}

describe("a stage in place of a model", () => {
  let stack: TestStack;
  let sql: postgres.Sql;
  beforeAll(async () => {
    stack = await startTestStack();
    sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
  });
  afterAll(async () => {
    await sql?.end();
    await stack?.stop();
  });
  beforeEach(() => {
    openai.seen.length = 0;
  });

  const ask = async (body: Record<string, unknown>, init?: RequestInit) =>
    await said(await stack.invoke("llm-invoke", { prompt: "Write a poem", ...body }, init));
  const admin = async (path: string, body: unknown) => await said(await stack.invoke(`admin${path}`, body));
  const save = (more: Record<string, unknown> = {}) =>
    admin("/providers/update", {
      stage_type: "POEM",
      provider_kind: "openai",
      api_key: "sk-good",
      settings: { base_url: `${upstream.url}/v1` },
      ...more,
    });

  test("that nobody has set up is served by the environment, and says so", async () => {
    const answer = await ask({ stage: "poem" });
    expect(answer).toMatchObject({
      status: 200,
      model: "gemini-3.5-flash",
      stage: { stage_type: "POEM", source: "environment", provider_kind: "gemini" },
    });
    expect(answer.headers.get("x-eve-stage")).toBe("POEM");
    expect(answer.headers.get("x-eve-stage-source")).toBe("environment");
  });

  test("that nothing can serve, or that there is not, is refused in words", async () => {
    expect(await ask({ stage: "VOICE" })).toMatchObject({ status: 503, error: { code: "stage_not_set_up" } });
    expect(await ask({ stage: "DANCE" })).toMatchObject({
      status: 404,
      error: { code: "unknown_stage", details: { stages: ["POEM", "VOICE", "SONG", "CLIP"] } },
    });
    for (
      const body of [{}, { stage: "POEM", model: "gemma-4-31b-it" }, { stage: "a stage" }, {
        model: ["stage:POEM", "gemma-4-31b-it"],
      }]
    ) {
      expect(await ask(body), JSON.stringify(body)).toMatchObject({
        status: 400,
        error: { code: "invalid_request" },
      });
    }
  });

  test("is served by what was saved, at once, by the stage's own key; and a new model at once", async () => {
    await save();
    const answer = await ask({ stage: "POEM" });
    expect(answer).toMatchObject({
      status: 200,
      text: "You said: Write a poem",
      model: "openai/gpt-5-mini",
      key_alias: "stage-poem",
      stage: { stage_type: "POEM", source: "configuration", provider_kind: "openai" },
      usage: { input_tokens: 19, output_tokens: 7, thoughts_tokens: 3, cached_tokens: 4, total_tokens: 29 },
      finish_reason: "STOP",
    });
    expect(openai.seen.at(-1)).toMatchObject({
      path: "/chat/completions",
      key: "sk-good",
      body: { model: "gpt-5-mini" },
    });
    await save({ model: "gpt-5", api_key: undefined });
    expect(await ask({ stage: "POEM" })).toMatchObject({ model: "openai/gpt-5" });
    expect(openai.seen.at(-1)).toMatchObject({ body: { model: "gpt-5" } });
  });

  test("streams, speaks JSON and calls tools like any model", async () => {
    const response = await stack.invoke("llm-invoke", {
      stage: "POEM",
      prompt: "Write a poem",
      stream: true,
    });
    expect(response.headers.get("x-eve-stage-source")).toBe("configuration");
    const text = await response.text();
    expect(text.match(/event: delta/g)!.length).toBeGreaterThan(2);
    expect(text).toContain("event: done");
    openai.next.push({
      choice: { message: { role: "assistant", content: '{"title":"Ode"}' }, finish_reason: "stop" },
    });
    const schema = { type: "object", properties: { title: { type: "string" } }, required: ["title"] };
    expect(await ask({ stage: "POEM", system: "Answer in JSON.", response_schema: schema })).toMatchObject({
      text: '{"title":"Ode"}',
    });
    expect(openai.seen.at(-1)).toMatchObject({
      body: {
        messages: [{ role: "system", content: "Answer in JSON." }, { role: "user", content: "Write a poem" }],
        response_format: { type: "json_schema", json_schema: { schema } },
      },
    });
  });

  test("is a model at OpenAI's endpoint", async () => {
    const client = new OpenAI({
      baseURL: `${stack.url}/functions/v1/llm-invoke/openai/v1`,
      apiKey: stack.keys.secret,
    });
    const completion = await client.chat.completions.create({
      model: "stage:POEM",
      messages: [{ role: "user", content: "Hello" }],
    });
    expect(completion.choices[0]!.message.content).toBe("You said: Hello");
    expect(openai.seen.at(-1)).toMatchObject({ key: "sk-good" });
  });

  test("is a model at Gemini's endpoint", async () => {
    const client = new GoogleGenAI({
      apiKey: stack.keys.secret,
      httpOptions: { baseUrl: `${stack.url}/functions/v1/llm-invoke` },
    });
    const answer = await client.models.generateContent({ model: "stage:POEM", contents: "Hello" });
    expect(answer.text).toBe("You said: Hello");
    expect(openai.seen.at(-1)).toMatchObject({ key: "sk-good" });
  });

  test("keeps limits, scopes and books like any model", async () => {
    await sql`update public.google_ai_model_limits set rpd = 0 where model = 'openai/gpt-5'`;
    expect(await ask({ stage: "POEM", mode: "no_wait" })).toMatchObject({
      status: 429,
      error: { code: "daily_limit" },
    });
    await sql`update public.google_ai_model_limits set rpd = null where model = 'openai/gpt-5'`;
    const { secret } = await admin("/consumers/add", {
      name: "poet",
      kind: "service",
      models: ["stage:POEM"],
    });
    const poet = { headers: { apikey: secret } };
    expect(await ask({ stage: "POEM", request_id: "ode" }, poet)).toMatchObject({
      status: 200,
      model: "openai/gpt-5",
    });
    expect(await ask({ model: "openai/gpt-5" }, poet)).toMatchObject({
      status: 403,
      error: { code: "model_not_allowed" },
    });
    // A consumer for all models is served by the stage's key through the stage alone; the project by its name too.
    const all = await admin("/consumers/add", { name: "all", kind: "service" });
    expect(await ask({ model: "openai/gpt-5", mode: "no_wait" }, { headers: { apikey: all.secret } }))
      .toMatchObject({
        status: 503,
        error: { code: "no_active_key" },
      });
    expect(await ask({ stage: "POEM" }, { headers: { apikey: all.secret } })).toMatchObject({ status: 200 });
    expect(await ask({ model: "openai/gpt-5" })).toMatchObject({ status: 200, key_alias: "stage-poem" });
    await expect.poll(async () =>
      await sql`select requested_model, model, state, input_tokens from eve.requests where request_id = 'ode'`
    ).toEqual([{
      requested_model: "stage:POEM",
      model: "openai/gpt-5",
      state: "succeeded",
      input_tokens: 19,
    }]);
  });

  test("whose key upstream refuses says so, and the key is switched off", async () => {
    openai.keys.delete("sk-good");
    expect(await ask({ stage: "POEM" })).toMatchObject({ status: 503, error: { code: "key_rejected" } });
    openai.keys.set("sk-good", "good");
    const [key] =
      await sql`select is_active, blocked_reason from public.google_ai_api_keys where env_var_name = 'stage:POEM'`;
    expect(key).toMatchObject({ is_active: false });
    const [config] =
      await sql`select status, status_reason from public.provider_configs where stage_type = 'POEM'`;
    expect(config).toEqual({
      status: "invalid",
      status_reason: "the provider refused the key during a call: key_invalid",
    });
    await save();
    expect(await ask({ stage: "POEM" })).toMatchObject({ status: 200 });
  });

  test("that goes over to the pool is never served by a stage's key", async () => {
    await save({ provider_kind: "gemini", api_key: undefined, settings: {} });
    expect(await ask({ stage: "POEM" })).toMatchObject({
      model: "gemini-3.5-flash",
      key_alias: expect.stringMatching(/^demo-/),
    });
  });
});

describe("maintenance", () => {
  test("asks every stage's provider: a model that has gone, a key that is dead, a provider that is silent", async () => {
    const stack = await startTestStack({ env: { GEMINI_API_KEY: "demo-key-b" } });
    try {
      const sync = async () => await said(await stack.invoke("maintenance/providers_sync", {}));
      const config = async () =>
        (await said(
          await stack.invoke("admin/providers?stage_type=POEM", undefined, { method: "GET" }),
        )).stages[0].config;
      // The first run fills the stage with what the environment holds, and asks at once.
      expect(await sync()).toMatchObject({
        status: "succeeded",
        details: { seeded: ["POEM"], stages: { POEM: "active" }, replaced: {} },
      });
      expect(await config()).toMatchObject({
        provider_kind: "gemini",
        updated_by: "environment",
        status: "active",
      });
      expect((await config()).models).toContain("gemini-3.5-flash");

      await stack.invoke("admin/providers/update", {
        stage_type: "POEM",
        provider_kind: "openai",
        api_key: "sk-good",
        model: "gpt-5",
        settings: { base_url: `${upstream.url}/v1` },
      });
      openai.models = ["gpt-6"];
      expect(await sync()).toMatchObject({
        details: { stages: { POEM: "warning" }, replaced: { POEM: "gpt-6" } },
      });
      expect(await config()).toMatchObject({
        model: "gpt-6",
        status: "warning",
        updated_by: "providers_sync",
      });
      openai.models = ["gpt-5-mini", "gpt-5", "gpt-6"];
      openai.keys.delete("sk-good");
      expect(await sync()).toMatchObject({ details: { stages: { POEM: "invalid" } } });
      expect(await config()).toMatchObject({ status: "invalid", models: ["gpt-6"] });
      openai.keys.set("sk-good", "good");
      await sync();
      // It serves, but nobody has chosen yet.
      expect(await config()).toMatchObject({ status: "warning", models: ["gpt-5", "gpt-5-mini", "gpt-6"] });
      // No key of a stage is looked for in the environment.
      const health = await said(await stack.invoke("maintenance/key_health", {}));
      expect(Object.keys(health.details.keys)).not.toContain("stage-poem");
      const { alerts } = await said(
        await stack.invoke("admin/alerts?state=all", undefined, { method: "GET" }),
      );
      expect(alerts.map(({ kind }: { kind: string }) => kind).sort()).toEqual([
        "model_vanished",
        "provider_key_invalid",
      ]);
    } finally {
      await stack.stop();
    }
  });
});

describe("the first run", () => {
  test("fills a stage out of the environment, once", async () => {
    const stack = await startTestStack({
      env: { OPENAI_API_KEY: "sk-from-environment", OPENAI_BASE_URL: `${upstream.url}/v1` },
    });
    try {
      const ask = async () =>
        await said(await stack.invoke("llm-invoke", { stage: "POEM", prompt: "Hello" }));
      expect(await ask()).toMatchObject({
        model: "openai/gpt-5-mini",
        stage: { source: "configuration" },
        key_alias: "stage-poem",
      });
      expect(openai.seen.at(-1)).toMatchObject({ key: "sk-from-environment" });
      await said(await stack.invoke("admin/providers/remove", { stage_type: "POEM" }));
      // Taken away by a person: the environment serves it, and fills it no more.
      expect(await ask()).toMatchObject({
        model: "openai/gpt-5-mini",
        stage: { source: "environment" },
        key_alias: "openai-api-key",
      });
    } finally {
      await stack.stop();
    }
  });
});
