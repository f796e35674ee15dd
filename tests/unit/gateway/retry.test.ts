import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { Outcome } from "../../../shared/gateway/attempts/dispatch.ts";
import { nextStep } from "../../../shared/gateway/attempts/retry.ts";
import { type Diagnosis, ProviderFailure } from "../../../shared/providers/provider.ts";

const failed = (diagnosis: Partial<Diagnosis>): Outcome => ({
  kind: "failed",
  latencyMs: 1,
  used: null,
  failure: new ProviderFailure(
    { fault: "nobody", retryable: true, block: null, code: "upstream_unavailable", ...diagnosis },
    "",
    503,
  ),
});
const secretMissing: Outcome = {
  kind: "not_sent",
  error: new GatewayError("secret_missing"),
  block: { scope: "key", lasts: { forMs: 1 }, reason: "secret_missing" },
};
const unsupported: Outcome = {
  kind: "not_sent",
  error: new GatewayError("unsupported_feature"),
  block: null,
};
const timedOut: Outcome = {
  kind: "broken_off",
  how: "timed_out",
  dispatched: true,
  latencyMs: 1,
  used: null,
};
const clientGone: Outcome = {
  kind: "broken_off",
  how: "client_closed",
  dispatched: true,
  latencyMs: 1,
  used: null,
};

const next = (outcome: Outcome, more: Partial<Parameters<typeof nextStep>[0]> = {}) =>
  nextStep({
    outcome,
    attempt: 1,
    leftMs: 100_000,
    upstreamTimeoutMs: 60_000,
    random: () => 0.5,
    without: () => false,
    ...more,
  });

describe("nextStep", () => {
  test("a key that is bad, and one bad for this model, are left out at once", () => {
    for (const fault of ["key", "key_model"] as const) {
      expect(next(failed({ fault }))).toEqual({ again: true, key: "exclude", pauseMs: 0 });
    }
    expect(next(secretMissing)).toEqual({ again: true, key: "exclude", pauseMs: 0 });
  });

  test("a lane that is full needs no pause: its block sends the next attempt elsewhere, or makes it wait", () => {
    expect(next(failed({ fault: "lane" }))).toEqual({ again: true, key: "any", pauseMs: 0 });
  });

  test("an overload is waited out, longer each time and at random, then another key first", () => {
    expect(next(failed({}))).toEqual({ again: true, key: "avoid", pauseMs: 250 });
    expect(next(failed({}), { attempt: 2 })).toEqual({ again: true, key: "avoid", pauseMs: 500 });
    expect(next(failed({}), { random: () => 0 })).toMatchObject({ pauseMs: 0 });
  });

  test.each<[string, Outcome, Partial<Parameters<typeof nextStep>[0]>]>([
    ["the third attempt", failed({}), { attempt: 3 }],
    ["no time left", failed({ fault: "key" }), { leftMs: 1_999 }],
    ["a pause that would eat the time", failed({}), { leftMs: 2_100 }],
    ["the caller's fault", failed({ fault: "caller", retryable: false }), {}],
    ["our region", failed({ fault: "region", retryable: false }), {}],
    ["a feature that the model lacks", unsupported, {}],
    ["a client that has gone", clientGone, {}],
    ["a call that took all of its time, with less of it left", timedOut, { leftMs: 59_999 }],
  ])("%s ends it", (_, outcome, more) => {
    expect(next(outcome, more)).toEqual({ again: false });
  });

  test("a call that timed out is repeated while as much time is left", () => {
    expect(next(timedOut, { leftMs: 60_000 })).toMatchObject({ again: true });
  });
});
