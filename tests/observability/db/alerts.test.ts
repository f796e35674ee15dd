/** Alerts in the database: what opens one, what closes it, and who is told, how often. */
import { ru } from "../../../console/src/i18n/ru.ts";
import { FIXES } from "../../../console/src/parts/alert_fixes.ts";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  addKey,
  addModel,
  clearLedger,
  freezeClock,
  reserve,
  settle,
  type TestClock,
} from "../../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../../harness/database.ts";
import { empty } from "../../harness/rows.ts";

let database: TestDatabase;
let sql: TestDatabase["sql"];
let clock: TestClock;
/** A Thursday, 13:00 in Los Angeles. */
const NOON = "2026-11-19T21:00:00Z";

beforeAll(async () => {
  database = await cloneDatabase();
  ({ sql } = database);
  clock = await freezeClock(sql, NOON);
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await clearLedger(sql);
  await empty(sql, "eve.alert_deliveries", "public.google_ai_maintenance_log");
  await clock.set(NOON);
  await sql`
    update eve.operations
    set is_active = true, schedule = '* * * * *', last_status = null, last_started_at = null`;
  await sql`update eve.maintenance_expected set since = 'infinity'`;
});

async function evaluate(missingSecrets: string[] | null = null) {
  await clock.advance(1_000);
  const [row] = await sql`select public.eve_alerts_evaluate(${missingSecrets}) as answer`;
  return row!.answer;
}
const open = async () =>
  (await sql`select kind, subject, severity from eve.alerts where closed_at is null order by kind, subject`)
    .map((row) => ({ ...row }));
const kinds = async () => (await open()).map(({ kind }) => kind);

let calls = 0;
async function callOnce(
  options: { model?: string; errorCode?: string; block?: Record<string, string | number>; final?: boolean } =
    {},
) {
  const grant = await reserve(sql, `call-${++calls}`, { models: [options.model ?? "m"] });
  expect(grant).toMatchObject({ status: "granted" });
  await settle(sql, grant, {
    outcome: options.errorCode ? "failed" : "succeeded",
    errorCode: options.errorCode ?? null,
    block: options.block ?? null,
    inputTokens: 10,
  });
  return grant;
}

describe("a key that upstream rejected", () => {
  let key: string;
  beforeEach(async () => {
    await addModel(sql, "m");
    key = await addKey(sql, "one");
    await callOnce({
      errorCode: "key_rejected",
      block: { scope: "key", until: "forever", reason: "key_leaked" },
    });
  });

  test("opens an alert once, however often it is seen", async () => {
    expect(await open()).toEqual([{ kind: "key_disabled", subject: key, severity: "critical" }]);
    expect(await evaluate()).toMatchObject({ status: "evaluated", opened: 0, closed: 0, open: 1 });
    expect(await sql`select count(*)::int as n from eve.alerts`).toEqual([{ n: 1 }]);
  });

  test("closes it when the key is switched on by plain SQL, and the key serves again", async () => {
    await sql`update public.google_ai_api_keys set is_active = true where id = ${key}`;
    expect(await open()).toEqual([]);
    expect(await sql`select blocked_until, blocked_reason from public.google_ai_api_keys`)
      .toEqual([{ blocked_until: null, blocked_reason: null }]);
    await callOnce();
    expect(await evaluate()).toMatchObject({ opened: 0, open: 0 });
  });

  test("a block that ends by itself goes with the switch as well, and one that is set with it stays", async () => {
    await sql`update public.google_ai_api_keys set is_active = false, blocked_until = now() + interval '1 hour', blocked_reason = 'secret_missing'`;
    await sql`update public.google_ai_api_keys set is_active = true`;
    expect(await sql`select blocked_until, blocked_reason from public.google_ai_api_keys`)
      .toEqual([{ blocked_until: null, blocked_reason: null }]);
    await sql`update public.google_ai_api_keys set is_active = false, blocked_until = now() + interval '1 hour'`;
    await sql`update public.google_ai_api_keys set is_active = true, blocked_until = now() + interval '2 hours', blocked_reason = 'later'`;
    expect(await sql`select blocked_reason from public.google_ai_api_keys`).toEqual([{
      blocked_reason: "later",
    }]);
  });

  test("stays open while somebody only edits the row", async () => {
    await sql`update public.google_ai_api_keys set notes = 'looking into it', priority = 5 where id = ${key}`;
    expect(await kinds()).toEqual(["key_disabled"]);
  });

  test("opens again when it was closed by hand and the key is still off", async () => {
    await sql`update eve.alerts set closed_at = eve.clock()`;
    expect(await evaluate()).toMatchObject({ opened: 1 });
  });

  test("closes it when the key is kept off on purpose, and when it is deleted", async () => {
    await sql`update public.google_ai_api_keys set blocked_reason = null where id = ${key}`;
    expect(await evaluate()).toMatchObject({ closed: 1, open: 0 });

    await sql`update public.google_ai_api_keys set blocked_reason = 'key_leaked' where id = ${key}`;
    expect(await evaluate()).toMatchObject({ opened: 1 });
    await sql`delete from public.google_ai_api_keys where id = ${key}`;
    expect(await open()).toEqual([]);
  });

  test("a role that may write key rows needs no rights in schema eve", async () => {
    await clock.advance(1_000);
    await sql.begin(async (transaction) => {
      await transaction`grant select, update on public.google_ai_api_keys to authenticated`;
      await transaction`create policy keeper on public.google_ai_api_keys to authenticated using (true)`;
      await transaction`set local role authenticated`;
      await transaction`update public.google_ai_api_keys set is_active = true`;
      await transaction`reset role`;
      await transaction`drop policy keeper on public.google_ai_api_keys`;
      await transaction`revoke all on public.google_ai_api_keys from authenticated`;
    });
    expect(await evaluate()).toMatchObject({ closed: 1, open: 0 });
  });
});

