import { describe, expect, test } from "vitest";
import type { Prompt } from "../../../shared/contract/content.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { decodeChat } from "../../../shared/endpoints/openai/chat/chat_request.ts";
import { IgnoredFields } from "../../../shared/endpoints/ignored_fields.ts";
import { promptOf } from "../../../shared/endpoints/openai/chat/prompt.ts";
import { toolCallId } from "../../../shared/endpoints/tool_call_id.ts";

const HELLO = [{ role: "user", content: "Привет" }];
const BODY = { model: "gemma-4-31b-it", messages: HELLO };
const CAT = { mimeType: "image/png", data: "iVBORw0=" };

function prompt(more: Record<string, unknown> = {}): Prompt {
  const chat = decodeChat({ ...BODY, ...more });
  return promptOf(chat, (url) => url === "https://example.com/cat.png" ? CAT : undefined);
}

/** The fields that are named as wrong. */
function faults(more: Record<string, unknown>, body?: unknown): string[] {
  try {
    if (body === undefined) prompt(more);
    else decodeChat(body);
  } catch (error) {
    if (error instanceof GatewayError && error.code === "invalid_request") {
      return (error.details as { field: string }[]).map(({ field }) => field);
    }
    throw error;
  }
  throw new Error("was not refused");
}

const turns = (messages: unknown[], model = "gemma-4-31b-it") => prompt({ messages, model }).contents;

describe("messages", () => {
  test("a conversation is a list of turns, system and developer messages an instruction", () => {
    expect(prompt({
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "Hi" },
        { role: "assistant", content: "Hello!", refusal: null, annotations: [], audio: null },
        { role: "developer", content: [{ type: "text", text: "Answer in Russian." }] },
        { role: "user", content: [{ type: "text", text: "What's on?" }, { type: "text", text: "Today." }] },
      ],
    })).toEqual({
      systemInstruction: { parts: [{ text: "Be brief." }, { text: "Answer in Russian." }] },
      contents: [
        { role: "user", parts: [{ text: "Hi" }] },
        { role: "model", parts: [{ text: "Hello!" }] },
        { role: "user", parts: [{ text: "What's on?" }, { text: "Today." }] },
      ],
    });
  });

  test("[openai.speaker] a speaker's name stands before the words", () => {
    expect(turns([{ role: "user", name: "Anna", content: "Hi" }])).toEqual([
      { role: "user", parts: [{ text: "Anna:" }, { text: "Hi" }] },
    ]);
  });

  test("[openai.speaker] the name of an assistant is not said: the model would go on with it", () => {
    const named = { role: "assistant", name: "model", content: "4" };
    expect(turns([...HELLO, named, ...HELLO])[1]).toEqual({ role: "model", parts: [{ text: "4" }] });
  });

  test("thoughts that a client hands back are not said again", () => {
    const answered = { role: "assistant", content: "4", reasoning_content: "2 + 2" };
    expect(turns([...HELLO, answered, ...HELLO])[1]).toEqual({ role: "model", parts: [{ text: "4" }] });
  });

  test("empty texts are left out, and a prompt of nothing is refused", () => {
    expect(turns([{ role: "assistant", content: "" }, ...HELLO])).toHaveLength(1);
    expect(() => turns([{ role: "user", content: "" }])).toThrow(
      expect.objectContaining({ code: "empty_prompt" }),
    );
  });

  test.each([
    [["messages"], []],
    [["messages"], undefined],
    [["messages[0].role"], [{ role: "wizard", content: "x" }]],
    [["messages[0].role"], [{ content: "x" }]],
    [["messages[0].content"], [{ role: "user" }]],
    [["messages[0].content[0].type"], [{ role: "user", content: [{ type: "video" }] }]],
    [["messages[0].content[0].text"], [{ role: "user", content: [{ type: "text" }] }]],
    [["messages[0].weight"], [{ role: "user", content: "x", weight: 1 }]],
    [["messages[0].tool_call_id"], [{ role: "tool", content: "x" }]],
  ])("%j is named", (fields, messages) => expect(faults({ messages })).toEqual(fields));
});

