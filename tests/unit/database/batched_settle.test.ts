import { describe, expect, test } from "vitest";
import { cancelled } from "../../../shared/gateway/attempts/settlement.ts";
import type { Settlement } from "../../../shared/database/admission/settle.ts";
import { batchedSettle } from "../../../shared/database/admission/batched_settle.ts";
import { SqlFailure } from "../../../shared/database/transport/transport.ts";
import { PATIENCE_MS } from "../../harness/patience.ts";
import { grant } from "../gateway/gateway_fixture.ts";

const settlement = (requestNo: number, more: Partial<Settlement> = {}): Settlement => ({
  ...cancelled(grant({ requestNo })),
  outcome: "succeeded",
  dispatched: true,
  inputTokens: 9,
  ...more,
});

type Args = Readonly<Record<string, unknown>>;

/** A database that remembers what it was asked. */
function scriptedGateway(answer: (sqlFunction: string, args: Args) => unknown) {
  const asked: [string, unknown][] = [];
  const settle = batchedSettle((sqlFunction, args) => {
    const list = args.settlements as Args[] | undefined;
    asked.push([sqlFunction, list?.map(({ request_no }) => request_no) ?? args.request_no]);
    return new Promise((resolve) => resolve(answer(sqlFunction, args)));
  }, PATIENCE_MS);
  return { asked, settle };
}

const settled = { status: "settled" };
const allSettled = (sqlFunction: string, { settlements }: Args) =>
  sqlFunction === "eve_settle" ? settled : (settlements as unknown[]).map(() => settled);

describe("settlements that end at about the same time", () => {
  test("go together, in the order of their numbers, and each learns how it went", async () => {
    const { asked, settle } = scriptedGateway((_, { settlements }) =>
      (settlements as Args[]).map(({ request_no }) => ({ status: request_no === 2 ? "late" : "settled" }))
    );
    expect(await Promise.all([3, 1, 2].map((n) => settle(settlement(n))))).toEqual([
      "settled",
      "settled",
      "late",
    ]);
    expect(asked).toEqual([["eve_settle_many", [1, 2, 3]]]);
  });

  test("one alone goes as a list of one, which takes fewer transaction ids", async () => {
    const { asked, settle } = scriptedGateway(allSettled);
    expect(await settle(settlement(7))).toBe("settled");
    expect(asked).toEqual([["eve_settle_many", [7]]]);
  });

  test("no more than 64 are held back", async () => {
    const { asked, settle } = scriptedGateway(allSettled);
    await Promise.all(Array.from({ length: 70 }, (_, n) => settle(settlement(n))));
    expect(asked.map(([, numbers]) => (numbers as number[]).length)).toEqual([64, 6]);
  });

  test.each<[string, Partial<Settlement>]>([
    ["between two attempts", { final: false }],
    ["an answer that may be asked for again", { result: { version: 1 } }],
    ["a slot that comes back", { dispatched: false, outcome: "cancelled" }],
    ["a key that is to be spared", { block: { scope: "key", lasts: { forMs: 1 }, reason: "key_invalid" } }],
  ])("what somebody waits for goes at once: %s", async (_, more) => {
    const { asked, settle } = scriptedGateway(allSettled);
    const other = settle(settlement(1));
    const urgent = settle(settlement(2, more));
    expect(asked).toEqual([["eve_settle", 2]]);
    await Promise.all([other, urgent]);
    expect(asked).toEqual([["eve_settle", 2], ["eve_settle_many", [1]]]);
  });

  test("those that do not simply end are settled one by one", async () => {
    const { asked, settle } = scriptedGateway((sqlFunction) =>
      sqlFunction === "eve_settle" ? { status: "already_settled" } : [settled, null]
    );
    expect(await Promise.all([1, 2].map((n) => settle(settlement(n))))).toEqual([
      "settled",
      "already_settled",
    ]);
    expect(asked).toEqual([["eve_settle_many", [1, 2]], ["eve_settle", 2]]);
  });
});

describe("one that fails", () => {
  test("fails no other", async () => {
    const { settle } = scriptedGateway((sqlFunction, { request_no }) => {
      if (sqlFunction === "eve_settle_many") throw new SqlFailure("40P01", "deadlock detected");
      if (request_no === 2) throw new SqlFailure("EV404", "no reservation 2 attempt 1");
      return settled;
    });
    const [one, two, three] = await Promise.allSettled([1, 2, 3].map((n) => settle(settlement(n))));
    expect([one, three]).toEqual([1, 3].map(() => ({ status: "fulfilled", value: "settled" })));
    expect(two).toMatchObject({ status: "rejected", reason: { code: "unknown_reservation" } });
  });

  test("a database without the function settles one by one", async () => {
    const { settle } = scriptedGateway((sqlFunction) => {
      if (sqlFunction === "eve_settle_many") throw new SqlFailure("PGRST202", "not found", 404);
      return settled;
    });
    expect(await Promise.all([1, 2].map((n) => settle(settlement(n))))).toEqual(["settled", "settled"]);
  });

  test("a database that is away is not asked for each of them", async () => {
    const { asked, settle } = scriptedGateway(() => {
      throw new Error("connection refused");
    });
    const all = await Promise.allSettled([1, 2, 3].map((n) => settle(settlement(n))));
    for (const one of all) expect(one).toMatchObject({ reason: { code: "database_unavailable" } });
    expect(asked).toHaveLength(1);
  });
});
