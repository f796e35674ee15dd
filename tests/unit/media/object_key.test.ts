import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { addressableKey, checkedKey, visionKey } from "../../../shared/media/object_key.ts";

const SHA = "ab".repeat(32);

describe("keys", () => {
  test("what was found in a picture has its place", () => {
    expect(visionKey("t-1", SHA, "models/gemma-4-31b-it", "2")).toBe(
      `vision/t-1/${SHA}_models_gemma-4-31b-it_v2.json`,
    );
  });

  test("whatever the parts are, a key is made that every store takes, or none", () => {
    const part = fc.oneof(
      fc.string({ unit: "binary-ascii" }),
      fc.string({ unit: fc.constantFrom(...'aZ9-_./:*?"<>|!\\ ') }),
    );
    fc.assert(fc.property(part, part, (tenant, other) => {
      let key: string;
      try {
        key = visionKey(tenant, SHA, other, "1");
      } catch (error) {
        expect((error as GatewayError).code).toBe("storage_key_invalid");
        return;
      }
      expect(checkedKey(key)).toBe(key);
      expect(key).toMatch(/^[A-Za-z0-9._/-]+$/);
      expect(key.split("/")).toHaveLength(3);
    }));
  });

  test.each([SHA.toUpperCase(), SHA.slice(1), `${SHA}0`, "", "../../x"])("%s is no SHA-256", (sha256) => {
    expect(() => visionKey("default", sha256, "m", "1")).toThrow("SHA-256");
  });

  test.each([
    "",
    "a:b",
    "a*b",
    "a?b",
    'a"b',
    "a<b",
    "a>b",
    "a|b",
    "a!b",
    "a\\b",
    "a\u0000b",
    "a\nb",
    "\ud800",
    "/a",
    "a/",
  ])(
    "%j is refused",
    (key) => expect(() => checkedKey(key)).toThrow("The storage key"),
  );

  test.each(["a//b", "a/./b", "../a", "..", "x".repeat(1_025), "Ж".repeat(513)])("%j is refused", (key) => {
    expect(() => checkedKey(key)).toThrow("The storage key");
  });

  test("what others chose can be named, unless a URL would resolve it", () => {
    expect(addressableKey("chats/1/a:b?c!.txt")).toBe("chats/1/a:b?c!.txt");
    expect(addressableKey("a//b/")).toBe("a//b/");
    expect(() => addressableKey("a/../b")).toThrow("resolve");
    expect(checkedKey("x".repeat(1_024))).toHaveLength(1_024);
  });
});
