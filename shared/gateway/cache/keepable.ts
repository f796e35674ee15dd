import type { Asked } from "../../contract/request.ts";

/** The longest answer that is kept, in characters of JSON: some pictures. A stream holds so much in memory, to keep it. */
export const MAX_KEPT_CHARS = 8 * 1024 * 1024;

/** What the books need to know of a result. */
export interface Counted {
  model: string;
  requestedModel: string;
  usage: { inputTokens: number; outputTokens?: number | null; thoughtsTokens?: number | null };
}

/** What is kept: answers of one kind, as the cache handles them. `Kept`: what is left of a result, and makes one again. */
export interface Keepable<Request extends Asked, Result extends Counted, Kept> {
  /** OpenTelemetry's `gen_ai.operation.name`. */
  operation: string;
  /** SHA-256, in hexadecimal, over all that a result depends on. */
  keyOf(request: Request): Promise<string>;
  /** Whether another result is wanted each time. */
  wantsChance(request: Request): boolean;
  /** As JSON; null: it is not whole, or too long. */
  jsonOf(result: Result): string | null;
  /** Null: it is of another version, or none. */
  keptIn(json: unknown): Kept | null;
  resultOf(
    kept: Kept,
    request: Request,
    hit: { model: string; requestedModel: string; waitMs: number },
  ): Result;
}
