import type { Caller } from "./caller.ts";
import type { Prompt } from "./content.ts";
import type { ServedBy } from "./target.ts";
import type { Trace } from "./trace.ts";

export type EndpointName = "native" | "openai" | "gemini" | "anthropic";
export type TrafficClass = "interactive" | "batch";

/** What a step of an analysis takes of a tenant's vision budgets before anything is sent. */
export interface VisionEstimate {
  /** The step's own, 1 to 100 characters: the same once more is the same estimate. */
  id: string;
  tenantId: string;
  /** The analyst, as budgets name it. */
  provider: string;
  tokens: number;
  /** False: budgets of all analysts do not concern it. */
  spendsTokens: boolean;
}

/** What every call has, whatever it asks of a model and whichever endpoint it came through. */
export interface Asked extends ServedBy {
  /** Taken together with the call's start, or neither is: the call of one who looks at a picture. */
  visionEstimate?: VisionEstimate;
  id: string;
  /** True: the client chose the id, so it may ask again with it and the answer is kept for that. */
  idIsClients: boolean;
  endpoint: EndpointName;
  class: TrafficClass;
  /** How long the start may lie ahead, in ms. 0: now or never. */
  maxWaitMs: number;
  /** Kept with the request's record; small, and the caller's own business. */
  metadata: Record<string, unknown>;
  traceId: string | null;
  /** False: what was asked and answered is not kept, whatever the consumer's row says. It is kept only where that row allows it. */
  capture?: boolean | null;
  /** Seconds that the answer is kept for and may be old, 1 to 2,592,000; 0: neither; null or absent: as the consumer's row says. */
  cacheTtlS?: number | null;
}

/** A request as its body says it, without what its target turns out to be served by. */
export type Unresolved<Request extends Asked> = Omit<Request, keyof ServedBy>;

/** A call for an answer. */
export interface GatewayRequest extends Asked {
  prompt: Prompt;
  /** Tokens of the cached content that the prompt names, which upstream counts as if they stood in it; absent: it names none. */
  cachedContentTokens?: number;
  /** True: an answer that breaks its JSON schema is sent back to the model once, as an attempt of its own. */
  schemaRepair?: boolean;
}

/** Where a call reports how it ended: one line for each is written when all of them have. */
export interface CallLog {
  readonly trace: Trace;
  /** A call begins that `end` will report. */
  begin(): void;
  /** @param attributes of the call's line: no secret, and nothing that a user wrote */
  end(attributes: Record<string, unknown>): void;
}

/** What a cache had to do with a call. */
export type CacheOutcome =
  | { status: "hit"; ageS: number; leftS: number; key: string }
  /** stored: whether the answer is kept; null: it is not known yet. */
  | { status: "miss"; stored: boolean | null; key: string }
  /** It was not looked for, although somebody asked: by whom, or what. */
  | {
    status: "bypass";
    reason: "asked" | "off" | "capture" | "temperature" | "stage" | "refused" | "repeated";
  };

/** The circumstances of a call: who, since when, and until when it is of use. */
export interface InvokeContext {
  caller: Caller;
  /** Aborts when the client has gone. */
  signal: AbortSignal;
  /** `Clock.now()` when the request arrived; the deadline counts from here. */
  receivedAt: number;
  /** Called once, when a stream has ended, however it did. */
  onStreamEnd?: () => void;
  /** Called before the first piece of an answer, and again when more is known; not for calls that nobody wants kept. */
  noteCache?: (outcome: CacheOutcome) => void;
  /** The canonical log line of the HTTP request that the call is part of. */
  logLine?: CallLog;
}
