import { GatewayError } from "../contract/gateway_error.ts";
import { retryHeaders } from "../http/rate_limit_headers.ts";

/**
 * The error codes of RFC 6749, 5.2. Its token endpoint has none for trouble on the server's side; `server_error` and
 * `temporarily_unavailable` are those of its other endpoint (4.1.2.1).
 */
const STATUS = {
  invalid_request: 400,
  invalid_client: 401,
  unauthorized_client: 400,
  unsupported_grant_type: 400,
  invalid_scope: 400,
  temporarily_unavailable: 429,
  server_error: 500,
} as const;

export type OauthCode = keyof typeof STATUS;

/** Why no token is issued, as OAuth 2.0 says it. The description tells the client's developer what to do. */
export class OauthError extends Error {
  readonly code: OauthCode;
  readonly status: number;
  readonly headers: Record<string, string>;

  constructor(
    code: OauthCode,
    description: string,
    status: number = STATUS[code],
    headers: Record<string, string> = {},
  ) {
    super(description);
    this.name = "OauthError";
    this.code = code;
    this.status = status;
    // Required where the client used the header, harmless elsewhere.
    this.headers = status === 401 ? { "www-authenticate": 'Basic realm="eve"', ...headers } : headers;
  }

  /** The body. A description may hold neither quotes nor backslashes nor anything beyond ASCII (5.2). */
  toJSON(): { error: OauthCode; error_description: string } {
    return {
      error: this.code,
      error_description: this.message.replaceAll('"', "'").replace(/[^\x20-\x21\x23-\x5B\x5D-\x7E]/g, "?"),
    };
  }
}

/** An error of the gateway's other modules in this form. */
export function asOauthError(error: GatewayError): OauthError {
  const code: OauthCode = error.status < 500
    ? error.status === 401 ? "invalid_client" : "invalid_request"
    : error.status === 503
    ? "temporarily_unavailable"
    : "server_error";
  return new OauthError(code, error.publicMessage, error.status, {
    ...retryHeaders(error.retryAfterMs),
    ...error.headers,
  });
}
