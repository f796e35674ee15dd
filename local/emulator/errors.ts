/**
 * Every error that the Gemini API is known to answer, word for word, as of 2026.
 *
 * Sources: google.rpc.Code, google.rpc.error_details.proto, and bodies quoted in public issue trackers.
 */

import { type LimitName, quotaModelName } from "./models.ts";
import type { Violation } from "./quota.ts";

/** An answer that is not a 2xx. `body` is JSON, or a string of HTML as Google's front end sends for its own errors. */
export class GoogleError extends Error {
  constructor(readonly status: number, readonly body: unknown) {
    super(typeof body === "string" ? `HTTP ${status}` : JSON.stringify(body));
  }
}

/** What a body needs to know about the request it answers. */
export interface ErrorContext {
  /** Without `models/`. */
  model: string;
  method: string;
  version: "v1" | "v1beta";
  /** Google's number of the project. */
  projectNumber: string;
  /** The real key: Google repeats it in some bodies, so the emulator does. */
  key: string;
  /** For scripted quota errors: the delay RetryInfo names. */
  retryMs?: number;
}

const SERVICE = "generativelanguage.googleapis.com";
const GRPC_SERVICE = "google.ai.generativelanguage";

const STATUS_NAMES: Record<number, string> = {
  400: "INVALID_ARGUMENT",
  401: "UNAUTHENTICATED",
  403: "PERMISSION_DENIED",
  404: "NOT_FOUND",
  429: "RESOURCE_EXHAUSTED",
  500: "INTERNAL",
  503: "UNAVAILABLE",
  504: "DEADLINE_EXCEEDED",
};

/** One `google.rpc.Status`, with the status name that belongs to the HTTP code unless another is given. */
export function rpcError(
  code: number,
  message: string,
  details?: unknown[],
  status: string = STATUS_NAMES[code] ?? "UNKNOWN",
): GoogleError {
  return new GoogleError(code, { error: { code, message, status, ...(details ? { details } : {}) } });
}

export function invalidArgument(message: string): GoogleError {
  return rpcError(400, message);
}

/** What the JSON reader found wrong: one violation for each field, one line for each in the message. */
export function badRequest(violations: { field?: string; description: string }[]): GoogleError {
  return rpcError(400, violations.map((violation) => violation.description).join("\n"), [
    { "@type": "type.googleapis.com/google.rpc.BadRequest", fieldViolations: violations },
  ]);
}

function errorInfo(reason: string, metadata: Record<string, string>): unknown {
  return {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    reason,
    domain: "googleapis.com",
    metadata: { ...metadata, service: SERVICE },
  };
}

function localized(message: string): unknown {
  return { "@type": "type.googleapis.com/google.rpc.LocalizedMessage", locale: "en-US", message };
}

/** `google.ai.generativelanguage.v1beta.GenerativeService.GenerateContent` */
function grpcMethod(at: ErrorContext): string {
  const method = at.method.charAt(0).toUpperCase() + at.method.slice(1);
  return `${GRPC_SERVICE}.${at.version}.GenerativeService.${method}`;
}

function withInfo(
  code: number,
  message: string,
  reason: string,
  metadata: Record<string, string> = {},
): GoogleError {
  return rpcError(code, message, [errorInfo(reason, metadata), localized(message)]);
}

const RATE_LIMITS_PAGE = "https://ai.google.dev/gemini-api/docs/rate-limits";

export type Tier = "free" | "paid";

function quotaNames(limit: LimitName, embeds: boolean, tier: Tier): { quotaMetric: string; quotaId: string } {
  const free = tier === "free";
  const suffix = free ? "-FreeTier" : "";
  const per = limit === "rpd" ? "PerDay" : "PerMinute";
  if (embeds) {
    const what = limit === "tpm" ? "EmbedContentInputTokens" : "EmbedContentRequests";
    const unit = limit === "tpm" ? "input_token_count" : "requests";
    return {
      quotaMetric: `${SERVICE}/embed_content_${free ? "free_tier_" : "paid_tier_"}${unit}`,
      quotaId: `${what}${per}PerUserPerProjectPerModel${suffix}`,
    };
  }
  if (limit === "tpm") {
    return {
      quotaMetric: `${SERVICE}/generate_content_${free ? "free_tier" : "paid_tier"}_input_token_count`,
      quotaId: `GenerateContentInputTokensPerModelPerMinute${suffix}`,
    };
  }
  return {
    quotaMetric: free
      ? `${SERVICE}/generate_content_free_tier_requests`
      : `${SERVICE}/generate_requests_per_model${limit === "rpd" ? "_per_day" : ""}`,
    quotaId: `GenerateRequests${per}PerProjectPerModel${suffix}`,
  };
}

