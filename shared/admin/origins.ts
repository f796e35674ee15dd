/** The setting: origins with commas between them, such as `https://console.example.com`. */
export const ORIGINS_VARIABLE = "EVE_ADMIN_ORIGINS";

/** Null: pages on one's own machine. */
export type AllowedOrigins = readonly string[] | null;

export function readOrigins(text: string | undefined): AllowedOrigins {
  const origins = (text ?? "").split(",").map((each) => each.trim().replace(/\/+$/, "")).filter((each) =>
    each !== ""
  );
  return origins.length === 0 ? null : origins;
}

const LOCAL = /^https?:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/;
/** What supabase-js sends. */
const HEADERS = "authorization, apikey, content-type, x-client-info, x-supabase-api-version, traceparent";
const MAX_AGE_S = 86_400;

function mayCall(origin: string, allowed: AllowedOrigins): boolean {
  return allowed === null ? LOCAL.test(origin) : allowed.includes(origin);
}

/**
 * A response for the page that asked. Unlike llm-invoke, whose callers have a key of their own in every header, this API is
 * used with the session that a browser keeps: a page elsewhere must not be able to read an answer.
 */
export function forOrigin(response: Response, request: Request, allowed: AllowedOrigins): Response {
  const origin = request.headers.get("origin");
  const headers = new Headers(response.headers);
  headers.delete("access-control-allow-origin");
  headers.append("vary", "origin");
  if (origin !== null && mayCall(origin, allowed)) headers.set("access-control-allow-origin", origin);
  return new Response(response.body, { status: response.status, headers });
}

export function preflightFor(request: Request, allowed: AllowedOrigins): Response {
  return forOrigin(
    new Response(null, {
      status: 204,
      headers: {
        "access-control-allow-methods": "GET, POST, OPTIONS",
        "access-control-allow-headers": HEADERS,
        "access-control-max-age": String(MAX_AGE_S),
      },
    }),
    request,
    allowed,
  );
}
