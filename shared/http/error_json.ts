import type { GatewayError } from "../contract/gateway_error.ts";

/** An error as the gateway's own JSON: the public fields, never the detail. */
export function errorJson(error: GatewayError, requestId: string) {
  return {
    code: error.code,
    message: error.publicMessage,
    request_id: requestId,
    retryable: error.retryable,
    ...(error.details !== undefined && { details: error.details }),
  };
}
