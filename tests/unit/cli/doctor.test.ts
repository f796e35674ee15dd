/** Everything that the doctor can find fault with, each with what to do. */
import { describe, expect, test } from "vitest";
import { judge, verdict } from "../../../cli/eve/doctor/checks.ts";
import type { Facts } from "../../../cli/eve/doctor/facts.ts";
import { CHECKOUT } from "../../../local/paths.ts";
import type { KeyState, LaneState, ProjectFacts } from "../../../shared/database/reading.ts";

const NOW = "2026-11-21T12:00:00.000Z";
const ago = (minutes: number) => new Date(Date.parse(NOW) - minutes * 60_000).toISOString();

const lane: LaneState = {
  quota_project: "one",
  model: "gemma-4-31b-it",
  keys: ["a"],
  state: "open",
  blocked_until: null,
  blocked_reason: null,
  limits_from: "model",
  requests: { limit: 30, used: 0, remaining: 30 },
  tokens: { limit: 16_000, used: 0, remaining: 16_000 },
  requests_day: { limit: 14_400, used: 0, remaining: 14_400, resets_at: ago(-600) },
  queued: 0,
  running: 0,
  free: 5,
  frees_at: null,
};

const key: KeyState = {
  id: "00000000-0000-0000-0000-000000000001",
  alias: "a",
  provider: "google",
  env_var_name: "GOOGLE_API_KEY_A",
  quota_project: "one",
  quota_key: "one",
  priority: 10,
  notes: null,
  is_active: true,
  state: "on",
  blocked_until: null,
  blocked_reason: null,
  created_at: ago(9_999),
  last_used_at: null,
  today: { requests: 0, input_tokens: 0 },
  check: { checked_at: ago(1), outcome: "works", reason: null, detail: null, works_since: ago(99) },
  blocked_models: [],
  lanes: [lane],
};

const sweep: ProjectFacts["operations"][number] = {
  operation: "sweep",
  runs_in: "sql",
  schedule: "* * * * *",
  is_active: true,
  within_s: 900,
  expected_since: ago(5_000),
  is_running: false,
  last_status: "succeeded",
  last_error: null,
  last_started_at: ago(1),
  last_completed_at: ago(1),
  last_succeeded_at: ago(1),
  last_idle_at: null,
  idle_runs: 0,
};

const job: NonNullable<ProjectFacts["jobs"]>[number] = {
  name: "eve_sweep",
  schedule: "* * * * *",
  active: true,
  last: { status: "succeeded", message: "DO", started_at: ago(1), ended_at: ago(1) },
  last_ok_at: ago(1),
};

const project: ProjectFacts = {
  now: NOW,
  server_version: "17.6",
  migrations: ["20261122000100", "20261122000200"],
  migration_sums: { "20261122000100": "a1", "20261122000200": null, "20261130000000": "c3" },
  extensions: ["pg_cron", "pg_net", "supabase_vault"].map((name) => ({
    name,
    installed: "1.0",
    available: "1.0",
    schema: true,
  })),
  jobs: [job, { ...job, name: "eve_key_health", schedule: "*/15 * * * *" }],
  http_last_hour: { answered: 64, refused: 0, unanswered: 0, last_error: null },
  vault_names: ["eve_project_url", "eve_secret_key"],
  settings: {},
  models: 6,
  alerts: [],
  overdue: 0,
  refused_last_hour: { kept: 0, counted: 0 },
  operations: [sweep, { ...sweep, operation: "key_health", runs_in: "http", schedule: "*/15 * * * *" }],
  database_bytes: 12_000_000,
};

const HEALTHY: Facts = {
  url: "https://abcdefghijklmnopqrst.supabase.co",
  folder: null,
  writeProblem: null,
  reach: { state: "ok", detail: null },
  project,
  clockAheadMs: 40,
  roundTripMs: 90,
  migrations: ["20261122000100", "20261122000200"],
  migrationSums: { "20261122000100": "a1", "20261122000200": "b2" },
  functions: ["issue-kaggle-token", "llm-invoke", "maintenance"].map((name) => ({
    name,
    state: "answers",
    detail: null,
    clockAheadMs: 300,
  })),
  keys: [key],
  fileLimits: [],
  defaultTenantHeld: null,
  realtime: null,
  keysChecked: { done: true, why: null },
  call: { ok: true, model: "gemma-4-31b-it", key: "a", latencyMs: 400, code: null, message: null },
};

const of = (changes: Partial<ProjectFacts>): Partial<Facts> => ({ project: { ...project, ...changes } });
const withFunction = (state: Facts["functions"][number]["state"], clockAheadMs = 0): Partial<Facts> => ({
  functions: [{ name: "llm-invoke", state, detail: "status 500", clockAheadMs }],
});
const alert = { id: 7, kind: "key_disabled", message: "Key a is not used", opened_at: NOW };
const failure = { status: "failed", message: "permission denied", started_at: NOW, ended_at: NOW };

