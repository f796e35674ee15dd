/** What is found in a picture: read from a model's answer, within bounds, with the reason where it does not hold. */
import { describe, expect, test } from "vitest";
import {
  checkedResult,
  MAX_LABELS,
  MAX_OCR_CHARS,
  MAX_RAW_CHARS,
  parsedResult,
  textResult,
  VISION_JSON_SCHEMA,
  visionResult,
} from "../../../shared/vision/result.ts";
import { ANALYSIS_PROMPT } from "../../../shared/vision/prompt.ts";
import { checkValue } from "../../../shared/schema/check.ts";
import { compileSchema } from "../../../shared/schema/compile.ts";

const found = {
  description: " A stage at night. ",
  labels: ["Concert", "concert", "ночь"],
  objects: [{ name: "guitar", count: 2 }],
  ocr_text: "Афиша\n12 мая",
  is_meme: false,
  nsfw: false,
  scene: "stage",
  confidence: 0.9,
};

const faultOf = (change: Record<string, unknown>) => {
  const parsed = parsedResult(JSON.stringify({ ...found, ...change }));
  return parsed.ok ? null : parsed.fault;
};

describe("a model's answer", () => {
  test("is read, trimmed, its labels in small letters and each once", () => {
    const parsed = parsedResult(JSON.stringify({ ...found, more: "than asked" }));
    expect(parsed).toEqual({
      ok: true,
      result: { ...found, description: "A stage at night.", labels: ["concert", "ночь"] },
    });
  });

  test("may stand in a fence", () => {
    expect(parsedResult("```json\n" + JSON.stringify(found) + "\n```").ok).toBe(true);
  });

  test.each([
    ["nothing", "  ", "empty"],
    ["half of it", JSON.stringify(found).slice(0, 80), "not JSON"],
    ["a list", "[]", "no JSON object"],
    ["words before it", `Here: ${JSON.stringify(found)}`, "not JSON"],
    ["a flood", `"${"x".repeat(MAX_RAW_CHARS)}"`, "longer than"],
  ])("that is %s does not hold, and the reason is told", (_, answer, fault) => {
    const parsed = parsedResult(answer);
    expect(parsed).toMatchObject({ ok: false });
    expect(parsed.ok ? "" : parsed.fault).toContain(fault);
  });

  test.each([
    ["confidence", 1.1],
    ["confidence", "high"],
    ["labels", Array.from({ length: MAX_LABELS + 1 }, (_, n) => `label ${n}`)],
    ["labels", [""]],
    ["objects", [{ name: "guitar", count: 0 }]],
    ["objects", [{ name: "guitar" }]],
    ["ocr_text", "я".repeat(MAX_OCR_CHARS + 1)],
    ["nsfw", "no"],
    ["description", undefined],
  ])("%s out of its bounds is named, and its contents are not repeated", (field, value) => {
    const fault = faultOf({ [field]: value });
    expect(fault).toContain(field);
    expect(fault!.length).toBeLessThanOrEqual(500);
  });
});

test("the JSON schema for models asks for each field of the result, and what fits it holds", () => {
  const fields = Object.keys(visionResult.shape);
  expect(Object.keys(VISION_JSON_SCHEMA.properties)).toEqual(fields);
  expect([...VISION_JSON_SCHEMA.required]).toEqual(fields);
  for (const field of fields) expect(ANALYSIS_PROMPT).toContain(`"${field}"`);
  const schema = compileSchema(VISION_JSON_SCHEMA, "schema");
  expect(checkValue(schema, found)).toMatchObject({ outcome: "fits" });
  expect(checkValue(schema, { ...found, is_meme: null })).toMatchObject({ outcome: "broken" });
});

test("text that was read is a result of its own, cut to its bound", () => {
  const result = textResult(` ${"я".repeat(MAX_OCR_CHARS + 5)}`, 1.2);
  expect(result.ocr_text).toHaveLength(MAX_OCR_CHARS);
  expect(checkedResult(result)).toEqual({ ok: true, result });
});
