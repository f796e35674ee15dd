/** Limits per project and model, at the edges of each kind of window. */
import { afterEach, describe, expect, test } from "vitest";
import type { EmulatorOptions } from "../../local/emulator/emulator.ts";
import {
  type Clock,
  clockAt,
  emulator,
  errorOf,
  GEMMA,
  NOON,
  post,
  prompt,
  statusOf,
  stopAll,
} from "./fixture.ts";

afterEach(stopAll);

async function limited(clock: Clock, limits: Record<string, number | null>, more: EmulatorOptions = {}) {
  return await emulator({
    now: clock.now,
    models: [{ name: GEMMA, limits: { rpm: null, tpm: null, rpd: null, ...limits } }],
    ...more,
  });
}

/** How many of `count` requests in a row are answered. */
async function answered(one: Awaited<ReturnType<typeof limited>>, count: number): Promise<number> {
  let sum = 0;
  for (let i = 0; i < count; i++) if (await statusOf(one) === 200) sum++;
  return sum;
}

describe("a fixed minute", () => {
  test("turns over exactly at its offset, and lets twice the limit through around it", async () => {
    const clock = clockAt(NOON + 17_499);
    const one = await limited(clock, { rpm: 3 }, { window: { kind: "fixed", offsetMs: 17_500 } });
    expect(await answered(one, 5)).toBe(3);
    clock.at = NOON + 17_500;
    expect(await answered(one, 5)).toBe(3);
    clock.at = NOON + 77_499;
    expect(await answered(one, 1)).toBe(0);
    clock.at = NOON + 77_500;
    expect(await answered(one, 1)).toBe(1);
  });

  test("says how long until it turns over", async () => {
    const clock = clockAt(NOON + 20_000);
    const one = await limited(clock, { rpm: 1 });
    await answered(one, 1);
    const error = await errorOf(await post(one, prompt("hi")));
    expect(error.details!.find((detail) => detail.retryDelay).retryDelay).toBe("40s");
    expect(error.message).toContain("Please retry in 40.000000000s.");
  });
});

describe("a sliding minute", () => {
  test("frees each request exactly 60 seconds after it came", async () => {
    const clock = clockAt(NOON);
    const one = await limited(clock, { rpm: 2 }, { window: { kind: "sliding" } });
    expect(await answered(one, 1)).toBe(1);
    clock.at = NOON + 30_000;
    expect(await answered(one, 2)).toBe(1);
    clock.at = NOON + 59_999;
    expect(await answered(one, 1)).toBe(0);
    clock.at = NOON + 60_000;
    expect(await answered(one, 2)).toBe(1);
    clock.at = NOON + 89_999;
    expect(await answered(one, 1)).toBe(0);
    clock.at = NOON + 90_000;
    expect(await answered(one, 2)).toBe(1);
  });

  test("never lets more than the limit into any 60 seconds", async () => {
    const clock = clockAt(NOON);
    const one = await limited(clock, { rpm: 5 }, { window: { kind: "sliding" } });
    for (let i = 0; i < 60; i++) {
      clock.at += 3_701;
      await statusOf(one);
    }
    const starts = one.control.stats().lastAdmitted.map(({ at }) => at);
    expect(starts.length).toBeGreaterThan(15);
    for (const start of starts) {
      expect(starts.filter((at) => at >= start && at < start + 60_000).length).toBeLessThanOrEqual(5);
    }
  });
});

describe("a token bucket", () => {
  test("gives its burst at once, then one slot each time a slot's share of the minute has passed", async () => {
    const clock = clockAt(NOON);
    const one = await limited(clock, { rpm: 4 }, { window: { kind: "token_bucket" } });
    expect(await answered(one, 6)).toBe(4);
    clock.at = NOON + 14_999;
    expect(await answered(one, 1)).toBe(0);
    clock.at = NOON + 15_000;
    expect(await answered(one, 2)).toBe(1);
    clock.at = NOON + 600_000;
    expect(await answered(one, 6)).toBe(4);
  });

  test("may hold less than a minute's worth", async () => {
    const clock = clockAt(NOON);
    const one = await limited(clock, { rpm: 10 }, { window: { kind: "token_bucket", burst: 0.2 } });
    expect(await answered(one, 5)).toBe(2);
    clock.at += 6_000;
    expect(await answered(one, 5)).toBe(1);
  });
});

