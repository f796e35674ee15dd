/** A mistyped key and then the right one, on a whole stack: upstream is the emulator, which rejects what it does not know. */
import postgres from "postgres";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { freePorts } from "../../local/ports.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import { type Stack, startStack } from "../../local/stack.ts";
import { secretHash } from "../../shared/secrets/key_facts.ts";
import { copyTemplate } from "../harness/cluster_template.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";

/** In place of the three that the emulator knows. */
const MISTYPED = {
  GOOGLE_API_KEY_DEMO_A: "demo-key-q",
  GOOGLE_API_KEY_DEMO_B: "demo-key-r",
  GOOGLE_API_KEY_DEMO_C: "demo-key-s",
};

let folder: TestFolder;
let dataDir: string;
let port: number;
let stack: Stack | undefined;
let sql: postgres.Sql;
const logged: string[] = [];

beforeAll(async () => {
  folder = await makeTestFolder();
  dataDir = `${folder.path}/data`;
  [port] = freePorts(3) as [number];
  const template = inject("clusterTemplate");
  if (template) await copyTemplate(template, dataDir);
});
afterAll(async () => {
  await end();
  await removeHomeElsewhere(dataDir);
  await folder.remove();
});

async function begin(env: Record<string, string> = {}) {
  logged.length = 0;
  stack = await startStack({
    dataDir,
    port,
    durable: false,
    schedule: false,
    emulator: { latencyMs: 5 },
    env,
    log: (line) => logged.push(line),
  });
  sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
}
async function end() {
  await sql?.end();
  await stack?.stop();
  stack = undefined;
}

const invoke = (path: string, body: unknown) =>
  fetch(`${stack!.url}/functions/v1/${path}`, {
    method: "POST",
    headers: { apikey: stack!.keys.secret, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
async function ask(): Promise<string | number> {
  const response = await invoke("llm-invoke", { model: "gemma-4-31b-it", prompt: "Hello" });
  const { error } = await response.json();
  return error?.code ?? response.status;
}
const states = async () =>
  (await sql`select is_active, blocked_reason from public.google_ai_api_keys`).map((row) => ({ ...row }));
const REJECTED = { is_active: false, blocked_reason: "key_invalid" };
const ON = { is_active: true, blocked_reason: null };

/** As upstream leaves keys that it has rejected with another secret than is set now. */
async function rejectedWithAnother() {
  const keys = await sql`
    update public.google_ai_api_keys
    set is_active = false, blocked_until = 'infinity', blocked_reason = 'key_invalid'
    returning id`;
  for (const { id } of keys) {
    await sql`select eve.remember_rejected_secret(${id}, ${await secretHash(id, "mistyped")})`;
  }
}

test("[fault.key-mistyped] the right secret after a mistyped one is all it takes", async () => {
  await begin(MISTYPED);
  expect(await ask()).toBe("key_rejected");
  await expect.poll(states).toEqual([REJECTED, REJECTED, REJECTED]);
  expect(await ask()).toBe("no_active_key");
  const kept = JSON.stringify(await sql`select * from eve.rejected_secrets`);
  expect(kept).toMatch(/[0-9a-f]{64}/);
  for (const secret of Object.values(MISTYPED)) expect(kept).not.toContain(secret);
  await end();

  await begin(MISTYPED);
  expect(logged.filter((line) => line.includes("used again"))).toEqual([]);
  expect(await ask()).toBe("no_active_key");
  await end();

  await begin();
  expect(logged.filter((line) => line.includes("used again"))).toHaveLength(3);
  expect(await ask()).toBe(200);
  expect(await states()).toEqual([ON, ON, ON]);
  expect(await sql`select from eve.alerts where closed_at is null`).toHaveLength(0);
});

test("[fault.key-mistyped] a function with another secret needs nobody to tell it: the request that finds no key is served", async () => {
  await rejectedWithAnother();
  expect(await ask()).toBe(200);
  expect(await states()).toEqual([ON, ON, ON]);
});

test("key_health asks upstream about it, and switches it on", async () => {
  await rejectedWithAnother();
  const run = await (await invoke("maintenance/key_health", {})).json();
  expect(run.details.changed).toEqual({ "demo-a": "enabled", "demo-b": "enabled", "demo-c": "enabled" });
  expect(await states()).toEqual([ON, ON, ON]);
});

test("what a person has switched off stays off", async () => {
  await rejectedWithAnother();
  await sql`update public.google_ai_api_keys set is_active = true`;
  await sql`update public.google_ai_api_keys set is_active = false`;
  expect(await ask()).toBe("no_active_key");
  await invoke("maintenance/key_health", {});
  await end();
  await begin();
  expect(await ask()).toBe("no_active_key");
});