describe("a secret that is not set", () => {
  test("is an alert as soon as somebody looked, and none once it is there", async () => {
    await addModel(sql, "m");
    const [one, two] = [await addKey(sql, "one"), await addKey(sql, "two")];
    expect((await sql`select public.eve_alert_secrets() as answer`)[0]!.answer).toEqual(
      [{ key_id: one, env_var_name: "KEY_one" }, { key_id: two, env_var_name: "KEY_two" }]
        .sort((a, b) => a.key_id < b.key_id ? -1 : 1),
    );
    expect(await evaluate([two!])).toMatchObject({ opened: 1 });
    expect(await open()).toEqual([{ kind: "secret_missing", subject: two, severity: "warning" }]);
    expect(await evaluate(null)).toMatchObject({ closed: 0 }); // Nobody looked.
    expect(await evaluate([])).toMatchObject({ closed: 1, open: 0 });
  });

  test("one that is stored here is told as such: no environment has it", async () => {
    const said = async (envVarName: string) => {
      const key = await addKey(sql, envVarName);
      await sql`update public.google_ai_api_keys set env_var_name = ${envVarName} where id = ${key}`;
      await evaluate([key]);
      return (await sql`select message from eve.alerts where subject = ${key}`)[0]!.message;
    };
    expect(await said("GONE_KEY")).toContain("there is no secret named GONE_KEY");
    for (const name of [`stored:${crypto.randomUUID()}`, "stage:POEM"]) {
      expect(await said(name)).toContain("its stored secret cannot be read: ADMIN_SECRET_KEY");
    }
  });

  test("that a call missed stays an alert while the key is spared for it", async () => {
    await addModel(sql, "m");
    const key = await addKey(sql, "one");
    await callOnce({
      errorCode: "secret_missing",
      block: { scope: "key", for_ms: 600_000, reason: "secret_missing" },
    });
    expect(await evaluate([])).toMatchObject({ closed: 0, open: 1 });
    await clock.advance(601_000);
    expect(await evaluate([key])).toMatchObject({ closed: 0 });
    expect(await evaluate([])).toMatchObject({ closed: 1 });
  });
});

