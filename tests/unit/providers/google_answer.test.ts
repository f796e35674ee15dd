import { describe, expect, test } from "vitest";
import { finishReasonOf, judgeAnswer, usageOf } from "../../../shared/contract/answer_verdict.ts";

const said = (text: string, finishReason = "STOP") => ({
  candidates: [{ content: { role: "model", parts: [{ text }] }, finishReason }],
});

describe("judgeAnswer", () => {
  test.each([
    ["a text", said("Концерт")],
    ["a text cut off at the allowed length", said("Конц", "MAX_TOKENS")],
    ["a function call", {
      candidates: [{ content: { parts: [{ functionCall: { name: "f", args: {} } }] }, finishReason: "STOP" }],
    }],
    ["a picture", {
      candidates: [{ content: { parts: [{ inlineData: { data: "AA==" } }] }, finishReason: "STOP" }],
    }],
    ["a second candidate, the first being blocked", {
      candidates: [{ finishReason: "SAFETY" }, { content: { parts: [{ text: "b" }] }, finishReason: "STOP" }],
    }],
  ])("%s is an answer", (_, answer) => {
    expect(judgeAnswer(answer)).toEqual({ ok: true });
  });

  test.each(["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"])(
    "%s is a block even where text came first",
    (reason) =>
      expect(judgeAnswer(said("half", reason))).toEqual({ ok: false, code: "content_blocked", reason }),
  );

  test.each(["OTHER", "LANGUAGE", "MALFORMED_FUNCTION_CALL", "A_REASON_OF_TOMORROW"])(
    "%s is no success",
    (reason) =>
      expect(judgeAnswer(said("x", reason))).toEqual({ ok: false, code: "answer_unusable", reason }),
  );

  test("a blocked prompt says why", () => {
    expect(judgeAnswer({ promptFeedback: { blockReason: "PROHIBITED_CONTENT" } })).toEqual({
      ok: false,
      code: "content_blocked",
      reason: "PROHIBITED_CONTENT",
    });
  });

  test.each([
    ["no candidate", {}, "NO_CANDIDATES"],
    ["a candidate without content", { candidates: [{ finishReason: "STOP" }] }, "STOP"],
    ["white space", said(" \n"), "STOP"],
    ["thoughts that used up the allowed length", {
      candidates: [{ content: { parts: [{ text: "Hmm", thought: true }] }, finishReason: "MAX_TOKENS" }],
    }, "MAX_TOKENS"],
    ["a thought's signature alone", {
      candidates: [{ content: { parts: [{ text: "", thoughtSignature: "AA==" }] }, finishReason: "STOP" }],
    }, "STOP"],
  ])("%s is empty", (_, answer, reason) => {
    expect(judgeAnswer(answer)).toEqual({ ok: false, code: "empty_answer", reason });
  });
});

test("the finish reason is the first candidate's", () => {
  expect(finishReasonOf(said("a", "MAX_TOKENS"))).toBe("MAX_TOKENS");
  expect(finishReasonOf({})).toBeNull();
});

describe("usageOf", () => {
  test("tool results in the prompt count as input", () => {
    const usageMetadata = {
      promptTokenCount: 100,
      toolUsePromptTokenCount: 20,
      candidatesTokenCount: 7,
      thoughtsTokenCount: 30,
      cachedContentTokenCount: 64,
      totalTokenCount: 157,
    };
    expect(usageOf({ usageMetadata })).toEqual({
      inputTokens: 120,
      outputTokens: 7,
      thoughtsTokens: 30,
      cachedTokens: 64,
      totalTokens: 157,
      estimated: false,
    });
  });

  test("missing or senseless figures are not taken for zero", () => {
    expect(usageOf({})).toBeNull();
    expect(usageOf({ usageMetadata: { promptTokenCount: -1 } })).toBeNull();
    expect(usageOf({ usageMetadata: { promptTokenCount: 3 } })).toMatchObject({
      inputTokens: 3,
      outputTokens: null,
    });
  });
});