test("[openai.functions] functions as they were before tools: declared, called and answered", () => {
  const messages = [
    { role: "user", content: "Weather in Perm and Omsk?" },
    { role: "assistant", content: null, function_call: { name: "weather", arguments: '{"city":"Perm"}' } },
    { role: "function", name: "weather", content: "Rain" },
    { role: "assistant", content: null, function_call: { name: "weather", arguments: '{"city":"Omsk"}' } },
    { role: "function", name: "weather", content: "Sun" },
  ];
  const functions = [{
    name: "weather",
    parameters: { type: "object", properties: { city: { type: "string" } } },
  }];
  const asked = prompt({ messages, functions, function_call: { name: "weather" } });
  expect(asked.contents.slice(1).map(({ parts }) => parts?.[0]?.functionCall ?? parts?.[0]?.functionResponse))
    .toMatchObject([
      { name: "weather", args: { city: "Perm" } },
      { name: "weather", response: { output: "Rain" } },
      { args: { city: "Omsk" } },
      { response: { output: "Sun" } },
    ]);
  expect(asked.tools).toMatchObject([{ functionDeclarations: [{ name: "weather" }] }]);
  expect(asked.toolConfig).toEqual({
    functionCallingConfig: { mode: "ANY", allowedFunctionNames: ["weather"] },
  });
  // An older history, to which nobody declares functions any more.
  expect(prompt({ messages }).contents).toHaveLength(5);
  expect(faults({ functions: [{ name: "f g" }] })).toEqual(["functions[0].name"]);
});

describe("parts that are not text", () => {
  const user = (...content: unknown[]) => [{ role: "user", content }];
  const image = (url: string, more = {}) => ({ type: "image_url", image_url: { url, ...more } });

  test("[openai.media] pictures as data and behind links, sound and files", () => {
    expect(
      turns(user(
        { type: "text", text: "What?" },
        image("data:image/jpeg;base64,/9j/4A=="),
        image("https://example.com/cat.png"),
        { type: "input_audio", input_audio: { data: "UklGRg==", format: "wav" } },
        { type: "file", file: { filename: "a.pdf", file_data: "data:application/pdf;base64,JVBERi0=" } },
      ))[0]?.parts,
    ).toEqual([
      { text: "What?" },
      { inlineData: { mimeType: "image/jpeg", data: "/9j/4A==" } },
      { inlineData: CAT },
      { inlineData: { mimeType: "audio/wav", data: "UklGRg==" } },
      { inlineData: { mimeType: "application/pdf", data: "JVBERi0=" } },
    ]);
  });

  test("[openai.image-detail] the finest detail that is asked for counts for all", () => {
    const resolution = (...details: (string | undefined)[]) =>
      prompt({ messages: user(...details.map((detail) => image("data:image/png;base64,AAAA", { detail }))) })
        .generationConfig?.mediaResolution;
    expect(resolution(undefined, "auto")).toBeUndefined();
    expect(resolution("low", "low")).toBe("MEDIA_RESOLUTION_LOW");
    expect(resolution("low", "high")).toBe("MEDIA_RESOLUTION_HIGH");
  });

  test.each([
    "data:text/html;base64,AAAA",
    "data:image/png,raw",
    "data:image/png;base64,%%%",
    "ftp://example.com/cat.png",
    "cat.png",
  ])("%s is refused", (url) => {
    expect(faults({ messages: user(image(url)) })).toEqual(["messages[0].content[0].image_url.url"]);
  });

  test("a stored file is refused", () => {
    expect(faults({ messages: user({ type: "file", file: { file_id: "file-1" } }) })).toEqual([
      "messages[0].content[0].file.file_data",
    ]);
  });
});

