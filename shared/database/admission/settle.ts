import * as z from "zod";
import type { Block } from "../../contract/block.ts";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

export interface Settlement {
  requestNo: number;
  attempt: number;
  outcome: "succeeded" | "failed" | "cancelled";
  /** False: another attempt of the same request follows. */
  final: boolean;
  /** False: upstream was never called, so the slot is given back. */
  dispatched: boolean;
  /** Null: keep the estimate that was booked. */
  inputTokens: number | null;
  outputTokens: number | null;
  thoughtsTokens: number | null;
  cachedTokens: number | null;
  totalTokens: number | null;
  usageEstimated: boolean;
  upstreamStatus: number | null;
  errorCode: string | null;
  /** For the owner's eyes; holds no secret. */
  errorDetail: string | null;
  finishReason: string | null;
  block: Block | null;
  latencyMs: number | null;
  /** The answer to give again when the same request id comes back; null keeps none. */
  result: unknown;
}

export const settledAnswer = z.object({ status: z.enum(["settled", "already_settled", "late"]) });

export type Settled = z.output<typeof settledAnswer>["status"];

/** Ends an attempt in the books. Doing it twice is the same as once. */
export async function settle(
  transport: Transport,
  settlement: Settlement,
  timeoutMs: number,
): Promise<Settled> {
  return (await call(transport, "eve_settle", settleArguments(settlement), settledAnswer, timeoutMs)).status;
}

/** A settlement as the SQL function's arguments. */
export function settleArguments(settlement: Settlement): Record<string, unknown> {
  const { block } = settlement;
  return {
    request_no: settlement.requestNo,
    attempt: settlement.attempt,
    outcome: settlement.outcome,
    final: settlement.final,
    dispatched: settlement.dispatched,
    input_tokens: settlement.inputTokens,
    output_tokens: settlement.outputTokens,
    thoughts_tokens: settlement.thoughtsTokens,
    cached_tokens: settlement.cachedTokens,
    total_tokens: settlement.totalTokens,
    upstream_status: settlement.upstreamStatus,
    error_code: settlement.errorCode,
    error_detail: settlement.errorDetail,
    finish_reason: settlement.finishReason,
    block: block === null ? null : blockJson(block),
    latency_ms: settlement.latencyMs,
    usage_estimated: settlement.usageEstimated,
    result: settlement.result,
  };
}

function blockJson(block: Block) {
  const { scope, reason } = block;
  // A capability is switched off for good; the function wants a time all the same.
  if (scope === "capability") return { scope, capability: block.capability, for_ms: 0, reason };
  const { lasts, secretHash } = block;
  return {
    scope,
    ...("forMs" in lasts ? { for_ms: lasts.forMs } : { until: lasts.until }),
    reason,
    ...(secretHash !== undefined && { secret_hash: secretHash }),
  };
}
