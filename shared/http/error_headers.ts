import type { GatewayError } from "../contract/gateway_error.ts";
import { rateLimitHeaders, retryHeaders } from "./rate_limit_headers.ts";

/** The headers of an error response, the same at every endpoint: limits, time to come back, and what the error itself carries. */
export function errorHeaders(error: GatewayError): Record<string, string> {
  return {
    ...rateLimitHeaders(error.limits),
    ...retryHeaders(error.retryAfterMs),
    // A 401 without a challenge is malformed (RFC 9110, 15.5.2).
    ...(error.status === 401 && { "www-authenticate": 'Bearer realm="eve"' }),
    ...error.headers,
  };
}
