import type { Caller } from "./caller.ts";
import type { Prompt } from "./content.ts";
import type { GatewayEvent } from "./events.ts";
import type { GatewayResult } from "./result.ts";

export type DoorName = "native" | "openai" | "gemini";
export type TrafficClass = "interactive" | "batch";

/** One call by a client, whichever door it came through. */
export interface GatewayRequest {
  id: string;
  /** True: the client chose the id, so it may ask again with it and the answer is kept for that. */
  idIsClients: boolean;
  door: DoorName;
  /** In order of preference; at least one. */
  models: string[];
  prompt: Prompt;
  class: TrafficClass;
  /** How long the start may lie ahead, in ms. 0: now or never. */
  maxWaitMs: number;
  /** Kept with the request's record; small, and the caller's own business. */
  metadata: Record<string, unknown>;
  traceId: string | null;
}

/** The circumstances of a call: who, since when, and until when it is of use. */
export interface InvokeContext {
  caller: Caller;
  /** Aborts when the client has gone. */
  signal: AbortSignal;
  /** `Clock.now()` when the request arrived; the deadline counts from here. */
  receivedAt: number;
  onEvent?: (event: GatewayEvent) => void;
}

/** Serves one request, or throws a GatewayError. */
export type Invoke = (request: GatewayRequest, context: InvokeContext) => Promise<GatewayResult>;
