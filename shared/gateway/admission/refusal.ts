import { GatewayError } from "../../contract/gateway_error.ts";
import type { Limits } from "../../contract/limits.ts";
import type { Refusal } from "../../database/admission/reserve.ts";

/** How long a caller was ready to wait for a slot, 0 for not at all; and how long a whole request lasts at most. */
interface Waited {
  maxWaitMs: number;
  requestTimeoutMs: number;
}

/** A refusal by the ledger in words for the caller: which limit, how much of it, when to come back. */
export function refusalError(
  refusal: Refusal,
  estimatedTokens: number,
  waited: Waited,
): GatewayError {
  const { code, limit, model, limits, retryAfterMs } = refusal;
  return new GatewayError(code, {
    message: messageOf(refusal, estimatedTokens, waited),
    detail: refusal.detail ?? undefined,
    // The ledger knows better than the table whether coming back helps.
    retryable: retryAfterMs !== null,
    retryAfterMs,
    limits,
    model,
    details: { limit, model, retry_after_ms: retryAfterMs, estimated_tokens: estimatedTokens },
  });
}

function messageOf(
  { code, limit, model, limits, retryAfterMs }: Refusal,
  tokens: number,
  waited: Waited,
): string | undefined {
  const comeBack = retryAfterMs === null
    ? "Coming back later will not help: use another model."
    : `Come back in ${Math.ceil(retryAfterMs / 1000)} s`;
  switch (code) {
    case "rate_limited":
      return `${model}: the limit of ${amount(limits, limit)} is used up. ${comeBack}${
        orWait(retryAfterMs, waited)
      }.`;
    case "daily_limit":
      return `${model}: the limit of ${amount(limits, limit)} is used up. ${comeBack}, or use another model.`;
    case "lane_blocked":
      return `${model}: upstream asked us to pause. ${comeBack}, or use another model.`;
    case "too_many_waiting":
      return `${model}: you have as many starts booked ahead as one consumer may. ${comeBack}, when one of them has begun, or use another model.`;
    case "prompt_too_large":
      return `The prompt has about ${tokens} tokens, and ${model} takes at most ${
        amount(limits, "tpm")
      }: it can never pass. Shorten or split it.`;
    case "unknown_model":
      return `The gateway has no model ${model}. Use one that has a row in google_ai_model_limits, or add one.`;
    case "model_not_allowed":
      return `This consumer may not use ${model}. Ask for one of its own models, or ask the owner to add it.`;
    case "no_active_key":
      return `No key can serve ${model}: none is active, or all are blocked. The owner should look at google_ai_api_keys.` +
        (retryAfterMs === null ? "" : ` ${comeBack}.`);
    default:
      return undefined;
  }
}

/** Advice that would help: a caller who did wait is not told to wait, and nobody is told to wait longer than a request lasts. */
function orWait(retryAfterMs: number | null, { maxWaitMs, requestTimeoutMs }: Waited): string {
  if (maxWaitMs === 0) return `, or ask with mode "wait"`;
  const longer = retryAfterMs !== null && retryAfterMs > maxWaitMs && retryAfterMs < requestTimeoutMs;
  return longer ? `, or let it wait longer: max_wait_ms was ${maxWaitMs}` : "";
}

function amount(limits: Limits | null, limit: string | null): string {
  switch (limit) {
    case "rpm":
      return `${limits?.requests.limit ?? "its"} requests a minute`;
    case "tpm":
      return `${limits?.tokens.limit ?? "its"} input tokens a minute`;
    case "rpd":
      return `${limits?.requestsDay.limit ?? "its"} requests a day`;
    default:
      return "its quota";
  }
}
