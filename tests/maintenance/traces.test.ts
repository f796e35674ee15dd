/** The operation `traces` on a real database, towards a real HTTP server that plays a collector. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { directTransport } from "../../shared/database/transport/direct_transport.ts";
import { type TraceExport, traceExport, tracesOperation } from "../../shared/maintenance/traces.ts";
import { spansOf } from "../../shared/maintenance/trace_spans.ts";
import { systemClock } from "../../shared/runtime/clock.ts";
import {
  addKey,
  addModel,
  clearLedger,
  freezeClock,
  reserve,
  settle,
  type SettleOptions,
  type TestClock,
} from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { until } from "../harness/patience.ts";
import { freePorts } from "../harness/ports.ts";
import { type Receiver, startReceiver } from "../observability/receiver.ts";

/** What tests/observability/install has built: it is asked for by name. */
const COLLECTOR = Deno.env.get("EVE_OTEL_COLLECTOR");
const TRACE = "0af7651916cd43dd8448eb211c80319c";

let database: TestDatabase;
let sql: TestDatabase["sql"];
let clock: TestClock;
let direct: ReturnType<typeof directTransport>;
let receiver: Receiver;
beforeAll(async () => {
  database = await cloneDatabase();
  ({ sql } = database);
  clock = await freezeClock(sql, "2026-11-18T12:00:00Z");
  direct = directTransport({ url: database.url, connections: 4, pooler: false });
});
afterAll(async () => {
  await direct?.close();
  await database?.drop();
});
beforeEach(async () => {
  receiver = startReceiver();
  receiver.answer(() => Response.json({}));
  await clearLedger(sql);
  await addModel(sql, "m");
  await addKey(sql, "one", { project: "p" });
  await sql`update eve.settings set value = 1 where name = 'trace_export'`;
  await sql`update eve.trace_export set exported_at = eve.clock() - interval '1 minute', exported_no = 0`;
  await sql`update eve.metric_counters set value = 0 where metric = 'eve_trace_spans_total'`;
  await clock.advance(3_600_000);
  await sql`update eve.trace_export set exported_at = eve.clock()`;
});
afterEach(() => receiver.stop());

const target = (): TraceExport =>
  traceExport(
    (name) => ({ EVE_OTLP_ENDPOINT: `${receiver.url}/otlp/`, EVE_OTLP_HEADERS: "api-key=a%20b" })[name],
    "g.example",
  )!;

function run(open: () => TraceExport | null = target, leftMs = 60_000) {
  return tracesOperation(open).run({
    runId: 1,
    call: direct.call,
    clock: systemClock,
    log: () => {},
    fetch,
    secrets: () => null,
    deadline: { signal: new AbortController().signal, leftMs: () => leftMs },
    providers: {},
  });
}

const due = async () => (await sql`select eve.traces_are_due() as due`)[0]!.due as boolean;
const counted = async () =>
  Object.fromEntries(
    (await sql`select labels ->> 'result' as result, value::integer from eve.metric_counters where metric = 'eve_trace_spans_total'`)
      .map(({ result, value }) => [result, value]),
  );

/** A request with one attempt for each ending. */
async function request(id: string, endings: SettleOptions[] = [{ outcome: "succeeded" }]) {
  for (const [place, ending] of endings.entries()) {
    const granted = await reserve(sql, id, { attempt: place + 1 });
    expect(granted.status, JSON.stringify(granted)).toBe("granted");
    await settle(sql, granted, { final: place === endings.length - 1, ...ending });
  }
  await sql`update eve.requests set trace_id = ${TRACE} where request_id = ${id}`;
}

// deno-lint-ignore no-explicit-any -- the JSON of OTLP.
const spansIn = (body: string): any[] => JSON.parse(body).resourceSpans[0].scopeSpans[0].spans;
// deno-lint-ignore no-explicit-any -- the same.
const attributesOf = (span: any) =>
  // deno-lint-ignore no-explicit-any -- the same.
  Object.fromEntries(span.attributes.map(({ key, value }: any) => [key, Object.values(value)[0]]));

