import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { ReserveCall } from "../../../shared/database/admission/reserve.ts";
import { batchedReserve } from "../../../shared/database/admission/batched_reserve.ts";
import { PATIENCE_MS } from "../../harness/patience.ts";
import { SqlFailure } from "../../../shared/database/transport/transport.ts";
import { reserveInput } from "../../harness/reserve_input.ts";

// A call is held up once its timer says so, and how soon that is on this machine must not decide who goes with whom.
beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }));
afterEach(() => void vi.useRealTimers());

const input = (requestId: string, more: Partial<ReserveCall> = {}): ReserveCall => ({
  ...reserveInput({ requestId, leaseMs: 1_000 }),
  callId: "call",
  deadline: "2026-01-01T00:00:08.000Z",
  ...more,
});

type Args = Readonly<Record<string, unknown>>;

const refused = { status: "refused", code: "rate_limited", retry_after_ms: 7 };

/** A database that remembers what it was asked, and answers when it is let. */
function stage(answer: (sqlFunction: string, args: Args) => unknown = allRefused) {
  const asked: [string, unknown][] = [];
  const gates: (() => void)[] = [];
  let now = 0;
  const reserve = batchedReserve(
    async (sqlFunction, args) => {
      const list = args.calls as Args[] | undefined;
      asked.push([sqlFunction, list?.map(({ request_id }) => request_id) ?? args.request_id]);
      await new Promise<void>((resolve) => gates.push(resolve));
      return answer(sqlFunction, args);
    },
    PATIENCE_MS,
    () => now,
  );
  return {
    asked,
    reserve,
    /** Answers what has been asked, and what is asked then, until nobody waits. */
    async answerAll(): Promise<void> {
      for (let quiet = 0; quiet < 3; quiet++) {
        await new Promise((resolve) => setImmediate(resolve));
        if (gates.length > 0) quiet = 0;
        for (const open of gates.splice(0)) open();
      }
    },
    /** Answers what has been asked by now, and lets the next be asked. */
    async answerOnce(): Promise<void> {
      await new Promise((resolve) => setImmediate(resolve));
      for (const open of gates.splice(0)) open();
      await new Promise((resolve) => setImmediate(resolve));
    },
    later: (ms: number) => now += ms,
  };
}

function allRefused(sqlFunction: string, { calls }: Args): unknown {
  return sqlFunction === "eve_reserve" ? refused : (calls as unknown[]).map(() => refused);
}

const named = (...names: string[]) => names.map((name) => input(name));

