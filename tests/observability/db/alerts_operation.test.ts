/** The operation `alerts` on a real database: each message arrives once, whatever fails, hangs or runs at the same time. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../../shared/runtime/clock.ts";
import { directTransport } from "../../../shared/database/transport/direct_transport.ts";
import { alertChannels, alertsOperation } from "../../../shared/maintenance/alerts/alerts.ts";
import type { OperationContext } from "../../../shared/maintenance/operation.ts";
import { addKey, addModel, clearLedger, freezeClock, type TestClock } from "../../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../../harness/database.ts";
import { empty } from "../../harness/rows.ts";
import { type Receiver, startReceiver } from "../receiver.ts";

const TOKEN = "123456:AAE-a_token";

let database: TestDatabase;
let sql: TestDatabase["sql"];
let clock: TestClock;
let direct: ReturnType<typeof directTransport>;
beforeAll(async () => {
  database = await cloneDatabase();
  ({ sql } = database);
  clock = await freezeClock(sql, "2026-11-19T21:00:00Z");
  direct = directTransport({ url: database.url, connections: 4, pooler: false });
});
afterAll(async () => {
  await direct?.close();
  await database?.drop();
});

let receiver: Receiver;
let logged: unknown[];
beforeEach(async () => {
  receiver = startReceiver();
  logged = [];
  await clearLedger(sql);
  await empty(sql, "eve.alert_deliveries");
  await sql`update eve.maintenance_expected set since = 'infinity'`;
  await clock.advance(1_000);
});
afterEach(() => receiver.stop());

const BOTH = () => ({
  EVE_TELEGRAM_BOT_TOKEN: TOKEN,
  EVE_TELEGRAM_CHAT_ID: "1",
  EVE_TELEGRAM_API_URL: receiver.url,
  EVE_ALERT_WEBHOOK_URL: `${receiver.url}/hook`,
});

function run(
  variables: Record<string, string> = BOTH(),
  more: { secrets?: OperationContext["secrets"]; leftMs?: number } = {},
) {
  const operation = alertsOperation(alertChannels((name) => variables[name], "gateway.example"));
  expect(operation.name).toBe("alerts");
  return operation.run({
    runId: 1,
    call: direct.call,
    clock: systemClock,
    log: (...line) => logged.push(line),
    fetch,
    secrets: more.secrets ?? (() => "set"),
    deadline: { signal: new AbortController().signal, leftMs: () => more.leftMs ?? 60_000 },
    providers: {},
  });
}

const open = (subject: string) =>
  sql`select eve.open_alert('model_vanished', ${subject}, 'warning', ${subject + " has gone"})`;
const close = (subject: string) =>
  sql`update eve.alerts set closed_at = eve.clock() where subject = ${subject}`;
const titles = () =>
  receiver.received.map(({ path, body }) => {
    const said = JSON.parse(body);
    return path === "/hook"
      ? `${said.type} ${said.data.subject}`
      : said.text.split("\n").slice(0, 2).join(" ");
  }).sort();

test("sends to each channel when an alert opens and when it closes, once", async () => {
  await open("m");
  expect(await run()).toMatchObject({
    count: 2,
    tables: ["eve.alert_deliveries"],
    details: { open: 1, channels: { telegram: { sent: 1, failed: 0 }, webhook: { sent: 1, failed: 0 } } },
    more: false,
  });
  await run();
  await open("m");
  await run();
  expect(titles()).toEqual(["alert.opened m", "🟠 <b>Model gone from upstream</b> m has gone"]);

  receiver.received.length = 0;
  await close("m");
  await run();
  await run();
  expect(titles()).toEqual(["alert.closed m", "✅ <b>Over: Model gone from upstream</b> m has gone"]);
});

test("runs that overlap send each message once", async () => {
  for (const subject of ["a", "b", "c", "d"]) await open(subject);
  await Promise.all([run(), run(), run()]);
  expect(titles().filter((title) => title.startsWith("alert."))).toEqual([
    "alert.opened a",
    "alert.opened b",
    "alert.opened c",
    "alert.opened d",
  ]);
  expect(receiver.received).toHaveLength(8);
});

test("looks for the secrets of active keys", async () => {
  await addModel(sql, "m");
  await addKey(sql, "one");
  const key = await addKey(sql, "two");
  const asked: string[] = [];
  const secrets = (name: string) => {
    asked.push(name);
    return name === "KEY_one" ? "set" : null;
  };
  expect(await run({}, { secrets })).toMatchObject({ count: 1, details: { opened: 1 } });
  expect(asked.sort()).toEqual(["KEY_one", "KEY_two"]);
  expect(await sql`select kind, subject from eve.alerts`).toEqual([{ kind: "secret_missing", subject: key }]);
  await clock.advance(1_000);
  expect(await run({})).toMatchObject({ details: { closed: 1, open: 0 } });
});

test("a channel that fails is tried later; the other gets it at once", async () => {
  await open("m");
  const hook = () => new Response(null, { status: 200 });
  receiver.answer(hook);
  const variables = { ...BOTH(), EVE_TELEGRAM_API_URL: `${receiver.url}/down` };
  // Telegram's answer is not its JSON, so it counts as a failure.
  expect(await run(variables)).toMatchObject({
    details: { channels: { telegram: { sent: 0, failed: 1 }, webhook: { sent: 1, failed: 0 } } },
  });
  expect(logged).toEqual([["warn", "alert_not_sent", {
    channel: "telegram",
    alert_id: expect.any(Number),
    alert_kind: "model_vanished",
    attempt: 1,
    state: "pending",
    error: "status 200: an answer that is no JSON",
  }]]);
  receiver.answer(() => Response.json({ ok: true }));
  await run();
  expect(receiver.received).toHaveLength(2); // Not yet.
  await clock.advance(31_000);
  await run();
  expect(receiver.received).toHaveLength(3);
});

test("a pause that Telegram asks for holds for all its messages", async () => {
  for (const subject of ["a", "b", "c"]) await open(subject);
  const { EVE_ALERT_WEBHOOK_URL: _, ...telegram } = BOTH();
  receiver.answer(() => Response.json({ ok: true }), [
    () =>
      Response.json({ ok: false, description: "Too Many Requests", parameters: { retry_after: 600 } }, {
        status: 429,
      }),
  ]);
  expect(await run(telegram)).toMatchObject({ details: { channels: { telegram: { sent: 0, failed: 1 } } } });
  await clock.advance(599_000);
  await run(telegram);
  expect(receiver.received).toHaveLength(1);
  await clock.advance(2_000);
  await run(telegram);
  expect(receiver.received).toHaveLength(4);
});

test("neither the token nor an address is kept or logged", async () => {
  await open("m");
  await receiver.stop();
  await run({ ...BOTH(), EVE_ALERT_WEBHOOK_URL: `${receiver.url}/s3cr3t` });
  const kept = JSON.stringify([await sql`select * from eve.alert_deliveries`, logged]);
  expect(kept).toContain("could not be reached");
  for (const secret of [TOKEN, "s3cr3t", "127.0.0.1"]) expect(kept).not.toContain(secret);
  receiver = startReceiver();
});

test("many messages are sent in portions, and nothing is begun that the time is too short for", async () => {
  for (let number = 0; number < 25; number++) await open(`model-${number}`);
  const { EVE_ALERT_WEBHOOK_URL } = BOTH();
  expect(await run({ EVE_ALERT_WEBHOOK_URL }, { leftMs: 5_000 })).toMatchObject({ count: 0, more: true });
  expect(await run({ EVE_ALERT_WEBHOOK_URL })).toMatchObject({ count: 20, more: true });
  expect(await run({ EVE_ALERT_WEBHOOK_URL })).toMatchObject({ count: 5, more: false });
});

test("a setting that makes no sense fails the run, after everything else was done", async () => {
  await open("m");
  const { EVE_ALERT_WEBHOOK_URL } = BOTH();
  await expect(run({ EVE_ALERT_WEBHOOK_URL, EVE_TELEGRAM_CHAT_ID: "1" })).rejects.toMatchObject({
    code: "gateway_misconfigured",
    detail: expect.stringContaining("EVE_TELEGRAM_BOT_TOKEN is not set"),
  });
  expect(receiver.received).toHaveLength(1);
});

test("keeps the counters up", async () => {
  await sql`
    insert into eve.refusals (refused_at, request_id, attempt, class, endpoint, model, code, tokens)
    values (eve.clock(), 'r', 1, 'batch', 'native', 'm', 'unknown_model', 1)`;
  expect(await run({})).toMatchObject({ tables: ["eve.metric_counters", "eve.metric_histograms"] });
});
