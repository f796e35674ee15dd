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
    expect(JSON.parse(data!).type).toBe(type);
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

describe("[openai.response-items] items", () => {
  const answerTo = async (input: unknown, more: Record<string, unknown> = {}) => {
    const router = testOpenai({
      invoke: (request) => {
        router.asked.push(request);
        return Promise.resolve(RESULT);
      },
    });
    const response = await router.ask("/responses", { model: RESULT.model, input, ...more });
    return { response, body: await response.json(), prompt: router.asked[0]?.prompt };
  };
  const PDF = "data:application/pdf;base64,JVBERi0=";
  const pdf = { inlineData: { mimeType: "application/pdf", data: "JVBERi0=" } };

  test("files, refusals, parts of a tool's output, and nulls for all that is not meant", async () => {
    const { prompt } = await answerTo([
      {
        type: null,
        role: "user",
        id: null,
        content: [
          { type: "input_file", file_data: PDF, filename: "a.pdf", file_id: null },
          { type: "input_file", file_data: "JVBERi0=", filename: "a.pdf" },
        ],
      },
      { role: "assistant", content: [{ type: "refusal", refusal: "No" }] },
      { type: "function_call", call_id: "a", name: "f", arguments: "{}", status: null },
      {
        type: "function_call_output",
        call_id: "a",
        output: [{ type: "input_text", text: "see" }, { type: "input_file", file_data: PDF }],
      },
    ], {
      instructions: null,
      include: null,
      reasoning: { effort: null, summary: null },
      text: { format: null, verbosity: null },
      previous_response_id: null,
      conversation: null,
      stream_options: null,
      tools: [{ type: "function", name: "f", description: null, parameters: null, strict: null }],
    });
    expect(prompt?.contents).toEqual([
      { role: "user", parts: [pdf, pdf] },
      { role: "model", parts: [{ text: "No" }, { functionCall: { name: "f", args: {} } }] },
      { role: "user", parts: [{ functionResponse: { name: "f", response: { output: "see" } } }] },
      { role: "user", parts: [{ text: "f:" }, pdf] },
    ]);
  });

  test.each([
    ["input[1].content[1].type", [{ role: "user", content: "a" }, {
      role: "user",
      content: [{ type: "input_text", text: "a" }, { type: "input_video" }],
    }]],
    ["input[0].content[0].image_url", [{
      role: "user",
      content: [{ type: "input_image", image_url: "data:text/html;base64,AAAA" }],
    }]],
    ["input[0].content[0].image_url", [{
      role: "user",
      content: [{ type: "input_image", file_id: "file-1" }],
    }]],
    ["input[0].content[0].file_data", [{
      role: "user",
      content: [{ type: "input_file", file_id: "file-1" }],
    }]],
    ["input[1].output[0].image_url", [
      { type: "function_call", call_id: "a", name: "f", arguments: "{}" },
      { type: "function_call_output", call_id: "a", output: [{ type: "input_image", image_url: "x" }] },
    ]],
    ["input[0].type", [{ type: "dream", call_id: "a" }]],
    ["input[0].id", [{ type: "item_reference", id: "msg_elsewhere" }]],
    ["input", []],
  ])("%s is named", async (param, input) => {
    const { response, body } = await answerTo(input);
    expect([response.status, body.error.param]).toEqual([400, param]);
  });

  test.each([
    ["tools[0].type", { tools: [{ type: "file_search" }] }],
    ["tool_choice.name", {
      tools: [{ type: "function", name: "f" }],
      tool_choice: { type: "function", name: "g" },
    }],
    ["include[0]", { include: ["message.output_text.logprobs"] }],
    ["top_logprobs", { top_logprobs: 2 }],
    ["conversation", { conversation: "conv_1" }],
    ["prompt", { prompt: { id: "pmpt_1" } }],
    ["previous_response_id", { previous_response_id: `resp_${"0".repeat(32)}` }],
  ])("%s is refused", async (param, more) => {
    const { response, body } = await answerTo("Hi", more);
    expect([response.status, body.error.param]).toEqual([400, param]);
  });

  test("[openai.ignored] what an answer does without is named", async () => {
    const { response } = await answerTo("Hi", {
      include: ["reasoning.encrypted_content"],
      truncation: "auto",
      text: { verbosity: "low" },
      service_tier: "flex",
      prompt_cache_retention: "24h",
      max_tool_calls: 3,
    });
    expect(response.headers.get("x-eve-ignored")?.split(", ").toSorted()).toEqual([
      "include",
      "max_tool_calls",
      "prompt_cache_retention",
      "service_tier",
      "text.verbosity",
      "truncation",
    ]);
  });

  test("[openai.tool-choice] a flat list of allowed tools", async () => {
    const tools = ["f", "g"].map((name) => ({ type: "function", name }));
    const { prompt } = await answerTo("Hi", {
      tools,
      tool_choice: { type: "allowed_tools", mode: "required", tools: tools.slice(1) },
    });
    expect(prompt?.toolConfig).toEqual({
      functionCallingConfig: { mode: "ANY", allowedFunctionNames: ["g"] },
    });
  });

  test("[openai.custom-tools] any text goes to a tool, and comes back from its history", async () => {
    const calls = resultOf([{
      content: { parts: [{ functionCall: { name: "sh", args: { input: "ls" } } }] },
      finishReason: "STOP",
    }]);
    const router = testOpenai({ invoke: () => Promise.resolve(calls) });
    const tools = [{ type: "custom", name: "sh" }];
    const { output: [call] } = await (await respond(router, { tools })).json();
    expect(call).toMatchObject({ type: "custom_tool_call", name: "sh", input: "ls" });
    const { prompt } = await answerTo(
      [{ role: "user", content: "Hi" }, call, {
        type: "custom_tool_call_output",
        call_id: call.call_id,
        output: "a",
      }],
      { tools },
    );
    expect(prompt?.contents.slice(1).map(({ parts }) => parts)).toEqual([
      [{ functionCall: { name: "sh", args: { input: "ls" } } }],
      [{ functionResponse: { name: "sh", response: { output: "a" } } }],
    ]);
  });

  test("[openai.web-search] pages that an answer rests on are cited where they count", async () => {
    const text = "Да. Концерт в 20:00.";
    const result = resultOf([{
      content: { parts: [{ text }] },
      finishReason: "STOP",
      groundingMetadata: {
        webSearchQueries: ["концерт"],
        groundingChunks: [{ web: { uri: "https://example.com/", title: "example.com" } }],
        groundingSupports: [{ segment: { text: "Концерт в 20:00." }, groundingChunkIndices: [0, 7] }],
      },
    }]);
    const router = testOpenai({ invoke: () => Promise.resolve(result) });
    const place = {
      url: "https://example.com/",
      title: "example.com",
      start_index: 4,
      end_index: text.length,
    };
    const { output } = await (await respond(router, { tools: [{ type: "web_search" }] })).json();
    expect(output).toMatchObject([
      { type: "message", content: [{ annotations: [{ type: "url_citation", ...place }] }] },
      { type: "web_search_call", status: "completed", action: { queries: ["концерт"] } },
    ]);
    const { choices: [{ message }] } = await (await router.chat({ web_search_options: {} })).json();
    expect(message.annotations).toEqual([{ type: "url_citation", url_citation: place }]);
  });
});