test("a model that a key does not get is an alert until its row is deleted", async () => {
  await addModel(sql, "m");
  const key = await addKey(sql, "one");
  await callOnce({
    errorCode: "model_unavailable",
    block: { scope: "key_model", until: "forever", reason: "no_quota" },
  });
  expect(await open()).toEqual([{ kind: "model_unavailable", subject: `${key} m`, severity: "warning" }]);
  await evaluate();
  await sql`delete from eve.key_model_blocks`;
  expect(await evaluate()).toMatchObject({ closed: 1, open: 0 });
});

describe("a day's quota", () => {
  beforeEach(async () => {
    await addModel(sql, "m", { rpd: 2 });
    await addKey(sql, "one", { project: "p" });
  });

  test("used up at noon is an alert until the day turns", async () => {
    await callOnce();
    expect(await evaluate()).toMatchObject({ opened: 0 });
    await callOnce();
    expect(await evaluate()).toMatchObject({ opened: 1 });
    expect(await open()).toEqual([{ kind: "lane_exhausted", subject: "p m", severity: "warning" }]);
    // Late in the day it is still what it was at noon.
    await clock.set("2026-11-20T07:00:00Z");
    expect(await evaluate()).toMatchObject({ closed: 0 });
    await clock.set("2026-11-20T09:00:00Z");
    expect(await evaluate()).toMatchObject({ closed: 1, open: 0 });
  });

  test("used up in the evening is a day well used", async () => {
    await clock.set("2026-11-20T05:30:00Z"); // 21:30 in Los Angeles.
    await callOnce();
    await callOnce();
    expect(await evaluate()).toMatchObject({ opened: 0 });
    await sql`update eve.settings set value = 24 where name = 'alert_exhausted_before_hour'`;
    expect(await evaluate()).toMatchObject({ opened: 1 });
    await sql`update eve.settings set value = 20 where name = 'alert_exhausted_before_hour'`;
  });

  test("ends the alert when it is raised", async () => {
    await callOnce();
    await callOnce();
    await evaluate();
    await sql`update public.google_ai_model_limits set rpd = 100`;
    expect(await evaluate()).toMatchObject({ closed: 1 });
  });

  test("counts as used up when upstream says so", async () => {
    await callOnce({
      errorCode: "upstream_daily_limit",
      block: { scope: "lane", until: "pacific_midnight", reason: "upstream_daily_quota" },
    });
    await evaluate();
    expect(await kinds()).toEqual(["lane_exhausted"]);
  });
});

describe("rates", () => {
  test("many refusals are one alert, closed when they have been few for a while", async () => {
    await addModel(sql, "m", { rpm: 1 });
    await addKey(sql, "one");
    await callOnce();
    for (let time = 0; time < 19; time++) await reserve(sql, `refused-${time}`);
    await evaluate();
    expect(await kinds()).toEqual([]);
    await reserve(sql, "refused-more");
    await evaluate();
    expect(await open()).toEqual([{ kind: "refusals_high", subject: "gateway", severity: "warning" }]);
    const [alert] = await sql`select message, details from eve.alerts`;
    expect(alert).toMatchObject({
      message: expect.stringContaining("20 of 21 requests"),
      details: { mostly: "rate_limited (rpm)", refused: 20 },
    });
    await clock.advance(601_000); // Out of the window ...
    expect(await evaluate()).toMatchObject({ closed: 1 });
  });

  test("what a caller may not do is no alert", async () => {
    await addModel(sql, "m");
    await addKey(sql, "one");
    for (let time = 0; time < 30; time++) {
      await reserve(sql, `unknown-${time}`, { models: ["no-such-model"] });
    }
    expect(await evaluate()).toMatchObject({ opened: 0 });
  });

  test("refusals for want of any key are critical", async () => {
    await addModel(sql, "m");
    for (let time = 0; time < 20; time++) await reserve(sql, `keyless-${time}`);
    await evaluate();
    expect(await open()).toEqual([{ kind: "refusals_high", subject: "gateway", severity: "critical" }]);
  });

  test("calls that fail upstream are an alert about their model", async () => {
    await addModel(sql, "m");
    await addModel(sql, "n");
    await addKey(sql, "one");
    for (let time = 0; time < 10; time++) await callOnce({ model: "n", errorCode: "upstream_unavailable" });
    for (let time = 0; time < 12; time++) await callOnce({ model: "m", errorCode: "content_blocked" });
    await evaluate();
    expect(await open()).toEqual([{ kind: "upstream_errors", subject: "n", severity: "critical" }]);
    for (let time = 0; time < 31; time++) await callOnce({ model: "n" });
    expect(await evaluate()).toMatchObject({ closed: 0 }); // Below the threshold, but not for long yet.
    await clock.advance(300_000);
    expect(await evaluate()).toMatchObject({ closed: 1 });
  });
});

