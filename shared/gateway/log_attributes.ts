import { providerName } from "../contract/provider_name.ts";
import { asGatewayError } from "../contract/gateway_error.ts";
import type { InvokeContext } from "../contract/request.ts";
import type { LogAttributes } from "../runtime/canonical_log_line.ts";
import type { Duplicate } from "../database/admission/reserve.ts";
import type { Ended, Task } from "./tasks/task.ts";

/** How a request ended, for the log. */
export type RunEnd =
  | { kind: "ended"; ended: Ended<unknown> }
  | { kind: "duplicate"; duplicate: Duplicate }
  | { kind: "failed"; thrown: unknown };

/** A model's name is the caller's text, so it is cut. */
const MAX_NAME_CHARS = 100;

/** The attributes of a request's log line: by OpenTelemetry's names for generative AI where it has any, by ours elsewhere. */
export function attributesOf<Value>(
  task: Task<Value>,
  { caller }: InvokeContext,
  runEnd: RunEnd,
): LogAttributes {
  const { asked } = task;
  return {
    request_id: asked.id,
    "gen_ai.operation.name": task.operation,
    "gen_ai.request.model": asked.models[0]?.slice(0, MAX_NAME_CHARS),
    "eve.endpoint": asked.endpoint,
    "eve.class": asked.class,
    "eve.consumer": caller.name,
    ...endAttributes(runEnd),
  };
}

function endAttributes(runEnd: RunEnd): LogAttributes {
  switch (runEnd.kind) {
    case "ended": {
      const { grant, served, waitMs } = runEnd.ended;
      const { usage, verdict, finishReason } = served;
      const { provider, alias } = grant.key;
      return {
        "eve.outcome": verdict.ok ? "succeeded" : "failed",
        "error.type": verdict.ok ? undefined : verdict.code,
        "gen_ai.provider.name": providerName(provider),
        "gen_ai.response.model": grant.model,
        "gen_ai.response.finish_reasons": finishReason === null ? undefined : [finishReason],
        "gen_ai.usage.input_tokens": usage.inputTokens,
        // As OpenTelemetry counts them: thoughts are output too.
        "gen_ai.usage.output_tokens": usage.outputTokens === null
          ? undefined
          : usage.outputTokens + (usage.thoughtsTokens ?? 0),
        "gen_ai.usage.cache_read.input_tokens": usage.cachedTokens ?? undefined,
        "eve.usage_estimated": usage.estimated || undefined,
        "eve.request_no": grant.requestNo,
        "eve.key": alias,
        "eve.quota_project": grant.quotaProject,
        "eve.attempts": grant.attempt,
        "eve.wait_ms": waitMs,
      };
    }
    case "duplicate":
      return { "eve.outcome": "repeated", "eve.first_outcome": runEnd.duplicate.state };
    case "failed": {
      const { code, model, retryAfterMs } = asGatewayError(runEnd.thrown);
      return {
        "eve.outcome": code === "client_closed" ? "cancelled" : "failed",
        "error.type": code,
        "gen_ai.response.model": model ?? undefined,
        "eve.retry_after_ms": retryAfterMs ?? undefined,
      };
    }
  }
}
