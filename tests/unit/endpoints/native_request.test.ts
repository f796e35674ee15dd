import { describe, expect, test } from "vitest";
import { decodeNative } from "../../../shared/endpoints/native/request.ts";

const TERMS = { newId: "made-here", traceId: null, maxWaitMs: 100_000 };
const decode = (body: unknown) => {
  const { request, target } = decodeNative(body, TERMS);
  return { ...request, target };
};
const ask = (more: Record<string, unknown> = {}) =>
  decode({ model: "gemma-4-31b-it", prompt: "Что сегодня?", ...more });
const fault = (body: unknown) => {
  try {
    decode(body);
  } catch (error) {
    return error as { code: string; status: number; publicMessage: string; details: unknown };
  }
  return expect.unreachable();
};
const faultOf = (more: Record<string, unknown>) =>
  fault({ model: "gemma-4-31b-it", prompt: "Что сегодня?", ...more });

describe("the three ways to ask", () => {
  test("prompt", () => {
    expect(ask().prompt).toEqual({ contents: [{ role: "user", parts: [{ text: "Что сегодня?" }] }] });
  });

  test("[native.text] messages: system ones become the system instruction, assistants the model", () => {
    const { prompt } = decode({
      model: "m",
      system: "Кратко.",
      messages: [
        { role: "system", content: "По-русски." },
        {
          role: "user",
          content: [{ text: "Что на афише?" }, { inline_data: { mime_type: "image/png", data: "AA==" } }],
        },
        { role: "assistant", content: "Концерт." },
        { role: "user", content: "Когда?" },
      ],
    });
    expect(prompt).toEqual({
      systemInstruction: { parts: [{ text: "Кратко." }, { text: "По-русски." }] },
      contents: [
        {
          role: "user",
          parts: [{ text: "Что на афише?" }, { inlineData: { mimeType: "image/png", data: "AA==" } }],
        },
        { role: "model", parts: [{ text: "Концерт." }] },
        { role: "user", parts: [{ text: "Когда?" }] },
      ],
    });
  });

  test("[native.text] contents pass through whole, fields of tomorrow included", () => {
    const contents = [
      { role: "user", parts: [{ text: "a", aFieldOfTomorrow: 1 }] },
      { role: "model", parts: [{ functionCall: { name: "f" }, thoughtSignature: "AA==" }], another: true },
      { role: "user", parts: [{ functionResponse: { name: "f", response: {} } }] },
    ];
    expect(decode({ model: "m", contents, tools: [{ googleSearch: {} }] }).prompt).toEqual({
      contents,
      tools: [{ googleSearch: {} }],
    });
  });

  test.each([
    ["none", { model: "m" }, "is needed"],
    [
      "two",
      { model: "m", prompt: "a", messages: [{ role: "user", content: "b" }] },
      "prompt and messages exclude",
    ],
  ])("%s of them is refused", (_, body, says) => {
    expect(fault(body)).toMatchObject({
      code: "invalid_request",
      publicMessage: expect.stringContaining(says),
    });
  });
});

describe("an empty prompt is reported as such", () => {
  test.each([
    ["an empty text", { prompt: "" }],
    ["white space", { prompt: " \n\t" }],
    ["empty messages", { messages: [{ role: "user", content: " " }] }],
    ["only a system text", { messages: [{ role: "system", content: "Кратко." }] }],
    ["an empty part", { contents: [{ parts: [{}] }] }],
  ])("%s", (_, body) => {
    expect(fault({ model: "m", ...body })).toMatchObject({ code: "empty_prompt", status: 400 });
  });

  test("[native.pictures] a picture alone is a prompt", () => {
    const parts = [{ inlineData: { mimeType: "image/png", data: "AA==" } }];
    expect(decode({ model: "m", contents: [{ parts }] }).prompt.contents).toEqual([{ parts }]);
  });
});

describe("settings", () => {
  test("[native.generation] come out in the API's spelling; unknown ones go through", () => {
    const { prompt } = ask({
      generation: {
        temperature: 0.2,
        top_p: 0.9,
        top_k: 40,
        max_output_tokens: 500,
        stop: "###",
        seed: 7,
        thinking_level: "MINIMAL",
        candidateCount: 2,
      },
    });
    expect(prompt.generationConfig).toEqual({
      temperature: 0.2,
      topP: 0.9,
      topK: 40,
      maxOutputTokens: 500,
      stopSequences: ["###"],
      seed: 7,
      thinkingConfig: { thinkingLevel: "MINIMAL" },
      candidateCount: 2,
    });
  });

  test("a plain schema goes where every model with JSON mode takes it", () => {
    const response_schema = {
      type: "object",
      properties: {
        title: { type: "string" },
        items: { type: "array", items: { type: "number", nullable: true } },
      },
      required: ["title"],
    };
    expect(ask({ response_schema }).prompt.generationConfig).toEqual({
      responseMimeType: "application/json",
      responseSchema: response_schema,
    });
  });

  test.each([
    { type: "object", additionalProperties: false },
    { type: ["string", "null"] },
    { type: "array", items: { $ref: "#/$defs/x" }, $defs: { x: { type: "string" } } },
    { type: "object", properties: { a: { anyOf: [{ const: 1 }] } } },
  ])("a schema with more than that goes as JSON Schema: %j", (response_schema) => {
    expect(ask({ response_schema }).prompt.generationConfig).toEqual({
      responseMimeType: "application/json",
      responseJsonSchema: response_schema,
    });
  });

  test.each([
    { temperature: "hot" },
    { temperature: 3 },
    { top_p: 2 },
    { top_k: 0 },
    { max_output_tokens: 0 },
    { stop: 5 },
    "fast",
  ])("generation %j is refused", (generation) => {
    expect(faultOf({ generation })).toMatchObject({ code: "invalid_request" });
  });
});

