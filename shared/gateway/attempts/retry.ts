import type { Capability } from "../../contract/block.ts";
import type { Outcome } from "./dispatch.ts";

/** Attempts of one request, the first included. The database accepts no more. */
export const MAX_ATTEMPTS = 3;

/** With less time than this left, another attempt would only make the caller wait for the same error. */
export const LEAST_TIME_MS = 2_000;

/** Back-off when no key or lane is at fault: full jitter up to 500 ms, then 1 s: an overload passes in seconds, and a person waits. */
const BACKOFF_BASE_MS = 500;

export type NextStep =
  | { again: false }
  | {
    again: true;
    /** `exclude`: this key is of no use now. `avoid`: another one first. `any`: the block says enough. */
    key: "exclude" | "avoid" | "any";
    pauseMs: number;
  };

export interface Situation {
  outcome: Outcome;
  /** The number of the attempt that ended so. */
  attempt: number;
  /** Of the request's time. */
  leftMs: number;
  upstreamTimeoutMs: number;
  random: () => number;
  /** Whether it is worth asking again without a feature that the model has just refused. Asked at most once. */
  without: (capability: Capability) => boolean;
}

/**
 * Whether another attempt makes sense, and with which key. Pure but for the jitter. No package for retries fits: they repeat one
 * function, while each attempt here is another reservation, often of another key, and whose fault it was decides.
 */
export function nextStep(situation: Situation): NextStep {
  const { outcome, attempt, leftMs, upstreamTimeoutMs, random } = situation;
  if (attempt >= MAX_ATTEMPTS || leftMs < LEAST_TIME_MS) return { again: false };
  switch (outcome.kind) {
    case "answered":
      return { again: false };
    case "not_sent":
      return outcome.block === null ? { again: false } : { again: true, key: "exclude", pauseMs: 0 };
    case "broken_off":
      // A call that took all of its time would do so again: only with as much time left is it worth repeating.
      return outcome.how === "timed_out" && outcome.dispatched && outcome.used === null &&
          leftMs >= upstreamTimeoutMs
        ? { again: true, key: "avoid", pauseMs: 0 }
        : { again: false };
    case "failed": {
      const { diagnosis } = outcome.failure;
      // The client has part of the answer: another attempt would start it again.
      if (outcome.used !== null) return { again: false };
      if (diagnosis.capability !== undefined) {
        return situation.without(diagnosis.capability)
          ? { again: true, key: "any", pauseMs: 0 }
          : { again: false };
      }
      if (!diagnosis.retryable) return { again: false };
      if (diagnosis.fault === "key" || diagnosis.fault === "key_model") {
        return { again: true, key: "exclude", pauseMs: 0 };
      }
      if (diagnosis.fault === "lane") return { again: true, key: "any", pauseMs: 0 };
      const pauseMs = Math.round(random() * BACKOFF_BASE_MS * 2 ** (attempt - 1));
      return pauseMs + LEAST_TIME_MS > leftMs ? { again: false } : { again: true, key: "avoid", pauseMs };
    }
  }
}
