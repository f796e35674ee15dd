import { cpuUsage } from "node:process";
import { describe, expect, test, vi } from "vitest";
import { estimateTokens, textTokens } from "../../../shared/gateway/estimate/estimate.ts";

const RUSSIAN =
  "Джазовый вечер в парке Горького: живая музыка, лекция о Дюке Эллингтоне и танцы до полуночи. ".repeat(10);
const ENGLISH =
  "An evening of jazz in the park: live music, a talk about Duke Ellington and dancing till late. ".repeat(
    10,
  );

const counted: { kind: string; tokens: number; text: string }[] = JSON.parse(
  Deno.readTextFileSync(new URL("../../fixtures/gemma_tokens.json", import.meta.url)),
);

const promptOf = (...parts: Record<string, unknown>[]) => ({ contents: [{ role: "user", parts }] });

describe("estimateTokens", () => {
  // True counts of the Gemma tokenizer, written by `npm run bench:estimate -- --fixture`.
  test.each([...Map.groupBy(counted, ({ kind }) => kind)])(
    "%s texts as the tokenizer counts them",
    (_, texts) => {
      const errors = texts.map(({ text, tokens }) => textTokens(text) / tokens - 1);
      const mean = errors.reduce((sum, error) => sum + Math.abs(error), 0) / errors.length;
      expect(mean).toBeLessThan(0.08);
      expect(Math.min(...errors)).toBeGreaterThan(-0.1);
    },
  );

  test.each([
    ["HTMLElement.getBoundingClientRect()", 5],
    ["d41d8cd98f00b204e9800998ecf8427e", 30],
    ["sha512-Yl3oQ2xw8LkKcD0vN5r7tZbAeJ4iHsGf1uMqPpWn6SgXyTz9RkVhBjEaCdUlFo==", 55],
    ["\t\t\tif (x) {\r\n\t\t\t}\r\n", 12],
    ["=".repeat(500), 32],
    [" ".repeat(500), 17],
    ["😀🎷🎬", 3],
    ["Қазақ елі", 6],
    ["!?".repeat(20), 20],
  ])("%j is about %i tokens", (text, tokens) => {
    expect(textTokens(text)).toBeGreaterThan(tokens * 0.5);
    expect(textTokens(text)).toBeLessThan(tokens * 2);
  });

  test("half a million letters without a space take little more work than as many with spaces, and are not free", () => {
    /** Of three times the least: the processor's time, which other programs do not take. */
    const work = (text: string) =>
      Math.min(...[1, 2, 3].map(() => {
        const before = cpuUsage();
        textTokens(text);
        const { user, system } = cpuUsage(before);
        return user + system;
      }));
    const prose = ENGLISH.repeat(Math.ceil(500_000 / ENGLISH.length)).slice(0, 500_000);
    const most = 20 * work(prose);
    for (const text of ["a", "A", "я", "-", "7", "aB", "a1", " ", "é"].map((unit) => unit.repeat(500_000))) {
      // A rule that looks ahead from every letter takes thousands of times as much.
      expect(work(text)).toBeLessThan(most);
      const tokens = textTokens(text);
      expect(Number.isFinite(tokens) && tokens > 0).toBe(true);
    }
    expect(textTokens("a".repeat(100_000))).toBeGreaterThan(20_000);
  });

  test.each(["one text", "many texts"])("a very long prompt is judged by a sample: %s", (how) => {
    // Prose of two languages, code and tables, long stretches of each.
    const long = [
      RUSSIAN,
      ENGLISH,
      "const a = b[c] + 1;\n".repeat(50),
      "| 17 | 4.5 | 2026-01-01 |\n".repeat(40),
    ]
      .map((text) => text.repeat(300)).join("").repeat(3);
    const texts = how === "one text" ? [long] : long.match(/[^]{1,900}/g)!;
    const whole = texts.reduce((sum, text) => sum + textTokens(text), 0) + 5;
    let seed = 1;
    const random = () => (seed = seed * 48_271 % 2_147_483_647) / 2_147_483_647;
    for (let n = 0; n < 5; n++) {
      const estimate = estimateTokens(promptOf(...texts.map((text) => ({ text }))), random);
      expect(Math.abs(estimate / whole - 1)).toBeLessThan(0.08);
    }
    // No more of it is looked at than of a short one.
    let looked = 0;
    const slice = vi.spyOn(String.prototype, "slice").mockImplementation(function (this: string, from, to) {
      const block = this.substring(from ?? 0, to);
      looked += block.length;
      return block;
    });
    estimateTokens(promptOf({ text: "x ".repeat(4_500_000) }), random);
    slice.mockRestore();
    expect(looked).toBeGreaterThan(200_000);
    expect(looked).toBeLessThan(300_000);
  });

  test("what is sampled is chosen by chance: nobody hides what is dear between what is looked at", () => {
    const hidden = Array.from({ length: 2_000 }, (_, n) => (n % 32 === 0 ? "x " : "7,").repeat(2_048)).join(
      "",
    );
    const whole = textTokens(hidden);
    for (let n = 0; n < 20; n++) {
      const estimate = estimateTokens(promptOf({ text: hidden }));
      expect(estimate / whole).toBeGreaterThan(0.8);
      expect(estimate / whole).toBeLessThan(1.2);
    }
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

  test("a picture costs what its resolution says, for the whole prompt or for the part", () => {
    const inlineData = { mimeType: "image/png", data: "AAAA" };
    const of = (part: object, generationConfig = {}) =>
      estimateTokens({ ...promptOf({ inlineData, ...part }), generationConfig });
    const usual = of({});
    expect(usual - of({}, { mediaResolution: "MEDIA_RESOLUTION_LOW" })).toBe(1_120 - 280);
    expect(usual - of({ mediaResolution: { level: "MEDIA_RESOLUTION_MEDIUM" } })).toBe(1_120 - 560);
    expect(usual - of({}, { mediaResolution: 1 })).toBe(1_120 - 280);
    expect(of({}, { mediaResolution: "SOMETHING_NEW" })).toBe(usual);
  });

  test("a picture in a tool's result is a picture, and a signature no text", () => {
    const bytes = "iVBORw0KGgo".repeat(10_000);
    const response = { name: "photo", response: { taken: true } };
    const parts = [{ inlineData: { mimeType: "image/png", data: bytes } }];
    const tokens = estimateTokens(promptOf({ functionResponse: { ...response, parts } }));
    expect(tokens).toBeGreaterThan(1_120);
    expect(tokens).toBeLessThan(1_200);
    const signed = estimateTokens(
      promptOf({ functionCall: { name: "f" }, thoughtSignature: "aB3+".repeat(1_000) }),
    );
    expect(signed).toBeLessThan(1_100);
  });

  test("a part of which nobody knows what it is counts by its words, whatever lies inside", () => {
    for (const inlineData of [{ mimeType: 0, data: "AAAA" }, { data: 5 }, "AAAA", null]) {
      expect(estimateTokens(promptOf({ role: "user", parts: [{ inlineData }] }))).toBeGreaterThan(0);
    }
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
