import { describe, expect, test } from "vitest";
import type { Candidate, Part } from "../../../shared/contract/content.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { GatewayResult } from "../../../shared/contract/result.ts";
import { ID, RESULT } from "./router_fixture.ts";
import { framesOf, NOW, resultOf, streaming, testOpenai } from "./openai_fixture.ts";

const piece = (
  parts: Part[],
  more: Partial<Candidate> = {},
): Candidate[] => [{ content: { parts }, ...more }];
const STOP = { finishReason: "STOP" };

/** The frames of a stream of these chunks. */
async function streamedFrames(
  chunks: Candidate[][],
  end: GatewayResult | Error = RESULT,
  more: Record<string, unknown> = {},
): Promise<unknown[]> {
  const { chat } = testOpenai(streaming(chunks, end));
  return await framesOf(await chat({ stream: true, ...more }));
}

/** The deltas of a stream, and how each choice ended. */
async function deltas(chunks: Candidate[][], end?: GatewayResult | Error, more?: Record<string, unknown>) {
  type Frame = { choices?: { delta: unknown; finish_reason: string | null }[] };
  const frames = await streamedFrames(chunks, end, more) as Frame[];
  return frames.flatMap((frame): unknown[] =>
    frame.choices?.map(({ delta, finish_reason }) => finish_reason ?? delta) ?? [frame]
  );
}

const OPENING = { role: "assistant", content: "", refusal: null };

/** A message that begins with a call of a tool, in OpenAI's words. */
const SILENT_OPENING = { ...OPENING, content: null };

describe("a stream", () => {
  test("starts with the role, sends what comes, and says when it is over", async () => {
    const head = {
      id: `chatcmpl-${ID}`,
      object: "chat.completion.chunk",
      created: NOW / 1000,
      model: RESULT.model,
    };
    const chunk = (delta: unknown, end: unknown = { finish_reason: null }) => ({
      ...head,
      choices: [{ index: 0, delta, logprobs: null, ...Object(end) }],
    });
    expect(
      await streamedFrames([
        piece([{ text: "Hmm", thought: true }]),
        piece([{ text: "Конц" }]),
        piece([{ text: "ерт" }], STOP),
      ]),
    )
      .toEqual([
        chunk(OPENING),
        chunk({ reasoning_content: "Hmm" }),
        chunk({ content: "Конц" }),
        chunk({ content: "ерт" }),
        chunk({}, { finish_reason: "stop", native_finish_reason: "STOP" }),
        "[DONE]",
      ]);
  });

  test("has the headers of an answer", async () => {
    const response = await testOpenai(streaming([piece([{ text: "a" }])], RESULT)).chat({ stream: true });
    expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    expect(response.headers.get("x-request-id")).toBe(ID);
    expect(response.headers.get("x-ratelimit-limit-requests")).toBe("30");
    await response.body?.cancel();
  });

  test("[openai.stream-usage] with include_usage the last chunk has it, and the others have a null", async () => {
    const frames = await streamedFrames([piece([{ text: "a" }], STOP)], RESULT, {
      stream_options: { include_usage: true },
    }) as {
      choices: unknown[];
      usage?: unknown;
    }[];
    expect(frames.at(-1)).toBe("[DONE]");
    expect(frames.at(-2)).toMatchObject({ choices: [], usage: { prompt_tokens: 9, total_tokens: 14 } });
    expect(frames.slice(0, -2).every((frame) => frame.usage === null)).toBe(true);
  });

  test("numbers the calls of tools, over chunks too", async () => {
    const call = (index: number, name: string, id: string, more = {}) => ({
      index,
      id,
      type: "function",
      function: { name, arguments: "{}" },
      ...more,
    });
    const chunks = [
      piece([{ functionCall: { name: "f" }, thoughtSignature: "c2ln" }, { functionCall: { name: "g" } }]),
      piece([{ functionCall: { name: "h" } }], STOP),
    ];
    const signature = { extra_content: { google: { thought_signature: "c2ln" } } };
    expect(await deltas(chunks)).toEqual([
      {
        ...SILENT_OPENING,
        tool_calls: [call(0, "f", "call_id1__sig__c2ln", signature), call(1, "g", "call_id2")],
      },
      { tool_calls: [call(2, "h", "call_id3")] },
      "tool_calls",
      "[DONE]",
    ]);
    expect(await deltas(chunks, RESULT, { parallel_tool_calls: false })).toEqual([
      {
        ...SILENT_OPENING,
        tool_calls: [expect.objectContaining({ index: 0, function: { name: "f", arguments: "{}" } })],
      },
      "tool_calls",
      "[DONE]",
    ]);
  });

  test("[openai.tools] the first chunk of a tool call has null as content, unless something was said", async () => {
    const calls = { tool_calls: [expect.objectContaining({ index: 0 })] };
    const call: Part = { functionCall: { name: "f" } };
    expect(await deltas([piece([{ text: "Hmm", thought: true }]), piece([call], STOP)])).toEqual([
      OPENING,
      { reasoning_content: "Hmm" },
      { content: null, ...calls },
      "tool_calls",
      "[DONE]",
    ]);
    expect(await deltas([piece([{ text: "Let me look" }]), piece([call], STOP)])).toEqual([
      OPENING,
      { content: "Let me look" },
      calls,
      "tool_calls",
      "[DONE]",
    ]);
  });

  test("passes on the signature of the text that comes after it", async () => {
    expect(await deltas([piece([{ text: "a" }]), piece([{ text: "", thoughtSignature: "c2ln" }], STOP)]))
      .toEqual([
        OPENING,
        { content: "a" },
        { extra_content: { google: { thought_signature: "c2ln" } } },
        "stop",
        "[DONE]",
      ]);
  });

  test("keeps several choices apart", async () => {
    const chunks = [
      [{ index: 0, content: { parts: [{ text: "a" }] } }, { index: 1, content: { parts: [{ text: "b" }] } }],
      [{ index: 1, finishReason: "SAFETY" }, { index: 0, finishReason: "STOP" }],
    ];
    const frames = await streamedFrames(chunks, RESULT, { n: 2 }) as {
      choices: { index: number; finish_reason: string }[];
    }[];
    const ends = frames.flatMap((frame) => frame.choices ?? []).filter((choice) => choice.finish_reason);
    expect(ends.map(({ index, finish_reason }) => [index, finish_reason])).toEqual([[0, "stop"], [
      1,
      "content_filter",
    ]]);
  });

  test("a request that was answered before comes in one piece", async () => {
    expect(await deltas([], { ...RESULT, replayed: true })).toEqual([
      OPENING,
      expect.objectContaining({ content: "Концерт" }),
      "stop",
      "[DONE]",
    ]);
  });
});