test("a request goes to the collector once, with a span for it and one for each attempt", async () => {
  await request("r1", [
    { outcome: "failed", errorCode: "upstream_unavailable", upstreamStatus: 503 },
    { outcome: "succeeded", inputTokens: 9, outputTokens: 100 },
  ]);
  await sql`update eve.requests set thoughts_tokens = 11, latency_ms = 900, finish_reason = 'STOP'`;
  expect(await due()).toBe(false);
  await clock.advance(20_001);
  expect(await due()).toBe(true);
  expect(await run()).toMatchObject({
    count: 1,
    details: { requests: 1, sent: 3, rejected: 0 },
    more: false,
  });
  expect(await due()).toBe(false);
  await run();
  expect(receiver.received).toHaveLength(1);

  const [{ path, headers, body }] = receiver.received as [typeof receiver.received[number]];
  expect([path, headers.get("content-type"), headers.get("api-key")]).toEqual([
    "/otlp/v1/traces",
    "application/json; charset=utf-8",
    "a b",
  ]);
  const { resource, scopeSpans } = JSON.parse(body).resourceSpans[0];
  expect(attributesOf(resource)).toMatchObject({
    "service.name": "eve-gateway",
    "service.instance.id": "g.example",
  });
  expect(scopeSpans).toHaveLength(1);
  const [root, failed, succeeded] = spansIn(body);
  expect(root).toMatchObject({ traceId: TRACE, name: "chat m", kind: 2, status: {} });
  expect(root.parentSpanId).toBeUndefined();
  expect([root.status, succeeded.status]).toEqual([{}, {}]);
  for (const span of [root, failed, succeeded]) {
    expect(span.traceId).toBe(TRACE);
    expect(span.spanId).toMatch(/^[0-9a-f]{16}$/);
    expect(BigInt(span.endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(span.startTimeUnixNano));
  }
  expect(new Set([root.spanId, failed.spanId, succeeded.spanId]).size).toBe(3);
  expect(attributesOf(root)).toMatchObject({
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "eve.request_id": "r1",
    "eve.outcome": "succeeded",
    "eve.consumer": "project",
    "eve.attempts": "2",
  });
  expect(failed).toMatchObject({
    parentSpanId: root.spanId,
    kind: 3,
    status: { code: 2, message: "upstream_unavailable" },
  });
  expect(attributesOf(failed)).toMatchObject({
    "error.type": "upstream_unavailable",
    "http.response.status_code": "503",
  });
  expect(succeeded).toMatchObject({ parentSpanId: root.spanId, status: {} });
  expect(attributesOf(succeeded)).toMatchObject({
    "gen_ai.provider.name": "gcp.gemini",
    "gen_ai.response.finish_reasons": { values: [{ stringValue: "STOP" }] },
    "gen_ai.usage.input_tokens": "9",
    "gen_ai.usage.output_tokens": "111",
    "eve.key": "one",
    "eve.quota_project": "p",
  });
  expect(BigInt(succeeded.endTimeUnixNano) - BigInt(succeeded.startTimeUnixNano)).toBe(900_000_000n);
  expect(await counted()).toEqual({ sent: 3, rejected: 0, lost: 0 });
});

test("many go in batches, and none twice or not at all", async () => {
  await sql`
    insert into eve.requests (request_no, consumer_id, request_id, class, endpoint, model, state, attempts, wait_ms, received_at, finished_at)
    select n, '00000000-0000-0000-0000-000000000000', 'r' || n, 'batch', 'native', 'm', 'succeeded', 1, 0, eve.clock(),
      eve.clock() + (n / 100) * interval '1 second'
    from generate_series(1, 450) n`;
  await clock.advance(60_000);
  expect(await run()).toMatchObject({ count: 450, details: { sent: 450 } });
  const sent = receiver.received.flatMap(({ body }) =>
    spansIn(body).map((span) => attributesOf(span)["eve.request_id"])
  );
  expect(receiver.received).toHaveLength(3);
  expect(sent).toHaveLength(450);
  expect(new Set(sent).size).toBe(450);
});

if (COLLECTOR !== undefined) {
  test(
    "OpenTelemetry's own collector takes them, and reads what they say",
    async () => {
      const [port] = freePorts(1);
      const endpoint = `127.0.0.1:${port}`;
      const config = {
        receivers: { otlp: { protocols: { http: { endpoint } } } },
        exporters: { debug: { verbosity: "detailed" } },
        service: {
          telemetry: { metrics: { level: "none" } },
          pipelines: { traces: { receivers: ["otlp"], exporters: ["debug"] } },
        },
      };
      const collector = new Deno.Command(COLLECTOR, {
        args: [`--config=yaml:${JSON.stringify(config)}`],
        stdout: "null",
        stderr: "piped",
      }).spawn();
      const lines: string[] = [];
      const read = (async () => {
        for await (const text of collector.stderr.pipeThrough(new TextDecoderStream())) {
          lines.push(...text.split("\n"));
        }
      })();
      try {
        const answers = () =>
          fetch(`http://${endpoint}/`).then(async ({ body }) => {
            await body?.cancel();
            return true;
          }, () => false);
        await until(answers, "the collector does not listen");
        await request("r1", [
          { outcome: "failed", errorCode: "upstream_unavailable", upstreamStatus: 503 },
          { outcome: "succeeded", inputTokens: 9, outputTokens: 100 },
        ]);
        await clock.advance(20_001);
        const open = () =>
          traceExport((name) => ({ EVE_OTLP_ENDPOINT: `http://${endpoint}` })[name], "g.example");
        expect(await run(open)).toMatchObject({ details: { requests: 1, sent: 3, rejected: 0 } });
        await until(
          () => lines.filter((line) => /^Span #/.test(line)).length === 3,
          "it has printed no spans",
        );
      } finally {
        collector.kill("SIGTERM");
        await Promise.all([collector.status, read]);
      }
      const said = lines.join("\n");
      expect(said.match(/Trace ID +: \w+/g)).toHaveLength(3);
      expect(said).toContain(`Trace ID       : ${TRACE}`);
      for (
        const attribute of [
          "service.name: Str(eve-gateway)",
          "gen_ai.operation.name: Str(chat)",
          "gen_ai.request.model: Str(m)",
          "gen_ai.usage.input_tokens: Int(9)",
          "gen_ai.usage.output_tokens: Int(100)",
        ]
      ) expect(said).toContain(`-> ${attribute}`);
    },
  );
}

test("what the collector cannot take now is sent later, under the same ids", async () => {
  await request("r1");
  await clock.advance(20_001);
  const busy = () => new Response(null, { status: 503 });
  receiver.answer(() => Response.json({}), [busy]);
  await expect(run()).rejects.toMatchObject({ detail: expect.stringContaining("status 503") });
  expect(await due()).toBe(true);
  await run();
  const [first, second] = receiver.received;
  expect(second!.body).toBe(first!.body);
  expect(await counted()).toEqual({ sent: 2, rejected: 0, lost: 0 });
});

test.each([429, 502, 503, 504, 401, 403, 404, 301, 308])(
  "status %i is not the spans' fault: they wait",
  async (status) => {
    await request("r1");
    await clock.advance(20_001);
    receiver.answer(() => new Response(null, { status, headers: { location: `${receiver.url}/elsewhere` } }));
    await expect(run()).rejects.toMatchObject({ detail: expect.stringContaining(`status ${status}`) });
    expect([await due(), receiver.received.length, await counted()]).toEqual([
      true,
      1,
      { sent: 0, rejected: 0, lost: 0 },
    ]);
  },
);

test("they wait where nobody listens, and for a run with time enough", async () => {
  await request("r1");
  await clock.advance(20_001);
  expect(await run(target, 14_999)).toMatchObject({ count: 0, more: true });
  expect(receiver.received).toHaveLength(0);
  await receiver.stop();
  await expect(run()).rejects.toMatchObject({ code: "upstream_unavailable" });
  expect([await due(), await counted()]).toEqual([true, { sent: 0, rejected: 0, lost: 0 }]);
});

test("a request that may still be joined by earlier ones waits for them; what was noted is not noted again", async () => {
  await request("r1");
  await clock.advance(20_000);
  expect([await due(), (await run()).count]).toEqual([false, 0]);
  await clock.advance(1);
  await run();
  const [place] = await sql`select exported_at, exported_no::integer from eve.trace_export`;
  const done = async (at: Date, no: number) =>
    (await sql`select public.eve_traces_done(${at}, ${no}, 5, 0) as answer`)[0]!.answer.status;
  expect(await done(place!.exported_at, place!.exported_no)).toBe("known");
  expect(await done(new Date(place!.exported_at.getTime() - 1), place!.exported_no + 9)).toBe("known");
  expect(await counted()).toEqual({ sent: 2, rejected: 0, lost: 0 });
  expect(await due()).toBe(false);
});

test("an attempt that never called upstream has no span", async () => {
  const unsent = { outcome: "failed", errorCode: "upstream_unavailable", dispatched: false } as const;
  await request("first", [unsent, { outcome: "succeeded" }]);
  await request("last", [{ outcome: "failed", errorCode: "upstream_timeout" }, unsent]);
  await clock.advance(20_001);
  await run();
  const spans = receiver.received.flatMap(({ body }) => spansIn(body));
  const attempts = spans.filter(({ kind }) => kind === 3).map((span) => attributesOf(span)["eve.attempt"]);
  expect([spans.length, attempts]).toEqual([4, ["2", "1"]]);
});

const traced = {
  request_no: 7,
  request_id: "r",
  trace_id: null,
  received_at: "2026-11-18T12:00:00Z",
  finished_at: "2026-11-18T12:00:01Z",
  state: "cancelled",
  error_code: "client_closed_request",
  endpoint: "native",
  class: "batch",
  model: "gemini-embedding-001",
  requested_model: null,
  consumer: null,
  wait_ms: 0,
  attempts: [],
};

test("a request without a trace has one of its own, this gateway's; who left is no error, an embedding no chat", async () => {
  const [span] = await spansOf(traced, "g.example");
  expect(span).toMatchObject({
    traceId: expect.stringMatching(/^[0-9a-f]{32}$/),
    name: "embeddings gemini-embedding-001",
  });
  expect(span!.status).toEqual({});
  expect(await spansOf(traced, "g.example")).toEqual([span]);
  const ids = new Set<string>();
  for (
    const [given, gateway] of [[traced, "g.example"], [traced, "h.example"], [
      { ...traced, request_no: 8 },
      "g.example",
    ]] as const
  ) {
    const [one] = await spansOf(given, gateway);
    ids.add(one!.traceId).add(one!.spanId);
  }
  expect(ids.size).toBe(6);
  expect((await spansOf({ ...traced, state: "expired" }, "g.example"))[0]!.status).toEqual({
    code: 2,
    message: "client_closed_request",
  });
});

test.each([["999", 2], [-1, 0], ["some", 0], [null, 0], [1, 1]])(
  "a collector that says %j were refused",
  async (rejectedSpans, rejected) => {
    await request("r1");
    await clock.advance(20_001);
    receiver.answer(() => Response.json({ partialSuccess: { rejectedSpans } }));
    expect(await run()).toMatchObject({ details: { sent: 2 - rejected, rejected } });
  },
);

test("what it refuses, whole or in part, is counted and not sent again", async () => {
  await request("r1");
  await clock.advance(20_001);
  receiver.answer(() => new Response(null, { status: 400 }));
  expect(await run()).toMatchObject({ details: { sent: 0, rejected: 2 } });
  await request("r2");
  await clock.advance(20_001);
  receiver.answer(() => Response.json({ partialSuccess: { rejectedSpans: "1", errorMessage: "no" } }));
  expect(await run()).toMatchObject({ details: { sent: 1, rejected: 1 } });
  expect(await counted()).toEqual({ sent: 1, rejected: 3, lost: 0 });
});

test("what waited for more than a day is lost, and counted", async () => {
  await request("old", [{ outcome: "failed", errorCode: "upstream_timeout" }, { outcome: "succeeded" }]);
  await clock.advance(25 * 3_600_000);
  await request("new");
  await clock.advance(20_001);
  expect(await run()).toMatchObject({ details: { requests: 1, sent: 2 } });
  expect(await counted()).toEqual({ sent: 2, rejected: 0, lost: 3 });
});

test("it begins with what ends from then on, and nothing is asked for while it is off", async () => {
  await sql`update eve.trace_export set exported_at = null`;
  await request("before");
  await clock.advance(20_001);
  expect(await due()).toBe(true);
  expect(await run()).toMatchObject({ count: 0 });
  expect(await due()).toBe(false);
  await request("after");
  await clock.advance(20_001);
  await sql`update eve.settings set value = 0 where name = 'trace_export'`;
  expect(await due()).toBe(false);
  await sql`update eve.settings set value = 1 where name = 'trace_export'`;
  await run();
  expect(
    receiver.received.flatMap(({ body }) => spansIn(body)).map((span) => attributesOf(span)["eve.request_id"])
      .filter(Boolean),
  )
    .toEqual(["after"]);
});

test.each([
  ["no address", {}, "EVE_OTLP_ENDPOINT is not set"],
  ["an address that is none", { EVE_OTLP_ENDPOINT: "collector:4318" }, "EVE_OTLP_ENDPOINT must be"],
  [
    "headers that are none",
    { EVE_OTLP_ENDPOINT: "http://c", EVE_OTLP_HEADERS: "s3cret" },
    "must be name=value",
  ],
  [
    "a header in another code",
    { EVE_OTLP_ENDPOINT: "http://c", EVE_OTLP_HEADERS: "k=s3cret%" },
    "percent-encoded: k",
  ],
])(
  "%s: the run fails and says so, without the secret",
  async (_, variables: Record<string, string>, problem) => {
    const failure = await run(() => traceExport((name) => variables[name], "g")).catch((thrown) => thrown);
    expect(failure).toMatchObject({
      code: "gateway_misconfigured",
      detail: expect.stringContaining(problem),
    });
    expect(failure.detail).not.toContain("s3cret");
  },
);