describe("reservations", () => {
  test("one alone goes at once, by itself", async () => {
    const { asked, reserve, answerAll } = stage();
    const answer = reserve(input("a"));
    await Promise.resolve();
    expect(asked).toEqual([["eve_reserve", "a"]]);
    await answerAll();
    expect(await answer).toMatchObject({ status: "refused", retryAfterMs: 7 });
  });

  test("calls that come while others are under way share a batch, and each gets its own answer", async () => {
    const { asked, reserve, answerAll } = stage((sqlFunction, { calls, request_id }) => {
      const one = (id: unknown) => ({ ...refused, detail: String(id) });
      return sqlFunction === "eve_reserve"
        ? one(request_id)
        : (calls as Args[]).map(({ request_id }) => one(request_id));
    });
    const first = reserve(input("a"));
    await Promise.resolve();
    const others = named("b", "c", "d").map(reserve);
    await answerAll();
    expect(asked).toEqual([["eve_reserve", "a"], ["eve_reserve_many", ["b", "c", "d"]]]);
    expect((await Promise.all([first, ...others])).map((answer) => "detail" in answer && answer.detail))
      .toEqual(["a", "b", "c", "d"]);
  });

  test("calls at the same moment share a batch at once", async () => {
    const { asked, reserve, answerAll } = stage();
    const all = named("a", "b").map(reserve);
    await answerAll();
    await Promise.all(all);
    expect(asked).toEqual([["eve_reserve_many", ["a", "b"]]]);
  });

  const sizes = (asked: [string, unknown][]) => asked.map(([, ids]) => Array.isArray(ids) ? ids.length : 1);

  test("a burst goes in small batches, so that its calls do not come back all at one moment", async () => {
    const { asked, reserve, answerAll } = stage();
    const all = Array.from({ length: 20 }, (_, n) => reserve(input(`r${n}`)));
    await answerAll();
    await Promise.all(all);
    expect(sizes(asked)).toEqual([8, 8, 4]);
  });

  describe("a queue that stands", () => {
    /** 90 at once, and 20 ms later there are still more than a burst's list. */
    async function standing() {
      const staged = stage();
      const all: Promise<unknown>[] = [];
      const ask = (count: number) => {
        for (let n = 0; n < count; n++) all.push(staged.reserve(input(`r${all.length}`)));
      };
      ask(90);
      for (const ms of [0, 10, 10]) {
        staged.later(ms);
        await staged.answerOnce();
      }
      const settled = async () => {
        await staged.answerAll();
        await Promise.all(all);
        return sizes(staged.asked);
      };
      return { ...staged, all, ask, settled };
    }

    test("goes in long lists, no more than 32 in one", async () => {
      const { settled } = await standing();
      expect(await settled()).toEqual([8, 8, 8, 32, 32, 2]);
    });

    test("stands until there have been few for a while", async () => {
      const { ask, settled, later } = await standing();
      await settled();
      for (const ms of [10, 10, 1]) {
        ask(1);
        await settled();
        later(ms);
      }
      ask(16);
      expect((await settled()).slice(6)).toEqual([1, 1, 1, 8, 8]);
    });

    test("is a thing of the past after a pause", async () => {
      const { ask, settled, later } = await standing();
      await settled();
      later(201);
      ask(16);
      expect((await settled()).slice(6)).toEqual([8, 8]);
    });

    test("still stands after a moment in which nothing moves", async () => {
      const { ask, settled, later } = await standing();
      await settled();
      later(100);
      ask(16);
      expect((await settled()).slice(6)).toEqual([16]);
    });

    test("is joined by those who were answered and ask again at once", async () => {
      const { ask, all, settled } = await standing();
      const backAgain = async () => {
        // As through the layers between the ledger and its caller.
        for (let n = 0; n < 5; n++) await undefined;
        ask(1);
      };
      // The last 32 but two of the 90; they are the fifth list.
      for (const answer of all.slice(56, 88)) answer.then(backAgain);
      await settled();
      expect(await settled()).toEqual([8, 8, 8, 32, 32, 32, 2]);
    });
  });

  test("a burst that comes after another is no queue", async () => {
    const { asked, reserve, answerAll, later } = stage();
    for (const ms of [30, 30, 30]) {
      const all = Array.from({ length: 16 }, (_, n) => reserve(input(`r${n}`)));
      await answerAll();
      await Promise.all(all);
      later(ms);
    }
    expect(sizes(asked)).toEqual([8, 8, 8, 8, 8, 8]);
  });

  test.each<[string, Partial<ReserveCall>]>([
    ["another attempt", { attempt: 2 }],
    ["keys that are of no use", { excludeKeys: ["k"] }],
    ["keys to be avoided", { avoidKeys: ["k"] }],
    ["a scoped token", { tokenId: "t" }],
  ])("what is not plain goes by itself, and waits for nobody: %s", async (_, more) => {
    const { asked, reserve, answerAll } = stage();
    const all = [reserve(input("a")), reserve(input("b")), reserve(input("special", more))];
    await Promise.resolve();
    expect(asked).toEqual([["eve_reserve", "special"], ["eve_reserve_many", ["a", "b"]]]);
    await answerAll();
    await Promise.all(all);
  });

  test("what cannot be had together is asked for one by one, and so are its like for a while", async () => {
    const { asked, reserve, answerAll, later } = stage((sqlFunction, args) =>
      sqlFunction === "eve_reserve"
        ? refused
        : (args.calls as Args[]).map(({ models }) => (models as string[])[0] === "full" ? null : refused)
    );
    const pair = (
      name: string,
    ) => [reserve(input(name)), reserve(input(`${name}-full`, { models: ["full"] }))];
    const first = pair("a");
    await answerAll();
    for (const answer of await Promise.all(first)) expect(answer).toMatchObject({ code: "rate_limited" });
    expect(asked.splice(0)).toEqual([["eve_reserve_many", ["a", "a-full"]], ["eve_reserve", "a-full"]]);

    const second = pair("b");
    await answerAll();
    await Promise.all(second);
    expect(asked.splice(0)).toEqual([["eve_reserve", "b-full"], ["eve_reserve", "b"]]);

    later(1_000);
    const third = pair("c");
    await answerAll();
    await Promise.all(third);
    expect(asked[0]).toEqual(["eve_reserve_many", ["c", "c-full"]]);
  });

  test("a call that is held up holds up nobody else", async () => {
    const { asked, reserve, answerAll } = stage();
    const stuck = reserve(input("stuck"));
    await Promise.resolve();
    const other = reserve(input("other"));
    await vi.advanceTimersByTimeAsync(19);
    expect(asked).toEqual([["eve_reserve", "stuck"]]);
    await vi.advanceTimersByTimeAsync(1);
    expect(asked).toEqual([["eve_reserve", "stuck"], ["eve_reserve", "other"]]);
    await answerAll();
    await Promise.all([stuck, other]);
  });
});

describe("one that fails", () => {
  test("fails no other", async () => {
    const { reserve, answerAll } = stage((sqlFunction, { request_id }) => {
      if (sqlFunction === "eve_reserve_many") throw new SqlFailure("23505", "the same request twice");
      if (request_id === "b") throw new SqlFailure("XX000", "odd");
      return refused;
    });
    const all = Promise.allSettled(named("a", "b", "c").map(reserve));
    await answerAll();
    expect((await all).map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  });

  test("a database without the function reserves one by one", async () => {
    const { reserve, answerAll } = stage((sqlFunction) => {
      if (sqlFunction === "eve_reserve_many") throw new SqlFailure("PGRST202", "not found", 404);
      return refused;
    });
    const all = Promise.all(named("a", "b").map(reserve));
    await answerAll();
    expect(await all).toHaveLength(2);
  });

  test("a database that is away is not asked for each of them", async () => {
    const { asked, reserve, answerAll } = stage(() => {
      throw new Error("connection refused");
    });
    const all = Promise.allSettled(named("a", "b", "c").map(reserve));
    await answerAll();
    for (const one of await all) expect(one).toMatchObject({ reason: { code: "database_unavailable" } });
    expect(asked).toHaveLength(1);
  });
});
