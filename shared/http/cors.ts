/** Headers of ours that a script in a browser may read. */
const EXPOSED_HEADERS = [
  "allow",
  "retry-after",
  "retry-after-ms",
  "traceresponse",
  "www-authenticate",
  "anthropic-ratelimit-requests-limit",
  "anthropic-ratelimit-requests-remaining",
  "anthropic-ratelimit-requests-reset",
  "anthropic-ratelimit-input-tokens-limit",
  "anthropic-ratelimit-input-tokens-remaining",
  "anthropic-ratelimit-input-tokens-reset",
  "x-ratelimit-limit-requests",
  "x-ratelimit-remaining-requests",
  "x-ratelimit-reset-requests",
  "x-ratelimit-limit-tokens",
  "x-ratelimit-remaining-tokens",
  "x-ratelimit-reset-tokens",
  "request-id",
  "x-request-id",
  "x-should-retry",
  "x-goog-upload-chunk-granularity",
  "x-goog-upload-size-received",
  "x-goog-upload-status",
  "x-goog-upload-url",
  "x-eve-cache",
  "x-eve-request-id",
  "x-eve-ignored",
  "x-eve-max-output-tokens",
  "x-eve-model",
  "x-eve-replayed",
  "x-eve-stage",
  "x-eve-stage-source",
  "x-eve-verdict",
].join(", ");

/** Also those that no path has: a browser then gets our 404 or 405 and does not report a network error. */
const ALLOWED_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/** A day: browsers cap it themselves (Chromium at two hours). */
const PREFLIGHT_MAX_AGE_S = 86_400;

/** For preflights that name no headers. */
const USUAL_HEADERS = "authorization, apikey, x-goog-api-key, x-api-key, content-type";

/** Some five times what an SDK sends beside its own headers. The answer is never longer than the question. */
const MAX_ASKED_HEADERS = 100;
const MAX_ASKED_CHARACTERS = 4_096;

/** A header's name, RFC 9110 section 5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;

/**
 * Any origin may call: nothing here rests on cookies or on where a page came from, only on the credential in a header.
 */
export const CORS_HEADERS: Readonly<Record<string, string>> = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": EXPOSED_HEADERS,
};

/**
 * The answer to a browser's preflight. It allows all headers that are asked for: SDKs add their own with every release
 * (`x-stainless-*`), Firefox counts `user-agent` among them, and we act on none that we do not know. What is not a short
 * list of header names is not repeated.
 */
export function preflight(request: Request): Response {
  return new Response(null, {
    status: 204,
    headers: {
      ...CORS_HEADERS,
      "access-control-allow-methods": ALLOWED_METHODS,
      "access-control-allow-headers": askedHeaders(request) ?? USUAL_HEADERS,
      "access-control-max-age": String(PREFLIGHT_MAX_AGE_S),
      "vary": "access-control-request-headers",
    },
  });
}

/** Null: none, too many, or no names. */
function askedHeaders(request: Request): string | null {
  const asked = request.headers.get("access-control-request-headers") ?? "";
  if (asked.length > MAX_ASKED_CHARACTERS) return null;
  const names = asked.toLowerCase().split(",").map((name) => name.trim()).filter((name) => name !== "");
  if (names.length === 0 || names.length > MAX_ASKED_HEADERS) return null;
  return names.every((name) => TOKEN.test(name)) ? names.join(", ") : null;
}
