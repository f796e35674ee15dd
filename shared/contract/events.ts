import type { Answer } from "./content.ts";
import type { Limits } from "./limits.ts";
import type { GatewayResult } from "./result.ts";

/** What happens to a call while it runs. An endpoint that streams turns these into its clients' frames. */
export type GatewayEvent =
  | { type: "queued"; attempt: number; model: string; waitMs: number }
  | {
    type: "started";
    attempt: number;
    model: string;
    keyAlias: string;
    limits: Limits | null;
    /** As in the result. */
    outputLoweredTo?: number | null;
  }
  | { type: "delta"; chunk: Answer }
  | { type: "done"; result: GatewayResult };

/**
 * Hands an event to the reader. For a delta it resolves when the reader wants more, and rejects when they have gone; other
 * events wait for nobody.
 */
export type Emit = (event: GatewayEvent) => Promise<void>;
