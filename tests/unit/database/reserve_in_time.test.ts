import { describe, expect, test } from "vitest";
import { DatabaseClock } from "../../../shared/database/admission/database_clock.ts";
import type { ReserveInput } from "../../../shared/database/admission/reserve.ts";
import { createLedger } from "../../../shared/database/admission/ledger.ts";
import { SqlFailure } from "../../../shared/database/transport/transport.ts";
import { settled, StillClock } from "../gateway/gateway_fixture.ts";
import { reserveInput } from "../../harness/reserve_input.ts";

const ASK = reserveInput({ requestId: "r1" });
const WITHIN_MS = 8_000;
const REFUSED = { status: "refused", code: "rate_limited", retry_after_ms: 7 };

type Args = Readonly<Record<string, unknown>>;

/** A database whose every answer the test gives, and what it has been asked. */
function database(answers: Record<string, (args: Args, nth: number) => unknown>) {
  const clock = new StillClock();
  const asked: [string, Args][] = [];
  const background: Promise<void>[] = [];
  const ledger = createLedger(
    async (name, args) => {
      asked.push([name, args]);
      const nth = asked.filter(([other]) => other === name).length;
      return await answers[name]!(args, nth);
    },
    30_000,
    undefined,
    { clock, background: (work) => void background.push(work) },
  );
  const names = () => asked.map(([name]) => name);
  const caught = (input: Partial<ReserveInput> = {}) =>
    ledger.reserve({ ...ASK, ...input }, WITHIN_MS).then(
      (answer) => answer,
      ({ code }: { code: string }) => ({ status: "failed", code }),
    );
  return { clock, asked, names, background, ledger, reserve: caught };
}

const never = () => new Promise(() => {});