describe("tool calls and their results", () => {
  const call = (id: string, name: string, args = "{}", more = {}) => ({
    id,
    type: "function",
    function: { name, arguments: args },
    ...more,
  });
  const asked = (...tool_calls: unknown[]) => ({ role: "assistant", content: null, tool_calls });
  const result = (tool_call_id: string, content: unknown) => ({ role: "tool", tool_call_id, content });

  test("results of calls made together are one turn, in the order of the calls", () => {
    expect(turns([
      ...HELLO,
      asked(call("a", "weather", '{"city":"Paris"}'), call("b", "time", "")),
      result("b", "12:00"),
      result("a", '{"sky":"clear"}'),
      { role: "user", content: "And?" },
    ])).toEqual([
      { role: "user", parts: [{ text: "Привет" }] },
      {
        role: "model",
        parts: [
          { functionCall: { name: "weather", args: { city: "Paris" } } },
          { functionCall: { name: "time", args: {} } },
        ],
      },
      {
        role: "user",
        parts: [
          { functionResponse: { name: "weather", response: { sky: "clear" } } },
          { functionResponse: { name: "time", response: { output: "12:00" } } },
        ],
      },
      { role: "user", parts: [{ text: "And?" }] },
    ]);
  });

  test.each([
    ["[1,2]", { output: [1, 2] }],
    ["12345678901234567890", { output: "12345678901234567890" }],
    ["", { output: "" }],
    [[{ type: "text", text: '{"a":' }, { type: "text", text: "1}" }], { a: 1 }],
  ])("a result of %j", (content, response) => {
    const parts = turns([...HELLO, asked(call("a", "f")), result("a", content)]).at(-1)?.parts;
    expect(parts).toEqual([{ functionResponse: { name: "f", response } }]);
  });

  const signature = "c2ln+b/aYQ==";
  const signed = toolCallId({ upstreamId: "Qq_1-x", signature }, "fresh");

  test("a signature comes back from the id, with upstream's own id", () => {
    expect(signed).toMatch(/^[A-Za-z0-9_-]+$/);
    expect(turns([...HELLO, asked(call(signed, "f")), result(signed, "ok")], "gemini-3.5-flash").slice(1))
      .toEqual([
        {
          role: "model",
          parts: [{
            functionCall: { id: "Qq_1-x", name: "f", args: {} },
            thoughtSignature: signature,
          }],
        },
        {
          role: "user",
          parts: [{ functionResponse: { id: "Qq_1-x", name: "f", response: { output: "ok" } } }],
        },
      ]);
  });

  test("the one in extra_content goes first; that of a text comes back too", () => {
    const extra = (thought_signature: string) => ({ extra_content: { google: { thought_signature } } });
    const said = { role: "assistant", content: "4", ...extra("VEVYVA==") };
    const contents = turns([
      ...HELLO,
      said,
      ...HELLO,
      asked(call(signed, "f", "{}", extra("WA=="))),
      result(signed, ""),
    ]);
    expect(contents[1]?.parts).toEqual([{ text: "4", thoughtSignature: "VEVYVA==" }]);
    expect(contents[3]?.parts?.[0]?.thoughtSignature).toBe("WA==");
  });

  test.each([
    ["gemini-3.5-flash", "skip_thought_signature_validator"],
    ["gemini-flash-latest", "skip_thought_signature_validator"],
    ["gemini-2.5-flash", undefined],
    ["gemma-4-31b-it", undefined],
  ])("a call made elsewhere goes to %s with the signature %s, once a turn", (model, expected) => {
    const parts = turns(
      [...HELLO, asked(call("a", "f"), call("b", "g")), result("a", ""), result("b", "")],
      model,
    )[1]
      ?.parts;
    expect(parts?.map((part) => part.thoughtSignature)).toEqual([expected, undefined]);
  });

  describe("[openai.histories] an agent is not refused for its own past", () => {
    const turnsAfter = (messages: unknown[]) => turns([...HELLO, ...messages]).slice(1);
    const response = (name: string, response: unknown) => ({ functionResponse: { name, response } });
    const unanswered = { error: "This call was not answered." };

    test.each([
      ["{", { arguments: "{" }],
      ["[1]", { arguments: "[1]" }],
      ["look", { arguments: "look" }],
    ])("arguments %j", (args, expected) => {
      expect(turnsAfter([asked(call("a", "f", args)), result("a", "")])[0]?.parts).toEqual([
        { functionCall: { name: "f", args: expected } },
      ]);
    });

    test("a call without a result has none, also at the end", () => {
      const calls = asked(call("a", "f"), call("b", "g"));
      expect(turnsAfter([calls, result("b", "1")])[1]?.parts).toEqual([
        response("f", unanswered),
        response("g", { output: "1" }),
      ]);
      expect(turnsAfter([calls]).at(-1)?.parts).toEqual([
        response("f", unanswered),
        response("g", unanswered),
      ]);
    });

    test("a result that comes after a message goes to its call", () => {
      const wait = { role: "user", content: "Wait" };
      expect(turnsAfter([asked(call("a", "f")), wait, result("a", "1")]).slice(1)).toEqual([
        { role: "user", parts: [response("f", { output: "1" })] },
        { role: "user", parts: [{ text: "Wait" }] },
      ]);
    });

    test("calls that have the same id have the results that follow them", () => {
      const contents = turnsAfter([
        asked(call("a", "f")),
        result("a", "1"),
        asked(call("a", "f")),
        asked(call("a", "f")),
        result("a", "2"),
      ]);
      expect(contents.filter(({ role }) => role === "user").map(({ parts }) => parts)).toEqual([
        [response("f", { output: "1" })],
        [response("f", unanswered)],
        [response("f", { output: "2" })],
      ]);
    });

    test("a result without a call, or a second one, is told in words", () => {
      expect(turns([result("z", "cut off"), ...HELLO])[0]).toEqual({
        role: "user",
        parts: [{ text: "Result of the tool call z: cut off" }],
      });
      expect(turnsAfter([asked(call("a", "f")), result("a", "1"), result("a", "2")]).at(-1)?.parts).toEqual([
        { text: "Result of the tool call a: 2" },
      ]);
    });

    test("a picture that a tool answers with stands behind the results", () => {
      const url = "data:image/png;base64,iVBORw0=";
      const content = [{ type: "text", text: "ok" }, { type: "image_url", image_url: { url } }];
      expect(
        turnsAfter([asked(call("a", "f"), call("b", "g")), result("a", content), result("b", "")]).slice(1),
      )
        .toEqual([
          { role: "user", parts: [response("f", { output: "ok" }), response("g", { output: "" })] },
          { role: "user", parts: [{ text: "f:" }, { inlineData: CAT }] },
        ]);
    });
  });

  test("[openai.custom-tools] a call with any text is one of a function with that text", () => {
    const made = { id: "a", type: "custom", custom: { name: "sh", input: "ls" } };
    expect(turns([...HELLO, asked(made), result("a", "x")])[1]?.parts).toEqual([
      { functionCall: { name: "sh", args: { input: "ls" } } },
    ]);
  });

  test.each([
    ["messages[1].tool_calls[0].type", [
      ...HELLO,
      asked({ ...call("a", "f"), type: "mcp" }),
      result("a", ""),
    ]],
  ])("%s is named", (field, messages) => expect(faults({ messages })).toEqual([field]));
});

