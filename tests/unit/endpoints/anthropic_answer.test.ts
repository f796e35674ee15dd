import { describe, expect, test } from "vitest";
import type { Candidate, Part } from "../../../shared/contract/content.ts";
import type { ErrorCode } from "../../../shared/contract/errors.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { GatewayResult } from "../../../shared/contract/result.ts";
import { ID, RESULT } from "./router_fixture.ts";
import { resultOf, streaming } from "./openai_fixture.ts";
import { eventsOf, testAnthropic } from "./anthropic_fixture.ts";

const THINKING = { thinking: { type: "adaptive" } };
const call = (name: string, more: Partial<Part> = {}): Part => ({
  functionCall: { name, args: { a: 1 } },
  ...more,
});
const used = (name: string, id: string) => ({
  type: "tool_use",
  id,
  caller: { type: "direct" },
  name,
  input: { a: 1 },
});
const text = (said: string) => ({ type: "text", text: said, citations: null });

async function answered(parts: Part[], more: Record<string, unknown> = {}, end: Partial<GatewayResult> = {}) {
  const result = resultOf([{ content: { parts }, finishReason: "STOP" }], end);
  const { messages } = testAnthropic({ invoke: () => Promise.resolve(result) });
  const response = await messages(more);
  return { status: response.status, headers: response.headers, body: await response.json() };
}

describe("a message", () => {
  test("has the answer's blocks, how it ended, and what it cost", async () => {
    const { body, headers } = await answered(RESULT.answer.candidates![0]!.content!.parts!);
    expect(body).toMatchObject({
      id: `msg_${ID}`,
      type: "message",
      role: "assistant",
      model: RESULT.model,
      content: [text("Концерт")],
      stop_reason: "end_turn",
      stop_sequence: null,
      usage: { input_tokens: 9, output_tokens: 5, cache_read_input_tokens: 0 },
    });
    expect(headers.get("request-id")).toBe(ID);
    expect(headers.get("anthropic-ratelimit-requests-remaining")).toBe("29");
    expect(headers.get("anthropic-ratelimit-input-tokens-reset")).toBe("2026-11-21T00:01:00Z");
  });

  test("has thoughts if they are asked for, signed by what follows", async () => {
    const parts: Part[] = [
      { text: "Hm", thought: true },
      { text: "m.", thought: true },
      { text: "Yes", thoughtSignature: "AB+/" },
      { text: "." },
    ];
    expect((await answered(parts, THINKING)).body.content).toEqual([
      { type: "thinking", thinking: "Hmm.", signature: "eve_AB+/" },
      text("Yes."),
    ]);
    expect((await answered(parts, { thinking: { type: "adaptive", display: "omitted" } })).body.content)
      .toEqual([
        text("Yes."),
      ]);
  });

  test("has calls, whose ids carry what signs them", async () => {
    const parts = [call("one", { thoughtSignature: "AB+/" }), call("two")];
    const { body } = await answered(parts);
    expect(body.content).toEqual([used("one", "toolu_id1__sig__AB-_"), used("two", "toolu_id2")]);
    expect(body.stop_reason).toBe("tool_use");
    const alone = await answered(parts, {
      tools: [{ name: "one", input_schema: { type: "object" } }],
      tool_choice: { type: "auto", disable_parallel_tool_use: true },
    });
    expect(alone.body.content).toHaveLength(1);
  });

  test("says what came from a cache apart from the input", async () => {
    const usage = { ...RESULT.usage, cachedTokens: 4 };
    expect((await answered([{ text: "x" }], {}, { usage })).body.usage).toMatchObject({
      input_tokens: 5,
      cache_read_input_tokens: 4,
    });
  });

  test("was cut off, or blocked", async () => {
    const cut = await answered([{ text: "Once" }], {}, { finishReason: "MAX_TOKENS" });
    expect(cut.body.stop_reason).toBe("max_tokens");
    const blocked = await answered([], {}, {
      verdict: { ok: false, code: "content_blocked", reason: "SAFETY" },
    });
    expect(blocked.body).toMatchObject({
      stop_reason: "refusal",
      stop_details: { type: "refusal" },
      content: [],
    });
  });
});

