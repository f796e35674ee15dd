import { expect, test } from "vitest";
import { bytesOf, jsonbBytes } from "../../../shared/runtime/byte_size.ts";

test("a text is measured in UTF-8", () => {
  expect(["a", "ы", "€", "😀"].map(bytesOf)).toEqual([1, 2, 3, 4]);
});

test.each([
  ["{}", {}],
  [`{"a": [1, 2, {"b": null}], "c": "d, e: f"}`, { a: [1, 2, { b: null }], c: "d, e: f" }],
  [`["ы", [], ""]`, ["ы", [], ""]],
  ["null", undefined],
])("JSON as PostgreSQL writes it: %s", (written, value) => {
  expect(jsonbBytes(value)).toBe(bytesOf(written));
});
