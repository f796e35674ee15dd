/** The benchmark's judge, on schedules small enough to be judged by hand. */
import { describe, expect, test } from "vitest";
import { Journal, type Served } from "../../../bench/quota/contender.ts";
import { overtaken } from "../../../bench/quota/inversions.ts";
import type { Start } from "../../../bench/quota/lane_history.ts";
import { LIMITS, type Load } from "../../../bench/quota/load.ts";
import { bestSchedule, delays } from "../../../bench/quota/optimum.ts";
import type { Run } from "../../../bench/quota/run.ts";
import { missedStepGoals, stepFigures, stepLoad } from "../../../bench/quota/steps.ts";
import { SimulatedTime } from "../../../bench/quota/simulated_time.ts";

const MINUTE = 60_000;
const WINDOW = 60_250;
// 30 starts and 16,000 tokens a minute, as in bench/quota/load.ts.

function call(
  place: number,
  startedAt: number,
  of: Partial<Served> = {},
): Served {
  return {
    no: place,
    client: place,
    class: "interactive",
    real: 100,
    estimate: 100,
    booked: 100,
    wantedAt: 0,
    place,
    lane: 0,
    startedAt,
    ...of,
  };
}

const wish = (tokens: number, from = 0) => ({
  tokens,
  class: "interactive" as const,
  from,
});

describe("the best schedule", () => {
  test("starts as many as the limit allows, and the next ones when those have left the window", () => {
    const starts = bestSchedule(
      Array.from({ length: 61 }, () => wish(10)),
      [[]],
      MINUTE,
      LIMITS,
    );
    expect(starts.map((at) => at / MINUTE)).toEqual([
      ...Array(30).fill(0),
      ...Array(30).fill(1),
      2,
    ]);
  });

  test("lets a prompt wait for its tokens, and those behind it for their turn", () => {
    expect(
      bestSchedule([wish(9_000), wish(8_000), wish(10)], [[]], MINUTE, LIMITS),
    ).toEqual([0, MINUTE, MINUTE]);
  });

  test("takes the project where a call can start first", () => {
    expect(
      bestSchedule(
        [wish(9_000), wish(8_000), wish(7_000)],
        [[], []],
        MINUTE,
        LIMITS,
      ),
    ).toEqual([0, 0, 0]);
  });

  test("leaves batch all that interactive callers do not use, also those who come a little later", () => {
    const batch = Array.from(
      { length: 31 },
      () => ({ ...wish(10), class: "batch" as const }),
    );
    expect(bestSchedule(batch, [[]], MINUTE, LIMITS).filter((at) => at === 0))
      .toHaveLength(30);
    const people: Start[] = [1, 2, 3, 4].map((at) => ({
      at,
      tokens: 10,
      class: "interactive",
      place: at,
    }));
    for (const from of [0, 10]) {
      const starts = bestSchedule(
        batch.map((one) => ({ ...one, from })),
        [people],
        MINUTE,
        LIMITS,
      );
      expect(starts.filter((at) => at === from)).toHaveLength(26);
    }
  });

  test("goes on from what has started", () => {
    const before: Start[] = Array.from({ length: 30 }, (_, n) => ({
      at: n * 2_000,
      tokens: 10,
      class: "batch",
      place: n,
    }));
    const wishes = [1, 2].map(() => ({
      ...wish(10, MINUTE),
      class: "batch" as const,
    }));
    expect(bestSchedule(wishes, [[]], MINUTE, LIMITS, [before])).toEqual([
      MINUTE,
      MINUTE + 2_000,
    ]);
  });
});

