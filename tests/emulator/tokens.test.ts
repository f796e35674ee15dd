/** The emulator's own counting is plausible: near what the real tokenizer gives, never exact by design. */
import { expect, test } from "vitest";
import { firstTokens, promptTokens, textTokens } from "../../local/emulator/tokens.ts";

/** Characters a token as measured on the real tokenizer: English 3.8, Russian 3.1, Chinese 1.7, JSON 2.4. */
test.each([
  ["English", "The museum opens at ten, and guided tours in three languages leave every hour.", 3.2, 5],
  ["Russian", "Музей открывается в десять утра, экскурсии на трёх языках начинаются каждый час.", 2.7, 4.2],
  ["Chinese", "人工智能正在改变世界，我们需要更多的计算能力。", 1.1, 1.9],
  ["JSON", '{"title":"Concert","date":"2026-07-12","price":800,"tags":["music","open air"]}', 1.6, 2.8],
])("%s prose", (_, text, low, high) => {
  const perToken = text.length / textTokens(text);
  expect(perToken).toBeGreaterThan(low);
  expect(perToken).toBeLessThan(high);
});

test("nothing is nothing, and more text is never fewer tokens", () => {
  expect(textTokens("")).toBe(0);
  const text = "Лето 2026: 12 concerts, «Джаз на крыше» & more\n\n🎷".repeat(5);
  let last = 0;
  for (let end = 0; end <= text.length; end += 7) {
    const count = textTokens(text.slice(0, end));
    expect(count).toBeGreaterThanOrEqual(last - 1);
    last = count;
  }
});

test("a text cut to some tokens has at most that many and is its beginning", () => {
  const text = "Одна длинная строка из многих слов, и ещё немного English words 123.";
  for (let limit = 0; limit < 30; limit++) {
    const cut = firstTokens(text, limit);
    expect(text.startsWith(cut)).toBe(true);
    expect(textTokens(cut)).toBeLessThanOrEqual(limit);
  }
  expect(firstTokens(text, 1_000)).toBe(text);
});

test("a request counts its turns, instruction, tools, schema and images", () => {
  const contents = [{ parts: [{ text: "Describe this" }] }];
  const base = promptTokens({ contents }).total;
  expect(promptTokens({ contents, systemInstruction: { parts: [{ text: "Be brief" }] } }).total)
    .toBeGreaterThan(base);
  expect(promptTokens({ contents, tools: [{ functionDeclarations: [{ name: "find" }] }] }).total)
    .toBeGreaterThan(base);
  expect(promptTokens({ contents, generationConfig: { responseSchema: { type: "STRING" } } }).total)
    .toBeGreaterThan(base);
  const withImage = promptTokens({
    contents: [{
      parts: [{ text: "Describe this" }, { inlineData: { mimeType: "image/png", data: "AAAA" } }],
    }],
  });
  expect(withImage).toMatchObject({ text: base, image: 258, total: base + 258 });
});
