import { GatewayError } from "../contract/gateway_error.ts";

/**
 * How deep arrays and objects may nest: Google's own parser stops at 100. What is deeper would overflow the stack of
 * whatever walks it later, `JSON.stringify` included.
 */
export const MAX_JSON_DEPTH = 100;

/**
 * Bytes to a JSON value.
 * @throws GatewayError `invalid_json` for what is no UTF-8, no JSON, or nested too deeply
 */
export function parseJson(bytes: Uint8Array): unknown {
  if (bytes.byteLength === 0) throw invalid("The body is empty. Send a JSON object.");
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw invalid("The body is not valid UTF-8.");
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // The engine's message tells the position; it quotes the body, which goes back to its author alone.
    throw invalid(
      `The body is not valid JSON: ${error instanceof Error ? error.message : "cannot be parsed"}.`,
    );
  }
  if (isDeeperThan(value, MAX_JSON_DEPTH)) {
    throw invalid(`The body nests deeper than ${MAX_JSON_DEPTH} levels.`);
  }
  return value;
}

/** Whether arrays and objects nest deeper than `limit`; goes no deeper itself, so the depth costs no stack. */
function isDeeperThan(value: unknown, limit: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (limit === 0) return true;
  if (Array.isArray(value)) return value.some((item) => isDeeperThan(item, limit - 1));
  for (const name in value) {
    if (isDeeperThan((value as Record<string, unknown>)[name], limit - 1)) return true;
  }
  return false;
}

function invalid(message: string): GatewayError {
  return new GatewayError("invalid_json", { message });
}
