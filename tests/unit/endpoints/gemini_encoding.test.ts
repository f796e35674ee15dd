import { describe, expect, test } from "vitest";
import { encoded, geminiEncoding } from "../../../shared/endpoints/gemini/encoding.ts";
import { geminiRoute } from "../../../shared/endpoints/gemini/route.ts";

const encodingOf = (query: string) => geminiEncoding(`http://gateway/llm-invoke/v1beta/models/m:x${query}`);

describe("the address", () => {
  test.each([
    ["/v1beta/models", { kind: "models" }],
    ["/v1/models", { kind: "models" }],
    ["/v1beta/models/gemma-4-31b-it", { kind: "model", model: "gemma-4-31b-it" }],
    ["/v1/models/a%2Eb%3AgenerateContent", { kind: "call", model: "a.b", method: "generateContent" }],
    ["/v1beta/models/m:streamGenerateContent", { kind: "call", model: "m", method: "streamGenerateContent" }],
    ["/v1beta/models/m:batchEmbedContents", { kind: "call", model: "m", method: "batchEmbedContents" }],
    ["/v1beta/models/stage:POEM:generateContent", {
      kind: "call",
      model: "stage:POEM",
      method: "generateContent",
    }],
    ["/v1beta/models/stage%3APOEM%3AcountTokens", {
      kind: "call",
      model: "stage:POEM",
      method: "countTokens",
    }],
    ["/v1/models/stage:POEM", { kind: "model", model: "stage:POEM" }],
    ["/v1beta/models/stage:POEM:predict", { kind: "unknown" }],
    ["/v1beta/models/other:POEM:generateContent", { kind: "unknown" }],
    ["/v1beta/models/m:predict", { kind: "unknown" }],
    ["/v1beta/models/%E0%A4%A", { kind: "unknown" }],
    [`/v1beta/models/${"m".repeat(201)}:generateContent`, { kind: "unknown" }],
    ["/v1beta/tunedModels/m:generateContent", { kind: "unknown" }],
    ["/v1beta/cachedContents", { kind: "caches" }],
    ["/v1beta/cachedContents/a-1", { kind: "cache", id: "a-1" }],
    ["/v1beta/interactions", { kind: "unknown" }],
    ["/v1", { kind: "unknown" }],
    ["/openai/v1/models", null],
    ["/v10/models", null],
    ["/", null],
  ])("%s", (path, route) => expect(geminiRoute(path)).toEqual(route));
});

describe("how the answer is to be written", () => {
  test.each([
    ["", false, false],
    ["?alt=json", false, false],
    ["?alt=sse", true, false],
    ["?%24alt=json%3Benum-encoding%3Dint", false, true],
    ["?$alt=sse;enum-encoding=int&alt=json", true, true],
    ["?alt=SSE", true, false],
  ])("%s", (query, sse, numericEnums) => expect(encodingOf(query)).toEqual({ sse, numericEnums }));

  test("in no other format", () => expect(() => encodingOf("?alt=proto")).toThrow("json or sse"));
});

describe("enums as numbers", () => {
  const numbers = (body: unknown) => encoded(body, { sse: false, numericEnums: true });

  test("wherever an answer has them, and nowhere else", () => {
    expect(numbers({
      candidates: [{
        content: {
          role: "model",
          parts: [
            { text: "STOP" },
            { functionCall: { name: "f", args: { category: "STOP", finishReason: "STOP" } } },
            { executableCode: { language: "PYTHON", code: "1" } },
            { codeExecutionResult: { outcome: "OUTCOME_OK", output: "1" } },
          ],
        },
        finishReason: "MAX_TOKENS",
        safetyRatings: [{ category: "HARM_CATEGORY_HATE_SPEECH", probability: "LOW" }],
        groundingMetadata: { webSearchQueries: ["a"], category: "x" },
        index: 0,
      }],
      promptFeedback: { blockReason: "PROHIBITED_CONTENT" },
      usageMetadata: { promptTokensDetails: [{ modality: "IMAGE", tokenCount: 3 }] },
    })).toEqual({
      candidates: [{
        content: {
          role: "model",
          parts: [
            { text: "STOP" },
            { functionCall: { name: "f", args: { category: "STOP", finishReason: "STOP" } } },
            { executableCode: { language: 1, code: "1" } },
            { codeExecutionResult: { outcome: 1, output: "1" } },
          ],
        },
        finishReason: 2,
        safetyRatings: [{ category: 8, probability: 2 }],
        groundingMetadata: { webSearchQueries: ["a"], category: "x" },
        index: 0,
      }],
      promptFeedback: { blockReason: 4 },
      usageMetadata: { promptTokensDetails: [{ modality: 2, tokenCount: 3 }] },
    });
  });

  test("a name of tomorrow becomes one that old clients know, for their parser throws everything away at a name", () => {
    expect(numbers({
      candidates: [{ finishReason: "OF_TOMORROW" }],
      promptFeedback: { blockReason: "constructor" },
      usageMetadata: { promptTokensDetails: [{ modality: "SMELL", tokenCount: 3 }] },
    })).toEqual({
      candidates: [{ finishReason: 5 }],
      promptFeedback: { blockReason: 2 },
      usageMetadata: { promptTokensDetails: [{ modality: 0, tokenCount: 3 }] },
    });
  });

  test("what a model thought is left out: these clients take it for text", () => {
    const parts = [{ text: "Hmm", thought: true }, { text: "4" }];
    expect(numbers({ candidates: [{ content: { parts }, finishReason: "STOP" }] })).toEqual({
      candidates: [{ content: { parts: [{ text: "4" }] }, finishReason: 1 }],
    });
    const thoughts = [{ text: "Hmm", thought: true }];
    expect(numbers({ candidates: [{ content: { parts: thoughts }, finishReason: "MAX_TOKENS" }] })).toEqual({
      candidates: [{ content: { parts: [{ text: "" }] }, finishReason: 2 }],
    });
  });

  test("only for who asks", () => {
    const body = { candidates: [{ finishReason: "STOP" }] };
    expect(encoded(body, { sse: false, numericEnums: false })).toBe(body);
  });
});
