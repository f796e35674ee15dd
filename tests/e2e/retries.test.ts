/** What the gateway does about each way in which Google says no: through the real stack, with the emulator's errors. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { FaultSpec } from "../../local/emulator/faults.ts";
import { closeTestGateway, type OpenedGateway, openTestGateway } from "../endpoints/opened_gateway.ts";
import { GEMMA } from "../endpoints/test_gateway.ts";

let gateway: OpenedGateway;
let sql: postgres.Sql;

beforeAll(async () => {
  gateway = await openTestGateway();
  sql = gateway.sql;
  // Keys a and b are of one quota project, c is of another.
  await sql`
    update public.google_ai_api_keys
    set priority = case key_alias when 'demo-a' then 1 when 'demo-b' then 2 else 3 end`;
});
afterAll(() => closeTestGateway(gateway));
beforeEach(async () => {
  await gateway.clear();
  await sql`update public.google_ai_model_limits set supports_system = true, supports_json = true, supports_tools = true`;
});

const ask = (body: Record<string, unknown> = {}) =>
  gateway.stack.invoke("llm-invoke", { model: GEMMA, prompt: "Hello", ...body });

/** A fault for the key that comes first. */
const fault = (error: string, more: Partial<Extract<FaultSpec, { kind: "status" }>> = {}) =>
  gateway.faults({ kind: "status", error, match: { key: "demo-key-a" }, ...more } as FaultSpec);

/** The keys of the attempts, once all is settled. */
async function keysTried(): Promise<string[]> {
  await gateway.requests();
  const rows = await sql`
    select k.key_alias
    from eve.attempts a join public.google_ai_api_keys k on k.id = a.key_id
    order by a.request_no, a.attempt`;
  return rows.map(({ key_alias }) => key_alias);
}

const inactiveKeys = () =>
  sql`
  select key_alias, blocked_reason from public.google_ai_api_keys where not is_active or blocked_until > now()`;
const blockedLanes = () =>
  sql`
  select l.quota_project,
    extract(epoch from l.blocked_until - (
      select max(a.settled_at) from eve.attempts a where a.lane_id = l.id and a.outcome = 'failed'
    ))::float8 as seconds,
    abs(extract(epoch from l.blocked_until) * 1000 - eve.next_pacific_midnight(eve.clock_ms())) < 1000 as until_midnight
  from eve.lanes l where l.blocked_until is not null`;
const barredModels = () =>
  sql`
  select k.key_alias, b.model, b.reason
  from eve.key_model_blocks b join public.google_ai_api_keys k on k.id = b.key_id
  where b.blocked_until > now()`;

describe("a quota that Google says is used up", () => {
  test.each([
    ["quota_minute_requests", { retryMs: 29_000 }, 29],
    ["quota_minute_tokens", { retryMs: 7_500 }, 7.5],
    ["quota_bare", {}, 60],
  ])(
    "[native.upstream-errors] %s: the lane pauses for as long as Google said, and another lane answers",
    async (error, more, seconds) => {
      await fault(error, more);
      expect((await ask()).status).toBe(200);
      expect(await keysTried()).toEqual(["demo-a", "demo-c"]);
      const lanes = await blockedLanes();
      expect(lanes).toEqual([{
        quota_project: "demo-one",
        seconds: expect.any(Number),
        until_midnight: false,
      }]);
      // Upstream may leave out what is less than a second.
      expect(lanes[0]!.seconds).toBeGreaterThan(seconds - 1);
      expect(lanes[0]!.seconds).toBeLessThanOrEqual(seconds + 0.1);
      expect(await inactiveKeys()).toEqual([]);
    },
  );

  test("of the day: the lane pauses until midnight in Los Angeles, whatever retryDelay says", async () => {
    await fault("quota_day", { retryMs: 3_000 });
    expect((await ask()).status).toBe(200);
    expect(await keysTried()).toEqual(["demo-a", "demo-c"]);
    expect(await blockedLanes()).toMatchObject([{ quota_project: "demo-one", until_midnight: true }]);
  });

  test("on every lane: 429 with the earliest time to come back", async () => {
    await gateway.faults(
      { kind: "status", error: "quota_minute_requests", retryMs: 40_000, match: { project: "demo-one" } },
      { kind: "status", error: "quota_minute_requests", retryMs: 20_000, match: { project: "demo-two" } },
    );
    await gateway.stoppingClock();
    const response = await ask({ mode: "no_wait" });
    expect(response.status).toBe(429);
    expect(Number(response.headers.get("retry-after"))).toBeGreaterThanOrEqual(20);
    expect(Number(response.headers.get("retry-after"))).toBeLessThan(40);
  });
});

test.each([
  ["api_key_invalid", "key_invalid"],
  ["api_key_expired", "key_invalid"],
  ["unauthenticated", "key_invalid"],
  ["key_leaked", "key_leaked"],
  ["key_suspended", "key_suspended"],
  ["service_disabled", "service_disabled"],
  ["key_restricted", "key_restricted"],
  ["key_address_restricted", "key_restricted"],
  ["prepayment_depleted", "credits_depleted"],
])(
  "[native.upstream-errors] %s: the key is off with that reason and an alert, and the next key answers at once",
  async (error, reason) => {
    await fault(error);
    const response = await ask();
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ attempts: 2, key_alias: "demo-b", wait_ms: 0 });
    expect(await keysTried()).toEqual(["demo-a", "demo-b"]);
    expect(await inactiveKeys()).toEqual([{ key_alias: "demo-a", blocked_reason: reason }]);
    expect(await sql`select kind from eve.alerts where closed_at is null`).toEqual([{
      kind: "key_disabled",
    }]);
    expect(await blockedLanes()).toEqual([]);
  },
);

