/** Batch that stands in line and asks again, and starts that come too late and are booked again. */
import { describe, expect, test } from "vitest";
import type { GatewayEvent } from "../../../shared/contract/events.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { Reservation } from "../../../shared/database/admission/reserve.ts";
import { type Diagnosis, ProviderFailure } from "../../../shared/providers/provider.ts";
import {
  ANSWER,
  grant,
  grantTo,
  refusal,
  REQUEST,
  scriptedGateway,
  settled,
  waiting,
} from "./gateway_fixture.ts";

const BAD_KEY: Diagnosis = {
  fault: "key",
  retryable: true,
  block: { scope: "key", lasts: { forMs: 60_000 }, reason: "upstream_minute_quota" },
  code: "key_rejected",
};

const caught = (promise: Promise<unknown>) => promise.then(() => expect.unreachable(), (error) => error);
const down = () => Promise.reject<Reservation>(new GatewayError("database_unavailable"));
const firstFails = (_: unknown, attempt: number) =>
  attempt === 1
    ? Promise.reject(new ProviderFailure(BAD_KEY, "said upstream", 400))
    : Promise.resolve(ANSWER);

/** Calls as batch; `events` fills with what its caller is told: the type, and how long is to be waited. */
function batch(set: ReturnType<typeof scriptedGateway>, maxWaitMs = 30_000) {
  const events: [string, number | null][] = [];
  const onEvent = (event: GatewayEvent) =>
    void events.push([event.type, "waitMs" in event ? event.waitMs : null]);
  return { events, answer: set.follow({ class: "batch", maxWaitMs }, onEvent) };
}

const asked = (set: ReturnType<typeof scriptedGateway>) =>
  set.reserved.map(({ attempt, requestNo, maxWaitMs }) => ({ attempt, requestNo, maxWaitMs }));

describe("[G4.in-line] batch in line", () => {
  test("sleeps until its time and asks again, each time with less left to wait, until it is granted", async () => {
    const set = scriptedGateway({
      reservations: [waiting(4_000), waiting(1_500), waiting(500), grant({ waitMs: 20 })],
    });
    const { answer, events } = batch(set);
    await set.clock.advance(3_999);
    expect(set.reserved).toHaveLength(1);
    await set.clock.advance(1);
    expect(set.reserved).toHaveLength(2);
    await set.clock.advance(2_019);
    expect(set.calls).toHaveLength(0);
    await set.clock.advance(1);
    expect(await answer).toMatchObject({ waitMs: 6_020, attempts: 1 });
    expect(asked(set)).toEqual([
      { attempt: 1, requestNo: undefined, maxWaitMs: 30_000 },
      { attempt: 1, requestNo: 12, maxWaitMs: 26_000 },
      { attempt: 1, requestNo: 12, maxWaitMs: 24_500 },
      { attempt: 1, requestNo: 12, maxWaitMs: 24_000 },
    ]);
    expect(events).toEqual([
      ["queued", 4_000],
      ["queued", 1_500],
      ["queued", 500],
      ["queued", 20],
      ["started", null],
    ]);
    expect(set.calls).toHaveLength(1);
    expect(set.settlements).toEqual([
      expect.objectContaining({ requestNo: 12, outcome: "succeeded", final: true }),
    ]);
    expect(set.clock.asleep).toBe(0);
  });

  test("refused there gets that error, and has nothing to give back", async () => {
    const set = scriptedGateway({ reservations: [waiting(4_000), refusal({ retryAfterMs: 9_000 })] });
    const call = caught(batch(set).answer);
    await set.clock.advance(4_000);
    expect(await call).toMatchObject({ code: "rate_limited", status: 429, retryAfterMs: 9_000 });
    expect(set.calls).toHaveLength(0);
    expect(set.settlements).toHaveLength(0);
  });

  test("[edge.left-before] leaves its place when the client leaves, and nothing is sent", async () => {
    const set = scriptedGateway({ reservations: [waiting(4_000), waiting(1_000, { requestNo: 13 })] });
    const call = caught(batch(set).answer);
    await set.clock.advance(4_500);
    set.client.abort();
    expect(await call).toMatchObject({ code: "client_closed", status: 499 });
    expect(set.calls).toHaveLength(0);
    expect(set.settlements).toEqual([
      expect.objectContaining({
        requestNo: 13,
        attempt: 1,
        outcome: "cancelled",
        dispatched: false,
        final: true,
      }),
    ]);
    expect(set.clock.asleep).toBe(0);
  });

  test("leaves its place when the reader of the events leaves", async () => {
    const set = scriptedGateway({ reservations: [waiting(4_000)] });
    const events = set.gateway.stream({ ...REQUEST, class: "batch" }, set.context())[Symbol.asyncIterator]();
    expect((await events.next()).value).toMatchObject({ type: "queued", waitMs: 4_000 });
    await events.return?.();
    await settled();
    expect(set.reserved).toHaveLength(1);
    expect(set.settlements).toEqual([expect.objectContaining({ requestNo: 12, outcome: "cancelled" })]);
    expect(set.clock.asleep).toBe(0);
  });

  test("is not open for longer than its request has time", async () => {
    const set = scriptedGateway({ reservations: [waiting(200_000)] });
    const call = caught(batch(set, 100_000).answer);
    await set.clock.advance(140_000);
    expect(await call).toMatchObject({ code: "deadline_exceeded" });
    expect(set.settlements).toEqual([expect.objectContaining({ outcome: "cancelled", dispatched: false })]);
    expect(set.clock.asleep).toBe(0);
  });

  test("gives its place back when the database fails as it asks again", async () => {
    const set = scriptedGateway({ reservations: [waiting(4_000), down] });
    const call = caught(batch(set).answer);
    await set.clock.advance(4_000);
    expect(await call).toMatchObject({ code: "database_unavailable", status: 503 });
    expect(set.calls).toHaveLength(0);
    expect(set.settlements).toEqual([
      expect.objectContaining({ requestNo: 12, attempt: 1, outcome: "cancelled", dispatched: false }),
    ]);
  });
});

