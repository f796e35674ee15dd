import { describe, expect, test } from "vitest";
import type { Allowance, Lane, UsageFigures } from "../../shared/admin/answers.ts";
import { turnsOf } from "../../console/src/parts/conversation.ts";
import { costIn, type CostWords } from "../../console/src/parts/cost.ts";
import { byFullness, isIdle } from "../../console/src/parts/lane_order.ts";
import { exported, isByHour, linesOfAnswer, linesOfStages } from "../../console/src/parts/usage_lines.ts";

const used = (figures: Partial<UsageFigures>): UsageFigures => ({
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
  paid_usd: 0,
  free_usd: 0,
  paid_unknown: false,
  free_unknown: false,
  ...figures,
});
const words: CostWords = {
  dollars: (usd) => `$${usd}`,
  unknown: "unknown",
  atLeast: (cost) => `at least ${cost}`,
  would: (cost) => `would have cost ${cost}`,
  wouldUnknown: "would have cost: unknown",
};

describe("what calls cost", () => {
  test.each([
    [{ paid_usd: 2.55 }, "$2.55"],
    [{}, "$0"],
    [{ free_usd: 2.55 }, "$0, would have cost $2.55"],
    [{ paid_usd: 1, free_usd: 2.55 }, "$1, would have cost $2.55"],
    // Never as nothing.
    [{ paid_unknown: true }, "unknown"],
    [{ paid_unknown: true, paid_usd: 2 }, "at least $2"],
    [{ free_unknown: true }, "$0, would have cost: unknown"],
    [{ free_unknown: true, free_usd: 2 }, "$0, would have cost at least $2"],
  ])("%j is shown as %s", (cost, shown) => {
    expect(costIn(used(cost), words)).toBe(shown);
  });

  test("what has no known price has no figure in a file", () => {
    const { lines: [line] } = linesOfAnswer(
      {
        rows: [{ ...used({ paid_unknown: true, dispatched: 2, latency_ms: 300 }), model: "m" }],
        others: null,
        totals: used({}),
      },
      ({ model }) => model!,
      sums,
    );
    expect(exported("model", line!)).toMatchObject({
      model: "m",
      cost_usd: null,
      cost_has_unknown: "true",
      would_have_cost_usd: 0,
      mean_latency_ms: 150,
    });
  });
});

const sums = { others: "others", sum: "Σ" };

describe("the lines of usage", () => {
  test("are those of the answer, then all others, and the sum", () => {
    const { lines, total } = linesOfAnswer(
      {
        rows: [{ ...used({ requests: 5, output_tokens: 2, thoughts_tokens: 3 }), consumer: "bot" }],
        others: used({ requests: 4 }),
        totals: used({ requests: 9 }),
      },
      ({ consumer }) => consumer!,
      sums,
    );
    expect(lines.map(({ name, requests }) => [name, requests])).toEqual([["bot", 5], ["others", 4]]);
    expect(lines[0]!.tokens_out).toBe(5);
    expect([total.name, total.requests]).toEqual(["Σ", 9]);
  });

  test("of stages are the ten largest with all models together, and the others in one", () => {
    const stages = Array.from({ length: 12 }, (_, n) => [
      { ...used({ requests: n, paid_usd: 0.5 }), stage: `S${n}`, model: "m" },
      {
        ...used({ requests: 0, refused: 100, paid_unknown: n === 11 }),
        stage: `S${n}`,
        model: `stage:S${n}`,
      },
    ]).flat();
    const { lines, total } = linesOfStages(stages, sums);
    expect(lines.map(({ name }) => name)).toEqual([
      ...Array.from({ length: 10 }, (_, n) => `S${11 - n}`),
      "others",
    ]);
    expect(lines[0]).toMatchObject({ requests: 11, refused: 100, paid_usd: 0.5, paid_unknown: true });
    expect(lines.at(-1)).toMatchObject({ requests: 1, refused: 200, paid_usd: 1, paid_unknown: false });
    expect(total).toMatchObject({ requests: 66, refused: 1_200, paid_usd: 6, paid_unknown: true });
  });

  test("are by the hour for a day of Google's and for any two days, and else by the day", () => {
    const until = "2026-11-20T12:00:00Z";
    expect(isByHour({ days: 1 })).toBe(true);
    expect(isByHour({ days: 7 })).toBe(false);
    expect(isByHour({ since: "2026-11-18T12:00:00Z", until })).toBe(true);
    expect(isByHour({ since: "2026-11-18T11:59:00Z", until })).toBe(false);
    expect(isByHour({ since: "2026-11-20T11:00:00Z" })).toBe(false);
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