test("a project that is as it should be is green in everything", () => {
  const checks = judge(HEALTHY);
  expect(checks.filter(({ state }) => state !== "green")).toEqual([]);
  expect(checks.every(({ todo }) => todo === null)).toBe(true);
  expect(verdict(checks)).toBe("green");
});

describe("limits for files", () => {
  const limit = (limit_bytes: number, env_bytes: number | null) => ({
    name: "total",
    limit_bytes,
    variable: "S3_TOTAL_LIMIT_GB",
    env_bytes,
  });
  const check = (...fileLimits: Facts["fileLimits"]) =>
    judge({ ...HEALTHY, fileLimits }).find(({ name }) => name === "limits for files");

  test("that no variable speaks of are not spoken of", () => {
    expect(check(limit(15e9, null))).toBeUndefined();
  });
  test("that their variables agree with are green", () => {
    expect(check(limit(15e9, 15e9), limit(2e9, null))).toMatchObject({ state: "green" });
  });
  test("that a variable says otherwise of: both are said, and how either becomes the other", () => {
    expect(check(limit(15e9, 20e9))).toMatchObject({
      state: "yellow",
      found: "S3_TOTAL_LIMIT_GB says 20.0 GB, and the row total 15.0 GB",
      todo: expect.stringContaining("set limit_bytes = 20000000000 where name = 'total';"),
    });
  });
});

describe("the default tenant", () => {
  const check = (defaultTenantHeld: Facts["defaultTenantHeld"]) =>
    judge({ ...HEALTHY, defaultTenantHeld }).find(({ name }) => name === "default tenant");

  test("that the environment names is said where it could not become it, with what holds the other", () => {
    expect(check(null)).toBeUndefined();
    expect(check({ named: "acme", default: "default", held_by: ["public.posts", "eve.media_references"] }))
      .toMatchObject({
        state: "yellow",
        found:
          "S3_DEFAULT_TENANT_ID says acme, and the default tenant is default, to which belongs what is in public.posts, eve.media_references: nothing was moved",
        todo: expect.stringContaining("eve -- tenants set acme --default"),
      });
    expect(check({ named: "acme", default: "other", held_by: [] })).toMatchObject({
      found: "S3_DEFAULT_TENANT_ID says acme, and the default tenant is other",
    });
  });
});

