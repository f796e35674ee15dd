import { diagnosed, errorIn, GOOGLE_ERROR_MAPPING } from "./failure.ts";
import { callUpstream, jsonFromUpstream, type UpstreamCall } from "../upstream.ts";

/** Where the Gemini API is asked, and with what. */
export interface GoogleDestination {
  /** Origin of the Gemini API; absent: Google's own. */
  baseUrl?: string | undefined;
  secret: string;
  signal: AbortSignal;
  /** Absent: the runtime's own, looked up at each call: a test, or a wrapper, may have replaced it. */
  fetch?: typeof fetch | undefined;
}

/** One call of the Gemini API, below its version: `models?pageSize=1`, `models/gemma-4-31b-it:embedContent`. */
export interface GoogleCall extends GoogleDestination {
  path: string;
  /** Absent: POST with a body, GET without one. */
  method?: "PATCH" | "DELETE";
  /** Sent as JSON. */
  body?: unknown;
}

const GOOGLE_ORIGIN = "https://generativelanguage.googleapis.com";

/** The path of a model's method: `generateContent`, `streamGenerateContent?alt=sse`, `embedContent`. */
export function methodPath(model: string, method: string): string {
  return `${model.includes("/") ? model : `models/${model}`}:${method}`;
}

/** The response, once its status says success. @throws as callUpstream */
export async function fetchGoogle(call: GoogleCall): Promise<Response> {
  return await callUpstream(upstreamCall(call));
}

/** A whole JSON body. @throws as callUpstream; an `error` in a body with status 200 is one too */
export async function jsonFromGoogle(call: GoogleCall): Promise<Record<string, unknown>> {
  const body = await jsonFromUpstream(upstreamCall(call));
  const error = errorIn(body);
  if (error !== null) throw diagnosed(error, call.secret);
  return body;
}

/** The key travels in a header, and `callUpstream` follows no redirect with it. */
function upstreamCall({ baseUrl, path, method, body, secret, signal, ...call }: GoogleCall): UpstreamCall {
  return {
    ...(method !== undefined && { method }),
    url: `${baseUrl ?? GOOGLE_ORIGIN}/v1beta/${path}`,
    headers: { accept: "*/*", "x-goog-api-key": secret },
    body,
    secret,
    signal,
    fetch: call.fetch ?? fetch,
    errorMapping: GOOGLE_ERROR_MAPPING,
  };
}
