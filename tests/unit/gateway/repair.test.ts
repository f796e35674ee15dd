/** An answer that breaks its schema, sent back to the model once. */
import { describe, expect, test } from "vitest";
import type { ProviderAnswer } from "../../../shared/providers/provider.ts";
import {
  ANSWER,
  grant,
  grantTo,
  refusal,
  REQUEST,
  scriptedGateway,
  type ScriptedGatewayOptions,
} from "./gateway_fixture.ts";

const SCHEMA = { type: "object", properties: { title: { type: "string" } }, required: ["title"] };
const prompt = {
  ...REQUEST.prompt,
  generationConfig: { responseMimeType: "application/json", responseJsonSchema: SCHEMA },
};
const saying = (text: string): ProviderAnswer => ({
  ...ANSWER,
  answer: { candidates: [{ content: { role: "model", parts: [{ text }] }, finishReason: "STOP" }] },
});

/** What the model says at each attempt. */
function asking(texts: string[], options: Partial<ScriptedGatewayOptions> = {}, schemaRepair = true) {
  const set = scriptedGateway({
    reservations: [grant(), grantTo("b", 2), grantTo("c", 3)],
    generate: (_, attempt) => Promise.resolve(saying(texts[attempt - 1] ?? "{}")),
    ...options,
  });
  return { set, result: set.invoke({ prompt, schemaRepair }) };
}

describe("with a repair asked for", () => {
  test("the model gets its answer back with what is wrong, as an attempt with a reservation of its own", async () => {
    const { set, result } = asking(['{"name": "Концерт"}', '{"title": "Концерт"}']);
    expect(await result).toMatchObject({ verdict: { ok: true }, attempts: 2 });
    expect(set.calls[1]!.prompt.contents.slice(0, -1)).toEqual([
      ...prompt.contents,
      { role: "model", parts: [{ text: '{"name": "Концерт"}' }] },
    ]);
    const [instruction] = set.calls[1]!.prompt.contents.at(-1)!.parts!;
    expect(instruction?.text).toContain("title");
    expect(set.calls[1]!.prompt.generationConfig).toEqual(prompt.generationConfig);
    expect(set.reserved[1]!.attempt).toBe(2);
    expect(set.reserved[1]!.tokens).toBeGreaterThan(set.reserved[0]!.tokens);
    expect(set.settlements).toMatchObject([
      { attempt: 1, outcome: "failed", final: false, errorCode: "schema_mismatch", inputTokens: 9 },
      { attempt: 2, outcome: "succeeded", final: true },
    ]);
  });

  test("one that is no better is reported as it is; the model is not asked again and again", async () => {
    const { set, result } = asking(["{}", "{}", "{}"]);
    expect(await result).toMatchObject({ verdict: { ok: false, code: "schema_mismatch" } });
    expect(set.calls).toHaveLength(2);
    expect(set.settlements.at(-1)).toMatchObject({ outcome: "failed", final: true });
  });

  test("without a place for a second attempt the first answer is returned, and the request closed", async () => {
    const { set, result } = asking(["{}"], { reservations: [grant(), refusal()] });
    expect(await result).toMatchObject({ verdict: { code: "schema_mismatch" }, attempts: 1 });
    expect(set.settlements.at(-1)).toMatchObject({ attempt: 1, final: true });
  });

  test("JSON that was cut off is not repaired: it would be cut off again", async () => {
    const { set, result } = asking([], {
      generate: () => Promise.resolve({ ...saying('{"title": "Кон'), finishReason: "MAX_TOKENS" }),
    });
    expect(await result).toMatchObject({ verdict: { code: "answer_truncated" }, attempts: 1 });
    expect(set.calls).toHaveLength(1);
  });
});

test("nobody asked for a repair: the answer is reported as it is", async () => {
  const { set, result } = asking(["{}"], {}, false);
  expect(await result).toMatchObject({
    verdict: { code: "schema_mismatch", reason: expect.stringContaining("title") },
  });
  expect(set.calls).toHaveLength(1);
  expect(set.settlements).toMatchObject([{ outcome: "failed", final: true, errorCode: "schema_mismatch" }]);
});
