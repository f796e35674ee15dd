import { describe, expect, test } from "vitest";
import { estimateTokens, textTokens } from "../../../shared/gateway/estimate.ts";

const RUSSIAN =
  "Джазовый вечер в парке Горького: живая музыка, лекция о Дюке Эллингтоне и танцы до полуночи. ".repeat(10);
const ENGLISH =
  "An evening of jazz in the park: live music, a talk about Duke Ellington and dancing till late. ".repeat(
    10,
  );

const promptOf = (...parts: Record<string, unknown>[]) => ({ contents: [{ role: "user", parts }] });

describe("estimateTokens", () => {
  // Characters a token, as measured on the real tokenizer: the estimate must come near them.
  test.each([["Russian", RUSSIAN, 3.1], ["English", ENGLISH, 3.8]])("%s prose", (_, text, perToken) => {
    const estimate = textTokens(text);
    const expected = text.length / perToken;
    expect(Math.abs(estimate / expected - 1)).toBeLessThan(0.25);
  });

  test("Russian costs more than English of the same length", () => {
    expect(textTokens(RUSSIAN) / RUSSIAN.length).toBeGreaterThan(textTokens(ENGLISH) / ENGLISH.length);
  });

  test("system text, tools and schema count too", () => {
    const alone = estimateTokens(promptOf({ text: ENGLISH }));
    const whole = estimateTokens({
      ...promptOf({ text: ENGLISH }),
      systemInstruction: { parts: [{ text: ENGLISH }] },
      tools: [{ functionDeclarations: [{ name: "book_a_table", description: ENGLISH }] }],
      generationConfig: { responseSchema: { type: "object", properties: { title: { type: "string" } } } },
    });
    expect(whole).toBeGreaterThan(alone * 2.5);
  });

  test("a picture costs the same whatever its bytes", () => {
    const picture = (kilobytes: number) =>
      promptOf({ inlineData: { mimeType: "image/png", data: "A".repeat(kilobytes * 1024) } });
    expect(estimateTokens(picture(1))).toBe(estimateTokens(picture(1_000)));
    expect(estimateTokens(picture(1))).toBeGreaterThanOrEqual(1_120);
  });

  test("is a whole number of at least 1, of strange prompts too", () => {
    for (const parts of [[], [{}], [{ text: "" }], [{ inlineData: {} }], [{ fileData: { fileUri: "x" } }]]) {
      const tokens = estimateTokens({ contents: [{ parts }] });
      expect(Number.isInteger(tokens)).toBe(true);
      expect(tokens).toBeGreaterThanOrEqual(1);
    }
    expect(estimateTokens({ contents: [] })).toBe(1);
  });
});
