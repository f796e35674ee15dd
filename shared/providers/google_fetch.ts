import { brokenOff, diagnosed, errorIn } from "./google_failure.ts";
import { ProviderFailure } from "./provider.ts";
import { headOf } from "./response_head.ts";

/** One call of a model's method over the wire. */
export interface GoogleCall {
  /** Origin of the Gemini API. */
  baseUrl: string;
  model: string;
  /** `streamGenerateContent?alt=sse`, `embedContent`. */
  method: string;
  secret: string;
  body: unknown;
  signal: AbortSignal;
}

export const GOOGLE_ORIGIN = "https://generativelanguage.googleapis.com";

/**
 * Posts, and gives the response back once its status says success. The key travels in a header.
 * @throws ProviderFailure for a refusal or a connection that failed
 * @throws the signal's reason when it aborts
 */
export async function postToGoogle(call: GoogleCall): Promise<Response> {
  const { baseUrl, model, method, secret, signal } = call;
  signal.throwIfAborted();
  let response: Response;
  try {
    const name = model.includes("/") ? model : `models/${model}`;
    response = await fetch(`${baseUrl}/v1beta/${name}:${method}`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-goog-api-key": secret },
      body: JSON.stringify(call.body),
      signal,
    });
    if (response.ok) return response;
    const text = await headOf(response);
    const said = errorIn(parsed(text), response.status);
    throw diagnosed(
      said === null
        ? { status: response.status, message: text, details: [] }
        : { ...said, status: response.status },
      secret,
    );
  } catch (thrown) {
    signal.throwIfAborted();
    throw thrown instanceof ProviderFailure ? thrown : brokenOff(thrown, secret);
  }
}

/** A whole JSON body. @throws as postToGoogle; an `error` in a body with status 200 is one too */
export async function jsonFromGoogle(call: GoogleCall): Promise<Record<string, unknown>> {
  const response = await postToGoogle(call);
  let body: unknown;
  try {
    body = await response.json();
  } catch (thrown) {
    call.signal.throwIfAborted();
    throw brokenOff(thrown, call.secret);
  }
  const error = errorIn(body);
  if (error !== null) throw diagnosed(error, call.secret);
  if (typeof body !== "object" || body === null) throw brokenOff("an answer that is no object", call.secret);
  return body as Record<string, unknown>;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
