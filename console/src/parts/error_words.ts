import type { TFunction } from "i18next";
import { ApiError } from "../api/api.ts";

/**
 * What went wrong, in the language of the page: by the code, since the gateway's own words are English. Behind it those words where
 * they name what is wrong with the input; alone where the language has none for the code.
 */
export function errorWords(error: Error, t: TFunction): string {
  if (!(error instanceof ApiError)) return error.message;
  if (error.code === "unreachable") return t("error.unreachable");
  const words = t(`codes.${error.code}` as "codes.not_found", { defaultValue: "" });
  if (words === "") return error.message;
  return NAMING.has(error.code) ? `${words} ${error.message}` : words;
}

/** Whose message says which field, or which name. */
const NAMING = new Set([
  "invalid_argument",
  "invalid_request",
  "unknown_model",
  "unknown_stage",
  "unknown_tenant",
]);
