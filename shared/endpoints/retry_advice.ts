import type { GatewayError } from "../contract/gateway_error.ts";

/** OpenAI's clients follow a `retry-after` up to here, beyond it they fall back to tries a few seconds apart; Anthropic's sleep however long. */
const LONGEST_RETRY_AFTER_MS = 60_000;

/**
 * OpenAI's and Anthropic's clients repeat every 408, 409, 429 and 5xx by themselves. A header tells them not to where it would not
 * help, or where they would come back long before the time.
 */
export function retryAdvice({ status, retryable, retryAfterMs }: GatewayError): Record<string, string> {
  if (status !== 408 && status !== 409 && status !== 429 && status < 500) return {};
  return { "x-should-retry": String(retryable && (retryAfterMs ?? 0) <= LONGEST_RETRY_AFTER_MS) };
}