test("a disk that is nearly full is an alert, calls go on, and it closes when there is room", async () => {
  await addKey(sql, "one");
  await addModel(sql, "m");
  const [size] = await sql`select pg_database_size(current_database())::float8 / 1000000 as mb`;
  const disk = (mb: number) => sql`update eve.settings set value = ${Math.ceil(mb)} where name = 'disk_mb'`;
  try {
    await disk(size!.mb * 1.12);
    await evaluate();
    expect(await open()).toEqual([{ kind: "disk_nearly_full", subject: "database", severity: "warning" }]);
    await disk(size!.mb * 0.9);
    await evaluate();
    expect(await open()).toEqual([{ kind: "disk_nearly_full", subject: "database", severity: "critical" }]);
    expect(await callOnce()).toMatchObject({ status: "granted" });
  } finally {
    await disk(500);
  }
  expect(await evaluate()).toMatchObject({ closed: 1, open: 0 });
});

describe("maintenance", () => {
  beforeEach(() =>
    sql`update eve.maintenance_expected set since = eve.clock() where operation in ('sweep', 'alerts')`
  );

  const ran = async (operation: string, status: "succeeded" | "failed", error: string | null = null) => {
    await sql`
      update eve.operations
      set last_status = ${status}, last_error = ${error}, last_started_at = eve.clock(), last_completed_at = eve.clock()
      where name = ${operation}`;
    await clock.advance(1_000);
  };

  test("that failed is an alert until it has succeeded", async () => {
    await ran("rollup", "failed", "disk is full");
    await ran("sweep", "succeeded");
    await evaluate();
    expect(await open()).toEqual([{ kind: "maintenance_failed", subject: "rollup", severity: "warning" }]);
    expect((await sql`select message from eve.alerts`)[0]!.message).toContain("disk is full");
    await ran("rollup", "succeeded");
    expect(await evaluate()).toMatchObject({ closed: 1, open: 0 });
  });

  test("that does not run is missing, once it had time to", async () => {
    await clock.advance(890_000);
    expect(await evaluate()).toMatchObject({ opened: 0 });
    await ran("alerts", "succeeded");
    await clock.advance(15_000);
    await evaluate();
    expect(await open()).toEqual([{ kind: "maintenance_missing", subject: "sweep", severity: "warning" }]);
    await ran("sweep", "succeeded");
    expect(await evaluate()).toMatchObject({ closed: 1, open: 0 });
  });

  test("that is switched off, or has no schedule, is not missed", async () => {
    await clock.advance(10_000_000);
    await sql`update eve.operations set is_active = false where name = 'sweep'`;
    await sql`update eve.operations set schedule = null where name = 'alerts'`;
    expect(await evaluate()).toMatchObject({ opened: 0 });
  });
});

test("a failure that only settlements see is over when none has come for an hour", async () => {
  await sql`select eve.open_alert('usage_counters_refused', 'a table', 'warning', 'refused')`;
  expect(await evaluate()).toMatchObject({ closed: 0 });
  await clock.advance(3_601_000);
  expect(await evaluate()).toMatchObject({ closed: 1 });
});

