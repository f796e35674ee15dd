/** Which requests are refused before they cost anything, and in which words. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Emulator } from "../../local/emulator/emulator.ts";
import { emulator, errorOf, GEMMA, post, prompt, type Sent, stopAll } from "./fixture.ts";

let one: Emulator;
beforeEach(async () => {
  one = await emulator({
    models: [
      { name: GEMMA },
      { name: "gemini-3.5-flash" },
      { name: "gemini-2.5-flash", limits: { rpm: null } },
      { name: "gemma-3-27b-it", withdrawn: false },
      { name: "gemini-embedding-001" },
    ],
  });
});
afterEach(async () => {
  // None of them cost quota.
  expect(one.control.stats().admitted.total).toBe(0);
  await stopAll();
});

async function refusal(body: unknown, sent: Sent = {}) {
  const answer = await post(one, body, sent);
  expect(answer.status).toBe(400);
  return await errorOf(answer);
}

const hi = prompt("hi");

test("contents that are missing, empty, or of a role that is none", async () => {
  expect(await refusal({})).toEqual({
    code: 400,
    message: "* GenerateContentRequest.contents: contents is not specified\n",
    status: "INVALID_ARGUMENT",
  });
  expect((await refusal({ contents: [{ role: "user", parts: [] }] })).message)
    .toBe("* GenerateContentRequest.contents[0].parts: contents.parts must not be empty.\n");
  expect((await refusal({ contents: [{ parts: [{ text: "a" }, { thought: true }] }] })).message).toBe(
    "* GenerateContentRequest.contents[0].parts[1].data: required oneof field 'data' must have one initialized field\n",
  );
  expect((await refusal({ contents: [{ role: "system", parts: [{ text: "a" }] }] })).message)
    .toBe("Content with system role is not supported. Please use a valid role: user, model.");
  expect((await refusal({ contents: [{ role: "assistant", parts: [{ text: "a" }] }] })).message)
    .toBe("Please use a valid role: user, model.");
});

test("unknown fields and wrong values are named by their path, all of them", async () => {
  const error = await refusal({
    contents: [{ role: "user", parts: [{ text: "hi", mood: "good" }] }],
    prompt: "hi",
    generationConfig: {
      temperature: "hot",
      responseSchema: { type: "OBJECT", properties: { a: { type: "null" } } },
    },
  });
  expect(error.details).toEqual([{
    "@type": "type.googleapis.com/google.rpc.BadRequest",
    fieldViolations: [
      {
        field: "contents[0].parts[0]",
        description:
          "Invalid JSON payload received. Unknown name \"mood\" at 'contents[0].parts[0]': Cannot find field.",
      },
      { description: 'Invalid JSON payload received. Unknown name "prompt": Cannot find field.' },
      {
        field: "generation_config.temperature",
        description: "Invalid value at 'generation_config.temperature' (TYPE_FLOAT), \"hot\"",
      },
      {
        field: "generation_config.response_schema.properties[0].value.type",
        description: "Invalid value at 'generation_config.response_schema.properties[0].value.type' " +
          '(type.googleapis.com/google.ai.generativelanguage.v1beta.Type), "null"',
      },
    ],
  }]);
  expect(error.message.split("\n")).toHaveLength(4);
});

test("what is not JSON, not an object, or a list where there is none", async () => {
  expect((await refusal("{contents")).message).toContain("Invalid JSON payload received.");
  expect((await refusal("[]")).message).toContain("Root element must be a message.");
  expect((await refusal({ ...hi, systemInstruction: [{ parts: [] }] })).message)
    .toBe(
      'Invalid JSON payload received. Unknown name "systemInstruction": Proto field is not repeating, cannot start list.',
    );
});

test("what Gemma 3 cannot do", async () => {
  const sent = { model: "gemma-3-27b-it" };
  expect((await refusal({ ...hi, systemInstruction: { parts: [{ text: "Be brief" }] } }, sent)).message)
    .toBe("Developer instruction is not enabled for models/gemma-3-27b-it");
  expect((await refusal({ ...hi, generationConfig: { responseMimeType: "application/json" } }, sent)).message)
    .toBe("JSON mode is not enabled for models/gemma-3-27b-it");
  expect((await refusal({ ...hi, tools: [{ functionDeclarations: [{ name: "f" }] }] }, sent)).message)
    .toBe("Function calling is not enabled for models/gemma-3-27b-it");
});

test("thinking levels and budgets a model does not have", async () => {
  const thinking = (thinkingConfig: unknown, model: string) =>
    refusal({ ...hi, generationConfig: { thinkingConfig } }, { model });
  expect((await thinking({ thinkingLevel: "LOW" }, GEMMA)).message)
    .toBe("Thinking level LOW is not supported for this model. Please retry with other thinking level.");
  expect((await thinking({ thinkingBudget: 0 }, GEMMA)).message)
    .toBe("Thinking budget is not supported for this model.");
  expect((await thinking({ thinkingLevel: "HIGH" }, "gemini-2.5-flash")).message)
    .toBe("Thinking level is not supported for this model.");
  expect((await thinking({ thinkingLevel: "HIGH", thinkingBudget: 10 }, "gemini-3.5-flash")).message)
    .toBe("You can only set only one of thinking budget and thinking level.");
  expect((await thinking({ thinkingLevel: "EXTREME" }, GEMMA)).message).toContain("Invalid value at");
});

test("schemas that do not hold together", async () => {
  const schema = (responseSchema: unknown) =>
    refusal({ ...hi, generationConfig: { responseMimeType: "application/json", responseSchema } });
  const path = "* GenerateContentRequest.generation_config.response_schema";
  expect((await schema({ type: "OBJECT", properties: {} })).message)
    .toBe(`${path}.properties: should be non-empty for OBJECT type\n`);
  expect((await schema({ type: "ARRAY" })).message).toBe(`${path}.items: missing field.\n`);
  expect(
    (await schema({ type: "OBJECT", properties: { a: { type: "STRING" } }, required: ["b"] })).message,
  ).toBe(`${path}.required[0]: property is not defined\n`);
  expect((await refusal({ ...hi, generationConfig: { responseSchema: { type: "STRING" } } })).message)
    .toContain("response_mime_type");
});

test("tools with JSON mode on a model that has not both", async () => {
  const body = {
    ...hi,
    tools: [{ functionDeclarations: [{ name: "f" }] }],
    generationConfig: { responseMimeType: "application/json" },
  };
  expect((await refusal(body, { model: "gemini-2.5-flash" })).message)
    .toBe("Function calling with a response mime type: 'application/json' is unsupported");
});

test("a function call in the history without its signature, with a damaged one, or without its response", async () => {
  const turns = (call: unknown, ...rest: unknown[]) => ({
    contents: [{ role: "user", parts: [{ text: "call find" }] }, { role: "model", parts: [call] }, ...rest],
  });
  const response = { role: "user", parts: [{ functionResponse: { name: "find", response: {} } }] };
  const sent = { model: "gemini-3.5-flash" };
  expect((await refusal(turns({ functionCall: { name: "find", args: {} } }, response), sent)).message)
    .toContain("missing a thought_signature");
  const damaged = { functionCall: { name: "find", args: {} }, thoughtSignature: "AAAA" };
  expect((await refusal(turns(damaged, response), sent)).message).toBe("Corrupted thought signature.");
  expect((await refusal(turns({ functionCall: { name: "find" } }))).message)
    .toContain("number of function response parts");
  const call = { functionCall: { name: "find" } };
  const two = { role: "model", parts: [call, call] };
  expect((await refusal({ contents: [...hi.contents, two, response] })).message)
    .toContain("number of function response parts");
});

test("a prompt longer than the model's context", async () => {
  const { message } = await refusal(prompt("слово ".repeat(140_000)), { model: "gemma-3-27b-it" });
  expect(message).toMatch(/^The input token count \(\d+\) exceeds the maximum number of tokens allowed/);
});

test("a body above 20 MiB", async () => {
  const { message } = await refusal(prompt("a".repeat(20_971_520)));
  expect(message).toBe("Request payload size exceeds the limit: 20971520 bytes.");
});

test("embedding nothing, too much at once, or into too many dimensions", async () => {
  const sent = { model: "gemini-embedding-001" };
  expect((await refusal({}, { ...sent, method: "embedContent" })).message).toContain("EmbedContentRequest");
  const content = { parts: [{ text: "a" }] };
  expect(
    (await refusal({ content, outputDimensionality: 4_000 }, { ...sent, method: "embedContent" })).message,
  ).toContain("output_dimensionality");
  const requests = Array.from({ length: 101 }, () => ({ model: "models/gemini-embedding-001", content }));
  expect((await refusal({ requests }, { ...sent, method: "batchEmbedContents" })).message)
    .toBe("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n");
});

test("a model that was withdrawn, does not exist, or has no such method", async () => {
  for (const [model, method] of [["gemma-3-27b", "generateContent"], [GEMMA, "embedContent"]] as const) {
    const answer = await post(one, hi, { model, method });
    expect(answer.status).toBe(404);
    expect(await errorOf(answer)).toEqual({
      code: 404,
      message: `models/${model} is not found for API version v1beta, or is not supported for ${method}. ` +
        "Call ListModels to see the list of available models and their supported methods.",
      status: "NOT_FOUND",
    });
  }
});

test("the spellings of proto JSON are all understood", async () => {
  const body = {
    contents: { parts: { text: "hi" } },
    system_instruction: { parts: { text: "Be brief" } },
    generation_config: { max_output_tokens: "200", thinking_config: { thinking_level: "minimal" } },
  };
  const counted = await post(one, { generateContentRequest: { model: `models/${GEMMA}`, ...body } }, {
    method: "countTokens",
  });
  expect(counted.status).toBe(200);
  expect((await counted.json()).totalTokens).toBeGreaterThan(3);
});

test("enums may come as numbers, as older Python clients send all of them", async () => {
  const body = {
    ...hi,
    safetySettings: [{ category: 7, threshold: 4 }],
    toolConfig: { functionCallingConfig: { mode: 3 } },
    generationConfig: { mediaResolution: 1, responseModalities: [1], thinkingConfig: { thinkingLevel: 4 } },
  };
  const wrong = { ...hi, safetySettings: [{ category: 7.5, threshold: true }] };
  expect((await refusal(wrong)).message).toContain(
    "Invalid value at 'safety_settings[0].category' (TYPE_ENUM)",
  );
  const counted = { generateContentRequest: { model: `models/${GEMMA}`, ...body } };
  expect((await post(one, counted, { method: "countTokens" })).status).toBe(200);
});
