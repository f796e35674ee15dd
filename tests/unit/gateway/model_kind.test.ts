import { describe, expect, test } from "vitest";
import { requireKind } from "../../../shared/gateway/model_kind.ts";

describe("a model asked for what it cannot do at all", () => {
  test.each<[string[], "answers" | "embeddings", string]>([
    [["gemma-4-31b-it"], "embeddings", "gemma-4-31b-it does not embed"],
    [["gemini-embedding-001"], "answers", "gemini-embedding-001 only embeds"],
    [["gemma-4-31b-it", "text-embedding-004"], "answers", "text-embedding-004"],
  ])("%j for %s is refused by name", (models, kind, says) => {
    expect(() => requireKind(models, kind)).toThrow(says);
  });

  test("any other is not", () => {
    expect(() => requireKind(["gemma-4-31b-it", "gemini-3.5-flash"], "answers")).not.toThrow();
    expect(() => requireKind(["gemini-embedding-001"], "embeddings")).not.toThrow();
  });
});