test.each([
  ["model_not_found", "model_not_found"],
  ["quota_limit_zero", "no_quota"],
  ["project_denied", "project_denied"],
])("%s: that key is barred from that model alone, and the next key answers", async (error, reason) => {
  await fault(error);
  expect((await ask()).status).toBe(200);
  expect(await keysTried()).toEqual(["demo-a", "demo-b"]);
  expect(await barredModels()).toEqual([{ key_alias: "demo-a", model: GEMMA, reason }]);
  expect(await inactiveKeys()).toEqual([]);
});

describe("an overload, a break-down, a connection that fails", () => {
  test.each<[string, FaultSpec]>([
    ["overloaded", { kind: "status", error: "overloaded" }],
    ["internal", { kind: "status", error: "internal" }],
    ["bad_gateway", { kind: "status", error: "bad_gateway" }],
    ["deadline_exceeded", { kind: "status", error: "deadline_exceeded" }],
    ["a connection that closes", { kind: "disconnect" }],
  ])(
    "[native.upstream-errors] %s: nobody is at fault, and another key is tried after a pause",
    async (_, spec) => {
      await gateway.faults({ ...spec, match: { key: "demo-key-a" } });
      expect((await ask()).status).toBe(200);
      const [first, second, ...more] = await keysTried();
      expect(first).toBe("demo-a");
      expect(second).not.toBe("demo-a");
      expect(more).toEqual([]);
      expect([await inactiveKeys(), await blockedLanes(), await barredModels()]).toEqual([[], [], []]);
    },
  );

  test("that does not end: three attempts on three keys, each with a reservation, then the error", async () => {
    await gateway.faults({ kind: "status", error: "overloaded", times: null });
    const response = await ask();
    expect(response.status).toBe(503);
    expect((await response.json()).error).toMatchObject({ code: "upstream_unavailable", retryable: true });
    expect((await keysTried()).toSorted()).toEqual(["demo-a", "demo-b", "demo-c"]);
    expect(await sql`select sum(starts)::int as starts from eve.lane_buckets`).toEqual([{ starts: 3 }]);
  });
});

test.each([
  ["location_unsupported", 502, "upstream_region"],
  ["invalid_argument", 400, "upstream_invalid_request"],
])(
  "%s: asking again would not help, so it is told at once, and nothing is switched off",
  async (error, status, code) => {
    await fault(error);
    const response = await ask();
    expect(response.status).toBe(status);
    expect((await response.json()).error).toMatchObject({ code, retryable: false });
    expect(await keysTried()).toEqual(["demo-a"]);
    expect([await inactiveKeys(), await blockedLanes(), await barredModels()]).toEqual([[], [], []]);
  },
);

const EVENT = {
  type: "object",
  properties: { title: { type: "string" } },
  required: ["title"],
};

describe("a feature that the model refuses", () => {
  const flags = async () =>
    (await sql`
      select supports_system, supports_json, supports_tools from public.google_ai_model_limits where model = ${GEMMA}`)[
      0
    ];

  test.each([
    ["system_disabled", { system: "Be brief." }, "systemInstruction", { supports_system: false }],
    ["json_disabled", { response_schema: EVENT }, "responseMimeType", { supports_json: false }],
  ])("%s: asked once more without it, and never again with it", async (error, body, field, expected) => {
    await fault(error);
    await (await ask({ prompt: "Say one", ...body })).body?.cancel();
    await gateway.requests();
    expect(await flags()).toMatchObject(expected);
    await (await ask({ prompt: "Say two", ...body })).body?.cancel();
    await gateway.requests();
    const sent = (await gateway.bodies()).map((one) => JSON.stringify(one).includes(field));
    expect(sent).toEqual([true, false, false]);
  });

  test("tools_disabled: no words can stand for tools, so it is said, and remembered", async () => {
    await fault("tools_disabled");
    const tools = [{ function_declarations: [{ name: "find_events", description: "Finds events" }] }];
    const body = { contents: [{ role: "user", parts: [{ text: "Hello" }] }], tools };
    const first = await gateway.fetch(`/v1beta/models/${GEMMA}:generateContent`, body);
    expect(first.status).toBe(400);
    await first.body?.cancel();
    await gateway.requests();
    expect(await flags()).toMatchObject({ supports_tools: false });
    const second = await gateway.fetch(`/v1beta/models/${GEMMA}:generateContent`, body);
    expect(second.status).toBe(400);
    await second.body?.cancel();
    expect((await gateway.stats()).received.byMethod.generateContent).toBe(1);
  });
});

test("[native.stream-error] nothing is asked again once a stream's first byte has gone out", async () => {
  await gateway.faults({ kind: "broken_stream" });
  const response = await ask({ prompt: "Write 60 words about a concert", stream: true });
  expect(response.status).toBe(200);
  const text = await response.text();
  expect(text).toContain("event: delta");
  expect(text).toMatch(/event: error\ndata: .*upstream_unavailable/);
  expect(text).not.toContain("event: done");
  expect(await keysTried()).toEqual(["demo-a"]);
});
