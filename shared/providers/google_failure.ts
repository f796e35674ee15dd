import { CONNECTION_FAILED, diagnoseGoogleError, type GoogleError } from "./google_errors.ts";
import { ProviderFailure } from "./provider.ts";
import { redact } from "./redact.ts";

/** The longest text of an upstream error that is kept or shown. */
const MAX_MESSAGE_CHARS = 1_000;

/** What Google said went wrong, understood and without the key. */
export function diagnosed(error: GoogleError, secret: string): ProviderFailure {
  const message = shorten(redact(error.message, secret)) || `status ${error.status} without a message`;
  return new ProviderFailure(diagnoseGoogleError(error), message, error.status);
}

/** A connection that failed, or an answer that broke off. */
export function brokenOff(thrown: unknown, secret: string): ProviderFailure {
  const said = thrown instanceof Error ? thrown.message : String(thrown);
  return new ProviderFailure(CONNECTION_FAILED, shorten(redact(said, secret)), null);
}

/** The `error` of a body that came with any status; null if it has none. An array's first element counts for it. */
export function errorIn(body: unknown, status = 500): GoogleError | null {
  const [whole] = Array.isArray(body) ? body : [body];
  if (!isObject(whole) || !isObject(whole.error)) return null;
  const { code, message, details } = whole.error;
  return {
    status: typeof code === "number" ? code : status,
    message: String(message ?? ""),
    details: Array.isArray(details) ? details : [],
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function shorten(text: string): string {
  return text.length <= MAX_MESSAGE_CHARS ? text : `${text.slice(0, MAX_MESSAGE_CHARS)}…`;
}