describe("errors", () => {
  const CASES: [ErrorCode, number, string][] = [
    ["credential_invalid", 401, "authentication_error"],
    ["credential_insufficient", 403, "permission_error"],
    ["unknown_model", 404, "not_found_error"],
    ["body_too_large", 413, "request_too_large"],
    ["prompt_too_large", 400, "invalid_request_error"],
    ["content_blocked", 400, "invalid_request_error"],
    ["rate_limited", 429, "rate_limit_error"],
    ["upstream_unavailable", 529, "overloaded_error"],
    ["upstream_timeout", 504, "timeout_error"],
    ["empty_answer", 502, "api_error"],
    ["internal", 500, "api_error"],
  ];
  test.each(CASES)("%s is %i, %s", async (code, status, type) => {
    const { messages } = testAnthropic({ invoke: () => Promise.reject(new GatewayError(code)) });
    const response = await messages();
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({
      type: "error",
      error: { type, message: expect.any(String), eve: { code } },
      request_id: ID,
    });
    expect(response.headers.get("request-id")).toBe(ID);
  });

  test("say when to come back, and whether it helps", async () => {
    const failing = async (retryAfterMs: number) => {
      const error = new GatewayError("rate_limited", { retryAfterMs, limits: RESULT.limits });
      const { messages } = testAnthropic({ invoke: () => Promise.reject(error) });
      const { headers } = await messages();
      return ["retry-after", "x-should-retry", "anthropic-ratelimit-requests-limit"].map((name) =>
        headers.get(name)
      );
    };
    expect(await failing(2_500)).toEqual(["3", "true", "30"]);
    expect(await failing(3_600_000)).toEqual(["3600", "false", "30"]);
  });

  test("a prompt that is too long says so in the words that clients look for", async () => {
    const { messages } = testAnthropic({
      invoke: () => Promise.reject(new GatewayError("prompt_too_large")),
    });
    expect((await (await messages()).json()).error.message).toMatch(/^prompt is too long: /);
  });

  test("other addresses are refused in the same form", async () => {
    const { ask } = testAnthropic();
    const response = await ask("/complete", {});
    expect([response.status, (await response.json()).error.type]).toEqual([404, "not_found_error"]);
  });
});

