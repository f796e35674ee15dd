/** JSON that was asked for, checked. */
import { describe, expect, test } from "vitest";
import type { Answer, Part, Prompt } from "../../../shared/contract/content.ts";
import { checkJson, jsonRequirement } from "../../../shared/gateway/answers/answer_check.ts";
import type { Served } from "../../../shared/gateway/tasks/task.ts";
import { ANSWER } from "./gateway_fixture.ts";

const served = (parts: Part[], finishReason = "STOP"): Served<Answer> => ({
  value: { candidates: [{ content: { role: "model", parts }, finishReason }] },
  verdict: { ok: true },
  finishReason,
  usage: ANSWER.usage!,
});
const said = (text: string, finishReason?: string) => served([{ text }], finishReason);
const asking = (generationConfig: Record<string, unknown>): Prompt => ({ contents: [], generationConfig });

const EVENT = {
  type: "object",
  properties: { title: { type: "string" }, price: { type: "integer", minimum: 0 } },
  required: ["title"],
  additionalProperties: false,
};
const wish = jsonRequirement(asking({ responseJsonSchema: EVENT }));
const verdictOn = (answer: Served<Answer>, of = wish) => checkJson(of, answer).verdict;

describe("what was wished for", () => {
  test("nothing, JSON, or JSON of a schema", () => {
    expect(jsonRequirement({ contents: [] })).toBeNull();
    expect(jsonRequirement(asking({ temperature: 0 }))).toBeNull();
    expect(jsonRequirement(asking({ responseMimeType: "application/json" }))).toEqual({ schema: null });
    expect(jsonRequirement(asking({ responseSchema: { type: "STRING" } }))?.schema).toMatchObject({
      type: ["string"],
    });
  });

  test("without a wish any text will do", () => {
    expect(verdictOn(said("no JSON at all"), null)).toEqual({ ok: true });
  });
});

describe("an answer", () => {
  test("that matches is left as it is", () => {
    const answer = said('{"title": "Концерт", "price": 600}');
    expect(checkJson(wish, answer)).toBe(answer);
  });

  test.each([
    ["a field that is missing", '{"price": 600}', "title"],
    ["a wrong type, named by its place", '{"title": "Концерт", "price": "600 ₽"}', "#/price"],
    ["a field that is not allowed", '{"title": "x", "where": "y"}', "where"],
    ["another kind of value", '"Концерт"', "object"],
  ])("with %s breaks the schema", (_, text, reason) => {
    expect(verdictOn(said(text))).toEqual({
      ok: false,
      code: "schema_mismatch",
      reason: expect.stringContaining(reason),
    });
  });

  test("that is no JSON, in words or in a fence, breaks it too", () => {
    for (const text of ["Концерт в семь", "```json\n{}\n```", '{"title": ']) {
      expect(verdictOn(said(text))).toMatchObject({
        code: "schema_mismatch",
        reason: expect.stringContaining("JSON"),
      });
    }
  });

  test("that was cut off says so, unless what came is whole", () => {
    expect(verdictOn(said('{"title": "Конц', "MAX_TOKENS"))).toEqual({
      ok: false,
      code: "answer_truncated",
      reason: "MAX_TOKENS",
    });
    expect(verdictOn(said('{"title": "Концерт"}', "MAX_TOKENS"))).toEqual({ ok: true });
  });

  test("is its text without the thoughts", () => {
    expect(
      verdictOn(served([{ text: "Let me think", thought: true }, { text: '{"title":' }, { text: '"x"}' }])),
    )
      .toEqual({ ok: true });
  });

  test("that calls a tool instead is left alone, and so is one that is none already", () => {
    expect(verdictOn(served([{ functionCall: { name: "find_events" } }]))).toEqual({ ok: true });
    const blocked = {
      ...said("nothing"),
      verdict: { ok: false, code: "content_blocked", reason: "SAFETY" },
    } as const;
    expect(checkJson(wish, blocked)).toBe(blocked);
  });
});

describe("schemas as Google writes them", () => {
  test("types in capitals, and what may be null", () => {
    const schema = {
      type: "OBJECT",
      properties: { price: { type: "INTEGER", nullable: true } },
      required: ["price"],
    };
    const of = jsonRequirement(asking({ responseSchema: schema }));
    expect(verdictOn(said('{"price": null}'), of)).toEqual({ ok: true });
    expect(verdictOn(said('{"price": "free"}'), of)).toMatchObject({ code: "schema_mismatch" });
  });

  test("one that no answer can be checked against is refused before a model is asked", () => {
    expect(() => jsonRequirement(asking({ responseJsonSchema: { $ref: "#/$defs/nowhere" } }))).toThrow(
      expect.objectContaining({
        code: "invalid_request",
        details: [{
          field: "generationConfig.responseJsonSchema.$ref",
          problem: expect.stringContaining("leads to no schema"),
        }],
      }),
    );
  });

  test("one that takes too many steps ends in an error of its own, not in a hang", () => {
    const of = jsonRequirement(asking({ responseJsonSchema: { type: "array", items: { type: "integer" } } }));
    const answer = said(JSON.stringify(Array(100).fill(1)));
    expect(checkJson(of, answer, 100).verdict).toMatchObject({ ok: false, code: "schema_too_complex" });
    expect(checkJson(of, answer, 101).verdict).toEqual({ ok: true });
  });
});
