import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type CheckedLine,
  checkedLines,
  MAX_ERRORS,
  MAX_LINES,
} from "../../../shared/batches/batch_lines.ts";
import { geminiBatchEndpoint, geminiLines } from "../../../shared/batches/gemini_lines.ts";
import { openaiLines } from "../../../shared/batches/openai_lines.ts";
import type { BatchError } from "../../../shared/database/jobs/batches.ts";
import { geminiRoute } from "../../../shared/endpoints/gemini/route.ts";

const URL = "/v1/embeddings";
const line = (customId: string, more: Record<string, unknown> = {}) =>
  JSON.stringify({
    custom_id: customId,
    method: "POST",
    url: URL,
    body: { model: "m", input: customId },
    ...more,
  });
const bytesOf = (text: string) => new TextEncoder().encode(text.toWellFormed());
async function checked(
  file: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  check = openaiLines(URL),
): Promise<{ lines: CheckedLine[]; errors: BatchError[] }> {
  const lines: CheckedLine[] = [];
  const errors: BatchError[] = [];
  const pieces = async function* () {
    yield* file;
  };
  for await (const one of checkedLines(pieces(), check)) "code" in one ? errors.push(one) : lines.push(one);
  return { lines, errors };
}
const linesOf = (text: string) => checked([bytesOf(text)]);
const codes = async (text: string) => (await linesOf(text)).errors.map(({ line, code }) => [line, code]);

describe("the lines of a batch", () => {
  test("are told in their order, empty ones passed over, whatever ends them", async () => {
    const { lines, errors } = await linesOf(`${line("a")}\r\n\n  \n${line("b")}`);
    expect(errors).toEqual([]);
    expect(lines.map(({ customId, line, model }) => [customId, line, model])).toEqual([["a", 1, "m"], [
      "b",
      4,
      "m",
    ]]);
    expect((await linesOf(`${line("a")}\n`)).lines).toHaveLength(1);
  });

  test("are as many as may be, and no more", async () => {
    const many = (count: number) => linesOf(Array.from({ length: count }, (_, n) => line(`${n}`)).join("\n"));
    expect((await many(MAX_LINES)).lines).toHaveLength(MAX_LINES);
    expect((await many(MAX_LINES + 1)).errors).toMatchObject([{
      code: "too_many_lines",
      line: MAX_LINES + 1,
    }]);
  });

  test("are the same in whatever pieces the file comes", async () => {
    const text = [line("a"), "no", line("ä😀"), "", line("b"), line("a")].join("\r\n");
    const whole = await linesOf(text);
    expect([whole.lines.map(({ customId }) => customId), whole.errors.map(({ line }) => line)]).toEqual(
      [["a", "ä😀", "b"], [2, 6]],
    );
    for (const size of [1, 2, 3, 50]) {
      const bytes = bytesOf(text);
      const pieces = Array.from(
        { length: Math.ceil(bytes.length / size) },
        (_, n) => bytes.subarray(n * size, (n + 1) * size),
      );
      expect(await checked(pieces), `of ${size} bytes`).toEqual(whole);
    }
  });

  test("are read one at a time, and one that no job may have is not held", async () => {
    const MEGABYTE = bytesOf("x".repeat(1_000_000));
    const file = function* () {
      yield bytesOf(`${line("a")}\n`);
      for (let n = 0; n < 12; n++) yield MEGABYTE;
      yield bytesOf(`\n${line("b")}`);
    };
    const { lines, errors } = await checked(file());
    expect(lines.map(({ customId, line }) => [customId, line])).toEqual([["a", 1], ["b", 3]]);
    expect(errors).toMatchObject([{ line: 2, code: "line_too_long" }]);
    // Anyone who stops listening stops the reading.
    let read = 0;
    const endless = async function* () {
      for (;; read++) yield bytesOf(`${line(`${read}`)}\n`);
    };
    for await (const _ of checkedLines(endless(), openaiLines(URL))) if (read >= 5) break;
    expect(read).toBe(5);
  });

  test("of what is no text are none, wherever that begins", async () => {
    for (const end of [[0xff], [0xe2, 0x82]]) {
      const { errors } = await checked([bytesOf(`${line("a")}\n`), new Uint8Array(end)]);
      expect(errors).toMatchObject([{ code: "invalid_encoding", line: null }]);
    }
  });

  test("that are wrong are named, a hundred at most", async () => {
    expect(await codes("")).toEqual([[null, "empty_file"]]);
    expect(await codes("[]\nnull\n1")).toEqual([1, 2, 3].map((n) => [n, "invalid_json_line"]));
    expect(await codes(line("x".repeat(513)))).toEqual([[1, "invalid_custom_id"]]);
    expect(await codes(line("a", { custom_id: 7 }))).toEqual([[1, "invalid_custom_id"]]);
    expect(await codes(line("a", { body: [] }))).toEqual([[1, "missing_required_parameter"]]);
    expect(await codes(line("a", { body: { model: "m", stream: true } }))).toEqual([[
      1,
      "unsupported_parameter",
    ]]);
    expect(await codes(line("a", { body: { model: "m", stream: false } }))).toEqual([]);
    expect(await codes(Array(500).fill("no").join("\n"))).toHaveLength(MAX_ERRORS);
  });

  test("hold nothing that the database takes for no text", async () => {
    const body = (text: string) => line("a", { body: { model: "m", input: [{ text }] } });
    for (const bad of ["\0", "\ud800", "x\udfff"]) {
      expect(await codes(body(bad))).toEqual([[1, "invalid_text"]]);
    }
    // Written out, or a whole character in two escapes, it is text like any other.
    expect(await codes(body("\\u0000"))).toEqual([]);
    expect(await codes(body("😀").replace("😀", "\\ud83d\\ude00"))).toEqual([]);
    expect(await codes(line("a", { body: { model: "m", "\0": 1 } }))).toEqual([[1, "invalid_text"]]);
  });

  test("of any text are lines or errors, and nothing is thrown", async () => {
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
    await fc.assert(fc.asyncProperty(fc.array(part, { maxLength: 20 }), async (parts) => {
      const text = parts.join("\n");
      const { lines, errors } = await linesOf(text);
      expect(lines.length + errors.length).toBeGreaterThan(0);
      expect(new Set(lines.map(({ customId }) => customId)).size).toBe(lines.length);
      const count = text.split("\n").length;
      for (const { line } of errors) expect(line === null || line >= 1 && line <= count).toBe(true);
    }));
  });
});

