import type { Caller } from "./caller.ts";
import type { GatewayRequest, InvokeContext } from "./request.ts";
import type { ServedBy } from "./target.ts";

/** Contents that Google keeps for prompts to name, as the API describes them: open, like all of its own shapes. */
export interface CachedContent {
  /** `cachedContents/` and an id of up to 100 letters, digits, `-` and `_`. */
  name: string;
  /** ISO 8601. */
  expireTime: string;
  /** What a prompt that names it has beside its own. */
  usageMetadata: { totalTokenCount: number };
  [field: string]: unknown;
}

export interface CachedContentPage {
  /** As Google described them when it was last heard of. */
  contents: Record<string, unknown>[];
  /** What the next page comes after; null: it was the last. */
  next: string | null;
  /** How many more the caller may have. */
  left: number;
}

/**
 * Contents that Google keeps for prompts to name. One belongs to the project of the key that made it, so the gateway remembers the
 * project, and sends what names the content there and nowhere else.
 *
 * All of it throws GatewayErrors: `not_found` for what is not there or not the caller's, and what a call may end in.
 */
export interface CachedContents {
  /**
   * Admitted, booked and settled like a call for an answer: Google counts its tokens as it does those of a prompt.
   * @param request its prompt is the body of `cachedContents.create`, without the model
   */
  create(request: GatewayRequest, context: InvokeContext): Promise<CachedContent>;
  /** The newest first. Google is not asked. */
  list(caller: Caller, page: { limit: number; after: string | null }): Promise<CachedContentPage>;
  /** As Google described it last. @param id without `cachedContents/`, here and below */
  find(id: string, caller: Caller): Promise<Record<string, unknown>>;
  /** @param expiration `ttl` or `expireTime`, as the API has them */
  update(id: string, expiration: Record<string, string>, caller: Caller): Promise<CachedContent>;
  remove(id: string, caller: Caller): Promise<void>;
  /** What a call whose prompt names it has to keep to. @param name with or without `cachedContents/` */
  pin(
    name: string,
    caller: Caller,
    servedBy: ServedBy,
  ): Promise<ServedBy & { cachedContentTokens: number }>;
}
