/** What an operator sees of a running gateway: figures, alerts, lines of the log. Everything is real but Google and Telegram. */
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { METRICS } from "../../../shared/maintenance/metric_registry.ts";
import { empty } from "../../harness/rows.ts";
import { until as patiently } from "../../harness/patience.ts";
import { startTestStack, type TestStack } from "../../harness/stack.ts";
import { type Prometheus, startPrometheus } from "../prometheus.ts";
import { filledIn, readDashboard } from "../promql.ts";
import { FINE_BUT_FOR_A_NAME, promtool, withoutPromtool } from "../promtool.ts";
import { type Receiver, startReceiver } from "../receiver.ts";

const METRICS_KEY = "a-key-for-the-scraper";
const TOKEN = "123456:AAE-a_token";
const WEBHOOK_SECRET = "whsec_c2VjcmV0LW9mLXRoZS1ob29r";
/** Nothing that a user says may be seen in a log or a figure. */
const PROMPT = "zanzibar-quokka";

let receiver: Receiver;
let stack: TestStack;
let sql: postgres.Sql;
let prometheus: Prometheus | undefined;
beforeAll(async () => {
  receiver = startReceiver();
  stack = await startTestStack({
    schedule: false,
    emulator: { latencyMs: 20 },
    env: {
      EVE_METRICS_KEY: METRICS_KEY,
      EVE_TELEGRAM_BOT_TOKEN: TOKEN,
      EVE_TELEGRAM_CHAT_ID: "-1",
      EVE_TELEGRAM_API_URL: receiver.url,
      EVE_ALERT_WEBHOOK_URL: `${receiver.url}/hook/s3cr3t`,
      EVE_ALERT_WEBHOOK_SECRET: WEBHOOK_SECRET,
    },
  });
  sql = postgres(stack.databaseUrl, { max: 2, onnotice: () => {} });
  if (!withoutPromtool) {
    prometheus = await startPrometheus({
      url: stack.url,
      path: "/functions/v1/maintenance/metrics",
      key: METRICS_KEY,
    });
  }
});
afterAll(async () => {
  await prometheus?.stop();
  await sql?.end({ timeout: 5 });
  await stack?.stop();
  await receiver?.stop();
});

const ask = (body: Record<string, unknown>, init?: RequestInit) =>
  stack.invoke("llm-invoke", { model: "gemma-4-31b-it", prompt: `Say ${PROMPT}`, ...body }, init);
async function fault(rule: Record<string, unknown>): Promise<void> {
  const done = await fetch(`${stack.emulatorUrl}/__control/faults`, {
    method: "POST",
    body: JSON.stringify(rule),
  });
  expect(done.ok, await done.text()).toBe(true);
}
const noFaults = () => fetch(`${stack.emulatorUrl}/__control/faults`, { method: "DELETE" });
const run = async (operation: string) => {
  const response = await stack.invoke(`maintenance/${operation}`, undefined);
  return { status: response.status, body: await response.json() };
};

async function until<Value>(
  what: () => Promise<Value | false | undefined> | Value | false | undefined,
): Promise<Value> {
  let value: Value | false | undefined;
  await patiently(async () => value = await what(), `it did not come to this: ${what}`);
  return value as Value;
}
const settled = () => until(async () => (await sql`select from eve.inflight`).length === 0);

/** As a scraper does it: it comes again to a page that the database was too late for. */
const scrape = (headers: HeadersInit = { authorization: `Bearer ${METRICS_KEY}` }) =>
  until(async () => {
    const page = await fetch(`${stack.url}/functions/v1/maintenance/metrics`, { headers });
    if (page.status !== 503) return page;
    await page.body?.cancel();
    return false;
  });
/** Series by name and labels, as they stand on the page. */
async function series(): Promise<Map<string, number>> {
  const page = await (await scrape()).text();
  const lines = page.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(lines.map((line) => {
    const at = line.lastIndexOf(" ");
    return [line.slice(0, at), Number(line.slice(at + 1))];
  }));
}
const sum = (page: Map<string, number>, begins: string, ...labels: string[]) =>
  [...page].filter(([name]) => name.startsWith(begins) && labels.every((part) => name.includes(part)))
    .reduce((total, [, value]) => total + value, 0);

