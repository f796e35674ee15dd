import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { eveOptions } from "../../../shared/endpoints/eve_options.ts";

const TERMS = { maxWaitMs: 100_000, defaultWaitMs: 60_000 };

function read(headers: Record<string, string> = {}, query = "") {
  return eveOptions(new Request(`http://gateway/llm-invoke/openai/v1/models${query}`, { headers }), TERMS);
}

function refusal(headers: Record<string, string> = {}, query = ""): GatewayError {
  try {
    read(headers, query);
  } catch (error) {
    if (error instanceof GatewayError) return error;
  }
  throw new Error("was not refused");
}

test("a client that says nothing waits, as an interactive caller, under an id of ours", () => {
  expect(read()).toEqual({
    maxWaitMs: 60_000,
    class: "interactive",
    requestId: null,
    capture: null,
    cacheTtlS: null,
  });
});

test("every option comes as a header or in the query", () => {
  const options = {
    "x-eve-max-wait-ms": "5000",
    "x-eve-class": "batch",
    "x-eve-request-id": "event-42",
    "x-eve-capture": "true",
    "x-eve-cache-ttl": "2592000",
  };
  const expected = {
    maxWaitMs: 5_000,
    class: "batch",
    requestId: "event-42",
    capture: true,
    cacheTtlS: 2_592_000,
  };
  expect(read(options)).toEqual(expected);
  expect(read({}, `?${new URLSearchParams(options)}`)).toEqual(expected);
});

describe("the wait", () => {
  test.each([
    [{ "x-eve-mode": "no_wait" }, 0],
    [{ "x-eve-mode": "no_wait", "x-eve-max-wait-ms": "0" }, 0],
    [{ "x-eve-mode": "wait" }, 60_000],
    [{ "x-eve-max-wait-ms": "100000" }, 100_000],
    [{ "x-eve-max-wait-ms": "" }, 60_000],
  ])("%j is %d ms", (headers, ms) => expect(read(headers).maxWaitMs).toBe(ms));

  test("is never longer than the gateway allows", () => {
    const options = eveOptions(new Request("http://gateway/"), { maxWaitMs: 5_000, defaultWaitMs: 60_000 });
    expect(options.maxWaitMs).toBe(5_000);
  });
});

describe("what cannot be meant is refused by name", () => {
  test.each([
    ["x-eve-mode", { "x-eve-mode": "later" }],
    ["x-eve-max-wait-ms", { "x-eve-max-wait-ms": "5s" }],
    ["x-eve-max-wait-ms", { "x-eve-max-wait-ms": "100001" }],
    ["x-eve-max-wait-ms", { "x-eve-mode": "no_wait", "x-eve-max-wait-ms": "5" }],
    ["x-eve-class", { "x-eve-class": "urgent" }],
    ["x-eve-request-id", { "x-eve-request-id": "a b" }],
    ["x-eve-request-id", { "x-eve-request-id": "x".repeat(201) }],
    ["x-eve-capture", { "x-eve-capture": "yes" }],
    ["x-eve-cache-ttl", { "x-eve-cache-ttl": "1h" }],
    ["x-eve-cache-ttl", { "x-eve-cache-ttl": "2592001" }],
    ["x-eve-prioritise", { "x-eve-prioritise": "1" }],
  ])("%s in %j", (name, headers) => {
    const error = refusal(headers);
    expect([error.code, error.details]).toEqual([
      "invalid_request",
      [expect.objectContaining({ field: name })],
    ]);
  });

  test("two values for one option", () => {
    expect(refusal({ "x-eve-class": "batch" }, "?x-eve-class=interactive").publicMessage).toContain(
      "x-eve-class",
    );
  });

  test("an unknown one in the query", () => {
    expect(refusal({}, "?x-eve-wait=5").publicMessage).toContain("x-eve-wait");
  });
});
