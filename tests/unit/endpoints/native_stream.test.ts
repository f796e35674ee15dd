import { describe, expect, test } from "vitest";
import type { GatewayEvent } from "../../../shared/contract/events.ts";
import type { Gateway } from "../../../shared/contract/gateway.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { decodeNative } from "../../../shared/endpoints/native/request.ts";
import { ID, RESULT, testRouter } from "./router_fixture.ts";

const ASK = { model: "gemma-4-31b-it", prompt: "Что сегодня?", stream: true };
const QUEUED: GatewayEvent = { type: "queued", attempt: 1, model: "gemma-4-31b-it", waitMs: 5_000 };
const STARTED: GatewayEvent = {
  type: "started",
  attempt: 1,
  model: "gemma-4-31b-it",
  keyAlias: "demo-a",
  limits: RESULT.limits,
};
const delta = (text: string, more: object = {}): GatewayEvent => ({
  type: "delta",
  chunk: { candidates: [{ content: { parts: [{ text, ...more }] } }] },
});
const DONE: GatewayEvent = { type: "done", result: RESULT };

/** An endpoint with a gateway that streams these events; a GatewayError is thrown. */
function streaming(...events: (GatewayEvent | GatewayError)[]) {
  const seen = { pulled: 0, left: false };
  const stream: Gateway["stream"] = () => ({
    async *[Symbol.asyncIterator]() {
      try {
        for (const event of events) {
          await Promise.resolve();
          if (event instanceof GatewayError) throw event;
          seen.pulled++;
          yield event;
        }
      } finally {
        seen.left = seen.pulled < events.length;
      }
    },
  });
  return { seen, ...testRouter(undefined, {}, { stream }) };
}

/** Events by name, with their data. */
function eventsOf(text: string): [string, Record<string, unknown>][] {
  return text.split("\n\n").filter((frame) => frame !== "").map((frame) => {
    const [, name = "", data = ""] = /^event: (\w+)\ndata: (.*)$/.exec(frame) ?? expect.unreachable(frame);
    return [name, JSON.parse(data)];
  });
}

describe("a stream at the native endpoint", () => {
  test("[native.stream] has the wait with the expected start, the start, the text, the usage and the end, in this order", async () => {
    const before = Date.now();
    const response = await streaming(
      QUEUED,
      STARTED,
      delta("Hm", { thought: true }),
      delta("Концерт"),
      { type: "delta", chunk: { usageMetadata: { promptTokenCount: 9 } } },
      DONE,
    ).post(ASK);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    expect(response.headers.get("x-eve-request-id")).toBe(ID);
    const events = eventsOf(await response.text());
    expect(events.map(([name]) => name)).toEqual(["queued", "started", "delta", "delta", "usage", "done"]);
    const [queued, started, thought, said, usage, done] = events.map(([, data]) => data);
    expect(queued).toMatchObject({ attempt: 1, model: "gemma-4-31b-it", wait_ms: 5_000 });
    expect(Date.parse(String(queued?.expected_start)) - before).toBeGreaterThanOrEqual(5_000);
    expect(started).toMatchObject({ key_alias: "demo-a", limits: { requests: { limit: 30 } } });
    expect(thought).toEqual({ text: "", parts: [{ text: "Hm", thought: true }] });
    expect(said).toEqual({ text: "Концерт", parts: [{ text: "Концерт" }] });
    expect(usage).toMatchObject({ input_tokens: 9, output_tokens: 3, estimated: false });
    expect(done).toMatchObject({ request_id: "r1", finish_reason: "STOP", attempts: 1 });
  });

  test("what fails before the first event has its own status", async () => {
    const error = new GatewayError("rate_limited", { retryAfterMs: 31_000 });
    for (const events of [[error], [STARTED, error]]) {
      const response = await streaming(...events).post(ASK);
      expect(response.status).toBe(429);
      expect(response.headers.get("retry-after")).toBe("31");
    }
  });

  test("[native.stream-error] what fails later is the last event", async () => {
    const response = await streaming(STARTED, delta("Кон"), new GatewayError("upstream_unavailable"))
      .post({ ...ASK, request_id: "event-42" });
    const events = eventsOf(await response.text());
    expect(events.map(([name]) => name)).toEqual(["started", "delta", "error"]);
    expect(events.at(-1)?.[1]).toMatchObject({
      code: "upstream_unavailable",
      retryable: true,
      request_id: "event-42",
    });
  });

  test("an error event has the fields of an error's body, without the name around them", async () => {
    const error = new GatewayError("upstream_unavailable", { details: { model: "m" } });
    const asked = { ...ASK, request_id: "event-43" };
    const body = await (await streaming(error).post(asked)).json();
    const events = eventsOf(await (await streaming(STARTED, delta("Кон"), error).post(asked)).text());
    expect(events.at(-1)).toEqual(["error", body.error]);
    expect(Object.keys(body)).toEqual(["error"]);
    expect(Object.keys(body.error)).toEqual(["code", "message", "request_id", "retryable", "details"]);
  });

  test("what is no answer does not end as if it were one", async () => {
    const verdict = { ok: false, code: "content_blocked", reason: "SAFETY" } as const;
    const response = await streaming(STARTED, delta("Кон"), { type: "done", result: { ...RESULT, verdict } })
      .post(ASK);
    const events = eventsOf(await response.text());
    expect(events.map(([name]) => name)).toEqual(["started", "delta", "usage", "error"]);
    expect(events.at(-1)?.[1]).toMatchObject({ code: "content_blocked", details: { reason: "SAFETY" } });
  });

  test("a client that leaves ends the call; one that does not read is not read for", async () => {
    const { post, seen } = streaming(STARTED, ...Array.from({ length: 100 }, () => delta("x")), DONE);
    const response = await post(ASK);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(seen.pulled).toBeLessThan(5);
    await response.body?.cancel();
    expect(seen.left).toBe(true);
  });
});

describe("options of the body", () => {
  const decode = (more: object) =>
    decodeNative({ model: "m", prompt: "a", ...more }, { newId: "r", traceId: null, maxWaitMs: 1_000 });

  test("capture is as the consumer's row says unless the request says", () => {
    expect(decode({}).request.capture).toBeNull();
    expect(decode({ capture: false }).request.capture).toBe(false);
    expect(decode({ capture: true }).request.capture).toBe(true);
  });

  test("[native.schema-repair] a repair needs a schema to repair to, and an answer that can be taken back", () => {
    const schema = { type: "object" };
    expect(decode({ response_schema: schema, schema_repair: true }).request.schemaRepair).toBe(true);
    expect(() => decode({ schema_repair: true })).toThrow("response_schema");
    expect(() => decode({ response_schema: schema, schema_repair: true, stream: true })).toThrow("stream");
  });
});
