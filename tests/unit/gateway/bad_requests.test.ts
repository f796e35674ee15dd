import { describe, expect, test } from "vitest";
import type { Caller } from "../../../shared/contract/caller.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { badRequestCounter } from "../../../shared/gateway/bad_requests.ts";
import type { BadRequestCount } from "../../../shared/database/maintenance/bad_requests.ts";

const BOT: Caller = { kind: "service", consumerId: "b", tokenId: null, name: "bot" };

/** A counter whose second is over when the test says so. */
function counter(count?: () => Promise<void>) {
  const handed: (readonly BadRequestCount[])[] = [];
  const logged: string[] = [];
  const work: Promise<void>[] = [];
  let over = () => {};
  const note = badRequestCounter({
    count: (counts) => {
      handed.push(counts);
      return count?.() ?? Promise.resolve();
    },
    clock: { now: () => 0, sleep: () => new Promise((resolve) => over = resolve) },
    background: (promise) => void work.push(promise),
    log: (_, event) => void logged.push(event),
  });
  return { note, handed, logged, work, endSecond: async () => (over(), await Promise.all(work)) };
}

describe("requests refused for what they are", () => {
  test("are counted for a second, and handed over at once", async () => {
    const { note, handed, work, endSecond } = counter();
    for (let n = 0; n < 500; n++) note(new GatewayError("invalid_json"), BOT);
    note(new GatewayError("invalid_request"), BOT);
    note(new GatewayError("invalid_json"), null);
    note(new GatewayError("not_found"), null);
    expect(handed).toEqual([]);
    expect(work).toHaveLength(1);
    await endSecond();
    expect(handed).toEqual([[
      { code: "invalid_json", caller: BOT, times: 500 },
      { code: "invalid_request", caller: BOT, times: 1 },
      { code: "invalid_json", caller: null, times: 1 },
      { code: "not_found", caller: null, times: 1 },
    ]]);
    note(new GatewayError("invalid_json"), BOT);
    await endSecond();
    expect(handed[1]).toEqual([{ code: "invalid_json", caller: BOT, times: 1 }]);
  });

  test("are those alone: what the books have otherwise is not counted twice", () => {
    const { note, work } = counter();
    for (
      const code of [
        "rate_limited",
        "credential_invalid",
        "internal",
        "unknown_model",
        "prompt_too_large",
      ] as const
    ) {
      note(new GatewayError(code), BOT);
    }
    expect(work).toEqual([]);
  });

  test("that cannot be handed over are logged, and disturb nobody", async () => {
    const { note, logged, endSecond } = counter(() => Promise.reject(new Error("no connection")));
    note(new GatewayError("invalid_json"), BOT);
    await endSecond();
    expect(logged).toEqual(["bad_requests_not_counted"]);
  });
});