describe("a second attempt in line", () => {
  test("asks again as itself, and counts its wait with the first one's", async () => {
    const set = scriptedGateway({
      reservations: [
        waiting(1_000),
        grant(),
        waiting(2_000, { attempt: 2 }),
        grantTo("b", 2, { waitMs: 30 }),
      ],
      generate: firstFails,
    });
    const { answer, events } = batch(set);
    await set.clock.advance(3_030);
    expect(await answer).toMatchObject({ attempts: 2, keyAlias: "demo-b", waitMs: 3_030 });
    expect(asked(set)).toEqual([
      { attempt: 1, requestNo: undefined, maxWaitMs: 30_000 },
      { attempt: 1, requestNo: 12, maxWaitMs: 29_000 },
      { attempt: 2, requestNo: undefined, maxWaitMs: 29_000 },
      { attempt: 2, requestNo: 12, maxWaitMs: 27_000 },
    ]);
    expect(set.reserved[3]).toMatchObject({ excludeKeys: ["key-a"] });
    expect(events.map(([type]) => type)).toEqual(["queued", "started", "queued", "queued", "started"]);
    expect(set.settlements.map(({ attempt, outcome, final }) => [attempt, outcome, final])).toEqual([
      [1, "failed", false],
      [2, "succeeded", true],
    ]);
  });

  test.each<[string, Reservation | typeof down]>([
    ["refused", refusal()],
    ["not answered by the database", down],
  ])("%s there: the first one's error is told, and the request closed", async (_, second) => {
    const set = scriptedGateway({
      reservations: [grant(), waiting(2_000, { attempt: 2 }), second],
      generate: firstFails,
    });
    const call = caught(batch(set).answer);
    await set.clock.advance(2_000);
    expect(await call).toMatchObject({ code: "key_rejected" });
    expect(set.calls).toHaveLength(1);
    expect(set.settlements).toContainEqual(expect.objectContaining({ attempt: 1, final: true }));
    const given = set.settlements.filter(({ attempt }) => attempt === 2);
    expect(given.map(({ outcome }) => outcome)).toEqual(second === down ? ["cancelled"] : []);
  });
});

