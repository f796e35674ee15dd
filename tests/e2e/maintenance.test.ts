/** The function maintenance over HTTP, through the real stack, with Google AI played by the emulator. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { checkHosted } from "../../cli/check_hosted.ts";
import { supabaseCli } from "../../cli/deploy/supabase_cli.ts";
import { inWords } from "../../cli/hosted/report.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { ACCESS_TOKEN, cliAccount } from "../deploy/cli_account.ts";
import { startManagementApi } from "../deploy/management_api.ts";
import { empty } from "../harness/rows.ts";
import { makeTestFolder } from "../harness/folders.ts";
import { holdUp } from "../harness/held_up.ts";
import { until } from "../harness/patience.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

let stack: TestStack;
let sql: postgres.Sql;
beforeAll(async () => {
  stack = await startTestStack({ env: { EVE_METRICS_KEY: "a-key-for-metrics-alone" } });
  sql = postgres(stack.databaseUrl, { onnotice: () => {} });
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});
beforeEach(async () => {
  await fetch(`${stack.emulatorUrl}/__control/faults`, { method: "DELETE" });
  await empty(sql, "public.google_ai_maintenance_log");
  await sql`update eve.operations set run_id = null, lease_until = null`;
  await sql`update public.google_ai_api_keys set is_active = true, blocked_until = null, blocked_reason = null`;
});

// deno-lint-ignore no-explicit-any -- the answers are JSON whose fields the tests look at.
type Answer = any;

async function run(operation: string, body?: unknown): Promise<{ status: number; body: Answer }> {
  const response = await stack.invoke(`maintenance/${operation}`, body);
  return { status: response.status, body: await response.json() };
}
async function fault(error: string, key: string): Promise<void> {
  const body = { kind: "status", error, times: null, match: { key, method: "listModels" } };
  const response = await fetch(`${stack.emulatorUrl}/__control/faults`, {
    method: "POST",
    body: JSON.stringify(body),
  });
  expect(response.status).toBe(200);
  await response.body?.cancel();
}
const logged = async (operation: string) => [
  ...await sql`
    select status, deleted_count, tables_affected, details, completed_at is not null as ended
    from public.google_ai_maintenance_log where operation = ${operation} order by id`,
];
const keys = async () =>
  Object.fromEntries(
    (await sql`select key_alias, is_active, blocked_reason from public.google_ai_api_keys order by key_alias`)
      .map((
        row,
      ) => [row.key_alias, row.is_active ? row.blocked_reason ?? "on" : `off: ${row.blocked_reason}`]),
  );

describe("who may", () => {
  const ask = (headers: Record<string, string>, path = "sweep", method = "POST") =>
    fetch(`${stack.url}/functions/v1/maintenance/${path}`, { method, headers });
  const code = async (response: Response) => (await response.json()).error.code;

  test("the project's secret key does, in either place", async () => {
    for (
      const headers of [{ apikey: stack.keys.secret }, { authorization: `Bearer ${stack.keys.secret}` }]
    ) {
      const response = await ask(headers as unknown as Record<string, string>);
      expect(response.status).toBe(200);
      await response.body?.cancel();
    }
  });

  test.each([
    ["nobody", {}, 401, "credential_missing"],
    ["a wrong key", { apikey: "sb_secret_wrong" }, 401, "credential_invalid"],
    ["the publishable key", { apikey: "publishable" }, 403, "credential_insufficient"],
    [
      "a wrong key beside the right one",
      { apikey: "secret", authorization: "Bearer x" },
      401,
      "credential_invalid",
    ],
    ["the metrics' key", { apikey: "a-key-for-metrics-alone" }, 401, "credential_invalid"],
  ])("%s does not", async (_, headers: Record<string, string>, status, expected) => {
    const { publishable, secret } = stack.keys;
    const filled = Object.fromEntries(
      Object.entries(headers).map((
        [name, value],
      ) => [name, value === "publishable" ? publishable : value === "secret" ? secret : value]),
    );
    for (const path of ["sweep", "connect", "nothing"]) {
      const response = await ask(filled, path);
      expect([response.status, await code(response)]).toEqual([status, expected]);
    }
    expect(await logged("sweep")).toEqual([]);
  });

  test("neither does a consumer with a key of its own", async () => {
    const response = await ask({ authorization: `Bearer eve_sk_${"0".repeat(16)}_${"0".repeat(43)}` });
    expect(response.status).toBe(401);
    await response.body?.cancel();
  });

  test("the metrics open to their own key, and the runs to none but the project's", async () => {
    for (const key of ["a-key-for-metrics-alone", stack.keys.secret]) {
      const response = await ask({ apikey: key }, "metrics", "GET");
      expect(response.status).toBe(200);
      expect(await response.text()).toContain("# TYPE eve_build_info");
    }
    const refused = await ask({}, "metrics", "GET");
    expect([refused.status, await code(refused)]).toEqual([401, "credential_missing"]);
  });
});

describe("routes", () => {
  test.each([
    ["POST", "tidy", undefined, 404, "not_found"],
    ["GET", "sweep", undefined, 405, "method_not_allowed"],
    ["POST", "metrics", undefined, 404, "not_found"],
    ["POST", "sweep", "{", 400, "invalid_json"],
    ["POST", "sweep", '{"time_limit_ms": 5}', 400, "invalid_request"],
    ["POST", "sweep", '{"tables": ["eve.requests"]}', 400, "invalid_request"],
    ["POST", "sweep", '{"source": "<script>"}', 400, "invalid_request"],
  ])("%s /%s with %s", async (method, path, body, status, code) => {
    const response = await stack.invoke(`maintenance/${path}`, undefined, { method, body });
    expect([response.status, (await response.json()).error.code]).toEqual([status, code]);
    expect(await logged("sweep")).toEqual([]);
  });
});

describe("what is SQL", () => {
  test.each(["sweep", "retention", "rollup", "report"])(
    "%s runs to its end and is logged",
    async (operation) => {
      const { status, body } = await run(operation, { source: "a person" });
      expect([status, body.status, body.operation, body.more]).toEqual([
        200,
        "succeeded",
        operation,
        false,
      ]);
      expect(await logged(operation)).toMatchObject([
        { status: "succeeded", ended: true, details: { source: "a person" } },
      ]);
    },
  );

  test("goes step by step, and ends when its time is up", async () => {
    await sql`insert into public.token_usage (ts, model) select now() - interval '2 years', 'm' from generate_series(1, 3000)`;
    await sql`update eve.retention set batch_rows = 100 where table_name = 'public.token_usage'`;
    // Each step takes longer than the whole run may.
    await sql.unsafe(`
      create function public.slow() returns trigger language plpgsql as 'begin perform pg_sleep(2.1); return null; end';
      create trigger slow after delete on public.token_usage for each statement execute function public.slow();
    `).simple();
    try {
      const { body } = await run("retention", { time_limit_ms: 2000 });
      expect(body).toMatchObject({ status: "succeeded", more: true });
      expect(body.count).toBeGreaterThanOrEqual(100);
      expect(body.count).toBeLessThan(3000);
    } finally {
      await sql.unsafe(`drop trigger slow on public.token_usage; drop function public.slow`).simple();
    }
    const { body } = await run("retention");
    expect(body).toMatchObject({ status: "succeeded", more: false });
    expect(
      await sql`select count(*)::integer as n from public.token_usage where ts < now() - interval '1 year'`,
    )
      .toEqual([{ n: 0 }]);
  });

  test("fails with its reason, in the answer and in the log", async () => {
    await sql`alter table eve.rollup_progress rename to away`;
    try {
      const { status, body } = await run("rollup");
      expect(status).toBe(500);
      expect(body).toMatchObject({ status: "failed", error: { code: "internal" } });
      expect(body.error.detail).toContain("rollup_progress");
    } finally {
      await sql`alter table eve.away rename to rollup_progress`;
    }
    expect(await logged("rollup")).toMatchObject([
      { status: "failed", ended: true, details: { error: expect.stringContaining("rollup_progress") } },
    ]);
  });

  test("two at once: one runs, the other is refused, and both are logged", async () => {
    const answers = await Promise.all(Array.from({ length: 6 }, () => run("retention")));
    const ran = answers.filter(({ body }) => body.status === "succeeded").length;
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    expect(ran).toBeGreaterThanOrEqual(1);
    expect(answers.filter(({ body }) => body.status === "skipped")).toHaveLength(6 - ran);
    expect((await logged("retention")).map((row) => row.status).sort()).toEqual(
      [...Array(6 - ran).fill("skipped"), ...Array(ran).fill("succeeded")],
    );
  });

  test("goes on when the client that asked for it has gone", async () => {
    const gone = new AbortController();
    await sql.unsafe(`
      insert into eve.refusals (refused_at, request_id, attempt, class, endpoint, model, code, tokens)
      values (now() - interval '1 minute', 'r', 1, 'batch', 'native', 'm', 'rate_limited', 1);
    `).simple();
    const held = await holdUp(stack.databaseUrl, "after insert on eve.usage_hours");
    try {
      const asked = stack.invoke("maintenance/rollup", {}, { signal: gone.signal }).catch(() => "gone");
      await held.arrived();
      gone.abort();
      expect(await asked).toBe("gone");
    } finally {
      await held.release();
    }
    await until(async () => (await logged("rollup"))[0]?.ended);
    expect(await logged("rollup")).toMatchObject([{ status: "succeeded" }]);
  });
});

describe("key_health", () => {
  test("finds every key working, and uses no quota for it", async () => {
    const before = await (await fetch(`${stack.emulatorUrl}/__control/stats`)).json();
    const { body } = await run("key_health");
    expect(body.details.keys).toEqual({ "demo-a": "works", "demo-b": "works", "demo-c": "works" });
    const after = await (await fetch(`${stack.emulatorUrl}/__control/stats`)).json();
    expect(after.lanes).toEqual(before.lanes);
    expect(after.lastAdmitted).toEqual(before.lastAdmitted);
  });

  test("switches off a leaked key for good, and lets one that was off for a passing reason come back", async () => {
    await fault("key_leaked", "demo-key-a");
    await fault("service_disabled", "demo-key-b");
    await fault("overloaded", "demo-key-c");
    const { body } = await run("key_health");
    expect(body).toMatchObject({
      status: "succeeded",
      count: 2,
      details: {
        keys: { "demo-a": "key_leaked", "demo-b": "service_disabled", "demo-c": "upstream_unavailable" },
        changed: { "demo-a": "disabled", "demo-b": "disabled" },
      },
    });
    expect(await keys()).toEqual({
      "demo-a": "off: key_leaked",
      "demo-b": "off: service_disabled",
      "demo-c": "on",
    });

    await fetch(`${stack.emulatorUrl}/__control/faults`, { method: "DELETE" });
    const { body: later } = await run("key_health");
    expect(later.details).toEqual({
      keys: { "demo-b": "works", "demo-c": "works" },
      changed: { "demo-b": "enabled" },
    });
    expect(await keys()).toEqual({ "demo-a": "off: key_leaked", "demo-b": "on", "demo-c": "on" });
  });

  test("marks a key whose secret is not set; no secret and no key is in the log", async () => {
    await sql`
      insert into public.google_ai_api_keys (key_alias, env_var_name) values ('without', 'GOOGLE_API_KEY_NOT_SET'), ('service', 'SUPABASE_SECRET_KEYS')`;
    try {
      const { body } = await run("key_health");
      expect(body.details.keys).toMatchObject({ without: "secret_missing", service: "secret_missing" });
      expect(await keys()).toMatchObject({ without: "secret_missing", service: "secret_missing" });
    } finally {
      await sql`delete from public.google_ai_api_keys where key_alias in ('without', 'service')`;
    }
    await fault("key_suspended", "demo-key-a");
    await run("key_health");
    const everything = JSON.stringify([
      await sql`select * from public.google_ai_maintenance_log`,
      await sql`select * from eve.key_checks`,
      await sql`select * from eve.alerts`,
      stack.printed,
    ]);
    for (const secret of ["demo-key-a", "demo-key-b", stack.keys.secret]) {
      expect(everything).not.toContain(secret);
    }
  });
});

describe("models_sync", () => {
  test("takes down each key's list, and tells nothing that is no news", async () => {
    const { body } = await run("models_sync");
    expect(body.status).toBe("succeeded");
    expect(body.details).toMatchObject({
      unanswered: {},
      appeared: {},
      vanished: {},
      served_but_vanished: [],
    });
    expect(Object.keys(body.details.listed)).toEqual(
      expect.arrayContaining(["demo-a", "demo-b", "demo-c"]),
    );
    expect(
      await sql`select distinct model from eve.key_models where model in ('gemma-4-31b-it', 'gemma-3-27b-it')`,
    )
      .toEqual([{ model: "gemma-4-31b-it" }]);
  });

  test("keeps the lists it has where upstream does not answer", async () => {
    await run("models_sync");
    await fault("overloaded", "demo-key-a");
    const { body } = await run("models_sync");
    expect(body.details.unanswered).toEqual({ "demo-a": "upstream_unavailable" });
    expect(await sql`select from eve.key_models where vanished_at is not null`).toHaveLength(0);
  });

  test("says which model has gone, and which is back", async () => {
    await run("models_sync");
    await sql`delete from eve.key_models where model = 'gemma-4-31b-it'`;
    await sql`
      insert into eve.key_models (key_id, model, first_listed_at, last_listed_at)
      select id, 'gemini-0.1-pro', now(), now() from public.google_ai_api_keys where key_alias = 'demo-a'`;
    await sql`insert into public.google_ai_model_limits (model) values ('gemini-0.1-pro')`;
    const { body } = await run("models_sync");
    expect(body.details).toMatchObject({
      appeared: { "demo-a": ["gemma-4-31b-it"], "demo-b": ["gemma-4-31b-it"], "demo-c": ["gemma-4-31b-it"] },
      vanished: { "demo-a": ["gemini-0.1-pro"] },
      served_but_vanished: ["gemini-0.1-pro"],
    });
    await sql`delete from public.google_ai_model_limits where model = 'gemini-0.1-pro'`;
  });
});

test("connect puts this project's address and key into Vault, so that cron finds the function", async () => {
  await sql`delete from vault.secrets`;
  expect((await run("connect")).body).toEqual({
    status: "connected",
    changed: ["eve_project_url", "eve_secret_key"],
  });
  expect((await run("connect")).body).toEqual({ status: "connected", changed: [] });
  expect(await sql`select name, decrypted_secret from vault.decrypted_secrets order by name`).toEqual([
    { name: "eve_project_url", decrypted_secret: stack.url },
    { name: "eve_secret_key", decrypted_secret: stack.keys.secret },
  ]);
  expect(await sql`select eve.request_operation('key_health') ->> 'status' as status`).toEqual([
    { status: "asked" },
  ]);
});

describe("the check of a hosted project", () => {
  const REF = "abcdefghijklmnopqrst";

  test("asks the Supabase CLI for the key, measures what only a host can tell, and names neither project nor key", async () => {
    const folder = await makeTestFolder();
    const api = startManagementApi({
      ref: REF,
      name: "a test",
      accessToken: ACCESS_TOKEN,
      secretKey: stack.keys.secret,
    });
    try {
      const account = await cliAccount(api, folder.path);
      const said: string[] = [];
      const report = await checkHosted(["--project-ref", REF, "--url", stack.url], {
        cli: async (args) => {
          const { success, stdout, stderr } = await new Deno.Command(
            `${CHECKOUT}/node_modules/.bin/supabase`,
            {
              args: [...args, "--agent=no", `--workdir=${folder.path}`],
              env: account,
              stdin: "null",
            },
          ).output();
          const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
          return { success, stdout: out!, stderr: err! };
        },
        variable: () => undefined,
        say: (line) => said.push(line),
        version: "1.2.3",
      });
      expect(report).toMatchObject({
        gateway: "1.2.3",
        deno: Deno.version.deno,
        postgres: expect.stringMatching(/^1[5-9]/),
        extensions: {
          pg_cron: expect.any(String),
          pg_net: expect.any(String),
          supabase_vault: expect.any(String),
        },
        instances: 1,
        rest_ms: expect.any(Number),
        direct_ms: expect.any(Number),
        connections: { most: expect.any(Number), used: expect.any(Number) },
        resolve_dns: expect.any(Boolean),
        disconnect: "noticed",
        refusal_ms: { "llm-invoke": expect.any(Number), admin: expect.any(Number) },
        advice: expect.arrayContaining([expect.stringMatching(/REST API|EVE_LEDGER_TRANSPORT/)]),
      });
      const all = [...said, ...inWords(report!), JSON.stringify(report)].join("\n");
      for (const hidden of [REF, stack.keys.secret, new URL(stack.url).host]) {
        expect(all).not.toContain(hidden);
      }
    } finally {
      await Promise.all([api.stop(), folder.remove()]);
    }
  });

  test("says what is missing, and is for the secret key alone", async () => {
    const dependencies = {
      cli: supabaseCli(CHECKOUT),
      variable: (name: string) => name === "SUPABASE_SECRET_KEY" ? "sb_secret_wrong" : undefined,
      say: () => {},
      version: "1",
    };
    await expect(checkHosted([], dependencies)).rejects.toThrow("--project-ref");
    await expect(checkHosted(["--url", stack.url], dependencies)).rejects.toThrow("cut short");
    for (const path of ["check", "check/hold"]) {
      const response = await fetch(`${stack.url}/functions/v1/maintenance/${path}`, { method: "POST" });
      expect(response.status).toBe(401);
      await response.body?.cancel();
    }
    const wrong = await run("check/hold", { id: "x", ms: 1e9 });
    expect(wrong).toMatchObject({ status: 400, body: { error: { code: "invalid_request" } } });
  });
});
