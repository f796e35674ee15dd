import {
  badKey,
  callersFault,
  noSuchModel,
  quotaUsedUp,
  UNEXPLAINED_DENIAL_MS,
  upstreamsFault,
  WRONG_REGION,
} from "../diagnoses.ts";
import type { Capability } from "../../contract/block.ts";
import type { Diagnosis } from "../provider.ts";
import { type ErrorMapping, type UpstreamErrorResponse } from "../upstream.ts";
import { isObject } from "../../contract/is_object.ts";
import { retryAfterMs } from "../../runtime/retry_after.ts";

/** `error.code` values that decide more than the status does. */
const CODES: Readonly<Record<string, () => Diagnosis>> = {
  invalid_api_key: () => badKey("key_invalid"),
  account_deactivated: () => badKey("key_suspended"),
  insufficient_quota: () => badKey("credits_depleted"),
  billing_hard_limit_reached: () => badKey("credits_depleted"),
  billing_not_active: () => badKey("credits_depleted"),
  model_not_found: () => noSuchModel("model_not_found", { until: "forever" }),
  context_length_exceeded: () => callersFault("prompt_too_large"),
  string_above_max_length: () => callersFault("prompt_too_large"),
  content_policy_violation: () => callersFault("content_blocked"),
  content_filter: () => callersFault("content_blocked"),
  unsupported_country_region_territory: () => WRONG_REGION,
};

/** What compatible servers say of features that a model of theirs lacks. */
const LACKS: readonly (readonly [RegExp, Capability])[] = [
  [
    /(response_format|json_schema|json_object|json mode|structured outputs?).*(not (supported|available|enabled)|unsupported)/i,
    "json",
  ],
  [/(does not|doesn't|not) support.*(response_format|json_schema|json_object|structured outputs?)/i, "json"],
  [
    /(tools?|function calling|tool use|tool_choice).*(not (supported|available|enabled)|unsupported|requires)/i,
    "tools",
  ],
  [/(does not|doesn't|not) support.*(tools?|function calling)/i, "tools"],
  [
    /('system' role|role '?system'?|system (message|role|prompt)s?).*(not (supported|allowed)|unsupported)/i,
    "system",
  ],
  [/(does not|doesn't) support.*'?system'?/i, "system"],
];

export const OPENAI_ERROR_MAPPING: ErrorMapping = {
  // {"error": {"message", "type", "param", "code"}}; some compatible servers say {"error": "..."} or {"message": "..."}.
  messageIn(body) {
    if (!isObject(body)) return null;
    if (isObject(body.error) && typeof body.error.message === "string") return body.error.message;
    for (const said of [body.error, body.message, body.detail]) if (typeof said === "string") return said;
    return null;
  },
  diagnose: diagnoseOpenAiError,
};

/** What an error of OpenAI's API means, or of a server that speaks it. Pure. */
export function diagnoseOpenAiError({ status, body, message, headers }: UpstreamErrorResponse): Diagnosis {
  const error = isObject(body) && isObject(body.error) ? body.error : {};
  const known = CODES[String(error.code ?? "")] ?? CODES[String(error.type ?? "")];
  if (known !== undefined) return known();
  switch (status) {
    case 401:
      return badKey("key_invalid");
    case 402:
      return badKey("credits_depleted");
    case 403:
      return /country|region|territory/i.test(message)
        ? WRONG_REGION
        : noSuchModel("permission_denied", { forMs: UNEXPLAINED_DENIAL_MS });
    case 404:
      return noSuchModel("model_not_found", { until: "forever" });
    case 429:
      return quotaUsedUp(retryAfterMs(headers, Date.now()) ?? resetMs(headers));
  }
  if (status === 408 || status >= 500) return upstreamsFault(status);
  // No redirect is followed: the base URL leads to another place than the API.
  if (status < 400) return upstreamsFault(status);
  const capability = LACKS.find(([pattern]) => pattern.test(message))?.[1];
  if (capability !== undefined) return callersFault("unsupported_feature", capability);
  return callersFault(
    status === 413 || /maximum context length|context window/i.test(message)
      ? "prompt_too_large"
      : "upstream_invalid_request",
  );
}

/** `x-ratelimit-reset-requests: 6m0s`, `1s`, `20ms`: of the limit that is used up, the later one if it is not said. */
function resetMs(headers: Headers): number | null {
  const times = ["requests", "tokens"]
    .filter((what) => Number(headers.get(`x-ratelimit-remaining-${what}`) ?? 0) === 0)
    .map((what) => durationMs(headers.get(`x-ratelimit-reset-${what}`)))
    .filter((ms) => ms !== null);
  return times.length === 0 ? null : Math.max(...times);
}

function durationMs(text: string | null): number | null {
  const parts = [...(text ?? "").matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
  if (parts.length === 0) return null;
  const unit: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
  return Math.ceil(parts.reduce((sum, [, amount, name]) => sum + Number(amount) * unit[name!]!, 0));
}
