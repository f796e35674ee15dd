import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Clock } from "../../../shared/runtime/clock.ts";
import { WorkBudget } from "../../../shared/http/work_budget.ts";

const MIB = 1024 * 1024;
/** What a body of 10 MiB takes at most: twice its length, and 25,000 values. */
const LARGEST = 20 * MIB + 25_000 * 128;
/** A quarter more, and what is kept for small ones. */
const TOTAL = LARGEST * 1.25 + 4 * MIB;
const busy = expect.objectContaining({ code: "gateway_busy", status: 503, retryAfterMs: 2_000 });

describe("[security.bodies] the budget of bytes in work", () => {
  test("is refused beyond its end, and given back", () => {
    const budget = new WorkBudget(10 * MIB);
    const first = budget.begin("a");
    first.add(LARGEST);
    budget.begin("b").add(LARGEST / 4);
    expect(() => budget.begin("c").add(MIB)).toThrow(busy);
    first.end();
    first.end();
    budget.begin("c").add(MIB);
    expect(budget.taken).toBe(LARGEST / 4 + MIB);
  });

  test("no caller gets more than one of the largest takes, under however many requests", () => {
    const budget = new WorkBudget(10 * MIB);
    for (let n = 0; n < 23; n++) budget.begin("a").add(MIB);
    expect(() => budget.begin("a").add(MIB)).toThrow(busy);
    budget.begin("b").add(5 * MIB);
  });

  test("large bodies leave room for small ones", () => {
    const budget = new WorkBudget(10 * MIB);
    budget.begin("a").add(LARGEST);
    budget.begin("b").add(LARGEST / 4);
    const small = budget.begin("c");
    small.add(500 * 1024);
    expect(() => small.add(100 * 1024)).toThrow(busy);
  });

  test("has room for the largest body that the settings allow", () => {
    for (const largest of [1_024, 10 * MIB, 64 * MIB]) {
      const budget = new WorkBudget(largest);
      expect(() => budget.begin("a").add(2 * largest + 25_000 * 128)).not.toThrow();
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
        expect(budget.taken).toBeLessThanOrEqual(TOTAL);
        if (ends) work.end();
        return ends ? [] : [work];
      });
      for (const work of open) work.end();
      expect(budget.taken).toBe(0);
    }));
  });
});

/** Time that passes when the test says so. */
class HandClock implements Clock {
  time = 0;
  #timers: { at: number; fire: () => void }[] = [];
  now = () => this.time;
  sleep = () => Promise.reject(new Error("nobody sleeps here"));
  after(ms: number, fire: () => void): () => void {
    const one = { at: this.time + ms, fire };
    this.#timers.push(one);
    return () => this.#timers = this.#timers.filter((other) => other !== one);
  }
  async pass(ms: number): Promise<void> {
    this.time += ms;
    const due = this.#timers.filter(({ at }) => at <= this.time);
    this.#timers = this.#timers.filter(({ at }) => at > this.time);
    for (const { fire } of due) fire();
    for (let n = 0; n < 5; n++) await Promise.resolve();
  }
}

describe("turns", () => {
  test("large bodies follow one another, with as long in between as the last one took", async () => {
    const clock = new HandClock();
    const budget = new WorkBudget(10 * MIB);
    const had: string[] = [];
    const large = (name: string) => {
      const work = budget.begin(name);
      work.add(MIB);
      work.turn(clock).then(() => had.push(name));
    };
    large("a");
    for (let n = 0; n < 5; n++) await Promise.resolve();
    large("b");
    // The first one holds the thread for 80 ms, and then the timers fire.
    await clock.pass(80);
    expect(had).toEqual(["a"]);
    await clock.pass(79);
    expect(had).toEqual(["a"]);
    await clock.pass(1);
    expect(had).toEqual(["a", "b"]);
  });

  test("small ones do not wait", async () => {
    const clock = new HandClock();
    const budget = new WorkBudget(10 * MIB);
    const works = ["a", "b", "c"].map((name) => budget.begin(name));
    for (const work of works) work.add(500 * 1024);
    // The clock is moved by nobody.
    await expect(Promise.all(works.map((work) => work.turn(clock)))).resolves.toHaveLength(3);
  });
});
