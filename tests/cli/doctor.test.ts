/** The doctor on a running stack: green as it is, and red for what is really broken. */
import { createClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eve } from "../../cli/eve.ts";
import { connect } from "../../cli/eve/connection.ts";
import type { Check } from "../../cli/eve/doctor/checks.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

let stack: TestStack;
let sql: postgres.Sql;
beforeAll(async () => {
  stack = await startTestStack({ emulator: { latencyMs: 5 }, env: { GOOGLE_API_KEY_UNKNOWN: "not-a-key" } });
  // Whose tables the schedule's are.
  sql = postgres(stack.database.superuserUrl, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});

interface Verdict {
  code: number;
  state: Check["state"];
  /** By name: `red, what was found`. */
  found: (name: string) => string;
  bad: Check[];
}

async function examine(
  options: {
    url?: string;
    key?: string;
    now?: () => number;
    args?: string[];
    folder?: string;
    progress?: (doing: string) => void;
  } = {},
): Promise<Verdict> {
  const said: string[] = [];
  const code = await eve(["doctor", "--json", ...options.args ?? []], {
    say: (text) => said.push(text),
    complain: (text) => said.push(text),
    connect: () => ({
      ...connect(options.url ?? stack.url, options.key ?? stack.keys.secret),
      folder: options.folder,
    }),
    ...(options.now && { now: options.now }),
    ...(options.progress && { progress: options.progress }),
  });
  const { state, checks } = JSON.parse(said.join("\n")) as { state: Check["state"]; checks: Check[] };
  return {
    code,
    state,
    bad: checks.filter((check) => check.state !== "green"),
    found: (name) => {
      const check = checks.find((one) => one.name === name);
      return check === undefined ? "absent" : `${check.state}, ${check.found}`;
    },
  };
}

/** Breaks something, looks, and repairs it. */
async function whileBroken(
  broken: postgres.PendingQuery<postgres.Row[]>,
  repair: () => postgres.PendingQuery<postgres.Row[]>,
  options: Parameters<typeof examine>[0] = { args: ["--no-call"] },
): Promise<Verdict> {
  await broken;
  try {
    return await examine(options);
  } finally {
    await repair();
  }
}

test("a running stack is green in everything, and a real call was made", async () => {
  const { code, state, bad, found } = await examine();
  // Looking wakes no worker: one that is woken stays for some seconds.
  expect(await sql`select from eve.job_workers`).toHaveLength(0);
  expect(bad).toEqual([]);
  expect([code, state]).toEqual([0, "green"]);
  expect(found("test call")).toMatch(/^green, gemma-4-31b-it answered by demo-/);
  expect(found("key demo-a")).toMatch(/^green, GOOGLE_API_KEY_DEMO_A is set, and upstream takes it/);
});

test("it cannot be reached, or the key is not the project's", async () => {
  const nobody = await examine({ url: "http://127.0.0.1:9" });
  expect([nobody.code, nobody.found("project")]).toEqual([
    1,
    expect.stringMatching(/^red, .* does not answer/),
  ]);
  const wrong = await examine({ key: "sb_secret_wrong" });
  expect([wrong.code, wrong.found("project")]).toEqual([
    1,
    expect.stringMatching(/^red, .* refuses the key/),
  ]);
  const weak = await examine({ key: stack.keys.publishable });
  expect([weak.code, weak.found("project")]).toEqual([1, expect.stringMatching(/^red, .* refuses the key/)]);
});

test("a migration is missing", async () => {
  const [row] = await sql`
    delete from supabase_migrations.schema_migrations where version = '20261122000700' returning *
  `;
  const { code, found } = await whileBroken(
    sql`select`,
    () => sql`insert into supabase_migrations.schema_migrations ${sql(row!)}`,
  );
  expect([code, found("migrations")]).toEqual([
    1,
    expect.stringMatching(/^red, 1 of .* are not applied: 20261122000700/),
  ]);
});

test("a job is missing, is off, or has failed", async () => {
  const missing = await whileBroken(
    sql`update cron.job set jobname = 'elsewhere' where jobname = 'eve_sweep'`,
    () => sql`update cron.job set jobname = 'eve_sweep' where jobname = 'elsewhere'`,
  );
  expect(missing.found("cron jobs")).toBe("red, eve_sweep is missing");
  const off = await whileBroken(
    sql`update cron.job set active = false where jobname = 'eve_rollup'`,
    () => sql`update cron.job set active = true where jobname = 'eve_rollup'`,
  );
  expect(off.found("cron jobs")).toBe("red, eve_rollup is switched off");
  const failed = await whileBroken(
    sql`
      insert into cron.job_run_details (jobid, runid, status, return_message, start_time, end_time)
      select jobid, 1000000, 'failed', 'out of luck', now(), now() from cron.job where jobname = 'eve_report'
    `,
    () => sql`delete from cron.job_run_details where runid = 1000000`,
  );
  expect(failed.found("cron jobs")).toMatch(/^red, eve_report failed at .*: out of luck/);
});

test("Vault does not know where the project is", async () => {
  const { found } = await whileBroken(
    sql`update vault.secrets set name = 'elsewhere' where name = 'eve_secret_key'`,
    () => sql`update vault.secrets set name = 'eve_secret_key' where name = 'elsewhere'`,
  );
  expect(found("scheduled calls")).toMatch(/^red, Vault has no eve_secret_key/);
});

test("an operation failed, or has not run for too long", async () => {
  const failed = await whileBroken(
    sql`update eve.operations set last_status = 'failed', last_error = 'out of luck' where name = 'report'`,
    () => sql`update eve.operations set last_status = null, last_error = null where name = 'report'`,
  );
  expect(failed.found("maintenance")).toBe("red, report failed: out of luck");
  const late = await whileBroken(
    sql`update eve.maintenance_expected set since = now() - interval '2 days' where operation = 'report'`,
    () => sql`update eve.maintenance_expected set since = now() where operation = 'report'`,
  );
  expect(late.found("maintenance")).toMatch(/^red, report has not succeeded for too long/);
});

test("a key has no secret, names none, or is rejected upstream", async () => {
  await sql`
    insert into public.google_ai_api_keys (key_alias, env_var_name, quota_project)
    values ('no-secret', 'GOOGLE_API_KEY_NOT_SET', 'x'), ('no-name', null, 'x'), ('unknown', 'GOOGLE_API_KEY_UNKNOWN', 'x')
  `;
  const { code, found } = await whileBroken(
    sql`select`,
    () => sql`delete from public.google_ai_api_keys where quota_project = 'x'`,
  );
  expect(code).toBe(1);
  expect(found("key no-secret")).toBe("red, no secret is named GOOGLE_API_KEY_NOT_SET");
  expect(found("key no-name")).toBe("red, its row names no secret");
  // A rejected key is switched off at once, and its alert says so.
  expect(found("alerts")).toMatch(/^red, .*Key unknown is not used: key_invalid/);
  await sql`update eve.alerts set closed_at = now() where closed_at is null`;
});

test("there is no key, and no model", async () => {
  const none = await whileBroken(
    sql`update public.google_ai_api_keys set is_active = false`,
    () => sql`update public.google_ai_api_keys set is_active = true`,
    {},
  );
  expect(none.found("keys")).toBe("red, none of 3 keys can be used");
  expect(none.found("test call")).toMatch(/^red, gemma-4-31b-it did not answer: no_active_key/);
  const models = await whileBroken(
    sql`update public.google_ai_model_limits set is_active = false where replaced_by is null`,
    () => sql`update public.google_ai_model_limits set is_active = true`,
  );
  expect(models.found("models")).toBe("red, no model is switched on");
});

test("reservations are open past their lease", async () => {
  const admin = createClient(stack.url, stack.keys.secret);
  const { data } = await admin.rpc("eve_reserve", {
    request_id: crypto.randomUUID(),
    models: ["gemini-3.5-flash-lite"],
    tokens: 10,
    lease_ms: 100,
  });
  expect(data).toMatchObject({ status: "granted" });
  const { found } = await whileBroken(
    sql`update eve.inflight set lease_until = now() - interval '2 minutes'`,
    () => sql`select public.eve_sweep()`,
  );
  expect(found("reservations")).toBe("red, 1 reservation open past the lease");
});

test("this machine's clock is off: the gateway does not mind, its owner should know", async () => {
  const fast = await examine({ now: () => Date.now() + 600_000, args: ["--no-call"] });
  expect([fast.code, fast.found("clock")]).toEqual([0, expect.stringMatching(/^yellow, .* 10 min ahead of/)]);
  expect((await examine({ args: ["--no-call", "--strict"] })).code).toBe(1);
});

test("the database takes nothing down", async () => {
  const settle = async (value: "on" | "off") => {
    await sql.unsafe(`alter database postgres set default_transaction_read_only = ${value}`);
    // Those that are open already do not notice.
    await sql`
      select pg_terminate_backend(pid) from pg_stat_activity
      where datname = 'postgres' and pid <> pg_backend_pid() and backend_type = 'client backend'
    `;
  };
  await settle("on");
  try {
    // Until it has been noticed everywhere which connections are gone.
    await expect.poll(async () => {
      const { code, found } = await examine({ args: ["--no-call"] });
      return [code, found("writing")];
    }).toEqual([1, expect.stringMatching(/^red, .*read-only transaction/)]);
  } finally {
    // This connection, too, is an older one.
    await settle("off");
  }
});

test("Google cannot be reached", async () => {
  const alone = await startTestStack({ googleApiBaseUrl: "http://127.0.0.1:9" });
  try {
    const { code, found } = await examine({ url: alone.url, key: alone.keys.secret });
    expect([code, found("upstream")]).toEqual([1, expect.stringMatching(/^red, it could not be reached/)]);
  } finally {
    await alone.stop();
  }
});

test("the local stack's folder cannot be written to, whether it runs or not", async () => {
  const file = `${stack.dataDir}/a-file`;
  await Deno.writeTextFile(file, "");
  const { code, found } = await examine({ folder: `${file}/data`, args: ["--no-call"] });
  expect([code, found("disk")]).toEqual([1, expect.stringMatching(/^red, nothing can be written to /)]);
  const stopped = await examine({ url: "http://127.0.0.1:9", folder: stack.dataDir });
  expect([stopped.code, stopped.found("disk")]).toEqual([1, expect.stringMatching(/^green, .* free$/)]);
});

test("a function is down", async () => {
  const function_ = stack.functions.get("issue-kaggle-token")!;
  // However quickly the stack starts it again.
  const killing = setInterval(() => function_.kill(), 5);
  const { code, found } = await examine({ args: ["--no-call"] }).finally(() => clearInterval(killing));
  expect([code, found("function issue-kaggle-token")]).toEqual([
    1,
    expect.stringMatching(/^red, it does not work/),
  ]);
});