describe("[edge.late-start] a start that comes too late", () => {
  /** Sleeps until just before the start at `ms`, and through it by `lateMs`. */
  const oversleep = async (set: ReturnType<typeof scriptedGateway>, ms: number, lateMs: number) => {
    await set.clock.advance(ms - 1);
    set.clock.stall(1 + lateMs);
    await set.clock.advance(0);
  };

  test("by no more than the guard goes as it is", async () => {
    const set = scriptedGateway({ reservations: [grant({ waitMs: 5_000 })] });
    const call = set.invoke();
    await oversleep(set, 5_000, 250);
    expect(await call).toMatchObject({ waitMs: 5_000 });
    expect(set.reserved).toHaveLength(1);
    expect(set.logged).toEqual([]);
  });

  test("is not sent but booked again, as the same attempt", async () => {
    const set = scriptedGateway({ reservations: [grant({ waitMs: 5_000 }), grant({ waitMs: 700 })] });
    const call = set.invoke();
    await oversleep(set, 5_000, 251);
    expect(set.calls).toHaveLength(0);
    expect(asked(set)).toEqual([
      { attempt: 1, requestNo: undefined, maxWaitMs: 30_000 },
      { attempt: 1, requestNo: 12, maxWaitMs: 25_000 },
    ]);
    await set.clock.advance(700);
    expect(await call).toMatchObject({ attempts: 1, waitMs: 5_700 });
    expect(set.calls).toHaveLength(1);
    expect(set.settlements).toEqual([expect.objectContaining({ outcome: "succeeded", final: true })]);
    expect(set.logged).toEqual([[
      "start_too_late",
      expect.objectContaining({ request_id: "r1", late_ms: 251 }),
    ]]);
    expect(set.clock.asleep).toBe(0);
  });

  test("since the database's answer took too long, too: half of the way there and back is its own", async () => {
    const slow = (ms: number) => async () => {
      await set.clock.sleep(ms);
      return grant();
    };
    const set: ReturnType<typeof scriptedGateway> = scriptedGateway({ reservations: [slow(502), slow(500)] });
    const call = set.invoke();
    await set.clock.advance(502);
    expect(set.calls).toHaveLength(0);
    expect(set.reserved).toHaveLength(2);
    await set.clock.advance(500);
    await call;
    expect(set.reserved).toHaveLength(2);
  });

  test.each([[-200, 1], [-300, 2]])(
    "since a lock held the booking up in the database, too: %i ms makes it %i reservations",
    async (waitMs, reservations) => {
      const set = scriptedGateway({ reservations: [grant({ waitMs }), grant()] });
      const result = await set.invoke();
      expect(set.reserved).toHaveLength(reservations);
      expect(result).toMatchObject({ attempts: 1, waitMs: 0 });
    },
  );

  describe("while the database is being connected to", () => {
    test("is none: what was booked after that is sent, and not booked again", async () => {
      let connecting: Promise<void> | null = null;
      const set: ReturnType<typeof scriptedGateway> = scriptedGateway({
        ready: () => connecting ??= set.clock.sleep(900),
        reservations: [grant()],
      });
      const call = set.invoke();
      await set.clock.advance(899);
      expect(set.reserved).toHaveLength(0);
      await set.clock.advance(1);
      await call;
      expect(set.reserved).toHaveLength(1);
      expect(set.logged).toEqual([]);
      expect(set.within).toEqual([8_000 - 900]);
      expect(set.clock.asleep).toBe(0);
    });

    test.each<[string, () => Promise<void>, number]>([
      ["fails", () => Promise.reject(new Error("refused")), 0],
      ["does not come to an end", () => new Promise(() => {}), 4_000],
    ])("and that %s: the reservation tells, within the time that is left", async (_, ready, afterMs) => {
      const set = scriptedGateway({ ready, reservations: [down] });
      const call = caught(set.invoke());
      await set.clock.advance(afterMs);
      expect(await call).toMatchObject({ code: "database_unavailable" });
      expect(set.within).toEqual([8_000 - afterMs]);
    });
  });

  test("is booked again twice at the most; then it is sent", async () => {
    const again = grant({ waitMs: 1_000 });
    const set = scriptedGateway({ reservations: [again, again, again] });
    const call = set.invoke();
    for (let n = 0; n < 2; n++) {
      await oversleep(set, 1_000, 400);
      expect(set.calls).toHaveLength(0);
      expect(set.reserved).toHaveLength(n + 2);
    }
    await oversleep(set, 1_000, 400);
    expect(await call).toMatchObject({ waitMs: 3_000 });
    expect(set.calls).toHaveLength(1);
    expect(set.reserved.map(({ requestNo }) => requestNo)).toEqual([undefined, 12, 12]);
    expect(set.settlements).toHaveLength(1);
  });

  test("may have to queue then", async () => {
    const set = scriptedGateway({
      reservations: [waiting(1_000), grant({ waitMs: 100 }), waiting(2_000), grant({ waitMs: 30 })],
    });
    const { answer, events } = batch(set);
    await set.clock.advance(1_000);
    await oversleep(set, 100, 300);
    await set.clock.advance(2_030);
    expect(await answer).toMatchObject({ waitMs: 3_130 });
    expect(asked(set)).toEqual([
      { attempt: 1, requestNo: undefined, maxWaitMs: 30_000 },
      { attempt: 1, requestNo: 12, maxWaitMs: 29_000 },
      { attempt: 1, requestNo: 12, maxWaitMs: 28_900 },
      { attempt: 1, requestNo: 12, maxWaitMs: 26_900 },
    ]);
    expect(events.map(([type]) => type)).toEqual(["queued", "queued", "queued", "queued", "started"]);
    expect(set.calls).toHaveLength(1);
  });

  test("and finds no other is refused, and has nothing to give back", async () => {
    const set = scriptedGateway({
      reservations: [grant({ waitMs: 1_000 }), refusal({ retryAfterMs: 9_000 })],
    });
    const call = caught(set.invoke());
    await oversleep(set, 1_000, 300);
    expect(await call).toMatchObject({ code: "rate_limited", retryAfterMs: 9_000 });
    expect(set.calls).toHaveLength(0);
    expect(set.settlements).toHaveLength(0);
  });

  test("is given back when the database does not answer then", async () => {
    const set = scriptedGateway({ reservations: [grant({ waitMs: 1_000 }), down] });
    const call = caught(set.invoke());
    await oversleep(set, 1_000, 300);
    expect(await call).toMatchObject({ code: "database_unavailable" });
    expect(set.calls).toHaveLength(0);
    expect(set.settlements).toEqual([
      expect.objectContaining({ requestNo: 12, outcome: "cancelled", dispatched: false }),
    ]);
  });
});
