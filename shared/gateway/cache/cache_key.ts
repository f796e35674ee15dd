import type { GatewayRequest } from "../../contract/request.ts";
import { sha256Of } from "../../runtime/sha256.ts";

/** Changes with what an answer depends on, so that older ones are no longer found. */
const VERSION = 1;

/**
 * SHA-256, in hexadecimal, over all that an answer depends on: models, contents, system text, settings, schema, tools, and whether a broken
 * schema is repaired. Exact: the order of fields counts, since a model reads a schema in its order. How the answer is wanted (stream or
 * whole, at which endpoint) makes no difference.
 */
export function cacheKey({ models, prompt, schemaRepair }: GatewayRequest): Promise<string> {
  return cacheKeyOf([models, schemaRepair === true, prompt]);
}

/** @param facts all that an answer depends on */
export function cacheKeyOf(facts: unknown[]): Promise<string> {
  return sha256Of(JSON.stringify([VERSION, ...facts]));
}
