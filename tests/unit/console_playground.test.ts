/** What the playground asks, out of what was typed. */
import { expect, test } from "vitest";
import { bodyOf, jsonOf } from "../../console/src/parts/playground_draft.ts";

const DRAFT = {
  targets: [],
  count: 1,
  system: " ",
  prompt: "Hello",
  generation: { temperature: "", top_p: "", max_output_tokens: "", seed: "" },
  schema: "",
  tools: "",
};

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
