import type { GatewayRequest } from "../../../shared/contract/request.ts";
import type { GatewayResult } from "../../../shared/contract/result.ts";

/** An answer of a model, without anything that is not its text. */
export function resultOfText(request: GatewayRequest, text: string): GatewayResult {
  return {
    requestId: request.id,
    model: "m",
    requestedModel: "m",
    replaced: false,
    answer: {
      candidates: [{ index: 0, content: { role: "model", parts: [{ text }] }, finishReason: "STOP" }],
    },
    verdict: { ok: true },
    finishReason: "STOP",
    usage: {
      inputTokens: 1,
      outputTokens: 1,
      thoughtsTokens: null,
      cachedTokens: null,
      totalTokens: 2,
      estimated: false,
    },
    keyAlias: "k",
    attempts: 1,
    waitMs: 0,
    limits: null,
    replayed: false,
  } as GatewayResult;
}
