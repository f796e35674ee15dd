import { describe, expect, test } from "vitest";
import { MAX_JSON_DEPTH, parseJson } from "../../../shared/http/json.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);

describe("parseJson", () => {
  test("a byte order mark is no fault", () => {
    expect(parseJson(bytes('\ufeff{"a":1}'))).toEqual({ a: 1 });
  });

  test.each([
    ["nothing", new Uint8Array(), "empty"],
    ["half an object", bytes('{"a":'), "not valid JSON"],
    ["a form", bytes("model=x&prompt=y"), "not valid JSON"],
    ["bytes that are no UTF-8", Uint8Array.of(0x22, 0xff, 0x22), "UTF-8"],
    ["more levels than Google takes", bytes(nested(MAX_JSON_DEPTH + 1)), "deeper"],
    ["so many levels that a stack would overflow", bytes(nested(500_000)), "deeper"],
  ])("%s is refused", (_, body, says) => {
    expect(() => parseJson(body)).toThrow(expect.objectContaining({ code: "invalid_json", status: 400 }));
    expect(() => parseJson(body)).toThrow(says);
  });

  test("as many levels as Google takes are fine", () => {
    expect(() => parseJson(bytes(nested(MAX_JSON_DEPTH)))).not.toThrow();
  });
});
