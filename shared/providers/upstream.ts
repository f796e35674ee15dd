import { BodyTooLong, bytesOf } from "./bounded_body.ts";
import { ANSWER_TOO_LARGE, upstreamsFault } from "./diagnoses.ts";
import { EventTooLong } from "./event_stream.ts";
import { type Diagnosis, ProviderFailure, type ProviderSettings } from "./provider.ts";
import { redact } from "./redact.ts";
import { headOf } from "./response_head.ts";
import { isObject } from "../contract/is_object.ts";

/** The error response of an upstream. */
export interface UpstreamErrorResponse {
  status: number;
  /** Parsed, if it is JSON; the text else. */
  body: unknown;
  /** What its error says to people; the body's head where it has no form that we know. */
  message: string;
  headers: Headers;
}

/** How one upstream's error responses are read. */
export interface ErrorMapping {
  /** What the body of an error says to people; null: it has not the form that is expected. */
  messageIn(body: unknown): string | null;
  diagnose(refusal: UpstreamErrorResponse): Diagnosis;
}

export interface UpstreamCall {
  url: string;
  method?: "GET" | "POST" | "PATCH" | "DELETE";
  headers: Record<string, string>;
  /** Sent as JSON, or as a form if it is one. */
  body?: unknown;
  /** Secrets that upstream's text may contain and that are removed from it. */
  secret: string;
  signal: AbortSignal;
  fetch: typeof fetch;
  errorMapping: ErrorMapping;
}

/** The longest answer that is read: a picture of 10 MB in Base64 fits. A longer one would fill a function's memory. */
export const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

/** The longest text of an upstream error that is kept or shown. */
const MAX_MESSAGE_CHARS = 1_000;

/**
 * Calls an upstream, and gives the response back once its status says success. Follows no redirect: the key would be sent on.
 * @throws ProviderFailure for a refusal or a connection that failed
 * @throws the signal's reason when it aborts
 */
export async function callUpstream(call: UpstreamCall): Promise<Response> {
  const { url, body, secret, signal, errorMapping } = call;
  signal.throwIfAborted();
  try {
    const form = body instanceof URLSearchParams || body instanceof FormData;
    const response = await call.fetch(url, {
      method: call.method ?? (body === undefined ? "GET" : "POST"),
      headers: {
        accept: "application/json",
        ...(body !== undefined && !form && { "content-type": "application/json" }),
        ...call.headers,
      },
      body: body === undefined ? undefined : form ? body : JSON.stringify(body),
      redirect: "manual",
      signal,
    });
    if (response.ok) return response;
    const text = await headOf(response);
    const parsed = parsedOr(text);
    const message = errorMapping.messageIn(parsed) ?? text;
    const { status, headers } = response;
    throw new ProviderFailure(
      errorMapping.diagnose({ status, body: parsed, message, headers }),
      clean(message, secret) || `status ${status} without a message`,
      status,
    );
  } catch (thrown) {
    signal.throwIfAborted();
    throw thrown instanceof ProviderFailure ? thrown : connectionFailed(thrown, secret);
  }
}

/** A whole JSON object. @throws as callUpstream; an answer that is none counts as one that broke off, one that is too long as such */
export async function jsonFromUpstream(call: UpstreamCall): Promise<Record<string, unknown>> {
  const response = await callUpstream(call);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(await bytesOf(response, MAX_ANSWER_BYTES)));
  } catch (thrown) {
    call.signal.throwIfAborted();
    throw connectionFailed(thrown, call.secret);
  }
  if (!isObject(value)) throw connectionFailed("an answer that is no object", call.secret);
  return value;
}

/** A connection that failed, or an answer that broke off, has another form, or is longer than is read. */
export function connectionFailed(thrown: unknown, secret: string): ProviderFailure {
  const said = thrown instanceof Error ? thrown.message : String(thrown);
  if (thrown instanceof BodyTooLong || thrown instanceof EventTooLong) {
    return new ProviderFailure(ANSWER_TOO_LARGE, said, null);
  }
  return new ProviderFailure(upstreamsFault(null), clean(said, secret), null);
}

/** The records of a list; nothing of what is no list. */
export function recordsIn(list: unknown): Record<string, unknown>[] {
  return Array.isArray(list) ? list.filter(isObject) : [];
}

/** An upstream's error text, without the key and not too long. */
export function clean(text: string, secret: string): string {
  const safe = redact(text.trim(), secret);
  return safe.length <= MAX_MESSAGE_CHARS ? safe : `${safe.slice(0, MAX_MESSAGE_CHARS)}…`;
}

function parsedOr(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Where calls go: as the key's settings say, else the environment, else to the provider itself; no slash at its end. */
export function baseUrlOf(
  settings: ProviderSettings | undefined,
  fromEnvironment: string | undefined,
  own: string,
): string {
  return (settings?.base_url ?? fromEnvironment ?? own).replace(/\/+$/, "");
}

/** A model's name at its provider; the gateway's own has the provider before it: `openai/gpt-5`. */
export function upstreamModel(model: string, kind: string): string {
  return model.startsWith(`${kind}/`) ? model.slice(kind.length + 1) : model;
}

/** Of a job's options, those that the provider knows, by its own names. */
export function knownOptions(
  options: Readonly<Record<string, unknown>>,
  names: readonly string[],
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options).filter(([name, value]) =>
      names.includes(name) && value !== undefined && value !== null
    ),
  );
}
