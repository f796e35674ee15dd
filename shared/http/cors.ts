/** Headers that clients of any door send: credentials, our own, and what SDKs add. */
const ALLOWED_HEADERS = [
  "authorization",
  "apikey",
  "content-type",
  "traceparent",
  "x-client-info",
  "x-goog-api-key",
  "x-goog-api-client",
  "openai-beta",
  "openai-organization",
  "openai-project",
  "x-server-timeout",
  "x-eve-request-id",
  "x-eve-mode",
  "x-eve-max-wait-ms",
  "x-eve-class",
  "x-eve-capture",
  "x-stainless-arch",
  "x-stainless-lang",
  "x-stainless-os",
  "x-stainless-package-version",
  "x-stainless-retry-count",
  "x-stainless-runtime",
  "x-stainless-runtime-version",
  "x-stainless-timeout",
].join(", ");

/** Headers of ours that a script in a browser may read. */
const EXPOSED_HEADERS = [
  "retry-after",
  "retry-after-ms",
  "x-ratelimit-limit-requests",
  "x-ratelimit-remaining-requests",
  "x-ratelimit-reset-requests",
  "x-ratelimit-limit-tokens",
  "x-ratelimit-remaining-tokens",
  "x-ratelimit-reset-tokens",
  "x-request-id",
  "x-should-retry",
  "x-eve-request-id",
  "x-eve-model",
  "x-eve-replayed",
  "x-eve-stage",
  "x-eve-stage-source",
  "x-eve-verdict",
].join(", ");

/** A day: browsers cap it themselves (Chromium at two hours). */
const PREFLIGHT_MAX_AGE_S = 86_400;

/**
 * Any origin may call: nothing here rests on cookies or on where a page came from, only on the credential in a header.
 */
export const CORS_HEADERS: Readonly<Record<string, string>> = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": EXPOSED_HEADERS,
};

/** The answer to a browser's preflight. */
export function preflight(): Response {
  return new Response(null, {
    status: 204,
    headers: {
      ...CORS_HEADERS,
      "access-control-allow-methods": "GET, POST, OPTIONS",
      "access-control-allow-headers": ALLOWED_HEADERS,
      "access-control-max-age": String(PREFLIGHT_MAX_AGE_S),
    },
  });
}
