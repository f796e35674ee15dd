import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkedLines, MAX_ERRORS, MAX_LINES } from "../../../shared/batches/batch_lines.ts";

const URL = "/v1/embeddings";
const line = (customId: string, more: Record<string, unknown> = {}) =>
  JSON.stringify({
    custom_id: customId,
    method: "POST",
    url: URL,
    body: { model: "m", input: customId },
    ...more,
  });
const codes = (text: string) => checkedLines(text, URL).errors.map(({ line, code }) => [line, code]);

describe("the lines of a batch", () => {
  test("are told in their order, empty ones passed over, whatever ends them", () => {
    const { lines, errors } = checkedLines(`${line("a")}\r\n\n  \n${line("b")}`, URL);
    expect(errors).toEqual([]);
    expect(lines.map(({ customId, line, model }) => [customId, line, model])).toEqual([["a", 1, "m"], [
      "b",
      4,
      "m",
    ]]);
    expect(checkedLines(`${line("a")}\n`, URL).lines).toHaveLength(1);
  });

  test("are as many as may be, and no more", () => {
    const many = (count: number) =>
      checkedLines(Array.from({ length: count }, (_, n) => line(`${n}`)).join("\n"), URL);
    expect(many(MAX_LINES).lines).toHaveLength(MAX_LINES);
    expect(many(MAX_LINES + 1)).toMatchObject({ lines: [], errors: [{ code: "too_many_lines" }] });
  });

  test("that are wrong are named, a hundred at most", () => {
    expect(codes("")).toEqual([[null, "empty_file"]]);
    expect(codes("[]\nnull\n1")).toEqual([1, 2, 3].map((n) => [n, "invalid_json_line"]));
    expect(codes(line("x".repeat(513)))).toEqual([[1, "invalid_custom_id"]]);
    expect(codes(line("a", { custom_id: 7 }))).toEqual([[1, "invalid_custom_id"]]);
    expect(codes(line("a", { body: [] }))).toEqual([[1, "missing_required_parameter"]]);
    expect(codes(line("a", { body: { model: "m", stream: true } }))).toEqual([[1, "unsupported_parameter"]]);
    expect(codes(line("a", { body: { model: "m", stream: false } }))).toEqual([]);
    expect(codes(Array(500).fill("no").join("\n"))).toHaveLength(MAX_ERRORS);
  });

  test("hold nothing that the database takes for no text", () => {
    const body = (text: string) => line("a", { body: { model: "m", input: [{ text }] } });
    for (const bad of ["\0", "\ud800", "x\udfff"]) expect(codes(body(bad))).toEqual([[1, "invalid_text"]]);
    // Written out, or a whole character in two escapes, it is text like any other.
    expect(codes(body("\\u0000"))).toEqual([]);
    expect(codes(body("😀").replace("😀", "\\ud83d\\ude00"))).toEqual([]);
    expect(codes(line("a", { body: { model: "m", "\0": 1 } }))).toEqual([[1, "invalid_text"]]);
  });

  test("of any text are lines or errors, and nothing is thrown", () => {
    const part = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.json(),
      fc.record({
        custom_id: fc.constantFrom("a", "b", "c"),
        method: fc.constant("POST"),
        url: fc.constant(URL),
        body: fc.dictionary(fc.constantFrom("model", "stream"), fc.jsonValue()),
      })
        .map((one) => JSON.stringify(one)),
    );
    fc.assert(fc.property(fc.array(part, { maxLength: 20 }), (parts) => {
      const text = parts.join("\n");
      const { lines, errors } = checkedLines(text, URL);
      expect(lines.length + errors.length).toBeGreaterThan(0);
      expect(new Set(lines.map(({ customId }) => customId)).size).toBe(lines.length);
      const count = text.split("\n").length;
      for (const { line } of errors) expect(line === null || line >= 1 && line <= count).toBe(true);
    }));
  });
});