describe("tools", () => {
  const tool = (name: string, parameters?: unknown, more = {}) => ({
    type: "function",
    function: { name, description: "d", parameters, ...more },
  });
  const plain = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  const closed = { ...plain, additionalProperties: false };

  test("are declared with the schemas that each takes", () => {
    const tools = [
      tool("plain", { $schema: "http://json-schema.org/draft-07/schema#", ...plain }),
      tool("closed", closed),
      tool("bare"),
      tool("empty", { type: "object", properties: {} }),
    ];
    expect(prompt({ tools }).tools).toEqual([{
      functionDeclarations: [
        { name: "plain", description: "d", parameters: plain },
        { name: "closed", description: "d", parametersJsonSchema: closed },
        { name: "bare", description: "d" },
        { name: "empty", description: "d" },
      ],
    }]);
  });

  const named = (name: string) => ({ type: "function", function: { name } });
  const allowed = (mode: string, ...names: string[]) => ({
    type: "allowed_tools",
    allowed_tools: { mode, tools: names.map(named) },
  });

  test.each([
    [undefined, undefined],
    ["auto", undefined],
    ["none", { mode: "NONE" }],
    ["required", { mode: "ANY" }],
    [named("f"), { mode: "ANY", allowedFunctionNames: ["f"] }],
    [allowed("required", "f", "g"), { mode: "ANY", allowedFunctionNames: ["f", "g"] }],
    [allowed("auto", "g"), { mode: "VALIDATED", allowedFunctionNames: ["g"] }],
    [{ type: "allowed_tools", mode: "auto", tools: [named("g")] }, {
      mode: "VALIDATED",
      allowedFunctionNames: ["g"],
    }],
  ])("[openai.tool-choice] the choice %j calls by %j", (tool_choice, config) => {
    expect(prompt({ tools: [tool("f", plain), tool("g")], tool_choice }).toolConfig).toEqual(
      config && { functionCallingConfig: config },
    );
  });

  test("[openai.custom-tools] a tool that takes any text has that text as its parameter", () => {
    const format = { type: "grammar", grammar: { syntax: "lark", definition: 'start: "ls"' } };
    const custom = { name: "sh", description: "A shell", format };
    expect(
      prompt({
        tools: [{ type: "custom", custom }],
        tool_choice: { type: "custom", custom: { name: "sh" } },
      }),
    )
      .toMatchObject({
        tools: [{
          functionDeclarations: [{
            name: "sh",
            description: 'A shell\n\nThe input must match this lark grammar:\nstart: "ls"',
            parameters: { properties: { input: { type: "string" } }, required: ["input"] },
          }],
        }],
        toolConfig: { functionCallingConfig: { mode: "ANY", allowedFunctionNames: ["sh"] } },
      });
  });

  test("[openai.web-search] web_search_options is Google's search, beside functions, too", () => {
    const search = { googleSearch: {} };
    expect(prompt({ web_search_options: {} }).tools).toEqual([search]);
    expect(prompt({ web_search_options: {}, tools: [tool("f")] }).tools?.[1]).toEqual(search);
  });

  test("[openai.strict-tools] a strict function is held to its schema", () => {
    expect(prompt({ tools: [tool("f", closed, { strict: true })] }).toolConfig).toEqual({
      functionCallingConfig: { mode: "VALIDATED" },
    });
  });

  test.each([
    ["tool_choice", { tool_choice: "required" }],
    ["tool_choice.type", { tool_choice: "always", tools: [tool("f")] }],
    ["tool_choice.function.name", { tool_choice: named("x"), tools: [tool("f")] }],
    ["tool_choice.allowed_tools.tools[1].function.name", {
      tool_choice: { type: "allowed_tools", mode: "auto", tools: [named("f"), named("x")] },
      tools: [tool("f")],
    }],
    ["tool_choice.allowed_tools.tools[1].function.name", {
      tool_choice: allowed("auto", "f", "x"),
      tools: [tool("f")],
    }],
    ["tools[0].type", { tools: [{ type: "web_search" }] }],
    ["tools[0].function.name", { tools: [tool("get weather")] }],
  ])("%s is named", (field, more) => expect(faults(more)).toContain(field));
});

