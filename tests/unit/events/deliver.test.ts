/** The loop that delivers: how long it runs, what it waits for, and what it does when parts of it fail. */
import { beforeEach, expect, test } from "vitest";
import type { Transport } from "../../../shared/database/transport/transport.ts";
import {
  type Attempted,
  deliverDue,
  DELIVERED,
  type DeliveryHandler,
  TIME_FOR_ONE_MS,
} from "../../../shared/events/deliver.ts";
import { HandClock } from "../../harness/hand_clock.ts";
import { until } from "../../harness/patience.ts";

/** A database with a queue of deliveries, each due at a time of the clock. */
let clock: HandClock;
let due: { id: number; atMs: number }[];
let finished: { delivery_id: number; result: string; error: string | null; draw: number }[];
let claims: number[];
let failing: Set<string>;
let logged: unknown[][];

beforeEach(() => {
  clock = new HandClock();
  due = [];
  finished = [];
  claims = [];
  failing = new Set();
  logged = [];
});

const call: Transport = (sqlFunction, args) => {
  if (failing.has(sqlFunction)) return Promise.reject(new Error("the database is away"));
  if (sqlFunction === "eve_event_done") {
    finished.push(args as typeof finished[number]);
    return Promise.resolve({ state: args.result === "delivered" ? "delivered" : "pending" });
  }
  const now = due.filter(({ atMs }) => atMs <= clock.time).slice(0, args.at_most as number);
  due = due.filter((one) => !now.includes(one));
  claims.push(args.at_most as number);
  return Promise.resolve({
    deliveries: now.map(({ id }) => ({
      delivery_id: id,
      lease: "00000000-0000-0000-0000-000000000000",
      attempt: 1,
      consumer: "one",
      kind: "test",
      event: {
        id: String(id),
        source: "/a",
        type: "a.v1",
        subject: null,
        time: "",
        data: {},
        traceparent: null,
      },
      webhook: null,
    })),
    next_due_ms: due.length === 0 ? null : Math.max(Math.min(...due.map(({ atMs }) => atMs)) - clock.time, 0),
  });
};

const run = (
  handler: DeliveryHandler = () => Promise.resolve(DELIVERED),
  { untilMs = 100_000, signal = new AbortController().signal, kind = "test" } = {},
) =>
  deliverDue({
    call,
    clock,
    random: () => 0.25,
    log: (...line) => logged.push(line),
    handlers: { [kind]: handler },
  }, { untilMs, signal });

test("delivers what is due and what falls due shortly, and leaves the rest", async () => {
  due = [{ id: 1, atMs: 0 }, { id: 2, atMs: 5_000 }, { id: 3, atMs: 60_000 }];
  expect(await run()).toEqual({ delivered: 2, failed: 0, more: false });
  expect(clock.pauses).toEqual([5_000]);
  expect(finished.map((one) => one.delivery_id)).toEqual([1, 2]);
});

test("does not stay for what falls due where its caller comes again by itself", async () => {
  due = [{ id: 1, atMs: 0 }, { id: 2, atMs: 1_000 }];
  const { signal } = new AbortController();
  const terms = {
    call,
    clock,
    random: () => 0,
    log: () => {},
    handlers: { test: () => Promise.resolve(DELIVERED) },
  };
  expect(await deliverDue(terms, { untilMs: 100_000, signal, waits: false }))
    .toEqual({ delivered: 1, failed: 0, more: false });
  expect(clock.pauses).toEqual([]);
});

test("has sixteen under way at a time, and takes the next as soon as one is done", async () => {
  due = Array.from({ length: 40 }, (_, id) => ({ id, atMs: 0 }));
  const waiting: ((attempted: Attempted) => void)[] = [];
  let most = 0;
  const running = run(() => {
    const { promise, resolve } = Promise.withResolvers<Attempted>();
    most = Math.max(most, waiting.push(resolve));
    return promise;
  });
  while (finished.length < 40) {
    await until(() => waiting.length > 0 || finished.length === 40);
    waiting.shift()?.(DELIVERED);
  }
  expect(await running).toEqual({ delivered: 40, failed: 0, more: false });
  expect(most).toBe(16);
  expect(Math.max(...claims)).toBe(16);
});

test("begins nothing that might not be over in time", async () => {
  due = [{ id: 1, atMs: 0 }];
  expect(await run(undefined, { untilMs: TIME_FOR_ONE_MS - 1 })).toEqual({
    delivered: 0,
    failed: 0,
    more: true,
  });
  expect(claims).toEqual([]);
  due = [{ id: 2, atMs: 4_000 }];
  expect(await run(undefined, { untilMs: TIME_FOR_ONE_MS + 3_000 })).toEqual({
    delivered: 0,
    failed: 0,
    more: true,
  });
  expect(clock.pauses).toEqual([]);
});

test("what a handler throws is a failure without its words; the draw goes to the database", async () => {
  due = [{ id: 1, atMs: 0 }];
  expect(await run(() => Promise.reject(new Error("https://secret.example.com/token")))).toEqual({
    delivered: 0,
    failed: 1,
    more: false,
  });
  expect(finished).toMatchObject([{ result: "failed", draw: 0.25 }]);
  expect(JSON.stringify([finished, logged])).not.toContain("secret.example.com");
  expect(logged).toMatchObject([["warn", "event_not_delivered", { event_id: "1", state: "pending" }]]);
});

test("a result that the database does not take ends nothing else: its lease will end", async () => {
  due = [{ id: 1, atMs: 0 }];
  failing.add("eve_event_done");
  expect(await run()).toEqual({ delivered: 0, failed: 1, more: false });
  expect(logged).toMatchObject([["warn", "event_result_lost", { "error.type": "database_unavailable" }]]);
});

test("a database that cannot be asked fails the run, after what is under way was finished", async () => {
  due = [{ id: 1, atMs: 0 }];
  const running = run(async () => {
    await Promise.resolve();
    failing.add("eve_events_claim");
    return DELIVERED;
  });
  await expect(running).rejects.toMatchObject({ code: "database_unavailable" });
  expect(finished).toHaveLength(1);
});

test("when its time is up it breaks off what is under way, and says so", async () => {
  due = [{ id: 1, atMs: 0 }, { id: 2, atMs: 0 }];
  const timeUp = new AbortController();
  const running = run(
    (_, signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    {
      signal: timeUp.signal,
    },
  );
  await until(() => claims.length === 2);
  timeUp.abort(new Error("time is up"));
  expect(await running).toEqual({ delivered: 0, failed: 2, more: true });
  expect(finished.map(({ error }) => error)).toEqual(
    Array(2).fill("it was broken off: the run's time was up"),
  );
});

test("without a handler nothing is asked for", async () => {
  expect(
    await deliverDue({ call, clock, random: () => 0, log: () => {}, handlers: {} }, {
      untilMs: 1e6,
      signal: new AbortController().signal,
    }),
  ).toEqual({ delivered: 0, failed: 0, more: false });
  expect(claims).toEqual([]);
});