/** The lines of the log that functions wrote, parsed. */
const lines = () =>
  stack.printed.flatMap((line) => {
    const json = /^\[(?:llm-invoke|maintenance|issue-kaggle-token)\] (\{.*\})$/.exec(line)?.[1];
    return json === undefined ? [] : [JSON.parse(json) as Record<string, unknown>];
  });

describe("the metrics page", () => {
  test("opens to the scraper's key and to the project's secret key, and to nobody else", async () => {
    const page = await scrape();
    expect(page.status).toBe(200);
    expect(page.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect((await scrape({ apikey: stack.keys.secret })).status).toBe(200);
    expect((await scrape({ apikey: METRICS_KEY })).status).toBe(200);
    for (
      const headers of [
        {},
        { authorization: `Bearer ${METRICS_KEY}x` },
        { apikey: stack.keys.publishable },
        { authorization: "Basic x" },
      ]
    ) {
      const refused = await scrape(headers as HeadersInit);
      expect([401, 403], JSON.stringify(headers)).toContain(refused.status);
      expect(await refused.text()).not.toContain("eve_requests_total");
    }
    // The scraper's key opens nothing else.
    for (const place of ["maintenance/sweep", "llm-invoke"]) {
      const response = await fetch(`${stack.url}/functions/v1/${place}`, {
        method: "POST",
        headers: { authorization: `Bearer ${METRICS_KEY}` },
        body: "{}",
      });
      expect(response.status, place).toBe(401);
    }
  });

  test("shows calls as soon as they have ended", async () => {
    await settled();
    const before = await series();
    for (let time = 0; time < 3; time++) expect((await ask({})).status).toBe(200);
    expect((await ask({ model: "no-such-model" })).status).toBe(404);
    await settled();
    const after = await series();
    const gained = (begins: string, ...labels: string[]) =>
      sum(after, begins, ...labels) - sum(before, begins, ...labels);
    expect(gained("eve_requests_total", 'outcome="succeeded"', 'endpoint="native"', 'consumer="project"'))
      .toBe(
        3,
      );
    expect(gained("eve_requests_total", 'outcome="refused"', 'model="unknown"')).toBe(1);
    expect(gained("eve_refusals_total", 'code="unknown_model"')).toBe(1);
    expect(gained("eve_tokens_total", 'type="input"')).toBeGreaterThan(0);
    expect(gained("eve_upstream_duration_seconds_count")).toBe(3);
    expect(gained("eve_wait_seconds_count")).toBe(3);
    expect(sum(after, "eve_lane_used", 'limit="rpm"', 'model="gemma-4-31b-it"')).toBeGreaterThanOrEqual(3);
    expect(sum(after, "eve_build_info")).toBe(1);
  });

  test.skipIf(withoutPromtool)("pleases promtool, whatever is on it", async () => {
    expect(await promtool(["check", "metrics"], await (await scrape()).text())).toEqual(FINE_BUT_FOR_A_NAME);
  });

  test("shows every metric of the registry, by its type, and OpenMetrics to who asks for it", async () => {
    const page = await (await scrape()).text();
    for (const [name, { type }] of Object.entries(METRICS)) {
      expect(page).toContain(`# TYPE ${name} ${type}\n`);
    }
    const open = await scrape({
      authorization: `Bearer ${METRICS_KEY}`,
      accept: "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    });
    expect(open.headers.get("content-type")).toContain("application/openmetrics-text");
    expect(await open.text()).toMatch(/# EOF\n$/);
  });

  test("falls nowhere when retention has been there", async () => {
    const before = await series();
    // As retention does it: a truncate would wait for every operation that is under way, and some wait for it.
    await empty(sql, "eve.earlier_attempts", "eve.requests", "eve.refusals");
    const after = await series();
    for (const [name, value] of before) {
      if (/_(total|bucket|sum|count)[{ ]?/.test(name)) expect(after.get(name), name).toBe(value);
    }
  });
});

describe("alerts", () => {
  const sent = () =>
    receiver.received.map(({ path, body }) =>
      path.startsWith("/hook")
        ? `webhook ${JSON.parse(body).type} ${JSON.parse(body).data.kind}`
        : `telegram ${JSON.parse(body).text.split("\n")[0]}`
    ).sort();

  test("a key that Google rejects is reported, and reported again when it is switched on", async () => {
    await run("alerts");
    receiver.received.length = 0;
    await fault({ kind: "status", error: "api_key_invalid" });
    expect((await ask({})).status).toBe(200); // Another key served.
    await settled();
    await noFaults();
    expect(await run("alerts")).toMatchObject({ status: 200, body: { status: "succeeded" } });
    expect(sent()).toEqual(["telegram 🔴 <b>Key not used</b>", "webhook alert.opened key_disabled"]);
    expect(sum(await series(), "eve_alerts_open", 'kind="key_disabled"', 'severity="critical"')).toBe(1);
    expect(sum(await series(), "eve_key_state", 'state="off"')).toBe(1);

    receiver.received.length = 0;
    await sql`update public.google_ai_api_keys set is_active = true where not is_active`;
    expect(await run("alerts")).toMatchObject({ body: { details: { open: 0 } } });
    expect(sent()).toEqual(["telegram ✅ <b>Over: Key not used</b>", "webhook alert.closed key_disabled"]);
    expect(sum(await series(), "eve_alerts_open")).toBe(0);
    expect(receiver.received[0]!.path).toMatch(/^\/(bot123456:AAE-a_token\/sendMessage|hook\/s3cr3t)$/);
  });

  test("a secret that is not set is reported before any call needs it", async () => {
    receiver.received.length = 0;
    await sql`insert into public.google_ai_api_keys (key_alias, env_var_name) values ('hollow', 'GOOGLE_API_KEY_NOT_SET')`;
    await run("alerts");
    expect(sent()).toEqual(["telegram 🟠 <b>Secret missing</b>", "webhook alert.opened secret_missing"]);
    await sql`delete from public.google_ai_api_keys where key_alias = 'hollow'`;
    await run("alerts");
    expect(sent()).toHaveLength(4);
  });

  test("a run that fails is an alert about itself once it can be sent", async () => {
    await sql`update eve.operations set last_status = 'failed', last_error = 'no space left', last_completed_at = now() where name = 'rollup'`;
    await run("alerts");
    expect(sent()).toContain("webhook alert.opened maintenance_failed");
    expect(sum(await series(), 'eve_maintenance_failed{operation="rollup"}')).toBe(1);
    const since = performance.now();
    await run("rollup");
    await run("alerts");
    expect(sent()).toContain("webhook alert.closed maintenance_failed");
    const age = sum(await series(), 'eve_maintenance_age_seconds{operation="rollup"}');
    expect(age).toBeLessThanOrEqual((performance.now() - since) / 1_000 + 1);
  });
});

describe("the log", () => {
  const TRACE = "0af7651916cd43dd8448eb211c80319c";
  const traceparent = `00-${TRACE}-b7ad6b7169203331-01`;
  const lineOf = (requestId: string) =>
    until(() => lines().find((line) => line.message === "request_ended" && line.request_id === requestId));

  test("has one line for a call, by OpenTelemetry's names, in the client's trace", async () => {
    const response = await ask({ request_id: "traced" }, { headers: { traceparent } });
    const { usage } = await response.json();
    const line = await lineOf("traced");
    expect(line).toEqual({
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      level: "info",
      message: "request_ended",
      request_id: "traced",
      trace_id: TRACE,
      span_id: expect.stringMatching(/^[0-9a-f]{16}$/),
      parent_span_id: "b7ad6b7169203331",
      "gen_ai.operation.name": "chat",
      "gen_ai.provider.name": "gcp.gemini",
      "gen_ai.request.model": "gemma-4-31b-it",
      "gen_ai.response.model": "gemma-4-31b-it",
      "gen_ai.response.finish_reasons": ["STOP"],
      "gen_ai.usage.input_tokens": usage.input_tokens,
      "gen_ai.usage.output_tokens": expect.any(Number),
      "http.response.status_code": 200,
      "eve.outcome": "succeeded",
      "eve.endpoint": "native",
      "eve.class": "interactive",
      "eve.consumer": "default",
      "eve.key": expect.stringMatching(/^demo-/),
      "eve.quota_project": expect.stringMatching(/^demo-/),
      "eve.attempts": 1,
      "eve.wait_ms": 0,
      "eve.request_no": expect.any(Number),
      "eve.duration_ms": expect.any(Number),
    });
    expect(response.headers.get("traceresponse")).toBe(`00-${TRACE}-${line.span_id}-00`);
    await settled();
    expect(await sql`select trace_id from eve.requests where request_id = 'traced'`).toEqual([{
      trace_id: TRACE,
    }]);
    expect(
      lines().filter(({ message, request_id }) => message === "request_ended" && request_id === "traced"),
    )
      .toHaveLength(1);
  });

  test("has the trace of a refusal, there and in the database", async () => {
    const response = await ask({ request_id: "refused", model: "nope" }, { headers: { traceparent } });
    expect(response.status).toBe(404);
    await response.body?.cancel();
    expect(await lineOf("refused")).toMatchObject({
      level: "info",
      trace_id: TRACE,
      "error.type": "unknown_model",
      "eve.outcome": "failed",
      "http.response.status_code": 404,
    });
    expect(await sql`select trace_id from eve.refusals where request_id = 'refused'`).toEqual([{
      trace_id: TRACE,
    }]);
  });

  test("has a line for a stream when it is over, and for each attempt that failed", async () => {
    await fault({ kind: "status", error: "overloaded" });
    const response = await ask({ request_id: "streamed", stream: true });
    expect(await response.text()).toContain("event: done");
    expect(
      await until(() =>
        lines().find((line) => line.message === "request_ended" && line.request_id === "streamed")
      ),
    )
      .toMatchObject({ "eve.outcome": "succeeded", "eve.attempts": 2, "http.response.status_code": 200 });
    const failed = lines().filter((line) =>
      line.message === "attempt_failed" && line.request_id === "streamed"
    );
    expect(failed).toMatchObject([{
      level: "warn",
      "error.type": "upstream_unavailable",
      "http.response.status_code": 503,
      "eve.attempt": 1,
      trace_id: expect.stringMatching(/^[0-9a-f]{32}$/),
    }]);
    await noFaults();
  });

  test("has a line for a caller who was refused, and for what is no call", async () => {
    const refused = await fetch(`${stack.url}/functions/v1/llm-invoke`, { method: "POST", body: "{}" });
    expect(refused.status).toBe(401);
    const id = refused.headers.get("x-eve-request-id")!;
    expect(await lineOf(id)).toMatchObject({ level: "info", "error.type": "credential_missing" });
    const models = await stack.invoke("llm-invoke/openai/v1/models", undefined, { method: "GET" });
    expect(await lineOf(models.headers.get("x-eve-request-id")!)).toMatchObject({
      "eve.outcome": "succeeded",
      "eve.endpoint": "openai",
      "eve.consumer": "default",
    });
  });

  test("says that a client has gone", async () => {
    await fault({ kind: "delay", delayMs: 3_000 });
    const leaving = new AbortController();
    const asked = ask({ request_id: "left" }, { signal: leaving.signal });
    await until(async () => (await sql`select from eve.inflight where request_id = 'left'`).length === 1);
    leaving.abort();
    await asked.catch(() => {});
    expect(await lineOf("left")).toMatchObject({ "eve.outcome": "cancelled", "error.type": "client_closed" });
  });

  test("holds no prompt, no answer, no key and no secret; nor do the figures", async () => {
    // Google repeats what it does not understand, to whom it belongs.
    const refused = await stack.invoke("llm-invoke/v1beta/models/gemma-4-31b-it:generateContent", {
      contents: [{ role: "user", parts: [{ text: PROMPT, [PROMPT]: 1 }] }],
    }, { headers: { "x-eve-request-id": "quoted" } });
    expect(refused.status).toBe(400);
    expect(await refused.text()).toContain(PROMPT);
    expect(await lineOf("quoted")).toMatchObject({ "error.type": "upstream_invalid_request" });
    const written = [
      stack.printed.filter((line) => !line.startsWith("[emulator]")).join("\n"),
      await (await scrape()).text(),
    ]
      .join("\n");
    expect(written).toContain("request_ended");
    for (
      const secret of [
        PROMPT,
        stack.keys.secret,
        METRICS_KEY,
        TOKEN,
        "s3cr3t",
        WEBHOOK_SECRET,
        "demo-key-a",
        "demo-key-b",
        "demo-key-c",
        "postgres:postgres",
      ]
    ) {
      expect(written.includes(secret), secret).toBe(false);
    }
  });

  test("is JSON, line by line", () => {
    const printed = stack.printed.filter((line) => /^\[(llm-invoke|maintenance)\] /.test(line));
    expect(printed.length).toBeGreaterThan(10);
    for (const line of printed) {
      expect(() => JSON.parse(line.slice(line.indexOf(" ") + 1)), line).not.toThrow();
    }
  });
});

const STORAGE_SUMS = {
  operations: [{ operation: "put", result: "ok", content_type: "media", times: 1 }],
  uploads: [{
    content_type: "media",
    size_bucket: "1MB",
    counts: [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    seconds: 0.2,
  }],
  violations: [{ tenant_id: "default", reason: "tenant", times: 1 }],
  emergency_cleanups: 1,
};

/** A job that the worker runs, and a chat with an answer, which is erased. */
async function jobAndChat(): Promise<void> {
  const chats = `${stack.url}/functions/v1/api/v1/chats`;
  const headers = { apikey: stack.keys.secret, "content-type": "application/json" };
  const created = await fetch(chats, { method: "POST", headers, body: JSON.stringify({ title: "t" }) });
  const { id } = await created.json();
  const given = [
    await ask({ mode: "queue" }),
    await stack.invoke("worker", {}),
    await ask({ chat_id: id }),
    await fetch(`${chats}/${id}?erase=true`, { method: "DELETE", headers }),
  ];
  for (const response of given) await response.body?.cancel();
}

test.skipIf(withoutPromtool)("every panel of the dashboard has data, in a real Prometheus", async () => {
  for (let time = 0; time < 3; time++) await ask({ class: time % 2 ? "batch" : "interactive" });
  await fault({ kind: "status", error: "overloaded" });
  await ask({});
  await sql`select eve.open_alert('model_vanished', 'a', 'warning', 'so that one is open')`;
  const { panels } = await readDashboard();
  const queries = panels.flatMap(({ title, targets }) =>
    (targets ?? []).map(({ refId, expr }) => ({ name: `${title} ${refId}`, expr: filledIn(expr, "1m") }))
  );
  expect(queries.length).toBeGreaterThan(30);
  let without = queries;
  // A series needs two scrapes between which something has happened.
  await until(async () => {
    await (await ask({})).body?.cancel();
    // There is no S3 here, and room enough.
    await sql`select public.eve_storage_count(${sql.json(STORAGE_SUMS)})`;
    await jobAndChat();
    for (const fromCache of [false, true]) {
      await sql`select eve.vision_count_metrics('default', 'google', 'done', 'routed', 9, ${fromCache}, 700)`;
    }
    const answers = await Promise.all(without.map(({ expr }) => prometheus!.query(expr).catch(() => [])));
    without = without.filter((_, place) => answers[place]!.length === 0);
    return without.length === 0;
  }).catch(() => {});
  expect(without).toEqual([]);
});