test("[openai.input-tokens] the length of an input is told without a model", async () => {
  const router = testOpenai({
    countTokens: ({ prompt }) => Promise.resolve({ totalTokens: prompt.contents.length, estimated: true }),
  });
  expect(await (await router.ask("/responses/input_tokens", { input: "Hi" })).json()).toEqual({
    object: "response.input_tokens",
    input_tokens: 1,
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
        id: `resp_${ID.replaceAll("-", "")}`,
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
    expect(events.at(-1)).toMatchObject({
      event: "error",
      code: "upstream_unavailable",
      error: { type: "server_error", code: "upstream_unavailable" },
    });
  });

  test("[openai.limits] says the limits and the model in its headers, as a whole one does", async () => {
    const source = streaming([piece({ text: "a" })], RESULT);
    const { headers } = await respond(testOpenai(source), { stream: true, model: "gemma-old" });
    expect([headers.get("x-ratelimit-limit-requests"), headers.get("x-eve-model")]).toEqual([
      "30",
      RESULT.model,
    ]);
  });

  test("[openai.response-summary] thoughts that are asked for are an item before the text", async () => {
    const source = streaming(
      [piece({ text: "Hm", thought: true }), piece({ text: "m", thought: true }), piece({ text: "a" })],
      RESULT,
    );
    const events = await eventsOf(
      await respond(testOpenai(source), { stream: true, reasoning: { summary: "auto" } }),
    );
    expect(events.filter(({ type }) => String(type).includes("reasoning_summary")).map(({ type }) => type))
      .toEqual([
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
      ]);
    expect(events.at(-1)).toMatchObject({
      response: { output: [{ type: "reasoning", summary: [{ text: "Hmm" }] }, { type: "message" }] },
    });
  });

  test("a client that leaves ends the call", async () => {
    const source = streaming([piece({ text: "a" }), piece({ text: "b" })], RESULT);
    await (await respond(testOpenai(source), { stream: true })).body!.cancel();
    expect(source.left()).toBe(true);
  });
});
