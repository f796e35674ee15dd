import { diagnoseGoogleError, type GoogleError } from "./errors.ts";
import { ProviderFailure } from "../provider.ts";
import { clean, type ErrorMapping } from "../upstream.ts";
import { isObject } from "../../contract/is_object.ts";

export const GOOGLE_ERROR_MAPPING: ErrorMapping = {
  messageIn: (body) => errorIn(body)?.message ?? null,
  diagnose: ({ status, body, message }) =>
    diagnoseGoogleError({ status, message, details: errorIn(body)?.details ?? [] }),
};

/** What Google said went wrong in a body with a status of success, understood and without the key. */
export function diagnosed(error: GoogleError, secret: string): ProviderFailure {
  const message = clean(error.message, secret) || `status ${error.status} without a message`;
  return new ProviderFailure(diagnoseGoogleError(error), message, error.status);
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
