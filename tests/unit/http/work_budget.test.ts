import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { WorkBudget } from "../../../shared/http/work_budget.ts";

const MIB = 1024 * 1024;
const busy = expect.objectContaining({ code: "gateway_busy", status: 503, retryAfterMs: 2_000 });

describe("the budget of bytes in work", () => {
  test("is refused beyond its end, and given back", () => {
    const budget = new WorkBudget(10 * MIB);
    const first = budget.begin("a");
    first.add(18 * MIB);
    budget.begin("b").add(18 * MIB);
    expect(() => budget.begin("c").add(MIB)).toThrow(busy);
    first.end();
    first.end();
    budget.begin("c").add(MIB);
    expect(budget.taken).toBe(19 * MIB);
  });

  test("no caller gets more than half of it, under however many requests", () => {
    const budget = new WorkBudget(10 * MIB);
    for (let n = 0; n < 20; n++) budget.begin("a").add(MIB);
    expect(() => budget.begin("a").add(MIB)).toThrow(busy);
    budget.begin("b").add(10 * MIB);
  });

  test("large bodies leave room for small ones", () => {
    const budget = new WorkBudget(10 * MIB);
    budget.begin("a").add(18 * MIB);
    budget.begin("b").add(18 * MIB);
    const small = budget.begin("c");
    small.add(200 * 1024);
    expect(() => small.add(100 * 1024)).toThrow(busy);
  });

  test("has room for the largest body that the settings allow, and another", () => {
    for (const largest of [1_024, 10 * MIB, 64 * MIB]) {
      const budget = new WorkBudget(largest);
      budget.begin("a").add(largest + 25_000 * 128);
      budget.begin("b").add(largest + 25_000 * 128);
    }
  });

  test("whatever is begun and ended, in whatever order: it never holds too much, and is empty at the end", () => {
    const step = fc.tuple(
      fc.constantFrom("a", "b", "c"),
      fc.array(fc.integer({ min: 0, max: 12 * MIB }), { maxLength: 4 }),
      fc.boolean(),
    );
    fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const budget = new WorkBudget(10 * MIB);
      const open = steps.flatMap(([caller, pieces, ends]) => {
        const work = budget.begin(caller);
        for (const bytes of pieces) {
          try {
            work.add(bytes);
          } catch {
            break;
          }
        }
        expect(budget.taken).toBeLessThanOrEqual(40 * MIB);
        if (ends) work.end();
        return ends ? [] : [work];
      });
      for (const work of open) work.end();
      expect(budget.taken).toBe(0);
    }));
  });
});