/**
 * The 429 of a limit that was reached.
 *
 * A limit of 0 has no `quotaValue`: it is an int64, and zero is left out on the wire. A daily refusal carries a
 * retryDelay that means nothing, so `retryMs` is whatever the caller says.
 */
export function quotaExceeded(
  violations: Pick<Violation, "limit" | "value">[],
  model: string,
  retryMs: number,
  options: { embeds?: boolean; tier?: Tier } = {},
): GoogleError {
  const name = quotaModelName(model);
  const named = violations.map(({ limit, value }) => ({
    ...quotaNames(limit, options.embeds ?? false, options.tier ?? "free"),
    quotaDimensions: { location: "global", model: name },
    ...(value > 0 ? { quotaValue: String(value) } : {}),
  }));
  const seconds = retryMs / 1_000;
  const lines = violations.map(({ value }, i) =>
    `* Quota exceeded for metric: ${named[i]!.quotaMetric}, limit: ${value}, model: ${name}`
  );
  const message = "You exceeded your current quota, please check your plan and billing details. " +
    `For more information on this error, head to: ${RATE_LIMITS_PAGE}. ` +
    "To monitor your current usage, head to: https://ai.dev/rate-limit. \n" +
    `${lines.join("\n")}\nPlease retry in ${seconds.toFixed(9)}s.`;
  return rpcError(429, message, [
    {
      "@type": "type.googleapis.com/google.rpc.Help",
      links: [{ description: "Learn more about Gemini API quotas", url: RATE_LIMITS_PAGE }],
    },
    { "@type": "type.googleapis.com/google.rpc.QuotaFailure", violations: named },
    { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: `${Math.floor(seconds)}s` },
  ]);
}

function frontEndPage(code: number, name: string, text: string): GoogleError {
  return new GoogleError(
    code,
    `<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  <title>Error ${code} (${name})!!1</title>\n` +
      `  <p><b>${code}.</b> <ins>That’s an error.</ins>\n  <p>${text}  <ins>That’s all we know.</ins>\n`,
  );
}

