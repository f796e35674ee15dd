/** The advice for a refused caller: none that they have already followed. */
import { expect, test } from "vitest";
import { refusalError } from "../../../shared/gateway/admission/refusal.ts";
import type { Refusal } from "../../../shared/database/admission/reserve.ts";

const limits = {
  requests: { limit: 30, remaining: 0, resetMs: 0 },
  tokens: { limit: 16_000, remaining: 0, resetMs: 0 },
  requestsDay: { limit: 14_400, remaining: 1, resetMs: 0 },
};

const messageFor = (maxWaitMs: number, retryAfterMs: number) =>
  refusalError(
    {
      status: "refused",
      code: "rate_limited",
      limit: "rpm",
      model: "m",
      retryAfterMs,
      limits,
      detail: null,
    } as Refusal,
    10,
    { maxWaitMs, requestTimeoutMs: 140_000 },
  ).publicMessage;

const USED_UP = "m: the limit of 30 requests a minute is used up.";

test("who did not wait may ask to", () => {
  expect(messageFor(0, 7_000)).toBe(`${USED_UP} Come back in 7 s, or ask with mode "wait".`);
});

test("a caller who waited is advised to wait longer, by the field's name", () => {
  expect(messageFor(3_000, 37_000)).toBe(
    `${USED_UP} Come back in 37 s, or let it wait longer: max_wait_ms was 3000.`,
  );
});

test("nobody is advised to wait for longer than a request may last", () => {
  expect(messageFor(30_000, 150_000)).toBe(`${USED_UP} Come back in 150 s.`);
});
