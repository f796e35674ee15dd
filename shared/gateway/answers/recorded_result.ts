import * as z from "zod";
import type { Answer } from "../../contract/content.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { GatewayRequest } from "../../contract/request.ts";
import type { GatewayResult } from "../../contract/result.ts";
import type { Duplicate } from "../../database/admission/reserve.ts";

/** The largest answer that is kept for a repeated request, as JSON. Texts fit; an answer with a picture may not. */
const MAX_KEPT_CHARS = 262_144;

/** What a call used, as it is kept with its answer. */
export const keptUsage = z.object({
  inputTokens: z.number(),
  outputTokens: z.number().nullable(),
  thoughtsTokens: z.number().nullable(),
  cachedTokens: z.number().nullable(),
  totalTokens: z.number().nullable(),
  estimated: z.boolean(),
});

const kept = z.object({
  version: z.literal(1),
  model: z.string(),
  requestedModel: z.string(),
  replaced: z.boolean(),
  answer: z.custom<Answer>((value) => typeof value === "object" && value !== null),
  finishReason: z.string().nullable(),
  usage: keptUsage,
  keyAlias: z.string(),
  attempts: z.number(),
  waitMs: z.number(),
  outputLoweredTo: z.number().nullable().optional(),
});

/** What is stored of an answer: only for a client that chose the id and can therefore ask again, only successes. */
export function resultToStore(request: GatewayRequest, result: GatewayResult): unknown {
  if (!request.idIsClients || !result.verdict.ok) return null;
  const { model, requestedModel, replaced, answer, finishReason, usage, keyAlias, attempts, waitMs } = result;
  const { outputLoweredTo } = result;
  const record: z.input<typeof kept> = {
    version: 1,
    model,
    requestedModel,
    replaced,
    answer,
    finishReason,
    usage,
    keyAlias,
    attempts,
    waitMs,
    outputLoweredTo,
  };
  return JSON.stringify(record).length <= MAX_KEPT_CHARS ? record : null;
}

/**
 * The answer to a request whose id has been seen before: the one that was kept.
 * @throws GatewayError `request_running`, `request_finished`, `request_id_reused`
 */
export function replay(request: GatewayRequest, duplicate: Duplicate): GatewayResult {
  const details = {
    state: duplicate.state,
    attempts: duplicate.attempts,
    ...(duplicate.errorCode !== null && { error_code: duplicate.errorCode }),
  };
  if (!duplicate.sameRequest) throw new GatewayError("request_id_reused", { details });
  if (duplicate.state === "running") throw new GatewayError("request_running", { details });
  const record = kept.safeParse(duplicate.result);
  if (!record.success) throw new GatewayError("request_finished", { details });
  const { version: _, ...result } = record.data;
  return { ...result, requestId: request.id, verdict: { ok: true }, limits: null, replayed: true };
}