test("the console has a way to put every kind right, and says in Russian what it is and what to do", async () => {
  const kinds = (await sql`select kind from eve.alert_kinds order by kind`).map(({ kind }) => kind);
  expect(kinds.length).toBeGreaterThan(20);
  for (const known of [FIXES, ru.alerts.titles, ru.alerts.advices]) {
    expect(Object.keys(known).sort()).toEqual(kinds);
  }
  // All but one, which is over by itself, have a button.
  expect(kinds.filter((kind) => FIXES[kind]!({ subject: "one two" }).length === 0)).toEqual([
    "clock_went_back",
  ]);
  const operations = (await sql`select name from eve.operations`).map(({ name }) => name);
  const runs = kinds.flatMap((kind) => FIXES[kind]!({ subject: "sweep" })).flatMap((fix) =>
    fix.kind === "do" && fix.path === "/maintenance/run" ? [fix.body.operation] : []
  );
  expect(operations).toEqual(expect.arrayContaining(runs));
});

test("an alert of a kind that nobody described opens all the same; one that is no name does not", async () => {
  await sql`select eve.open_alert('brand_new_kind', 'x', 'info', 'something')`;
  expect(await kinds()).toEqual(["brand_new_kind"]);
  expect((await sql`select public.eve_alert_claim('webhook') as answer`)[0]!.answer)
    .toMatchObject({ title: "brand new kind", advice: null });
  await expect(sql`select eve.open_alert('Not a kind', 'x', 'info', 'something')`)
    .rejects.toMatchObject({ code: "23514" });
});

test("fifty that see the same at once open one alert", async () => {
  await addModel(sql, "m");
  const key = await addKey(sql, "one");
  await sql`update public.google_ai_api_keys set is_active = false, blocked_until = 'infinity', blocked_reason = 'key_leaked'`;
  await clock.advance(1_000);
  await Promise.all(
    Array.from(
      { length: 50 },
      (_, turn) =>
        turn % 2
          ? sql`select public.eve_alerts_evaluate()`
          : sql`select eve.open_alert('key_disabled', ${key}, 'critical', 'off')`,
    ),
  );
  expect(await sql`select count(*)::int as n from eve.alerts`).toEqual([{ n: 1 }]);
});