describe("a stream that fails", () => {
  const verdict = (code: string, reason: string) => ({ ok: false, code, reason }) as GatewayResult["verdict"];

  test.each([
    ["content_blocked", "SAFETY", "content_filter"],
    ["empty_answer", "MAX_TOKENS", "length"],
  ])("%s for %s ends with %s", async (code, reason, finish) => {
    const result = resultOf([{ finishReason: reason }], { verdict: verdict(code, reason) });
    expect((await deltas([[{ finishReason: reason }]], result)).slice(-2)).toEqual([finish, "[DONE]"]);
  });

  test("a prompt that was blocked has no chunk of its own", async () => {
    const result = resultOf(undefined, { verdict: verdict("content_blocked", "PROHIBITED_CONTENT") });
    expect(await deltas([], result)).toEqual([OPENING, "content_filter", "[DONE]"]);
  });

  test("nothing at all is an error with a status, for the client to try again", async () => {
    const result = resultOf([STOP], { verdict: verdict("empty_answer", "STOP") });
    const response = await testOpenai(streaming([[STOP]], result)).chat({ stream: true });
    expect([response.status, response.headers.get("x-should-retry")]).toEqual([502, "true"]);
  });

  test("what fails before the first word is an error with its status", async () => {
    const error = new GatewayError("rate_limited", { retryAfterMs: 500 });
    const response = await testOpenai(streaming([], error)).chat({ stream: true });
    expect([response.status, response.headers.get("retry-after-ms")]).toEqual([429, "500"]);
    expect((await response.json()).error.code).toBe("rate_limit_exceeded");
  });

  test("what fails afterwards is the last frame, and nothing claims to be done", async () => {
    const frames = await streamedFrames([piece([{ text: "a" }])], new GatewayError("upstream_unavailable"));
    expect(frames.at(-1)).toMatchObject({ error: { type: "server_error", code: "upstream_unavailable" } });
    expect(frames).not.toContain("[DONE]");
  });
});

describe("the reader decides", () => {
  test("[openai.stream] nothing is pulled ahead of a slow one", async () => {
    const source = streaming(Array.from({ length: 50 }, () => piece([{ text: "a" }])), RESULT);
    const response = await testOpenai(source).chat({ stream: true });
    const reader = response.body!.getReader();
    await reader.read();
    await reader.read();
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(source.pulled()).toBeLessThanOrEqual(3);
    await reader.cancel();
  });

  test("one that leaves ends the call", async () => {
    const source = streaming(Array.from({ length: 50 }, () => piece([{ text: "a" }])), RESULT);
    const response = await testOpenai(source).chat({ stream: true });
    await response.body!.cancel();
    expect(source.left()).toBe(true);
  });
});