describe("a stream", () => {
  const piece = (
    parts: Part[],
    more: Partial<Candidate> = {},
  ): Candidate[] => [{ content: { parts }, ...more }];
  async function streamedEvents(
    chunks: Candidate[][],
    end: GatewayResult | Error = RESULT,
    more: Record<string, unknown> = {},
  ) {
    const { messages } = testAnthropic(streaming(chunks, end));
    return await eventsOf(await messages({ stream: true, ...more }));
  }
  /** Without the frame of a message. */
  const inner = (events: Record<string, unknown>[]) => events.slice(2, -2);
  const start = (index: number, content_block: unknown) => ({
    type: "content_block_start",
    index,
    content_block,
  });
  const delta = (index: number, said: unknown) => ({ type: "content_block_delta", index, delta: said });
  const stop = (index: number) => ({ type: "content_block_stop", index });

  test("is the events that are documented, in their order", async () => {
    const events = await streamedEvents([
      piece([{ text: "Конц" }]),
      piece([{ text: "ерт" }], { finishReason: "STOP" }),
    ]);
    expect(events.map(({ type }) => type)).toEqual([
      "message_start",
      "ping",
      "content_block_start",
      "content_block_delta",
      "content_block_delta",
      "content_block_stop",
      "message_delta",
      "message_stop",
    ]);
    expect(events[0]).toMatchObject({
      message: { id: `msg_${ID}`, role: "assistant", content: [], stop_reason: null, model: RESULT.model },
    });
    expect(inner(events)).toEqual([
      start(0, text("")),
      delta(0, { type: "text_delta", text: "Конц" }),
      delta(0, { type: "text_delta", text: "ерт" }),
      stop(0),
    ]);
    expect(events.at(-2)).toMatchObject({
      delta: { stop_reason: "end_turn" },
      usage: { output_tokens: 5, input_tokens: 9 },
    });
  });

  test("has thoughts, text and calls as blocks of their own, one after the other", async () => {
    const chunks = [
      piece([{ text: "Hmm", thought: true }]),
      piece([{ text: "So", thoughtSignature: "AAAA" }]),
      piece([call("one"), call("two")]),
    ];
    const result = { ...RESULT, requestId: ID };
    const events = inner(await streamedEvents(chunks, result, THINKING));
    expect(events).toEqual([
      start(0, { type: "thinking", thinking: "", signature: "" }),
      delta(0, { type: "thinking_delta", thinking: "Hmm" }),
      delta(0, { type: "signature_delta", signature: "eve_AAAA" }),
      stop(0),
      start(1, text("")),
      delta(1, { type: "text_delta", text: "So" }),
      stop(1),
      start(2, { ...used("one", "toolu_id1"), input: {} }),
      delta(2, { type: "input_json_delta", partial_json: '{"a":1}' }),
      stop(2),
      start(3, { ...used("two", "toolu_id2"), input: {} }),
      delta(3, { type: "input_json_delta", partial_json: '{"a":1}' }),
      stop(3),
    ]);
  });

  test("begins with thoughts that nobody asked to see, and shows none", async () => {
    const events = await streamedEvents([piece([{ text: "Hmm", thought: true }]), piece([{ text: "So" }])]);
    expect(inner(events).map(({ type }) => type)).toEqual([
      "content_block_start",
      "content_block_delta",
      "content_block_stop",
    ]);
  });

  test("answers what fails before a word with a status, and after it with an event", async () => {
    const busy = new GatewayError("upstream_unavailable");
    const { messages } = testAnthropic(streaming([], busy));
    expect((await messages({ stream: true })).status).toBe(529);
    const events = await streamedEvents([piece([{ text: "So" }])], busy);
    expect(events.at(-1)).toMatchObject({
      type: "error",
      error: { type: "overloaded_error" },
      request_id: ID,
    });
  });

  test("plays a stored answer in one piece", async () => {
    const { messages } = testAnthropic({
      async *stream() {
        yield { type: "done", result: { ...RESULT, replayed: true } };
      },
    });
    const response = await messages({ stream: true });
    expect(response.headers.get("x-eve-replayed")).toBe("true");
    expect(inner(await eventsOf(response))).toContainEqual(delta(0, { type: "text_delta", text: "Концерт" }));
  });
});

describe("models", () => {
  const models = ["a", "b", "c", "d-embedding"].map((model) => ({
    model,
    replacedBy: null,
    provider: "google",
    rpm: 1,
    tpm: 2_000,
    rpd: 3,
    capabilities: { system: true, json: true, tools: true, thinking: true },
    maxOutputTokens: 64,
    createdAt: "2026-01-02T03:04:05.678Z",
  }));
  const { ask } = testAnthropic({ models: () => Promise.resolve(models) });
  const page = async (query: string) => {
    const { data, ...rest } = await (await ask(`/models${query}`)).json();
    return [data.map(({ id }: { id: string }) => id).join(""), rest.has_more, rest.first_id, rest.last_id];
  };

  test("come in pages, forwards and backwards", async () => {
    expect(await page("")).toEqual(["abc", false, "a", "c"]);
    expect(await page("?limit=2")).toEqual(["ab", true, "a", "b"]);
    expect(await page("?limit=2&after_id=b")).toEqual(["c", false, "c", "c"]);
    expect(await page("?limit=1&before_id=c")).toEqual(["b", true, "b", "b"]);
    expect(await page("?before_id=a")).toEqual(["", false, null, null]);
    expect((await ask("/models?limit=0")).status).toBe(400);
  });

  test("are shown as Anthropic describes them", async () => {
    expect(await (await ask("/models/a")).json()).toMatchObject({
      type: "model",
      id: "a",
      display_name: "a",
      created_at: "2026-01-02T03:04:05Z",
      max_input_tokens: 2_000,
      max_tokens: 64,
    });
    expect((await ask("/models/x")).status).toBe(404);
  });
});

test("tokens are counted", async () => {
  const { ask } = testAnthropic({ countTokens: () => Promise.resolve({ totalTokens: 12, estimated: true }) });
  const body = { model: "gemma-4-31b-it", messages: [{ role: "user", content: "Hello" }] };
  expect(await (await ask("/messages/count_tokens", body)).json()).toEqual({ input_tokens: 12 });
});
