import { describe, expect, test } from "vitest";
import type { Allowance, Lane, ModelPrice, UsageFigures } from "../../shared/admin/answers.ts";
import { turnsOf } from "../../console/src/parts/conversation.ts";
import { costOf, sumOfCosts } from "../../console/src/parts/cost.ts";
import { byFullness, isIdle } from "../../console/src/parts/lane_order.ts";

const used = (tokens: Partial<UsageFigures>): UsageFigures => ({
  requests: 1,
  succeeded: 1,
  failed: 0,
  cancelled: 0,
  expired: 0,
  refused: 0,
  input_tokens: 0,
  output_tokens: 0,
  thoughts_tokens: 0,
  cached_tokens: 0,
  dispatched: 1,
  wait_ms: 0,
  latency_ms: 0,
  ...tokens,
});
const price = (prices: Partial<ModelPrice>): ModelPrice => ({
  model: "m",
  input_usd: 1,
  cached_usd: 0.1,
  output_usd: 10,
  is_free: false,
  as_of: "2026-10-08",
  ...prices,
});

describe("what calls cost", () => {
  const million = used({
    input_tokens: 1_000_000,
    cached_tokens: 500_000,
    output_tokens: 100_000,
    thoughts_tokens: 100_000,
  });

  test("input, what a cache had of it, the answer and the thinking", () => {
    expect(costOf(million, price({}))).toEqual({ paid: 2.55, free: 0, isPartial: false });
    expect(costOf(million, price({ cached_usd: null })).paid).toBe(3);
  });

  test("a free tier costs nothing, and says what it would have cost", () => {
    expect(costOf(million, price({ is_free: true }))).toEqual({ paid: 0, free: 2.55, isPartial: false });
  });

  test("without a known price it is unknown, never nothing", () => {
    for (const unknown of [undefined, price({ input_usd: null }), price({ output_usd: null })]) {
      expect(costOf(million, unknown).isPartial).toBe(true);
    }
    expect(costOf(used({}), undefined).isPartial).toBe(false);
    const sum = sumOfCosts([costOf(million, price({})), costOf(million, undefined)]);
    expect(sum).toEqual({ paid: 2.55, free: 0, isPartial: true });
  });
});

test("lanes: closed ones and the tightest first, those that nobody uses are idle", () => {
  const of = (limit: number | null, taken: number): Allowance => ({ limit, used: taken, remaining: null });
  const lane = (model: string, state: Lane["state"], taken: number) =>
    ({
      model,
      state,
      requests: of(10, taken),
      tokens: of(null, 0),
      requests_day: of(100, taken),
      queued: 0,
      running: 0,
    }) as Lane;
  const lanes = [lane("idle", "open", 0), lane("half", "open", 5), lane("closed", "day_used_up", 1)];
  expect(lanes.toSorted(byFullness).map(({ model }) => model)).toEqual(["closed", "half", "idle"]);
  expect(lanes.filter(isIdle).map(({ model }) => model)).toEqual(["idle"]);
});

test("a captured conversation is read out of Gemini's shapes, and nothing out of others", () => {
  const prompt = {
    systemInstruction: { parts: [{ text: "Be brief." }] },
    contents: [{ role: "user", parts: [{ text: "Look: " }, { inlineData: {} }] }],
  };
  expect(turnsOf(prompt, "user")).toEqual([
    { role: "system", text: "Be brief." },
    { role: "user", text: "Look: [inlineData]" },
  ]);
  expect(turnsOf({ candidates: [{ content: { parts: [{ text: "<b>" }] } }] }, "model")).toEqual([
    { role: "model", text: "<b>" },
  ]);
  for (const odd of [null, 7, [], {}, { contents: "x" }, { candidates: [null] }]) {
    expect(turnsOf(odd, "user")).toEqual([]);
  }
});
