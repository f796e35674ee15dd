import { describe, expect, test } from "vitest";
import { formatScope, parseScope } from "../../../shared/tokens/scope.ts";

describe("a scope", () => {
  test("is written and read back", () => {
    const scope = { models: ["a", "models/b:c"], class: "batch", requests: 5, tokens: 7 } as const;
    const text = formatScope({ ...scope, models: [...scope.models] });
    expect(text).toBe("model:a model:models/b:c class:batch requests:5 tokens:7");
    expect(parseScope(text)).toEqual(scope);
  });

  test("names what it is for, where that is not models alone", () => {
    const all = { models: null, class: "batch", requests: null, tokens: null } as const;
    expect(formatScope({ ...all, scopes: ["llm"] })).toBe("class:batch");
    expect(formatScope({ ...all, scopes: ["llm", "media"] })).toBe("llm media class:batch");
    expect(parseScope("media class:batch")).toEqual({ scopes: ["media"], class: "batch" });
    expect(() => parseScope("media media")).toThrow(TypeError);
  });

  test("that leaves something out says nothing of it", () => {
    expect(parseScope("")).toEqual({});
    expect(formatScope({ models: null, class: "interactive", requests: null, tokens: null })).toBe(
      "class:interactive",
    );
  });

  test.each([
    "admin",
    "model:",
    "class:",
    "class:urgent",
    "requests:0",
    "requests:-1",
    "requests:1e3",
    "tokens:1.5",
    "tokens:99999999999",
    "class:batch class:batch",
    ":",
    "__proto__:1",
  ])(
    "is refused: %s",
    (text) => expect(() => parseScope(text)).toThrow(TypeError),
  );
});
