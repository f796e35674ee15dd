import { describe, expect, test } from "vitest";
import type { Part } from "../../../shared/contract/content.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { GatewayResult } from "../../../shared/contract/result.ts";
import { ID, RESULT } from "./router_fixture.ts";
import { resultOf, streaming, testOpenai } from "./openai_fixture.ts";

const respond = (router: ReturnType<typeof testOpenai>, more: Record<string, unknown> = {}) =>
  router.ask("/responses", { model: RESULT.model, input: "?", ...more });

/** The events of a stream, parsed, each with its type where it is looked for. */
async function eventsOf(response: Response): Promise<Record<string, unknown>[]> {
  const frames = (await response.text()).split("\n\n").filter((text) => text !== "");
  return frames.map((frame) => {
    const [, type, data] = /^event: (\S+)\ndata: (.*)$/.exec(frame)!;
    expect(JSON.parse(data!).type === type || type === "error").toBe(true);
    return { ...JSON.parse(data!), event: type };
  });
}

test("items are turns, calls made together one of them", async () => {
  const { ask, asked } = testOpenai({
    invoke: (request) => {
      asked.push(request);
      return Promise.resolve(RESULT);
    },
  });
  await ask("/responses", {
    model: RESULT.model,
    instructions: "Be brief.",
    max_output_tokens: 50,
    reasoning: { effort: "low" },
    input: [
      { role: "user", content: [{ type: "input_text", text: "Hi" }] },
      { type: "reasoning", id: "rs_1", summary: [] },
      {
        type: "message",
        id: "m",
        role: "assistant",
        content: [{ type: "output_text", text: "Hm", annotations: [] }],
      },
      { type: "function_call", call_id: "a", name: "f", arguments: "{}" },
      { type: "function_call", call_id: "b", name: "g", arguments: "{}" },
      { type: "function_call_output", call_id: "b", output: "2" },
      { type: "function_call_output", call_id: "a", output: "1" },
    ],
  });
  expect(asked[0]?.prompt).toEqual({
    systemInstruction: { parts: [{ text: "Be brief." }] },
    contents: [
      { role: "user", parts: [{ text: "Hi" }] },
      {
        role: "model",
        parts: [{ text: "Hm" }, { functionCall: { name: "f", args: {} } }, {
          functionCall: { name: "g", args: {} },
        }],
      },
      {
        role: "user",
        parts: [
          { functionResponse: { name: "f", response: { output: "1" } } },
          { functionResponse: { name: "g", response: { output: "2" } } },
        ],
      },
    ],
    generationConfig: { maxOutputTokens: 50, thinkingConfig: { thinkingLevel: "MINIMAL" } },
  });
});

describe("a response", () => {
  test("holds the text and the usage, not the thoughts", async () => {
    const body = await (await respond(testOpenai({ invoke: () => Promise.resolve(RESULT) }))).json();
    expect(body).toMatchObject({
      object: "response",
      status: "completed",
      output: [{ type: "message", content: [{ type: "output_text", text: "Концерт" }] }],
      usage: { input_tokens: 9, output_tokens: 5, total_tokens: 14 },
    });
    expect(JSON.stringify(body)).not.toContain("Hmm");
  });

  test.each([
    ["content_blocked", "SAFETY", "content_filter"],
    ["empty_answer", "MAX_TOKENS", "max_output_tokens"],
  ])("%s for %s is incomplete: %s", async (code, reason, why) => {
    const verdict = { ok: false, code, reason } as GatewayResult["verdict"];
    const result = resultOf([{ finishReason: reason }], { verdict });
    const body = await (await respond(testOpenai({ invoke: () => Promise.resolve(result) }))).json();
    expect(body).toMatchObject({ status: "incomplete", incomplete_details: { reason: why }, output: [] });
  });
});

describe("a streamed response", () => {
  const piece = (...parts: Part[]) => [{ content: { parts } }];

  test("has text and calls in the order of their events", async () => {
    const source = streaming(
      [piece({ text: "a" }), piece({ text: "b" }, { functionCall: { name: "f" } })],
      RESULT,
    );
    const events = await eventsOf(await respond(testOpenai(source), { stream: true }));
    expect(events.map(({ type }) => type)).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.delta",
      "response.output_item.added",
      "response.function_call_arguments.delta",
      "response.function_call_arguments.done",
      "response.output_item.done",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.completed",
    ]);
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, index) => index));
    expect(events.at(-1)).toMatchObject({
      response: {
        id: `resp_${ID}`,
        output: [{ content: [{ text: "ab" }] }, { type: "function_call", name: "f", call_id: "call_id1" }],
      },
    });
  });

  test("what fails before the first word has its status, what fails later is an event", async () => {
    const error = new GatewayError("upstream_unavailable");
    expect((await respond(testOpenai(streaming([], error)), { stream: true })).status).toBe(503);
    const events = await eventsOf(
      await respond(testOpenai(streaming([piece({ text: "a" })], error)), { stream: true }),
    );
    expect(events.at(-1)).toMatchObject({ event: "error", code: "upstream_unavailable" });
  });

  test("a client that leaves ends the call", async () => {
    const source = streaming([piece({ text: "a" }), piece({ text: "b" })], RESULT);
    await (await respond(testOpenai(source), { stream: true })).body!.cancel();
    expect(source.left()).toBe(true);
  });
});
