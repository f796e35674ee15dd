import { GatewayError, type GatewayErrorFields } from "../../contract/gateway_error.ts";
import type { Grant, Refusal } from "../../database/admission/reserve.ts";
import type { ProviderFailure } from "../../providers/provider.ts";
import type { Unanswered } from "./dispatch.ts";
import { brokenOffCode } from "./settlement.ts";

/** The caller's error for an attempt that brought no answer. */
export function errorOf(
  outcome: Unanswered,
  grant: Pick<Grant, "model" | "attempt"> & Partial<Pick<Grant, "limits" | "key">>,
): GatewayError {
  const facts = { model: grant.model, limits: grant.limits ?? null };
  switch (outcome.kind) {
    case "not_sent":
      return copyWith(outcome.error, facts);
    case "broken_off":
      return new GatewayError(brokenOffCode(outcome), { ...facts, details: { attempts: grant.attempt } });
    case "failed":
      return new GatewayError(outcome.failure.diagnosis.code, {
        ...facts,
        message: messageOf(outcome.failure),
        detail: `${grant.key?.alias}: ${outcome.failure.message}`,
        retryAfterMs: retryAfter(outcome.failure),
        details: { attempts: grant.attempt, upstream_status: outcome.failure.upstreamStatus },
      });
  }
}

/** The last attempt's error, with the time to come back that the refusal of a further one named. */
export function withRefusal(error: GatewayError, refusal: Refusal): GatewayError {
  return copyWith(error, {
    retryAfterMs: refusal.retryAfterMs ?? error.retryAfterMs,
    limits: refusal.limits ?? error.limits,
    detail: `${error.detail ?? error.code}; no further attempt: ${refusal.code}`,
  });
}

function copyWith(error: GatewayError, fields: GatewayErrorFields): GatewayError {
  return new GatewayError(error.code, {
    message: error.publicMessage,
    detail: error.detail ?? undefined,
    retryable: error.retryable,
    retryAfterMs: error.retryAfterMs,
    details: error.details,
    limits: error.limits,
    model: error.model,
    headers: error.headers,
    ...fields,
  });
}

/** What upstream says about the request is for its author; what it says about our keys is not. */
function messageOf(failure: ProviderFailure): string | undefined {
  return failure.diagnosis.fault === "caller"
    ? `The model refused the request: ${failure.message}`
    : undefined;
}

function retryAfter({ diagnosis }: ProviderFailure): number | null {
  if (diagnosis.block?.scope !== "lane") return null;
  return "forMs" in diagnosis.block.lasts ? diagnosis.block.lasts.forMs : null;
}
