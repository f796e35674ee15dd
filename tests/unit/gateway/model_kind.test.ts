import { describe, expect, test } from "vitest";
import { requireKind } from "../../../shared/gateway/model_kind.ts";

const asked = (models: string[]) => ({ models, stage: null });

describe("a model asked for what it cannot do at all", () => {
  test.each<[string[], "answers" | "embeddings", string]>([
    [["gemma-4-31b-it"], "embeddings", "gemma-4-31b-it does not embed"],
    [["gemini-embedding-001"], "answers", "gemini-embedding-001 only embeds"],
    [["gemma-4-31b-it", "text-embedding-004"], "answers", "text-embedding-004"],
  ])("%j for %s is refused by name", (models, kind, says) => {
    expect(() => requireKind(asked(models), kind)).toThrow(says);
  });

  test.each(["answers", "embeddings"] as const)("a stage that makes no text, for %s, is refused", (kind) => {
    const stage = {
      stageType: "SONG",
      produces: "song",
      source: "configuration",
      providerKind: "suno",
    } as const;
    expect(() => requireKind({ models: ["stage:SONG"], stage }, kind)).toThrow(expect.objectContaining({
      code: "invalid_request",
      publicMessage: expect.stringContaining("Stage SONG makes no text but a song, as a job"),
    }));
    expect(() => requireKind({ models: ["stage:SONG"], stage: { ...stage, produces: "text" } }, "answers"))
      .not.toThrow();
  });

  test("any other is not", () => {
    expect(() => requireKind(asked(["gemma-4-31b-it", "gemini-3.5-flash"]), "answers")).not.toThrow();
    expect(() => requireKind(asked(["gemini-embedding-001"]), "embeddings")).not.toThrow();
  });
});
