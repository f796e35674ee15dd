import type { BlockReason } from "../../contract/block.ts";
import { badKey, noSuchModel, UNEXPLAINED_DENIAL_MS, upstreamsFault } from "../diagnoses.ts";
import type { Diagnosis } from "../provider.ts";

/** The body of a Google error, as far as it was readable: `error.message`, `error.details`, and the HTTP status. */
export interface GoogleError {
  status: number;
  message: string;
  details: readonly unknown[];
}

/** A refusal for the minute that names no time: a whole window. */
const BARE_MINUTE_BLOCK_MS = 60_000;
/** Google's `retryDelay` can be "0s"; less than a second would only repeat the refusal. */
const SHORTEST_BLOCK_MS = 1_000;

/** `google.rpc.ErrorInfo.reason` values that say the key itself cannot be used. */
const KEY_REASONS: Readonly<Record<string, BlockReason>> = {
  API_KEY_INVALID: "key_invalid",
  API_KEY_EXPIRED: "key_invalid",
  ACCESS_TOKEN_TYPE_UNSUPPORTED: "key_invalid",
  CONSUMER_INVALID: "key_invalid",
  CONSUMER_SUSPENDED: "key_suspended",
  SERVICE_DISABLED: "service_disabled",
  API_KEY_SERVICE_BLOCKED: "key_restricted",
  API_KEY_HTTP_REFERRER_BLOCKED: "key_restricted",
  API_KEY_IP_ADDRESS_BLOCKED: "key_restricted",
  API_KEY_ANDROID_APP_BLOCKED: "key_restricted",
  API_KEY_IOS_APP_BLOCKED: "key_restricted",
};

/** The same by message, for bodies without an ErrorInfo. */
const KEY_MESSAGES: readonly (readonly [RegExp, BlockReason])[] = [
  [/api key not valid|api key expired|please pass a valid api key|unregistered callers/i, "key_invalid"],
  [/reported as leaked/i, "key_leaked"],
  [/has been suspended/i, "key_suspended"],
  [/has not been used in project .* before or it is disabled/i, "service_disabled"],
  [/requests from (this|referer|the) .* are blocked|violates? this restriction/i, "key_restricted"],
];

const CAPABILITIES: readonly (readonly [RegExp, "system" | "json" | "tools"])[] = [
  [/developer instruction is not enabled|system instruction is not (enabled|supported)/i, "system"],
  [/json mode is not (enabled|supported)/i, "json"],
  [/function calling is not (enabled|supported)|tool use is not (enabled|supported)/i, "tools"],
];

const REGION = /user location is not supported|not available in your (country|region)/i;
const DEPLETED = /credits? (is|are) depleted/i;
/** Google says so of what was never there, has expired, or is another project's: nothing is wrong with the key or the model. */
const NO_SUCH_CACHE = /CachedContent not found/i;
const TOO_MANY_TOKENS = /input token count .*exceeds the maximum/i;

/**
 * What a Google error means: who is at fault, what not to use and for how long, and whether to try again. Pure; the cases are
 * those of tests/fixtures/google/errors.
 */
export function diagnoseGoogleError(error: GoogleError): Diagnosis {
  const { status, message } = error;
  // Before anything else: this one comes as a 400 that looks like the caller's, and is about where we run.
  if (REGION.test(message)) {
    return { fault: "region", retryable: false, block: null, code: "upstream_region" };
  }

  if (NO_SUCH_CACHE.test(message)) return callersFault(message);

  const keyReason = KEY_REASONS[errorInfoReason(error.details)] ??
    KEY_MESSAGES.find(([pattern]) => pattern.test(message))?.[1];
  if (keyReason !== undefined && status >= 400 && status < 500 && status !== 429) return badKey(keyReason);

  switch (status) {
    case 401:
      return badKey("key_invalid");
    case 403:
      return deniedModel(message);
    case 404:
      return noSuchModel("model_not_found", { until: "forever" });
    case 429:
      return quotaUsedUp(error);
    case 408:
    case 504:
      return { fault: "nobody", retryable: true, block: null, code: "upstream_timeout" };
  }
  // No redirect is followed: a server that sends one is not the API.
  if (status >= 500 || status < 400) return upstreamsFault(null);
  return callersFault(message);
}

function deniedModel(message: string): Diagnosis {
  return /project has been denied access/i.test(message)
    ? noSuchModel("project_denied", { until: "forever" })
    : noSuchModel("permission_denied", { forMs: UNEXPLAINED_DENIAL_MS });
}

function callersFault(message: string): Diagnosis {
  const capability = CAPABILITIES.find(([pattern]) => pattern.test(message))?.[1];
  if (capability !== undefined) {
    return { fault: "caller", retryable: false, block: null, code: "unsupported_feature", capability };
  }
  const code = TOO_MANY_TOKENS.test(message) ? "prompt_too_large" : "upstream_invalid_request";
  return { fault: "caller", retryable: false, block: null, code };
}

function quotaUsedUp({ message, details }: GoogleError): Diagnosis {
  if (DEPLETED.test(message)) return badKey("credits_depleted");

  const violations = ofType(details, "QuotaFailure").flatMap((failure) => records(failure.violations));
  const quotaIds = violations.map((violation) => String(violation.quotaId ?? ""));
  // A limit of zero: the project has no quota for this model at all, whatever window the violation names.
  if (
    violations.some((violation) => String(violation.quotaValue) === "0") ||
    /\blimit: 0(?![\d.])/.test(message)
  ) {
    return noSuchModel("no_quota", { until: "forever" });
  }
  // The day first: a daily refusal carries a short, meaningless retryDelay.
  if (quotaIds.some((id) => id.includes("PerDay"))) {
    return {
      fault: "lane",
      retryable: true,
      block: { scope: "lane", lasts: { until: "pacific_midnight" }, reason: "upstream_daily_quota" },
      code: "upstream_daily_limit",
    };
  }
  const delay = retryDelayMs(details) ?? BARE_MINUTE_BLOCK_MS;
  return {
    fault: "lane",
    retryable: true,
    block: {
      scope: "lane",
      lasts: { forMs: Math.max(SHORTEST_BLOCK_MS, delay) },
      reason: "upstream_minute_quota",
    },
    code: "upstream_rate_limited",
  };
}

/** `RetryInfo.retryDelay` is a protobuf Duration in JSON: "29s", "29.5s". */
function retryDelayMs(details: readonly unknown[]): number | null {
  const delay = ofType(details, "RetryInfo")[0]?.retryDelay;
  const seconds = typeof delay === "string" ? /^(\d+(?:\.\d+)?)s$/.exec(delay)?.[1] : undefined;
  return seconds === undefined ? null : Math.ceil(Number(seconds) * 1000);
}

function errorInfoReason(details: readonly unknown[]): string {
  return String(ofType(details, "ErrorInfo")[0]?.reason ?? "");
}

/** Details of one `google.rpc` type, by the end of their `@type`. */
function ofType(details: readonly unknown[], name: string): Record<string, unknown>[] {
  return records(details).filter((detail) => String(detail["@type"] ?? "").endsWith(`.${name}`));
}

function records(list: unknown): Record<string, unknown>[] {
  if (!Array.isArray(list)) return [];
  return list.filter((item) => typeof item === "object" && item !== null);
}
