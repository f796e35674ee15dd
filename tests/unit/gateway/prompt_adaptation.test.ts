import { describe, expect, test } from "vitest";
import { type Prompt, textOf } from "../../../shared/contract/content.ts";
import { adaptPrompt, unfenced } from "../../../shared/gateway/answers/prompt_adaptation.ts";

const ALL = { system: true, json: true, tools: true, thinking: true, maxOutputTokens: null };
const PROMPT: Prompt = {
  contents: [{ role: "model", parts: [{ text: "Слушаю." }] }, {
    role: "user",
    parts: [{ text: "Когда концерт?" }],
  }],
  systemInstruction: { parts: [{ text: "Отвечай кратко." }] },
  generationConfig: {
    temperature: 0,
    responseMimeType: "application/json",
    responseSchema: { type: "object", properties: { date: { type: "string" } } },
  },
  aFieldOfTomorrow: 1,
};

describe("adaptPrompt", () => {
  test("a model that can do it all gets the prompt as it is", () => {
    expect(adaptPrompt(PROMPT, ALL, "m")).toEqual(PROMPT);
  });

  test("without system instructions the system text leads the first user turn", () => {
    const fitted = adaptPrompt(PROMPT, { ...ALL, system: false }, "m");
    expect(fitted.systemInstruction).toBeUndefined();
    expect(fitted.contents[1]?.parts).toEqual([{ text: "Отвечай кратко." }, { text: "Когда концерт?" }]);
    expect(fitted.contents[0]).toEqual(PROMPT.contents[0]);
    expect(fitted.aFieldOfTomorrow).toBe(1);
  });

  test("without JSON mode the schema is asked for in words, the other settings stay", () => {
    const fitted = adaptPrompt(PROMPT, { ...ALL, json: false }, "m");
    expect(fitted.generationConfig).toEqual({ temperature: 0 });
    expect(JSON.stringify(fitted.systemInstruction)).toContain("date");
  });

  test("without either, both end up in the user's turn", () => {
    const fitted = adaptPrompt(PROMPT, { ...ALL, system: false, json: false }, "m");
    expect(fitted.contents[1]?.parts).toHaveLength(3);
  });

  test("tools are refused by name, since words cannot replace them", () => {
    const withTools = { ...PROMPT, tools: [{ functionDeclarations: [] }] };
    expect(() => adaptPrompt(withTools, { ...ALL, tools: false }, "gemma-3-27b-it")).toThrow(
      expect.objectContaining({
        code: "unsupported_feature",
        publicMessage: expect.stringContaining("gemma-3-27b-it"),
      }),
    );
  });

  test("the caller's prompt is not changed", () => {
    const before = structuredClone(PROMPT);
    adaptPrompt(PROMPT, { ...ALL, system: false, json: false }, "m");
    expect(PROMPT).toEqual(before);
  });
});

describe("unfenced", () => {
  const said = (text: string) => ({ candidates: [{ content: { role: "model", parts: [{ text }] } }] });
  const inside = (text: string) => textOf(unfenced(said(text)));

  test.each([
    ['```json\n{"a": 1}\n```', '{"a": 1}'],
    ['\n ```JSON \n\n{"a": 1}\n\n``` \n', '{"a": 1}'],
    ["```\n```", ""],
  ])("%j is the JSON in its fence", (text, json) => {
    expect(inside(text)).toBe(json);
  });

  test.each([
    "no fence",
    "```json {} ```",
    "Here: ```json\n{}\n```",
    "```json\n{}\n``` done",
    "```",
    "```\n``",
  ])(
    "%j is left as it is",
    (text) => {
      expect(inside(text)).toBe(text);
    },
  );

  test("a fence that opens and goes on in white space costs no more than its length", () => {
    const text = "```\n" + "\n ".repeat(100_000) + "x";
    expect(inside(text)).toBe(text);
  });
});
