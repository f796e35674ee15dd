import {
  badKey,
  callersFault,
  noSuchModel,
  quotaUsedUp,
  UNEXPLAINED_DENIAL_MS,
  upstreamsFault,
} from "../diagnoses.ts";
import type { Diagnosis } from "../provider.ts";
import { type ErrorMapping, type UpstreamErrorResponse } from "../upstream.ts";
import { isObject } from "../../contract/is_object.ts";
import { retryAfterMs } from "../../runtime/retry_after.ts";

export const YANDEX_ERROR_MAPPING: ErrorMapping = {
  // {"error": {"grpcCode", "httpCode", "message", "httpStatus", "details"}}; {"code", "message", "details"} of the API gateway;
  // {"error_code", "error_message"} of SpeechKit.
  messageIn(body) {
    if (!isObject(body)) return null;
    const error = isObject(body.error) ? body.error : body;
    for (const said of [error.message, error.error_message, body.error]) {
      if (typeof said === "string") return said;
    }
    return null;
  },
  diagnose: diagnoseYandexError,
};

/** What an error of Yandex Cloud means. Its statuses are those of gRPC, carried over HTTP. Pure. */
export function diagnoseYandexError({ status, message, headers, body }: UpstreamErrorResponse): Diagnosis {
  const code = isObject(body) && typeof body.error_code === "string" ? body.error_code : "";
  if (status === 401 || code === "UNAUTHORIZED") return badKey("key_invalid");
  switch (status) {
    case 402:
      return badKey("credits_depleted");
    case 403:
      // The key is one, but its account may not use this folder or this model.
      return /billing|payment/i.test(message)
        ? badKey("credits_depleted")
        : noSuchModel("permission_denied", { forMs: UNEXPLAINED_DENIAL_MS });
    case 404:
      return noSuchModel("model_not_found", { until: "forever" });
    case 429:
      return quotaUsedUp(retryAfterMs(headers, Date.now()));
  }
  if (status === 408 || status >= 500 || status < 400) return upstreamsFault(status);
  if (/failed to (get|find) model|unknown model|model .* not found|invalid model_?uri/i.test(message)) {
    return noSuchModel("model_not_found", { until: "forever" });
  }
  if (/tokens? .*(exceed|must be no more|too (long|many|large))|too long text|text length/i.test(message)) {
    return callersFault("prompt_too_large");
  }
  return callersFault();
}
