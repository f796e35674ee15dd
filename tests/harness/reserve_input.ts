import type { ReserveInput } from "../../shared/database/admission/reserve.ts";

/** What the ledger is asked for by an interactive caller of the project's own key, who waits for nobody; `more` says what is special. */
export function reserveInput(more: Partial<ReserveInput> = {}): ReserveInput {
  return {
    requestId: crypto.randomUUID(),
    models: ["m"],
    tokens: 10,
    counted: null,
    consumerId: null,
    tokenId: null,
    class: "interactive",
    maxWaitMs: 0,
    attempt: 1,
    excludeKeys: [],
    avoidKeys: [],
    leaseMs: 180_000,
    endpoint: "native",
    traceId: null,
    metadata: {},
    requestHash: null,
    ...more,
  };
}
