import { describe, expect, test } from "vitest";
import { readSigningKeys } from "../../../shared/tokens/signing_keys.ts";

const K = "A".repeat(43);

describe("the signing keys", () => {
  test("are read in their order, octets and all", () => {
    const keys = readSigningKeys(
      JSON.stringify([{ kid: "b", k: "_-8" + "A".repeat(40), kty: "oct" }, { kid: "a", k: K }]),
    );
    expect(keys.map(({ kid, key }) => [kid, key.byteLength, key[0]])).toEqual([["b", 32, 255], ["a", 32, 0]]);
  });

  test("are none where nothing is set", () => {
    expect(readSigningKeys(undefined)).toEqual([]);
    expect(readSigningKeys("")).toEqual([]);
  });

  test.each([
    ["no JSON", "hunter2"],
    ["no array", `{"kid":"a","k":"${K}"}`],
    ["a short key", '[{"kid":"a","k":"c2hvcnQ"}]'],
    ["no kid", `[{"k":"${K}"}]`],
    ["the same kid twice", `[{"kid":"a","k":"${K}"},{"kid":"a","k":"${K}"}]`],
    ["another alphabet", `[{"kid":"a","k":"${"+/".repeat(22)}"}]`],
  ])("are refused, and not repeated: %s", (_, text) => {
    expect(() => readSigningKeys(text)).toThrow(
      expect.objectContaining({
        code: "gateway_misconfigured",
        detail: expect.not.stringContaining(text),
      }),
    );
  });
});
