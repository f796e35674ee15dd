import {
  badKey,
  callersFault,
  noSuchModel,
  quotaUsedUp,
  UNEXPLAINED_DENIAL_MS,
  upstreamsFault,
} from "./diagnoses.ts";
import type { KeyInquiry, KeyInspector } from "./key_inspector.ts";
import {
  baseUrlOf,
  clean,
  connectionFailed,
  type ErrorMapping,
  jsonFromUpstream,
  knownOptions,
  recordsIn,
  type UpstreamErrorResponse,
  upstreamModel,
} from "./upstream.ts";
import {
  type Diagnosis,
  type JobInquiry,
  type JobProgress,
  type JobSubmission,
  ProviderFailure,
  type ProviderOf,
} from "./provider.ts";
import { isObject } from "../contract/is_object.ts";
import { retryAfterMs } from "../runtime/retry_after.ts";

export const FAL_BASE_URL = "https://queue.fal.run";

const MODELS = [
  "fal-ai/pika/v2.2/text-to-video",
  "fal-ai/pika/v2.1/text-to-video",
  "fal-ai/pika/v2/turbo/text-to-video",
];
const OPTIONS = ["negative_prompt", "seed", "aspect_ratio", "resolution", "duration"];
/** How long fal.ai is asked to keep the file. */
const KEPT_S = 7 * 86_400;
/** A request that nobody has made: asked about with a good key, it is not found. */
const NO_REQUEST = "00000000-0000-0000-0000-000000000000";

export interface PikaOptions {
  baseUrl?: string;
  fetch?: typeof fetch;
  now?: () => number;
}

/** Pika's videos through the queue of fal.ai. */
export function pikaProvider(options: PikaOptions = {}): ProviderOf<"jobs"> & KeyInspector {
  const now = options.now ?? Date.now;

  function ask(
    path: string,
    { secret, settings, signal }: KeyInquiry,
    body?: unknown,
  ): Promise<Record<string, unknown>> {
    const base = baseUrlOf(settings, options.baseUrl, FAL_BASE_URL);
    return jsonFromUpstream({
      url: `${base}/${path}`,
      headers: {
        authorization: `Key ${secret}`,
        ...(body !== undefined &&
          { "x-fal-object-lifecycle-preference": JSON.stringify({ expiration_duration_seconds: KEPT_S }) }),
      },
      body,
      secret,
      signal,
      fetch: options.fetch ?? fetch,
      errorMapping: ERROR_MAPPING,
    });
  }

  async function submit(call: JobSubmission): Promise<JobProgress> {
    const body = { ...knownOptions(call.options, OPTIONS), prompt: call.text };
    const { request_id } = await ask(upstreamModel(call.model, "pika"), call, body);
    if (typeof request_id !== "string") throw connectionFailed("an answer without a request", call.secret);
    return { state: "running", upstreamId: request_id };
  }

  async function poll(inquiry: JobInquiry): Promise<JobProgress> {
    const { upstreamId, secret } = inquiry;
    const requests = `${appOf(upstreamModel(inquiry.model, "pika"))}/requests/${
      encodeURIComponent(upstreamId)
    }`;
    const { status } = await ask(`${requests}/status`, inquiry);
    if (status !== "COMPLETED") return { state: "running", upstreamId };
    let result: Record<string, unknown>;
    try {
      result = await ask(requests, inquiry);
    } catch (thrown) {
      // It has ended, and its answer is an error: of the request, since the queue itself answers.
      if (!(thrown instanceof ProviderFailure) || thrown.diagnosis.fault !== "caller") throw thrown;
      const blocked = thrown.diagnosis.code === "content_blocked";
      return {
        state: "failed",
        code: blocked ? "content_blocked" : "answer_unusable",
        reason: clean(thrown.message, secret),
      };
    }
    const { url, content_type } = isObject(result.video) ? result.video : {};
    if (typeof url !== "string") {
      return { state: "failed", code: "answer_unusable", reason: "no video came out" };
    }
    const mimeType = typeof content_type === "string" ? content_type : "video/mp4";
    return { state: "succeeded", files: [{ url, mimeType }], expiresAt: now() + KEPT_S * 1_000 };
  }

  return {
    name: "Pika",
    jobs: { submit, poll },
    listModels: () => Promise.resolve(MODELS),
    async checkKey(inquiry) {
      try {
        await ask(`${appOf(MODELS[0]!)}/requests/${NO_REQUEST}/status`, inquiry);
      } catch (thrown) {
        const found = thrown instanceof ProviderFailure ? thrown.upstreamStatus : null;
        if (found === 404 || found === 422 || found === 400) return;
        throw thrown;
      }
    },
  };
}

/** Requests are asked about by their application, without the path below it: `fal-ai/pika`. */
function appOf(model: string): string {
  return model.split("/").slice(0, 2).join("/");
}

const ERROR_MAPPING: ErrorMapping = {
  // {"detail": "..."} or {"detail": [{"loc", "msg", "type"}]}
  messageIn(body) {
    if (!isObject(body)) return null;
    if (typeof body.detail === "string") return body.detail;
    const [first] = recordsIn(body.detail);
    return typeof first?.msg === "string" ? first.msg : null;
  },
  diagnose,
};

function diagnose({ status, body, message, headers }: UpstreamErrorResponse): Diagnosis {
  switch (status) {
    case 401:
      return badKey("key_invalid");
    case 402:
      return badKey("credits_depleted");
    case 403:
      return /balance|locked/i.test(message)
        ? badKey("credits_depleted")
        : noSuchModel("permission_denied", { forMs: UNEXPLAINED_DENIAL_MS });
    case 404:
      return noSuchModel("model_not_found", { until: "forever" });
    case 429:
      return quotaUsedUp(retryAfterMs(headers, Date.now()));
  }
  if (status === 408 || status >= 500 || status < 400) return upstreamsFault(status);
  const types = isObject(body) ? recordsIn(body.detail).map(({ type }) => type) : [];
  return callersFault(
    types.includes("content_policy_violation") ? "content_blocked" : "upstream_invalid_request",
  );
}