describe("the lines of a batch of Google's", () => {
  const check = geminiLines(geminiBatchEndpoint("stage:a b"));
  const request = { contents: [{ parts: [{ text: "a" }] }] };
  const codesOf = async (...lines: unknown[]) =>
    (await checked([bytesOf(lines.map((line) => JSON.stringify(line)).join("\n"))], check)).errors
      .map(({ line, code }) => [line, code]);

  test("ask the batch's model, and are found by their keys or their metadata", async () => {
    const text = [
      { key: "a", request: { ...request, model: "models/stage:a b" } },
      { request, metadata: { key: "b", n: 1 } },
      { key: "a", request },
    ].map((line) => JSON.stringify(line)).join("\n");
    const path = "/v1beta/models/stage%3Aa%20b:generateContent";
    expect(geminiRoute(path)).toEqual({ kind: "call", model: "stage:a b", method: "generateContent" });
    expect(await checked([bytesOf(text)], check)).toEqual({
      errors: [],
      lines: [
        { customId: "a", model: "stage:a b", path, body: request, line: 1 },
        { customId: null, model: "stage:a b", path, body: request, metadata: { key: "b", n: 1 }, line: 2 },
        { customId: "a", model: "stage:a b", path, body: request, line: 3 },
      ],
    });
  });

  test("that are wrong are named", async () => {
    expect(
      await codesOf(
        { key: 1, request },
        { key: "x".repeat(513), request },
        { key: "a" },
        { request: { ...request, model: "another" } },
        { request, metadata: { key: "\0" } },
      ),
    ).toEqual([
      [1, "invalid_key"],
      [2, "invalid_key"],
      [3, "missing_required_parameter"],
      [4, "mismatched_model"],
      [5, "invalid_text"],
    ]);
  });
});
