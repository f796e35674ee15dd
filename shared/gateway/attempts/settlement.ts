import type { Block } from "../../contract/block.ts";
import type { TokenUsage } from "../../contract/usage.ts";
import type { Grant } from "../../database/admission/reserve.ts";
import type { Settlement } from "../../database/admission/settle.ts";
import type { ProviderFailure } from "../../providers/provider.ts";
import type { Outcome } from "./dispatch.ts";

/** What is settled for an attempt. Pure. */
export function settlementOf(
  grant: Grant,
  outcome: Outcome,
  final: boolean,
  result: unknown = null,
): Settlement {
  const blank = { ...cancelled(grant), final };
  switch (outcome.kind) {
    case "answered": {
      const { served, latencyMs } = outcome;
      return {
        ...blank,
        ...tokens(served.usage),
        outcome: served.verdict.ok ? "succeeded" : "failed",
        dispatched: true,
        upstreamStatus: 200,
        errorCode: served.verdict.ok ? null : served.verdict.code,
        errorDetail: served.verdict.ok ? null : served.verdict.reason,
        finishReason: served.finishReason,
        latencyMs,
        result,
      };
    }
    case "failed": {
      const { failure, latencyMs } = outcome;
      return {
        ...blank,
        outcome: "failed",
        dispatched: true,
        upstreamStatus: failure.upstreamStatus,
        errorCode: failure.diagnosis.code,
        errorDetail: failure.message,
        block: blockOf(failure, outcome.rejectedSecret),
        ...(outcome.used !== null && tokens(outcome.used)),
        latencyMs,
      };
    }
    case "broken_off":
      return {
        ...blank,
        outcome: outcome.how === "client_closed" ? "cancelled" : "failed",
        dispatched: outcome.dispatched,
        errorCode: brokenOffCode(outcome),
        ...(outcome.used !== null && tokens(outcome.used)),
        latencyMs: outcome.latencyMs,
      };
    case "not_sent":
      return {
        ...blank,
        outcome: "failed",
        errorCode: outcome.error.code,
        errorDetail: outcome.error.detail,
        block: outcome.block,
      };
  }
}

export function brokenOffCode(outcome: Extract<Outcome, { kind: "broken_off" }>) {
  if (outcome.how === "client_closed") return "client_closed";
  return outcome.dispatched ? "upstream_timeout" : "deadline_exceeded";
}

/** What is not used from now on; a feature that the model refused is recorded with the model. */
function blockOf(
  { diagnosis: { block, capability } }: ProviderFailure,
  secretHash: string | undefined,
): Block | null {
  if (block?.scope === "key" && secretHash !== undefined) return { ...block, secretHash };
  if (block !== null || capability === undefined) return block;
  return { scope: "capability", capability, reason: `${capability}_refused` };
}

/** A reservation that nobody will use: its slot goes back. */
export function cancelled(grant: Pick<Grant, "requestNo" | "attempt">): Settlement {
  return {
    requestNo: grant.requestNo,
    attempt: grant.attempt,
    outcome: "cancelled",
    final: true,
    dispatched: false,
    inputTokens: null,
    outputTokens: null,
    thoughtsTokens: null,
    cachedTokens: null,
    totalTokens: null,
    usageEstimated: false,
    upstreamStatus: null,
    errorCode: null,
    errorDetail: null,
    finishReason: null,
    block: null,
    latencyMs: null,
    result: null,
  };
}

function tokens(usage: TokenUsage): Partial<Settlement> {
  const { inputTokens, outputTokens, thoughtsTokens, cachedTokens, totalTokens } = usage;
  return {
    inputTokens,
    outputTokens,
    thoughtsTokens,
    cachedTokens,
    totalTokens,
    usageEstimated: usage.estimated,
  };
}