describe("a reservation without an answer", () => {
  test("is not waited for, and given back as the call that it was", async () => {
    const late = Promise.withResolvers<unknown>();
    const set = database({
      eve_reserve: () => late.promise,
      eve_give_back: () => ({ status: "given_back" }),
    });
    const call = set.reserve();
    await set.clock.advance(WITHIN_MS);
    expect(await call).toEqual({ status: "failed", code: "database_unavailable" });
    await settled();
    const [[, sent], [name, back]] = set.asked as [[string, Args], [string, Args]];
    expect(name).toBe("eve_give_back");
    expect(back).toEqual({
      request_id: "r1",
      consumer_id: null,
      attempt: 1,
      call_id: sent.call_id,
      deadline: sent.deadline,
    });
    late.resolve(REFUSED);
    await set.background[0];
    expect(set.clock.asleep).toBe(0);
  });

  test.each<[string, unknown]>([
    ["a connection that broke", new TypeError("connection reset")],
    ["a server that ended", new SqlFailure("57P01", "terminating connection", 500)],
    ["a REST API that lost its connection", new SqlFailure("PGRST001", "connection lost", 503)],
    ["somebody in between", new SqlFailure("", "<h1>502</h1>", 502)],
  ])("%s: it may have been booked", async (_, thrown) => {
    const set = database({
      eve_reserve: () => Promise.reject(thrown),
      eve_give_back: () => ({ status: "nothing" }),
    });
    expect(await set.reserve()).toMatchObject({ code: "database_unavailable" });
    await set.background[0];
    expect(set.names()).toEqual(["eve_reserve", "eve_give_back"]);
  });

  test.each<[string, unknown]>([
    ["a statement time-out", new SqlFailure("57014", "canceling statement", 500)],
    ["a deadlock", new SqlFailure("40P01", "deadlock", 500)],
    ["too many connections", new SqlFailure("53300", "too many clients", 500)],
    ["a refusal to be late", new SqlFailure("EV503", "late", 400, "1")],
  ])("%s: what was done is undone, so nothing is asked again", async (_, thrown) => {
    const set = database({ eve_reserve: () => Promise.reject(thrown) });
    expect(await set.reserve()).toMatchObject({ code: "database_unavailable" });
    expect(set.background).toEqual([]);
  });

  test("is given back until the database answers, sooner when it has answered another call", async () => {
    const set = database({
      eve_reserve: ({ request_id }) => request_id === "r1" ? never() : REFUSED,
      eve_give_back: (_, nth) =>
        nth < 4 ? Promise.reject(new TypeError("refused")) : { status: "given_back" },
    });
    const call = set.reserve();
    await set.clock.advance(WITHIN_MS);
    await call;
    await set.clock.advance(250 + 500);
    expect(set.names()).toEqual(["eve_reserve", ...Array(3).fill("eve_give_back")]);
    await set.reserve({ requestId: "r2" });
    await set.background[0];
    expect(set.names().at(-1)).toBe("eve_give_back");
  });

  test("may still come: it is asked about again then", async () => {
    const set = database({
      eve_reserve: never,
      eve_give_back: (_, nth) => nth === 1 ? { status: "wait", wait_ms: 70 } : { status: "nothing" },
    });
    const call = set.reserve();
    await set.clock.advance(WITHIN_MS + 69);
    await call;
    expect(set.names()).toEqual(["eve_reserve", "eve_give_back"]);
    await set.clock.advance(1);
    await set.background[0];
    expect(set.names()).toEqual(["eve_reserve", "eve_give_back", "eve_give_back"]);
  });

  test("ends with its lease", async () => {
    const set = database({ eve_reserve: never, eve_give_back: () => Promise.reject(new TypeError("away")) });
    const call = set.reserve();
    await set.clock.advance(WITHIN_MS);
    await call;
    await set.clock.advance(ASK.leaseMs + 10_000);
    await set.background[0];
    expect(set.clock.asleep).toBe(0);
  });

  test("goes before a repeat of the same request, and holds up no other", async () => {
    const back = Promise.withResolvers<unknown>();
    const set = database({
      eve_reserve: (_, nth) => nth === 1 ? Promise.reject(new TypeError("reset")) : REFUSED,
      eve_give_back: () => back.promise,
    });
    await set.reserve();
    const again = set.reserve();
    expect(await set.reserve({ requestId: "r2" })).toMatchObject({ status: "refused" });
    expect(set.asked.map(([name, { request_id }]) => [name, request_id])).toEqual([
      ["eve_reserve", "r1"],
      ["eve_give_back", "r1"],
      ["eve_reserve", "r2"],
    ]);
    back.resolve({ status: "given_back" });
    expect(await again).toMatchObject({ status: "refused" });
    expect(set.names()).toHaveLength(4);
  });

  test("the process ends: what is unanswered is given back", async () => {
    const set = database({ eve_reserve: never, eve_give_back: () => ({ status: "given_back" }) });
    void set.reserve();
    await settled();
    set.ledger.leave();
    await set.background[0];
    expect(set.names()).toEqual(["eve_reserve", "eve_give_back"]);
  });
});

describe("a database whose clock differs", () => {
  const HOUR = 3_600_000;

  test.each([HOUR, -HOUR])("by %i ms is understood after one refusal", async (aheadMs) => {
    const late = (deadline: unknown) => Date.now() + aheadMs > Date.parse(String(deadline));
    const set = database({
      eve_reserve: ({ deadline }) =>
        late(deadline)
          ? Promise.reject(new SqlFailure("EV503", "late", 400, String(Date.now() + aheadMs)))
          : REFUSED,
    });
    expect(await set.reserve()).toMatchObject({ status: "refused" });
    expect(await set.reserve({ requestId: "r2" })).toMatchObject({ status: "refused" });
    // A clock that is behind refuses nobody.
    expect(set.names()).toHaveLength(aheadMs > 0 ? 3 : 2);
  });

  test("is corrected by as much as is certain", () => {
    let ours = 1_000;
    const clock = new DatabaseClock(() => ours);
    ours = 46_000;
    // Heard 45 s after it was asked: the same clock may have told it at the end.
    expect(clock.learn(46_000, 1_000)).toBe(false);
    expect(clock.learn(50_000, 45_990)).toBe(true);
    expect(clock.now()).toBe(50_000);
    expect(clock.learn(49_990, 45_980)).toBe(false);
  });
});