describe("how to answer", () => {
  test("[openai.sampling openai.ignored] settings in upstream's words", () => {
    expect(
      prompt({
        temperature: 0.2,
        top_p: 0.9,
        top_k: 40,
        n: 2,
        stop: "###",
        max_completion_tokens: 500,
        seed: -7,
        presence_penalty: 1,
        frequency_penalty: -1,
        parallel_tool_calls: true,
        user: "u1",
        metadata: { a: "b" },
        store: false,
        service_tier: "auto",
        logprobs: null,
        logit_bias: {},
        modalities: ["text"],
      }).generationConfig,
    ).toEqual({
      temperature: 0.2,
      topP: 0.9,
      topK: 40,
      candidateCount: 2,
      stopSequences: ["###"],
      maxOutputTokens: 500,
      seed: -7,
      presencePenalty: 1,
      frequencyPenalty: -1,
    });
  });

  test("[openai.output-limit] max_tokens is its older name", () => {
    expect(prompt({ max_tokens: 5 }).generationConfig).toEqual({ maxOutputTokens: 5 });
    expect(prompt({ max_tokens: 5, max_completion_tokens: 5 }).generationConfig).toEqual({
      maxOutputTokens: 5,
    });
    expect(faults({ max_tokens: 5, max_completion_tokens: 6 })).toEqual(["max_tokens"]);
    const ignored = new IgnoredFields();
    const chat = decodeChat({ ...BODY, max_tokens: 5, max_completion_tokens: 6 }, ignored);
    expect(promptOf(chat, () => undefined).generationConfig).toEqual({ maxOutputTokens: 6 });
    expect(ignored.namedIn(new Response()).headers.get("x-eve-ignored")).toBe("max_tokens");
  });

  test("[openai.sampling] a seed of 64 bits becomes one of 32, always the same one", () => {
    expect([2 ** 31 - 1, 2 ** 31, 2 ** 40 + 7, -7].map((seed) => prompt({ seed }).generationConfig?.seed))
      .toEqual([2 ** 31 - 1, 0, 7, -7]);
  });

  test("one choice, several stops, and nothing at all", () => {
    expect(prompt({ n: 1 }).generationConfig).toBeUndefined();
    expect(prompt({ stop: ["a", "b"] }).generationConfig).toEqual({ stopSequences: ["a", "b"] });
  });

  test.each([
    ["gemma-4-31b-it", "low", { thinkingLevel: "MINIMAL" }],
    ["gemma-4-31b-it", "medium", { thinkingLevel: "HIGH" }],
    ["gemini-3.5-flash", "none", { thinkingLevel: "MINIMAL" }],
    ["gemini-3.5-flash", "low", { thinkingLevel: "LOW" }],
    ["models/gemini-3.5-flash", "xhigh", { thinkingLevel: "HIGH" }],
    ["gemini-2.5-flash", "none", { thinkingBudget: 0 }],
    ["gemini-2.5-flash", "medium", { thinkingBudget: 8_192 }],
  ])("[openai.reasoning] %s with the effort %s thinks %j", (model, reasoning_effort, thinkingConfig) => {
    expect(prompt({ model, reasoning_effort }).generationConfig).toEqual({ thinkingConfig });
  });

  test("[openai.thinking-config] what Google's own endpoint takes in extra_body goes before the effort", () => {
    const extra_body = { google: { thinking_config: { thinking_level: "low", include_thoughts: true } } };
    expect(prompt({ reasoning_effort: "high", extra_body }).generationConfig).toEqual({
      thinkingConfig: { thinkingLevel: "LOW", includeThoughts: true },
    });
  });

  const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"] };

  test.each([
    [{ type: "text" }, undefined],
    [{ type: "json_object" }, { responseMimeType: "application/json" }],
    [
      {
        type: "json_schema",
        json_schema: { name: "s", strict: true, schema: { ...schema, additionalProperties: false } },
      },
      {
        responseMimeType: "application/json",
        responseJsonSchema: { ...schema, additionalProperties: false },
      },
    ],
    [
      {
        type: "json_schema",
        json_schema: { name: "s", description: "d", schema: { $schema: "x", ...schema } },
      },
      { responseMimeType: "application/json", responseSchema: { description: "d", ...schema } },
    ],
  ])("the format %j", (response_format, settings) => {
    expect(prompt({ response_format }).generationConfig).toEqual(settings);
  });
});

