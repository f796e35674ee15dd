import type { BlockReason, Lasting } from "../contract/block.ts";
import type { Diagnosis } from "./provider.ts";

/** A refusal for lack of quota that names no time: a whole minute. */
const BARE_QUOTA_BLOCK_MS = 60_000;
/** A time of less than a second would only repeat the refusal. */
const SHORTEST_BLOCK_MS = 1_000;
/** The longest block that a header may cause. */
const LONGEST_BLOCK_MS = 86_400_000;
/** A 403 without an explanation: the key is not used for a while, and then tried again. */
export const UNEXPLAINED_DENIAL_MS = 600_000;

/** The key is of no use, for anything. */
export function badKey(reason: BlockReason): Diagnosis {
  return {
    fault: "key",
    retryable: true,
    block: { scope: "key", lasts: { until: "forever" }, reason },
    code: "key_rejected",
  };
}

/** The key is good, but not for this model. */
export function noSuchModel(reason: BlockReason, lasts: Lasting): Diagnosis {
  return {
    fault: "key_model",
    retryable: true,
    block: { scope: "key_model", lasts, reason },
    code: "model_unavailable",
  };
}

/** @param afterMs when upstream says to come back; null: it does not */
export function quotaUsedUp(afterMs: number | null): Diagnosis {
  const forMs = Math.min(LONGEST_BLOCK_MS, Math.max(SHORTEST_BLOCK_MS, afterMs ?? BARE_QUOTA_BLOCK_MS));
  return {
    fault: "lane",
    retryable: true,
    block: { scope: "lane", lasts: { forMs }, reason: "upstream_minute_quota" },
    code: "upstream_rate_limited",
  };
}

/** Upstream is overloaded or broken, or did not answer in time. */
export function upstreamsFault(status: number | null): Diagnosis {
  const code = status === 408 || status === 504 ? "upstream_timeout" : "upstream_unavailable";
  return { fault: "nobody", retryable: true, block: null, code };
}

/** The request cannot be served, with any key. */
export function callersFault(
  code: "upstream_invalid_request" | "prompt_too_large" | "content_blocked" | "unsupported_feature" =
    "upstream_invalid_request",
  capability?: Diagnosis["capability"],
): Diagnosis {
  return {
    fault: "caller",
    retryable: false,
    block: null,
    code,
    ...(capability !== undefined && { capability }),
  };
}

/** Upstream does not serve where this gateway runs. */
export const WRONG_REGION: Diagnosis = {
  fault: "region",
  retryable: false,
  block: null,
  code: "upstream_region",
};

/** The answer is longer than the gateway reads; the next one would be too, and would cost money. */
export const ANSWER_TOO_LARGE: Diagnosis = {
  fault: "nobody",
  retryable: false,
  block: null,
  code: "answer_too_large",
};
