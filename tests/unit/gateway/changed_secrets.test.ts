import { describe, expect, test } from "vitest";
import { usingChangedSecrets } from "../../../shared/gateway/changed_secrets.ts";
import type { AwaitingSecret } from "../../../shared/database/maintenance/key_secrets.ts";
import type { Ledger } from "../../../shared/database/admission/ledger.ts";
import type { Reservation, ReserveInput } from "../../../shared/database/admission/reserve.ts";
import { secretHash } from "../../../shared/secrets/key_facts.ts";

const INPUT = { requestId: "r" } as ReserveInput;
const NO_KEY = { status: "refused", code: "no_active_key" } as Reservation;
const GRANTED = { status: "granted" } as Reservation;
const KEY: AwaitingSecret = { id: "id-a", alias: "a", envVarName: "A", rejected: [] };

/** A ledger that grants once a key was put into use again, and refuses until then. */
function setUp(awaiting: AwaitingSecret[], { secret = "now", refusal = NO_KEY, fails = false } = {}) {
  let now = 0;
  let isOn = false;
  const seen = {
    reserved: [] as (number | undefined)[],
    looks: 0,
    changed: [] as string[],
    logged: [] as string[],
  };
  const ledger = {
    reserve: (_input: ReserveInput, withinMs?: number) => {
      seen.reserved.push(withinMs);
      return Promise.resolve(isOn ? GRANTED : refusal);
    },
  } as Partial<Ledger> as Ledger;
  const keys = {
    awaiting: () => {
      seen.looks++;
      now += 10;
      return fails ? Promise.reject(new Error("down")) : Promise.resolve(awaiting);
    },
    changed: (_id: string, hash: string) => {
      seen.changed.push(hash);
      isOn = true;
      return Promise.resolve(true);
    },
  };
  const using = usingChangedSecrets(ledger, {
    keys,
    secrets: (name) => name === "A" ? secret : null,
    clock: { now: () => now },
    log: (_level, event) => seen.logged.push(event),
  });
  return { using, seen, pass: (ms: number) => now += ms };
}

describe("a reservation that is refused for lack of a key", () => {
  test("is tried once more, in what is left of its time, when a key has another secret than was rejected", async () => {
    const { using, seen } = setUp([{ ...KEY, rejected: [await secretHash("id-a", "mistyped")] }]);
    expect(await using.reserve(INPUT, 1_000)).toBe(GRANTED);
    expect(seen).toMatchObject({ reserved: [1_000, 990], changed: [await secretHash("id-a", "now")] });
    expect(seen.logged).toEqual(["key_secret_changed"]);
  });

  test("stays refused while the secret is the one that was rejected, and while there is none", async () => {
    const { using, seen } = setUp([
      { ...KEY, rejected: [await secretHash("id-a", "now")] },
      { ...KEY, envVarName: "NOT_SET" },
    ]);
    expect(await using.reserve(INPUT)).toBe(NO_KEY);
    expect(seen).toMatchObject({ reserved: [undefined], changed: [] });
  });

  test("costs the database one look in five seconds, however many requests come", async () => {
    const { using, seen, pass } = setUp([]);
    await Promise.all(Array.from({ length: 50 }, () => using.reserve(INPUT)));
    await using.reserve(INPUT);
    expect(seen.looks).toBe(1);
    pass(5_000);
    await using.reserve(INPUT);
    expect(seen.looks).toBe(2);
  });

  test("that come together share the look, and all come through", async () => {
    const { using } = setUp([KEY]);
    const answers = await Promise.all(Array.from({ length: 5 }, () => using.reserve(INPUT)));
    expect(answers).toEqual(Array.from({ length: 5 }, () => GRANTED));
  });

  test("is refused as it was where the database does not say", async () => {
    const { using, seen } = setUp([KEY], { fails: true });
    expect(await using.reserve(INPUT)).toBe(NO_KEY);
    expect(seen.logged).toEqual(["key_secrets_unread"]);
  });
});

test("nothing is asked about any other refusal", async () => {
  const refusal = { status: "refused", code: "rate_limited" } as Reservation;
  const { using, seen } = setUp([KEY], { refusal });
  expect(await using.reserve(INPUT)).toBe(refusal);
  expect(seen.looks).toBe(0);
});
