/** What the playground asks, out of what was typed. */
import { expect, test } from "vitest";
import { type CapturedCall, capturedCall } from "../../console/src/parts/captured_call.ts";
import {
  bodyOf,
  draftOf,
  GENERATION,
  jsonOf,
  type PlaygroundDraft,
} from "../../console/src/parts/playground_draft.ts";
import type { Prompt } from "../../shared/contract/content.ts";
import { decodeNative } from "../../shared/endpoints/native/request.ts";

const DRAFT = {
  targets: [],
  count: 1,
  system: " ",
  prompt: "Hello",
  generation: { temperature: "", top_p: "", max_output_tokens: "", seed: "" },
  thinking: { thinking_level: "", thinking_budget: "" },
  schema: "",
  tools: "",
  turns: "",
  more: "",
};

/** What a model gets of a body. */
const promptOf = (body: Record<string, unknown>) =>
  decodeNative({ model: "m", ...body }, { newId: "1", traceId: null, maxWaitMs: 1_000 }).request.prompt;

/** Every field that a prompt has, so far as llm-invoke's own API takes it. */
const WHOLE: Prompt = {
  contents: [
    { role: "user", parts: [{ text: "One?" }] },
    { role: "model", parts: [{ text: "Two.", thoughtSignature: "c2ln" }] },
    {
      role: "user",
      parts: [{ text: "And this?" }, { inlineData: { mimeType: "image/png", data: "AAAA" } }],
    },
  ],
  systemInstruction: { parts: [{ text: "Be brief." }] },
  tools: [{ functionDeclarations: [{ name: "look" }] }],
  toolConfig: { functionCallingConfig: { mode: "ANY" } },
  safetySettings: [{ category: "HARM_CATEGORY_HARASSMENT", threshold: "BLOCK_NONE" }],
  generationConfig: {
    temperature: 0.5,
    topP: 0.9,
    topK: 40,
    maxOutputTokens: 100,
    stopSequences: ["END"],
    seed: 7,
    presencePenalty: 0.1,
    frequencyPenalty: 0.2,
    responseMimeType: "application/json",
    responseSchema: { type: "object", properties: { a: { type: "string" } } },
    thinkingConfig: { thinkingLevel: "LOW", includeThoughts: true },
    mediaResolution: "MEDIA_RESOLUTION_LOW",
  },
};

const draftFrom = (
  call: CapturedCall,
): { draft: PlaygroundDraft; files: { mimeType: string; data: string }[] } => {
  const { draft, files } = draftOf("m", call.body);
  return { draft: { ...DRAFT, ...draft } as PlaygroundDraft, files };
};

test("a captured conversation asks the same once more, as a command and in the playground", () => {
  const call = capturedCall(WHOLE) as CapturedCall;
  expect(call.leftOut).toEqual([]);
  expect(promptOf(call.body)).toEqual(WHOLE);

  const { draft, files } = draftFrom(call);
  expect(draft).toMatchObject({
    prompt: "And this?",
    system: "Be brief.",
    generation: { temperature: "0.5", top_p: "0.9", max_output_tokens: "100", seed: "7" },
    thinking: { thinking_level: "LOW", thinking_budget: "" },
  });
  expect(files).toEqual([{ mimeType: "image/png", data: "AAAA" }]);
  const pictures = files.map((inlineData) => ({ inlineData }));
  expect(promptOf(bodyOf(draft, { model: "m" }, pictures, true))).toEqual(WHOLE);
});

test("a question alone is a prompt, and what ends with a tool's answer is all turns", () => {
  const plain = { contents: [{ role: "user", parts: [{ text: "Hello" }] }] };
  expect(capturedCall(plain)).toEqual({ body: { prompt: "Hello" }, leftOut: [] });
  const answered = {
    contents: [
      ...plain.contents,
      { role: "model", parts: [{ functionCall: { name: "look", args: {} } }] },
      { role: "user", parts: [{ functionResponse: { name: "look", response: { a: 1 } } }] },
    ],
  };
  const { draft, files } = draftFrom(capturedCall(answered) as CapturedCall);
  expect([draft.prompt, files]).toEqual(["", []]);
  expect(promptOf(bodyOf(draft, { model: "m" }))).toEqual(answered);
});

test("what was not kept, or is no conversation, is said; and so is what a call cannot say", () => {
  expect(capturedCall(undefined)).toBe("not_kept");
  expect(capturedCall({ truncated: true, bytes: 300_000, head: "{" })).toBe("truncated");
  expect(capturedCall({ content: { parts: [{ text: "to embed" }] } })).toBe("no_conversation");
  const call = capturedCall({ ...WHOLE, cachedContent: "cachedContents/1" }) as CapturedCall;
  expect(call.leftOut).toEqual(["cachedContent"]);
});

test("a model that does not think is asked without settings of thinking", () => {
  const draft = { ...DRAFT, thinking: { thinking_level: "LOW", thinking_budget: "" } };
  expect(bodyOf(draft, { model: "m" })).toEqual({ model: "m", prompt: "Hello" });
  expect(bodyOf(draft, { model: "m" }, [], true)).toMatchObject({ generation: { thinking_level: "LOW" } });
  const budget = { ...DRAFT, thinking: { thinking_level: "", thinking_budget: "0" } };
  expect(bodyOf(budget, { model: "m" }, [], true)).toMatchObject({ generation: { thinking_budget: 0 } });
});

test("a draft has a field for each setting of generation that the page shows", () => {
  expect(Object.keys(DRAFT.generation)).toEqual([...GENERATION]);
});

test("what is left empty is left out", () => {
  expect(bodyOf(DRAFT, { model: "m" })).toEqual({ model: "m", prompt: "Hello" });
});

test("parameters, schema, tools and pictures stand where llm-invoke takes them", () => {
  const picture = { inlineData: { mimeType: "image/png", data: "AAAA" } };
  const draft = {
    ...DRAFT,
    system: "Be brief.",
    generation: { ...DRAFT.generation, temperature: "0", seed: "7" },
    schema: '{"type": "object"}',
    tools: '[{"googleSearch": {}}]',
  };
  expect(bodyOf(draft, { stage: "POEM" }, [picture])).toEqual({
    stage: "POEM",
    contents: [{ role: "user", parts: [{ text: "Hello" }, picture] }],
    system: "Be brief.",
    generation: { temperature: 0, seed: 7 },
    response_schema: { type: "object" },
    tools: [{ googleSearch: {} }],
  });
});

test("what is not JSON, or of another kind, is said and not sent", () => {
  expect(jsonOf("{", "object").problem).toMatchObject({ name: "not_json", reason: expect.any(String) });
  expect(jsonOf("[]", "object").problem?.name).toBe("not_object");
  expect(jsonOf("{}", "list").problem?.name).toBe("not_list");
  expect(bodyOf({ ...DRAFT, schema: "[]", tools: "{" }, { model: "m" })).toEqual({
    model: "m",
    prompt: "Hello",
  });
});