test("input tokens are counted when they arrive, for every window", async () => {
  for (
    const window of [{ kind: "fixed", offsetMs: 0 }, { kind: "sliding" }, { kind: "token_bucket" }] as const
  ) {
    const clock = clockAt(NOON);
    const one = await limited(clock, { tpm: 10 }, { window });
    // "Say hi" is 3 tokens here.
    expect(await answered(one, 5)).toBe(3);
    const error = await errorOf(await post(one, prompt("hi there")));
    expect(error.details![1].violations[0].quotaId).toBe(
      "GenerateContentInputTokensPerModelPerMinute-FreeTier",
    );
    clock.at += 60_000;
    expect(await answered(one, 1)).toBe(1);
  }
});

test("a prompt above the limit never passes", async () => {
  const clock = clockAt(NOON);
  const one = await limited(clock, { tpm: 10 }, { window: { kind: "sliding" } });
  expect(await statusOf(one, "word ".repeat(50))).toBe(429);
  clock.at += 600_000;
  expect(await statusOf(one, "word ".repeat(50))).toBe(429);
});

test("projects are apart, keys of one project and versions of the API are not", async () => {
  const one = await limited(clockAt(NOON), { rpm: 2 });
  expect(await statusOf(one, "hi", { key: "demo-key-a" })).toBe(200);
  expect(await statusOf(one, "hi", { key: "demo-key-b", version: "v1" })).toBe(200);
  expect(await statusOf(one, "hi", { key: "demo-key-a" })).toBe(429);
  expect(await statusOf(one, "hi", { key: "demo-key-c" })).toBe(200);
});

test("models are apart, and a project may have limits of its own", async () => {
  const one = await emulator({
    now: clockAt(NOON).now,
    models: [{ name: GEMMA, limits: { rpm: 1 } }, { name: "gemini-2.5-flash", limits: { rpm: 1 } }],
    projects: { "demo-two": { tier: "paid", limits: { [GEMMA]: { rpm: 2 } } } },
  });
  const ask = (key: string, model: string) => statusOf(one, "hi", { key, model });
  expect([await ask("demo-key-a", GEMMA), await ask("demo-key-a", "gemini-2.5-flash")]).toEqual([200, 200]);
  expect(await ask("demo-key-a", GEMMA)).toBe(429);
  expect([await ask("demo-key-c", GEMMA), await ask("demo-key-c", GEMMA)]).toEqual([200, 200]);
  const error = await errorOf(await post(one, prompt("hi"), { key: "demo-key-c" }));
  expect(error.details![1].violations[0]).toMatchObject({
    quotaId: "GenerateRequestsPerMinutePerProjectPerModel",
    quotaValue: "2",
  });
});

test("a refused request costs nothing, unless the emulator is configured so", async () => {
  for (const [countRefused, expected] of [[false, 1], [true, 0]] as const) {
    const clock = clockAt(NOON);
    const one = await limited(clock, { rpm: 2, rpd: 100 }, { window: { kind: "sliding" }, countRefused });
    expect(await answered(one, 2)).toBe(2);
    clock.at += 40_000;
    expect(await answered(one, 2)).toBe(0);
    clock.at += 20_000;
    expect(await answered(one, 1)).toBe(expected);
    expect(one.control.stats().lanes[0]!.today).toBe(countRefused ? 5 : 3);
  }
});

test("a request that fails after it was admitted has used its quota", async () => {
  const one = await limited(clockAt(NOON), { rpm: 2 });
  one.control.addFaults({ kind: "status", error: "overloaded" });
  expect(await statusOf(one)).toBe(503);
  expect(await statusOf(one)).toBe(200);
  expect(await statusOf(one)).toBe(429);
});

test("two hundred requests at once are admitted exactly up to the limit", async () => {
  const one = await limited(clockAt(NOON), { rpm: 30 });
  const statuses = await Promise.all(Array.from({ length: 200 }, () => statusOf(one)));
  expect(statuses.filter((status) => status === 200)).toHaveLength(30);
  expect(statuses.filter((status) => status === 429)).toHaveLength(170);
  expect(one.control.stats()).toMatchObject({
    admitted: { total: 30 },
    refused: { total: 170, byLimit: { rpm: 170 } },
    inFlight: 0,
  });
});

test("a minute may be made short", async () => {
  const clock = clockAt(NOON);
  const one = await limited(clock, { rpm: 1 }, { minuteMs: 60, window: { kind: "sliding" } });
  expect([await statusOf(one), await statusOf(one)]).toEqual([200, 429]);
  clock.at += 60;
  expect(await statusOf(one)).toBe(200);
});

test("countTokens and the list of models use no quota", async () => {
  const one = await limited(clockAt(NOON), { rpm: 0, tpm: 0, rpd: 0 });
  expect(await statusOf(one, "hi", { method: "countTokens" })).toBe(200);
  expect(one.control.stats().admitted.total).toBe(0);
});
