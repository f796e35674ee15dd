/** What `jobs submit --watch` says: the time left by the limits, and patience with a project that does not answer. */
import { describe, expect, test } from "vitest";
import { timeLeftMs, watchJobs } from "../../../cli/eve/jobs/watch.ts";
import type { Connection } from "../../../cli/eve/connection.ts";
import type { JobLists, JobListState } from "../../../shared/database/jobs/job_lists.ts";
import type { LaneState } from "../../../shared/database/reading.ts";

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

function lane(
  model: string,
  minute: [number, number] | null,
  day: [number, number] | null = null,
): LaneState {
  const gauge = (given: [number, number] | null) => ({
    limit: given?.[0] ?? null,
    remaining: given?.[1] ?? null,
    used: 0,
  });
  return {
    quota_project: "p",
    model,
    keys: ["k"],
    state: "open",
    blocked_until: null,
    blocked_reason: null,
    limits_from: "model",
    requests: gauge(minute),
    tokens: gauge(null),
    requests_day: { ...gauge(day), resets_at: "2026-11-23T08:00:00Z" },
    queued: 0,
    running: 0,
    free: 5,
    frees_at: null,
  };
}

describe("the time left", () => {
  test.each<[string, Record<string, number>, LaneState[], number | null]>([
    [
      "by the minute's limits of all projects",
      { m: 300 },
      [lane("m", [30, 0]), lane("m", [20, 0])],
      6 * MINUTE_MS,
    ],
    ["less what may start now", { m: 60 }, [lane("m", [30, 30])], MINUTE_MS],
    ["by the slowest model", { m: 30, n: 50 }, [lane("m", [30, 0]), lane("n", [5, 0])], 10 * MINUTE_MS],
    ["by days where a day has no room", { m: 2_500 }, [lane("m", [1_000, 0], [1_000, 500])], 2 * DAY_MS],
    ["unknown without limits", { m: 10 }, [lane("m", null)], null],
    ["unknown without a lane", { m: 10 }, [lane("n", [30, 0])], null],
    ["unknown without a key", { m: 10 }, [{ ...lane("m", [30, 0]), state: "no_key" }], null],
  ])("is told %s", (_, waiting, lanes, expected) => expect(timeLeftMs(waiting, lanes)).toBe(expected));
});

describe("watching", () => {
  const over: JobListState = {
    states: { succeeded: 4 },
    waiting: {},
    submitted_at: "2026-11-22T08:00:00Z",
    finished_at: "2026-11-22T08:10:00Z",
  };
  const going: JobListState = {
    ...over,
    states: { queued: 2, succeeded: 2 },
    waiting: { m: 2 },
    finished_at: null,
  };

  async function watch(answers: (JobListState | null | Error)[]) {
    let at = 0;
    const lines: string[] = [];
    const lists = {
      state: () => {
        const next = answers.length > 1 ? answers.shift()! : answers[0]!;
        return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
      },
    } as unknown as JobLists;
    const connection = {
      reading: { lanes: () => Promise.resolve([lane("m", [1, 0])]) },
    } as unknown as Connection;
    const state = watchJobs(connection, lists, "b", { consumerId: null, tokenId: null }, {
      progress: (text) => lines.push(text),
      sleep: (ms) => {
        at += ms;
        return Promise.resolve();
      },
      now: () => at,
      signal: new AbortController().signal,
    });
    return { state: await state.catch((thrown) => thrown), lines, at };
  }

  test("ends when all have ended", async () => {
    const { state, lines } = await watch([going, over]);
    expect(state).toBe(over);
    expect(lines).toEqual(["██████████            2 of 4  0 a minute  2 min left"]);
  });

  test("goes on when the project is back", async () => {
    const { state, lines } = await watch([going, new Error("away"), new Error("away"), going, over]);
    expect(state).toBe(over);
    expect(lines.filter((line) => line.includes("does not answer"))).toHaveLength(2);
  });

  test("gives up after ten minutes without an answer", async () => {
    const { state, at } = await watch([going, new Error("away")]);
    expect(state).toMatchObject({ exitCode: 3, message: expect.stringContaining("ten minutes") });
    expect(at).toBeGreaterThanOrEqual(600_000);
  });

  test("ends when the jobs are gone", async () => {
    const { state } = await watch([going, null]);
    expect(state).toMatchObject({ exitCode: 1, message: expect.stringContaining("not there any more") });
  });
});