describe("the wait", () => {
  test.each([
    [{}, 30_000],
    [{ mode: "wait" }, 30_000],
    [{ mode: "wait", max_wait_ms: 0 }, 0],
    [{ max_wait_ms: 100_000 }, 100_000],
    [{ mode: "no_wait" }, 0],
    [{ mode: "no_wait", max_wait_ms: 0 }, 0],
  ])("%j waits up to %d ms", (more, ms) => expect(ask(more).maxWaitMs).toBe(ms));

  test("beyond the cap it is refused, and the cap named", () => {
    expect(faultOf({ max_wait_ms: 100_001 })).toMatchObject({
      code: "invalid_request",
      publicMessage: expect.stringContaining("100000"),
    });
  });

  test.each([{ max_wait_ms: -1 }, { max_wait_ms: 1.5 }, { max_wait_ms: "5s" }, { mode: "later" }, {
    mode: "no_wait",
    max_wait_ms: 5,
  }])("%j is refused", (more) => expect(faultOf(more)).toMatchObject({ code: "invalid_request" }));

  test("where the cap is lower than the default, the cap is the default", () => {
    expect(decodeNative({ model: "m", prompt: "a" }, { ...TERMS, maxWaitMs: 5_000 }).request.maxWaitMs).toBe(
      5_000,
    );
  });
});

describe("names", () => {
  test("[native.model] a model or several, in order, with or without the API's prefix", () => {
    expect(ask().target).toEqual({ kind: "models", models: ["gemma-4-31b-it"] });
    expect(ask({ model: ["models/a", "b", "a"] }).target).toEqual({ kind: "models", models: ["a", "b"] });
  });

  test("a stage, by its own field or in the place of a model", () => {
    const poem = { kind: "stage", stageType: "POEM" };
    expect(decode({ stage: "poem", prompt: "?" }).target).toEqual(poem);
    expect(ask({ model: "stage:poem" }).target).toEqual(poem);
    expect(ask({ model: ["stage:POEM", "stage:POEM"] }).target).toEqual(poem);
  });

  test.each([[["stage:POEM", "gemma-4-31b-it"]], [["gemma-4-31b-it", "stage:POEM"]]])(
    "a stage stands alone: %j is refused",
    (model) => {
      expect(faultOf({ model })).toMatchObject({
        code: "invalid_request",
        publicMessage: "A stage stands alone: leave the other models out, or the stage.",
      });
    },
  );

  test("the client's id or ours", () => {
    expect(ask()).toMatchObject({ id: "made-here", idIsClients: false });
    expect(ask({ request_id: "event-42" })).toMatchObject({ id: "event-42", idIsClients: true });
  });

  test.each([
    { model: "" },
    { model: [] },
    { model: Array(11).fill("m") },
    { model: 5 },
    { model: "a\r\nx-injected: 1" },
    { request_id: "" },
    { request_id: "a b" },
    { request_id: "a\u0000" },
    { request_id: "x".repeat(201) },
    { class: "urgent" },
    { metadata: "x" },
    { metadata: { note: "x".repeat(17_000) } },
  ])(
    "%j is refused",
    (more) => expect(faultOf(more)).toMatchObject({ code: "invalid_request", status: 400 }),
  );
});

describe("what is wrong is named", () => {
  test("[native.invalid] unknown fields, each by its name", () => {
    const { publicMessage, details } = faultOf({ temprature: 1, streams: true });
    expect(publicMessage).toContain("temprature");
    expect(details).toEqual([
      { field: "temprature", problem: "this endpoint knows no such field" },
      { field: "streams", problem: "this endpoint knows no such field" },
    ]);
  });

  test("[native.invalid] a field deep inside, by its place", () => {
    const messages = [{ role: "user", content: "a" }, { role: "wizard", content: "b" }];
    expect(fault({ model: "m", messages }).details).toEqual([
      expect.objectContaining({ field: "messages[1].role" }),
    ]);
  });

  test.each([null, [], "x", 5])("a body that is %j", (body) => {
    expect(fault(body)).toMatchObject({
      code: "invalid_request",
      publicMessage: expect.stringContaining("JSON object"),
    });
  });
});