describe("what cannot be honoured is refused by its name", () => {
  test.each([
    { logprobs: true },
    { top_logprobs: 3 },
    { logit_bias: { 50256: -100 } },
    { store: true },
    { service_tier: "flex" },
    { verbosity: "low" },
    { modalities: ["text", "audio"] },
    { audio: { voice: "alloy", format: "mp3" } },
    { prediction: { type: "content", content: "x" } },
    { functions: [{ name: "f" }], tools: [] },
    { function_call: "auto" },
    { prompt_cache_retention: "24h" },
    { temprature: 1 },
    { temperature: 3 },
    { top_p: 2 },
    { n: 0 },
    { n: 9 },
    { stop: ["a", "b", "c", "d", "e", "f"] },
    { max_tokens: 0 },
    { seed: 1.5 },
    { reasoning_effort: "extreme" },
    { stream_options: { include_usage: true } },
    { model: "" },
    { model: "a\r\nx: 1" },
    { model: 5 },
  ])("[openai.unsupported] %j", (more) => {
    const [field] = Object.keys(more);
    expect(faults(more)).toEqual([field]);
  });

  test("deep inside", () => {
    expect(faults({ stream: true, stream_options: { include_obfuscation: true } })).toEqual([
      "stream_options.include_obfuscation",
    ]);
    expect(faults({ response_format: { type: "xml" } })).toEqual(["response_format.type"]);
    expect(faults({ response_format: { type: "json_schema", json_schema: { name: "a b" } } })).toEqual([
      "response_format.json_schema.name",
    ]);
  });

  test("[openai.ignored] unless an answer does without it", () => {
    const ignored = new IgnoredFields();
    const chat = decodeChat({
      ...BODY,
      messages: [{ ...HELLO[0], weight: 1, cache: null }],
      stream: true,
      stream_options: { include_usage: true, include_obfuscation: true },
      store: true,
      verbosity: "medium",
      service_tier: "flex",
      prompt_cache_retention: "24h",
      prediction: { type: "content", content: "x" },
      thinking_style: "new",
      tools: [{
        type: "function",
        function: { name: "f", parameters: { type: "object", nullable: null } },
        beta: 1,
      }],
      response_format: { type: "text", beta: 1 },
      "\u00e9\r\n": 1,
    }, ignored);
    expect(chat).toMatchObject({ stream_options: { include_usage: true }, messages: [{ role: "user" }] });
    expect(chat.tools?.[0]?.function.parameters).toEqual({ type: "object", nullable: null });
    expect(ignored.namedIn(new Response()).headers.get("x-eve-ignored")?.split(", ").toSorted()).toEqual([
      "(unnamed)",
      "messages[].weight",
      "prediction",
      "prompt_cache_retention",
      "response_format.beta",
      "service_tier",
      "store",
      "stream_options.include_obfuscation",
      "thinking_style",
      "tools[].beta",
    ]);
    expect(() => decodeChat({ ...BODY, logprobs: true }, ignored)).toThrow(GatewayError);
  });

  test("[openai.sampling] more texts to stop at than the models take, in words", () => {
    const more = { stop: ["1", "2", "3", "4", "5", "6", "7"] };
    expect(() => decodeChat({ ...BODY, ...more })).toThrow(
      "must hold at most 5 texts: the models stop at no more",
    );
  });

  test("all of them at once", () => {
    expect(faults({ logprobs: true, store: true })).toEqual(["logprobs", "store"]);
  });

  test.each([null, [], "x"])("a body that is %j", (body) => expect(faults({}, body)).toEqual([""]));
});