describe("the step of interactive callers", () => {
  const minute = (n: number, second = 0) => n * MINUTE + second * 1_000;
  const of = {
    arrivals: "even" as const,
    rpm: 30,
    projects: 1,
    step: 0.5,
    quiet_minutes: 3,
    seeds: 1,
    minutes: 11,
  };
  const load: Load = stepLoad(of);
  /** Batch every two seconds, but where a person starts. */
  const runWith = (people: Served[]): Run => {
    const journal = new Journal();
    const taken = new Set(people.map((one) => one.startedAt));
    for (let at = 0; at < minute(load.minutes); at += 2_000) {
      if (!taken.has(at)) {
        journal.served.push(call(at, at, { class: "batch", no: -at }));
      }
    }
    journal.served.push(...people);
    journal.wanted.push(...people);
    return {
      journal,
      refused: 0,
      projects: 1,
      startMs: 0,
      endMs: minute(load.minutes),
    };
  };
  const person = (no: number, wantedAt: number, startedAt: number) => call(no, startedAt, { no, wantedAt });

  test("is given in start intervals of the pool, the first minute by itself", () => {
    const run = runWith([
      person(1, minute(3, 1), minute(3, 2)),
      person(2, minute(3, 11), minute(3, 14)),
      person(3, minute(5, 1), minute(5, 2)),
    ]);
    const figures = stepFigures(of, load, [run], "every");
    expect(figures.first_minute).toMatchObject({
      calls: 2,
      answered: 2,
      median_wait_intervals: 1.5,
    });
    expect(figures.ten_minutes).toMatchObject({
      calls: 1,
      answered: 1,
      median_wait_intervals: 0.5,
    });
    expect(figures.share_used).toBe(1);
    expect(missedStepGoals([figures])).toEqual([
      "30 RPM, 1 project(s), step to 50 % after 3 quiet minutes, every window: first_minute: median_wait_intervals 0.5, but 1.5",
    ]);
  });

  test("who was sent back or not served is unanswered", () => {
    const back = person(1, minute(4, 1), minute(4, 2));
    const run = runWith([back]);
    run.journal.sentBack.push(back);
    run.journal.wanted.push(person(2, minute(4, 5), 0));
    expect(stepFigures(of, load, [run], "every").ten_minutes).toMatchObject({
      calls: 2,
      answered: 0,
    });
  });

  test("places that batch leaves empty are missing in the share", () => {
    const run = runWith([]);
    const kept = run.journal.served.filter((_, n) => n < 30 || n % 20 !== 0);
    run.journal.served.splice(0, Infinity, ...kept);
    expect(stepFigures(of, load, [run], "every").share_used).toBeLessThan(
      0.985,
    );
  });
});

describe("delay", () => {
  test("is none for a schedule that could not be earlier", () => {
    const calls = [
      ...Array.from({ length: 30 }, (_, i) => call(i, 0)),
      call(30, WINDOW),
      call(31, WINDOW + 5, { wantedAt: WINDOW + 5 }),
    ];
    expect(
      [...delays(calls, 1, WINDOW, LIMITS).values()].every((late) => late === 0),
    ).toBe(true);
  });

  test("is what a call waited although there was room", () => {
    const late = call(1, 700, { wantedAt: 200 });
    expect(delays([call(0, 0), late], 1, WINDOW, LIMITS).get(late)).toBe(500);
  });

  test("does not count the wait behind an earlier call that did not fit", () => {
    const large = call(1, WINDOW, { real: 15_000 });
    const behind = call(2, WINDOW + 30);
    expect(
      delays([call(0, 0, { real: 5_000 }), large, behind], 1, WINDOW, LIMITS)
        .get(behind),
    ).toBe(30);
  });

  test("counts room on another project", () => {
    const late = call(30, WINDOW);
    const calls = [...Array.from({ length: 30 }, (_, i) => call(i, 0)), late];
    expect(delays(calls, 2, WINDOW, LIMITS).get(late)).toBe(WINDOW);
  });
});

describe("inversions", () => {
  const none = { same_project: 0, other_project: 0 };

  test("are calls that a later one passed on their project", () => {
    expect(overtaken([call(1, 10), call(2, 10), call(3, 20)])).toEqual(none);
    expect(overtaken([call(1, 30), call(2, 10), call(3, 20)])).toEqual({
      ...none,
      same_project: 1,
    });
  });

  test("are not counted between classes", () => {
    expect(overtaken([call(1, 30, { class: "batch" }), call(2, 10)])).toEqual(
      none,
    );
  });

  test("on another project, only in a place that would have done for them", () => {
    const first = call(1, 30, { booked: 500 });
    expect(overtaken([first, call(2, 10, { lane: 1, booked: 400 })])).toEqual(
      none,
    );
    expect(overtaken([first, call(2, 10, { lane: 1, booked: 500 })])).toEqual({
      ...none,
      other_project: 1,
    });
  });
});

describe("simulated time", () => {
  test("runs tasks by the instant they wait for, however long their real work takes", async () => {
    const time = new SimulatedTime(1_000);
    const seen: string[] = [];
    const task = (name: string, ms: number, work: number) => async () => {
      await new Promise((resolve) => setTimeout(resolve, work));
      await time.sleep(ms);
      seen.push(`${name} ${time.now()}`);
      await time.sleep(1_000);
      seen.push(`${name} ${time.now()}`);
    };
    time.spawn(task("slow", 10, 20));
    time.spawn(task("quick", 20, 0));
    await time.runUntil(1_500);
    expect(seen).toEqual(["slow 1010", "quick 1020"]);
    await time.runUntil(5_000);
    expect(seen.slice(2)).toEqual(["slow 2010", "quick 2020"]);
  });

  test("ends with the error of a task", async () => {
    const time = new SimulatedTime(0);
    time.spawn(async () => {
      await time.sleep(5);
      throw new Error("no use");
    });
    await expect(time.runUntil(10)).rejects.toThrow("no use");
  });
});
