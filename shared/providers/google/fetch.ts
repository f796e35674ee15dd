import { diagnosed, errorIn, GOOGLE_ERROR_MAPPING } from "./failure.ts";
import { callUpstream, jsonFromUpstream, type UpstreamCall } from "../upstream.ts";

/** One call of a model's method over the wire. */
export interface GoogleCall {
  /** Origin of the Gemini API. */
  baseUrl: string;
  model: string;
  /** `generateContent`, `streamGenerateContent?alt=sse`, `embedContent`. */
  method: string;
  secret: string;
  body: unknown;
  signal: AbortSignal;
}

export const GOOGLE_ORIGIN = "https://generativelanguage.googleapis.com";

/** Posts, and gives the response back once its status says success. @throws as callUpstream */
export async function postToGoogle(call: GoogleCall): Promise<Response> {
  return await callUpstream(upstreamCall(call));
}

/** A whole JSON body. @throws as callUpstream; an `error` in a body with status 200 is one too */
export async function jsonFromGoogle(call: GoogleCall): Promise<Record<string, unknown>> {
  const body = await jsonFromUpstream(upstreamCall(call));
  const error = errorIn(body);
  if (error !== null) throw diagnosed(error, call.secret);
  return body;
}

/** The key travels in a header. */
function upstreamCall({ baseUrl, model, method, secret, body, signal }: GoogleCall): UpstreamCall {
  const name = model.includes("/") ? model : `models/${model}`;
  return {
    url: `${baseUrl}/v1beta/${name}:${method}`,
    headers: { accept: "*/*", "x-goog-api-key": secret },
    body,
    secret,
    signal,
    fetch,
    errorMapping: GOOGLE_ERROR_MAPPING,
  };
}