/** What is wrong, the check that says so, and words of what is found and of what to do. */
const REDS: [string, Partial<Facts>, string, RegExp, RegExp][] = [
  [
    "the project does not answer",
    { reach: { state: "unreachable", detail: "connection refused" }, project: null },
    "project",
    /does not answer \(connection refused\)/,
    /paused.*npm start/,
  ],
  [
    "the disk is full, and nothing runs any more",
    {
      folder: { path: "/x/.local", freeBytes: 0, problem: "No space left on device (os error 28)" },
      reach: { state: "unreachable", detail: "refused" },
      project: null,
    },
    "disk",
    /the disk of \/x\/.local is full/,
    /free some space/,
  ],
  [
    "the data folder is read-only",
    { folder: { path: "/x/.local", freeBytes: 10 ** 10, problem: "Read-only file system (os error 30)" } },
    "disk",
    /nothing can be written to \/x\/.local \(Read-only/,
    /EVE_DATA_DIR/,
  ],
  [
    "the database takes nothing down",
    { writeProblem: "53100: could not extend file: No space left on device" },
    "writing",
    /No space left on device/,
    /free space.*Disk in the dashboard/,
  ],
  [
    "Google cannot be reached",
    {
      keys: [{
        ...key,
        check: {
          ...key.check!,
          outcome: "unclear",
          reason: "upstream_unavailable",
          detail: "connection refused",
        },
      }],
    },
    "upstream",
    /could not be reached for any key: connection refused/,
    /network.*GOOGLE_API_BASE_URL/,
  ],
  [
    "the key is refused",
    { reach: { state: "unauthorised", detail: null }, project: null },
    "project",
    /refuses the key/,
    /sb_secret_/,
  ],
  [
    "the migrations were never applied",
    { reach: { state: "unprepared", detail: null }, project: null },
    "project",
    /knows nothing of the gateway/,
    /npm run deploy.*Data API/,
  ],
  [
    "the REST API fails",
    { reach: { state: "failing", detail: "XX000" }, project: null },
    "project",
    /fails \(XX000\)/,
    /logs/,
  ],
  [
    "a migration is missing",
    of({ migrations: ["20261122000100"] }),
    "migrations",
    /1 of this checkout's 2 are not applied: 20261122000200/,
    /npm run deploy/,
  ],
  [
    "the database is from before the first release",
    of({ migrations: ["20261121000100", "20261121001900"] }),
    "migrations",
    /made by an edition of the gateway from before its first release/,
    /npm run reset/,
  ],
  [
    "the database was made with another text of a migration",
    of({ migration_sums: { "20261122000100": "a1", "20261122000200": "x" } }),
    "migrations",
    /made with another text of 20261122000200 than this checkout has/,
    /npm run reset/,
  ],
  [
    "the functions' clock is off",
    withFunction("answers", -300_000),
    "function clock",
    /5 min off/,
    /tokens/,
  ],
  [
    "a function is not deployed",
    withFunction("absent"),
    "function llm-invoke",
    /not deployed/,
    /npm run deploy/,
  ],
  [
    "a function refuses the key",
    withFunction("refuses"),
    "function llm-invoke",
    /refuses the key/,
    /JSON Web/,
  ],
  ["a function does not work", withFunction("broken"), "function llm-invoke", /status 500/, /log/],
  [
    "an extension is missing",
    of({ extensions: [{ name: "pg_cron", installed: null, available: "1.6", schema: false }] }),
    "extensions",
    /pg_cron is not enabled/,
    /Extensions.*eve_schedule/,
  ],
  ["there is no schedule", of({ jobs: null }), "cron jobs", /no schedule/, /eve_schedule/],
  ["a job is missing", of({ jobs: [job] }), "cron jobs", /eve_key_health is missing/, /eve_schedule/],
  [
    "a job is switched off",
    of({ jobs: project.jobs!.map((one) => ({ ...one, active: false })) }),
    "cron jobs",
    /eve_sweep, eve_key_health are switched off/,
    /eve_schedule/,
  ],
  [
    "a job failed",
    of({ jobs: project.jobs!.map((one) => ({ ...one, last: failure })) }),
    "cron jobs",
    /eve_sweep failed at .*permission denied/,
    /maintenance run/,
  ],
  [
    "a job of every minute never ran",
    of({ jobs: project.jobs!.map((one) => ({ ...one, last: null })) }),
    "cron jobs",
    /eve_sweep should run every minute and never ran/,
    /restart/,
  ],
  [
    "Vault does not know where the project is",
    of({ vault_names: ["eve_project_url"] }),
    "scheduled calls",
    /Vault has no eve_secret_key, so key_health do not run/,
    /maintenance connect/,
  ],
  [
    "no scheduled call goes well",
    of({ http_last_hour: { answered: 0, refused: 3, unanswered: 1, last_error: "401" } }),
    "scheduled calls",
    /none of 4 .* 401/,
    /maintenance connect/,
  ],
  [
    "an operation failed",
    of({
      operations: project.operations.map((one) => ({ ...one, last_status: "failed", last_error: "boom" })),
    }),
    "maintenance",
    /sweep failed: boom/,
    /maintenance run/,
  ],
  [
    "an operation has not run for too long",
    of({ operations: project.operations.map((one) => ({ ...one, last_succeeded_at: ago(16) })) }),
    "maintenance",
    /sweep, key_health have not succeeded for too long/,
    /maintenance log/,
  ],
  [
    "a key names no secret",
    { keys: [{ ...key, env_var_name: null }] },
    "key a",
    /names no secret/,
    /env_var_name/,
  ],
  [
    "the secret of a key is not set",
    { keys: [{ ...key, check: { ...key.check!, outcome: "secret_missing" } }] },
    "key a",
    /no secret is named GOOGLE_API_KEY_A/,
    /--secrets-file.*keys test a/,
  ],
  [
    "upstream rejects a key",
    { keys: [{ ...key, check: { ...key.check!, outcome: "rejected", reason: "key_leaked" } }] },
    "key a",
    /rejects it: .*\(key_leaked\)/,
    /make a new key.*keys enable a/,
  ],
  [
    "upstream rejects a stage's key",
    { keys: [{ ...key, env_var_name: "stage:POEM", state: "blocked", blocked_reason: "key_invalid" }] },
    "key a",
    /rejects it: .*\(key_invalid\)/,
    /enter another one for its stage/,
  ],
  ["there is no key", { keys: [] }, "keys", /there is no key/, /keys add/],
  [
    "no key can be used",
    { keys: [{ ...key, is_active: false, state: "off" }] },
    "keys",
    /none of 1 key can be used/,
    /keys list/,
  ],
  ["no model is switched on", of({ models: 0 }), "models", /no model/, /models list/],
  [
    "a critical alert is open",
    of({ alerts: [{ ...alert, severity: "critical" }] }),
    "alerts",
    /1 critical alert: Key a is not used \(key_disabled, number 7\)/,
    /alerts show/,
  ],
  [
    "reservations are open past their lease",
    of({ overdue: 2 }),
    "reservations",
    /2 reservations/,
    /run sweep/,
  ],
  [
    "the test call fails",
    { call: { ...HEALTHY.call!, ok: false, code: "no_active_key", message: "No key can serve." } },
    "test call",
    /no_active_key, No key can serve\./,
    /table of errors/,
  ],
];

describe("red, with what to do, when", () => {
  test.each(REDS)("%s", (_, changes, name, found, todo) => {
    const checks = judge({ ...HEALTHY, ...changes });
    const check = checks.find((one) => one.name === name && one.state === "red");
    expect(check, JSON.stringify(checks)).toBeDefined();
    expect(check!.found).toMatch(found);
    expect(check!.todo).toMatch(todo);
    expect(verdict(checks)).toBe("red");
  });

  test("a project on this machine is the local stack", () => {
    const [check] = judge({
      ...HEALTHY,
      url: "http://127.0.0.1:54321",
      reach: { state: "unreachable", detail: "refused" },
      project: null,
    });
    expect(check).toMatchObject({ state: "red", todo: "start the local stack: npm start." });
  });

  test("a disk is full when PostgreSQL's next file has no room", () => {
    const checks = judge({ ...HEALTHY, folder: { path: "/x", freeBytes: 9_000_000, problem: null } });
    expect(checks.find(({ name }) => name === "disk")).toMatchObject({
      state: "red",
      found: expect.stringMatching(/^the disk of \/x is full, with 9\S* MB free$/),
    });
  });

  test("and there is no other red than these", () => {
    const source = Deno.readTextFileSync(`${CHECKOUT}/cli/eve/doctor/checks.ts`);
    const reds = source.match(/(?:return|\?) red\(/g)!;
    expect(reds.length).toBe(REDS.length);
  });
});

describe("yellow, with what to do, when", () => {
  test.each<[string, Partial<Facts>, string]>([
    ["the database keeps no history", of({ migrations: null }), "migrations"],
    ["the database is ahead", of({ migrations: [...project.migrations!, "20991231000000"] }), "migrations"],
    ["this machine's clock is off", { clockAheadMs: -90_000 }, "clock"],
    ["the functions' clock is a little off", withFunction("answers", 30_000), "function clock"],
    [
      "some scheduled calls fail",
      of({ http_last_hour: { answered: 60, refused: 1, unanswered: 0, last_error: "503" } }),
      "scheduled calls",
    ],
    [
      "more is refused than is kept row by row",
      of({ refused_last_hour: { kept: 30, counted: 900 } }),
      "refusals",
    ],
    ["the keys could not be checked", { keysChecked: { done: false, why: "status 500" } }, "key a"],
    [
      "upstream could not be asked",
      { keys: [{ ...key, check: { ...key.check!, outcome: "unclear", detail: "timeout" } }] },
      "key a",
    ],
    [
      "a key rests",
      {
        keys: [key, {
          ...key,
          alias: "b",
          state: "blocked",
          blocked_until: ago(-5),
          blocked_reason: "slow_down",
        }],
      },
      "key b",
    ],
    ["a model is used up", { keys: [{ ...key, lanes: [{ ...lane, state: "day_used_up" }] }] }, "models"],
    ["an alert is open", of({ alerts: [{ ...alert, severity: "warning" }] }), "alerts"],
    ["the database is nearly full", of({ database_bytes: 450_000_000 }), "database"],
    ["no call was made", { call: null }, "test call"],
    [
      "the quota of the test call is used up",
      { call: { ...HEALTHY.call!, ok: false, code: "daily_limit", message: null } },
      "test call",
    ],
  ])("%s", (_, changes, name) => {
    const checks = judge({ ...HEALTHY, ...changes });
    const check = checks.find((one) => one.name === name);
    expect(check).toMatchObject({ state: "yellow", todo: expect.stringMatching(/.{10}/) });
    expect(checks.some(({ state }) => state === "red")).toBe(false);
    expect(verdict(checks)).toBe("yellow");
  });
});

test("a key that somebody switched off is no fault", () => {
  const off: KeyState = { ...key, alias: "b", is_active: false, state: "off", check: null };
  expect(verdict(judge({ ...HEALTHY, keys: [key, off] }))).toBe("green");
});

describe("Realtime", () => {
  const check = (realtime: Facts["realtime"]) =>
    judge({ ...HEALTHY, realtime }).find(({ name }) => name === "realtime");

  test("that the project does not have, or is not known, is not spoken of", () => {
    expect([check(null), check({ publication: false, missing: ["chats"] })]).toEqual([undefined, undefined]);
  });
  test("with all tables of chats is green, with some of them says what to do", () => {
    expect(check({ publication: true, missing: [] })).toMatchObject({ state: "green" });
    expect(check({ publication: true, missing: ["chats", "messages"] })).toMatchObject({
      state: "yellow",
      todo: "alter publication supabase_realtime add table public.chats, public.messages;",
    });
  });
});