describe("sending", () => {
  const claim = async (channel = "telegram") =>
    (await sql`select public.eve_alert_claim(${channel}) as answer`)[0]!.answer;
  const done = async (
    deliveryId: number,
    succeeded: boolean,
    more: { retryAfterMs?: number; wholeChannel?: boolean } = {},
  ) =>
    (await sql`select public.eve_alert_done(${deliveryId}, ${succeeded}, 'why', ${
      more.retryAfterMs ?? null
    }, ${more.wholeChannel ?? false}) as answer`)[0]!.answer;
  const openOne = (subject: string) =>
    sql`select eve.open_alert('upstream_errors', ${subject}, 'warning', 'ten of ten')`;
  const close = (subject: string) =>
    sql`update eve.alerts set closed_at = eve.clock() where subject = ${subject}`;

  test("once when it opens, once when it closes, on each channel", async () => {
    await openOne("a");
    const first = await claim();
    expect(first).toMatchObject({
      event: "opened",
      attempt: 1,
      kind: "upstream_errors",
      title: "Upstream fails",
      advice: expect.stringContaining("eve.attempts"),
      subject: "a",
      severity: "warning",
      message: "ten of ten",
      closed_at: null,
    });
    expect(await claim()).toBeNull();
    expect(await done(first.delivery_id, true)).toEqual({ state: "sent" });
    await openOne("a");
    expect(await claim()).toBeNull();
    expect(await claim("webhook")).toMatchObject({ event: "opened", subject: "a" });

    await close("a");
    const last = await claim();
    expect(last).toMatchObject({ event: "closed", subject: "a", closed_at: expect.any(String) });
    await done(last.delivery_id, true);
    expect(await claim()).toBeNull();
  });

  test("twenty at once claim each message once", async () => {
    for (const subject of ["a", "b", "c"]) await openOne(subject);
    const claims = await Promise.all(Array.from({ length: 20 }, () => claim()));
    expect(claims.filter((one) => one !== null).map((one) => one.subject).sort()).toEqual(["a", "b", "c"]);
  });

  test("a run that dies while sending is followed by another", async () => {
    await openOne("a");
    await claim();
    await clock.advance(59_000);
    expect(await claim()).toBeNull();
    await clock.advance(2_000);
    expect(await claim()).toMatchObject({ subject: "a", attempt: 2 });
  });

  test("a failure is tried again later and later, and in the end given up", async () => {
    await sql`update eve.settings set value = 3 where name = 'alert_tries'`;
    await openOne("a");
    const pauses: number[] = [];
    for (let attempt = 1; attempt <= 3; attempt++) {
      const { delivery_id } = await claim();
      const { state, next_try_at } = await done(delivery_id, false);
      pauses.push((Date.parse(next_try_at) - clock.nowMs()) / 1_000);
      expect(state).toBe(attempt < 3 ? "pending" : "given_up");
      await clock.advance(pauses.at(-1)! * 1_000 - 1_000);
      expect(await claim()).toBeNull();
      await clock.advance(2_000);
    }
    expect(pauses).toEqual([30, 60, 120]);
    expect(await claim()).toBeNull();
    // The channel works again, and the alert is still open.
    await openOne("b");
    await done((await claim()).delivery_id, true);
    expect(await claim()).toMatchObject({ subject: "a", event: "opened" });
    await sql`update eve.settings set value = 12 where name = 'alert_tries'`;
  });

  test("a channel that asks for a pause gets it, for all of its messages", async () => {
    await openOne("a");
    await openOne("b");
    await done((await claim()).delivery_id, false, { retryAfterMs: 300_000, wholeChannel: true });
    expect(await claim()).toBeNull();
    expect(await claim("webhook")).not.toBeNull();
    await clock.advance(299_000);
    expect(await claim()).toBeNull();
    await clock.advance(2_000);
    expect(await claim()).not.toBeNull();
  });

  test("an opening that was never sent has no closing; a new channel gets what is open", async () => {
    await openOne("old");
    await close("old");
    await clock.advance(3_700_000);
    await openOne("open");
    const only = await claim();
    expect(only).toMatchObject({ subject: "open" });
    await done(only.delivery_id, true);
    expect(await claim()).toBeNull();
  });

  test("an alert that is deleted takes its messages along", async () => {
    await openOne("a");
    await claim();
    await sql`delete from eve.alerts`;
    expect(await sql`select from eve.alert_deliveries`).toHaveLength(0);
  });

  test("it says what is wrong with an argument", async () => {
    await expect(claim("pigeon")).rejects.toMatchObject({ code: "EV400" });
    await expect(sql`select public.eve_alert_claim('webhook', 1)`).rejects.toMatchObject({ code: "EV400" });
  });
});

test("an alert about a stage's model is not closed by the check of the keys' models", async () => {
  await sql`select eve.open_alert('model_vanished', 'stage:POEM', 'warning', 'gone'), eve.open_alert('model_vanished', 'm', 'warning', 'gone')`;
  await sql`select public.eve_models_compared()`;
  expect(await open()).toMatchObject([{ subject: "stage:POEM" }]);
});

test("the schedule looks for alerts whether HTTP works or not", async () => {
  const [job] = await sql`select command from cron.job where jobname = 'eve_alerts'`;
  await addModel(sql, "m");
  await addKey(sql, "one");
  await sql`update public.google_ai_api_keys set is_active = false, blocked_until = 'infinity', blocked_reason = 'key_leaked'`;
  await sql.unsafe(job!.command);
  expect(await kinds()).toContain("key_disabled");
});

test("every kind that a function writes is described", async () => {
  const rows = await sql<{ source: string }[]>`
    select p.prosrc as source
    from pg_catalog.pg_proc p
    where p.pronamespace in ('eve'::regnamespace, 'public'::regnamespace) and p.prosrc ~ '(open|raise)_alert\\('`;
  const written = rows.flatMap(({ source }) =>
    [...source.matchAll(/(?:open|raise)_alert\(\s*'([a-z_]+)'/g)].map((match) => match[1])
  );
  expect(written.length).toBeGreaterThan(1);
  const described = (await sql`select kind from eve.alert_kinds`).map((row) => row.kind);
  expect(described).toEqual(expect.arrayContaining(written));
});