export function unknownUrl(path: string): GoogleError {
  const shown = path.replace(/[<>&"']/g, "");
  return frontEndPage(
    404,
    "Not Found",
    `The requested URL <code>${shown}</code> was not found on this server.`,
  );
}

const SCRIPTED_RETRY_MS = 29_412;
/** What the scripted quota errors call the limit. */
const SCRIPTED_LIMITS = { rpm: 30, tpm: 16_000, rpd: 14_400 };

function scriptedQuota(limit: LimitName): (at: ErrorContext) => GoogleError {
  return (at) =>
    quotaExceeded([{ limit, value: SCRIPTED_LIMITS[limit] }], at.model, at.retryMs ?? SCRIPTED_RETRY_MS, {
      embeds: /embed/i.test(at.method),
    });
}

/**
 * Bodies by name. `counted` tells whether Google has used up quota by the time it says so: what is refused before any work
 * has not, what fails inside has.
 */
export const ERRORS = {
  quota_minute_requests: { counted: false, make: scriptedQuota("rpm") },
  quota_minute_tokens: { counted: false, make: scriptedQuota("tpm") },
  quota_day: { counted: false, make: scriptedQuota("rpd") },
  quota_bare: {
    counted: false,
    make: () => rpcError(429, "Resource has been exhausted (e.g. check quota)."),
  },
  quota_limit_zero: {
    counted: false,
    make: (at: ErrorContext) =>
      quotaExceeded(
        [{ limit: "rpd", value: 0 }, { limit: "rpm", value: 0 }, { limit: "tpm", value: 0 }],
        at.model,
        at.retryMs ?? SCRIPTED_RETRY_MS,
      ),
  },
  prepayment_depleted: {
    counted: false,
    make: () =>
      rpcError(
        429,
        "Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects " +
          "to manage your project and billing.",
      ),
  },
  api_key_invalid: {
    counted: false,
    make: () => withInfo(400, "API key not valid. Please pass a valid API key.", "API_KEY_INVALID"),
  },
  api_key_expired: {
    counted: false,
    make: () => withInfo(400, "API key expired. Please renew the API key.", "API_KEY_INVALID"),
  },
  api_key_missing: {
    counted: false,
    make: () =>
      rpcError(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). " +
          "Please use API Key or other form of API consumer identity to call this API.",
      ),
  },
  unauthenticated: {
    counted: false,
    make: (at: ErrorContext) =>
      rpcError(
        401,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other " +
          "valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
        [errorInfo("ACCESS_TOKEN_TYPE_UNSUPPORTED", { method: grpcMethod(at) })],
      ),
  },
  key_leaked: {
    counted: false,
    make: () => rpcError(403, "Your API key was reported as leaked. Please use another API key."),
  },
  key_suspended: {
    counted: false,
    make: (at: ErrorContext) =>
      withInfo(
        403,
        `Permission denied: Consumer 'api_key:${at.key}' has been suspended.`,
        "CONSUMER_SUSPENDED",
        { consumer: `projects/${at.projectNumber}`, containerInfo: `api_key:${at.key}` },
      ),
  },
  service_disabled: {
    counted: false,
    make: (at: ErrorContext) => {
      const url =
        `https://console.developers.google.com/apis/api/${SERVICE}/overview?project=${at.projectNumber}`;
      const message =
        `Generative Language API has not been used in project ${at.projectNumber} before or it is disabled. ` +
        `Enable it by visiting ${url} then retry. If you enabled this API recently, wait a few minutes for the ` +
        "action to propagate to our systems and retry.";
      return rpcError(403, message, [
        errorInfo("SERVICE_DISABLED", {
          serviceTitle: "Generative Language API",
          consumer: `projects/${at.projectNumber}`,
          containerInfo: at.projectNumber,
          activationUrl: url,
        }),
        localized(message),
        {
          "@type": "type.googleapis.com/google.rpc.Help",
          links: [{ description: "Google developers console API activation", url }],
        },
      ]);
    },
  },
  key_restricted: {
    counted: false,
    make: (at: ErrorContext) =>
      withInfo(
        403,
        `Requests to this API ${SERVICE} method ${grpcMethod(at)} are blocked.`,
        "API_KEY_SERVICE_BLOCKED",
        { consumer: `projects/${at.projectNumber}`, methodName: grpcMethod(at), apiName: SERVICE },
      ),
  },
  key_address_restricted: {
    counted: false,
    make: (at: ErrorContext) =>
      withInfo(
        403,
        "The provided API key has an IP address restriction. The originating IP address of the call " +
          "(203.0.113.7) violates this restriction.",
        "API_KEY_IP_ADDRESS_BLOCKED",
        { consumer: `projects/${at.projectNumber}` },
      ),
  },
  project_denied: {
    counted: false,
    make: () => rpcError(403, "Your project has been denied access. Please contact support."),
  },
  model_not_found: {
    counted: false,
    make: (at: ErrorContext) =>
      rpcError(
        404,
        `models/${at.model} is not found for API version ${at.version}, or is not supported for ${at.method}. ` +
          "Call ListModels to see the list of available models and their supported methods.",
      ),
  },
  model_retired: {
    counted: false,
    make: (at: ErrorContext) =>
      rpcError(
        404,
        `This model models/${at.model} is no longer available to new users. ` +
          "Please update your code to use a newer model for the latest features and improvements.",
      ),
  },
  invalid_argument: { counted: false, make: () => invalidArgument("Request contains an invalid argument.") },
  location_unsupported: {
    counted: false,
    make: () =>
      rpcError(400, "User location is not supported for the API use.", undefined, "FAILED_PRECONDITION"),
  },
  system_disabled: {
    counted: false,
    make: (at: ErrorContext) =>
      invalidArgument(`Developer instruction is not enabled for models/${at.model}`),
  },
  json_disabled: {
    counted: false,
    make: (at: ErrorContext) => invalidArgument(`JSON mode is not enabled for models/${at.model}`),
  },
  /** A project of the free tier keeps no cached content of newer models. */
  no_cache_storage: {
    counted: false,
    make: (at: ErrorContext) =>
      rpcError(
        429,
        `TotalCachedContentStorageTokensPerModelFreeTier limit exceeded for model ${at.model}: limit=0, requested=4096`,
      ),
  },
  tools_disabled: {
    counted: false,
    make: (at: ErrorContext) => invalidArgument(`Function calling is not enabled for models/${at.model}`),
  },
  internal: {
    counted: true,
    make: () =>
      rpcError(
        500,
        "An internal error has occurred. Please retry or report in " +
          "https://developers.generativeai.google/guide/troubleshooting",
      ),
  },
  bad_gateway: {
    counted: true,
    make: () =>
      frontEndPage(
        502,
        "Server Error",
        "The server encountered a temporary error and could not complete your request.<p>" +
          "Please try again in 30 seconds.",
      ),
  },
  overloaded: {
    counted: true,
    make: () => rpcError(503, "The model is overloaded. Please try again later."),
  },
  high_demand: {
    counted: true,
    make: () =>
      rpcError(
        503,
        "This model is currently experiencing high demand. Spikes in demand are usually temporary. " +
          "Please try again later.",
      ),
  },
  deadline_exceeded: {
    counted: true,
    make: () => rpcError(504, "Deadline expired before operation could complete."),
  },
} satisfies Record<string, { counted: boolean; make: (at: ErrorContext) => GoogleError }>;

export type ErrorName = keyof typeof ERRORS;
export const ERROR_NAMES = Object.keys(ERRORS) as ErrorName[];

export function errorNamed(name: ErrorName, at: ErrorContext): GoogleError {
  return ERRORS[name].make(at);
}
