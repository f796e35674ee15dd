/** The benchmark's judge, on schedules small enough to be judged by hand. */
import { describe, expect, test } from "vitest";
import { type Served } from "../../../bench/quota/contender.ts";
import { overtaken } from "../../../bench/quota/inversions.ts";
import { InteractiveShare, type Start } from "../../../bench/quota/lane_history.ts";
import { bestSchedule, delays } from "../../../bench/quota/optimum.ts";
import { SimulatedTime } from "../../../bench/quota/simulated_time.ts";

const MINUTE = 60_000;
const WINDOW = 60_250;
// 30 starts and 16,000 tokens a minute, as in bench/quota/load.ts.

function call(place: number, startedAt: number, of: Partial<Served> = {}): Served {
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

const wish = (tokens: number, from = 0) => ({ tokens, class: "interactive" as const, from });

describe("the best schedule", () => {
  test("starts as many as the limit allows, and the next ones when those have left the window", () => {
    const starts = bestSchedule(Array.from({ length: 61 }, () => wish(10)), [[]], MINUTE);
    expect(starts.map((at) => at / MINUTE)).toEqual([
      ...Array(30).fill(0),
      ...Array(30).fill(1),
      2,
    ]);
  });

  test("lets a prompt wait for its tokens, and those behind it for their turn", () => {
    expect(bestSchedule([wish(9_000), wish(8_000), wish(10)], [[]], MINUTE)).toEqual([0, MINUTE, MINUTE]);
  });

  test("takes the project where a call can start first", () => {
    expect(bestSchedule([wish(9_000), wish(8_000), wish(7_000)], [[], []], MINUTE)).toEqual([0, 0, 0]);
  });

  test("leaves batch what interactive callers do not need", () => {
    const batch = Array.from({ length: 30 }, () => ({ ...wish(10), class: "batch" as const }));
    expect(bestSchedule(batch, [[]], MINUTE).filter((at) => at === 0)).toHaveLength(29);
    const people: Start[] = [1, 2, 3, 4].map((at) => ({ at, tokens: 10, class: "interactive", place: at }));
    expect(
      bestSchedule(batch.map((one) => ({ ...one, from: 10 })), [people], MINUTE).filter((at) => at === 10),
    )
      .toHaveLength(26);
  });
});

describe("the interactive share", () => {
  const at = (minute: number, second: number, tokens = 100): Start => ({
    at: minute * MINUTE + second * 1_000,
    tokens,
    class: "interactive",
    place: 0,
  });

  test("is the busiest minute of the last ten", () => {
    const share = new InteractiveShare([at(0, 1), at(0, 2), at(0, 3), at(5, 1)]);
    expect(share.at(9 * MINUTE).starts).toBe(3);
    expect(share.at(10 * MINUTE).starts).toBe(1);
  });

  test("is at least one start, and at most a fifth of the limit", () => {
    expect(new InteractiveShare([]).at(0).starts).toBe(1);
    const many = Array.from({ length: 20 }, (_, second) => at(0, second, 1_000));
    expect(new InteractiveShare(many).at(MINUTE)).toEqual({ starts: 6, tokens: 3_200 });
  });
});

describe("delay", () => {
  test("is none for a schedule that could not be earlier", () => {
    const calls = [
      ...Array.from({ length: 30 }, (_, i) => call(i, 0)),
      call(30, WINDOW),
      call(31, WINDOW + 5, { wantedAt: WINDOW + 5 }),
    ];
    expect([...delays(calls, 1, WINDOW).values()].every((late) => late === 0)).toBe(true);
  });

  test("is what a call waited although there was room", () => {
    const late = call(1, 700, { wantedAt: 200 });
    expect(delays([call(0, 0), late], 1, WINDOW).get(late)).toBe(500);
  });

  test("does not count the wait behind an earlier call that did not fit", () => {
    const large = call(1, WINDOW, { real: 15_000 });
    const behind = call(2, WINDOW + 30);
    expect(delays([call(0, 0, { real: 5_000 }), large, behind], 1, WINDOW).get(behind)).toBe(30);
  });

  test("counts room on another project", () => {
    const late = call(30, WINDOW);
    const calls = [...Array.from({ length: 30 }, (_, i) => call(i, 0)), late];
    expect(delays(calls, 2, WINDOW).get(late)).toBe(WINDOW);
  });
});

describe("inversions", () => {
  const none = { same_project: 0, other_project: 0 };

  test("are calls that a later one passed on their project", () => {
    expect(overtaken([call(1, 10), call(2, 10), call(3, 20)])).toEqual(none);
    expect(overtaken([call(1, 30), call(2, 10), call(3, 20)])).toEqual({ ...none, same_project: 1 });
  });

  test("are not counted between classes", () => {
    expect(overtaken([call(1, 30, { class: "batch" }), call(2, 10)])).toEqual(none);
  });

  test("on another project, only in a place that would have done for them", () => {
    const first = call(1, 30, { booked: 500 });
    expect(overtaken([first, call(2, 10, { lane: 1, booked: 400 })])).toEqual(none);
    expect(overtaken([first, call(2, 10, { lane: 1, booked: 500 })])).toEqual({ ...none, other_project: 1 });
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
