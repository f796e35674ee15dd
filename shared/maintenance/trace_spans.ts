import { isEmbeddingModel } from "../contract/embedding.ts";
import { providerName } from "../contract/provider_name.ts";
import { VERSION } from "../contract/version.ts";
import type { TracedAttempt, TracedRequest } from "../database/maintenance/traces.ts";
import { sha256Of } from "../runtime/sha256.ts";

/** `opentelemetry.proto.trace.v1.Span.SpanKind`: who was called, and who calls. */
const KIND = { server: 2, client: 3 } as const;
/** `Status.StatusCode`. Unset is what a success has (https://opentelemetry.io/docs/specs/otel/trace/api/#set-status). */
const STATUS_ERROR = 2;

const TRACE_ID_CHARS = 32;
const SPAN_ID_CHARS = 16;

type Value = string | number | string[] | null | undefined;

interface Attribute {
  key: string;
  value: { stringValue: string } | { intValue: string } | {
    arrayValue: { values: { stringValue: string }[] };
  };
}

/** A span in the JSON of OTLP: ids in hexadecimal, whole numbers as texts. */
export interface Span {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: Attribute[];
  status: { code?: number; message?: string };
}

/**
 * A span for a request and one for each attempt that called upstream, by the conventions for generative AI
 * (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/). Ids follow from the request, so that what is sent twice is
 * known for the same. No prompt, no answer, no key.
 * @param gateway tells this gateway's requests from another's
 */
export async function spansOf(request: TracedRequest, gateway: string): Promise<Span[]> {
  const own = (what: string) => sha256Of(`${gateway} ${request.request_no} ${what}`);
  const traceId = request.trace_id ?? (await own("trace")).slice(0, TRACE_ID_CHARS);
  const spanId = (await own("request")).slice(0, SPAN_ID_CHARS);
  const operation = isEmbeddingModel(request.model) ? "embeddings" : "chat";
  const root: Span = {
    traceId,
    spanId,
    name: `${operation} ${request.model}`,
    kind: KIND.server,
    startTimeUnixNano: nanosOf(Date.parse(request.received_at)),
    endTimeUnixNano: nanosOf(Date.parse(request.finished_at)),
    attributes: attributes({
      "gen_ai.operation.name": operation,
      "gen_ai.request.model": request.requested_model ?? request.model,
      "gen_ai.response.model": request.model,
      "error.type": request.error_code,
      "eve.request_id": request.request_id,
      "eve.request_no": request.request_no,
      "eve.outcome": request.state,
      "eve.endpoint": request.endpoint,
      "eve.class": request.class,
      "eve.consumer": request.consumer,
      "eve.wait_ms": request.wait_ms,
      "eve.attempts": request.attempts.length,
    }),
    status: statusOf(request.state, request.error_code),
  };
  const attempts = await Promise.all(request.attempts.map(async (attempt): Promise<Span> => ({
    traceId,
    spanId: (await own(`attempt ${attempt.attempt}`)).slice(0, SPAN_ID_CHARS),
    parentSpanId: spanId,
    name: `${operation} ${attempt.model}`,
    kind: KIND.client,
    startTimeUnixNano: nanosOf(attempt.start_ms),
    endTimeUnixNano: nanosOf(attempt.start_ms + (attempt.latency_ms ?? 0)),
    attributes: attributesOfAttempt(operation, attempt),
    status: statusOf(attempt.outcome, attempt.error_code),
  })));
  return [root, ...attempts];
}

function attributesOfAttempt(operation: string, attempt: TracedAttempt): Attribute[] {
  const { output_tokens: output, thoughts_tokens: thoughts } = attempt;
  return attributes({
    "gen_ai.operation.name": operation,
    "gen_ai.provider.name": attempt.provider === null ? null : providerName(attempt.provider.toLowerCase()),
    "gen_ai.request.model": attempt.model,
    "gen_ai.response.finish_reasons": attempt.finish_reason === null ? null : [attempt.finish_reason],
    "gen_ai.usage.input_tokens": attempt.input_tokens,
    // As OpenTelemetry counts them: thoughts are output too.
    "gen_ai.usage.output_tokens": output === null ? null : output + (thoughts ?? 0),
    "gen_ai.usage.cache_read.input_tokens": attempt.cached_tokens,
    "http.response.status_code": attempt.upstream_status,
    "error.type": attempt.error_code,
    "eve.attempt": attempt.attempt,
    "eve.outcome": attempt.outcome,
    "eve.key": attempt.key,
    "eve.quota_project": attempt.quota_project,
  });
}

/** What is sent to `/v1/traces`. */
export function traceRequest(spans: readonly Span[], resource: { service: string; gateway: string }) {
  return {
    resourceSpans: [{
      resource: {
        attributes: attributes({
          "service.name": resource.service,
          "service.version": VERSION,
          "service.instance.id": resource.gateway,
        }),
      },
      scopeSpans: [{ scope: { name: "eve-gateway", version: VERSION }, spans }],
    }],
  };
}

function attributes(values: Record<string, Value>): Attribute[] {
  return Object.entries(values).flatMap(([key, value]): Attribute[] => {
    if (value === null || value === undefined) return [];
    if (Array.isArray(value)) {
      return [{ key, value: { arrayValue: { values: value.map((one) => ({ stringValue: one })) } } }];
    }
    return [{
      key,
      value: typeof value === "number" ? { intValue: String(Math.round(value)) } : { stringValue: value },
    }];
  });
}

/** A caller who left is no error of anybody's. */
function statusOf(outcome: string, code: string | null): Span["status"] {
  if (outcome === "succeeded" || outcome === "cancelled") return {};
  return { code: STATUS_ERROR, ...(code !== null && { message: code }) };
}

const nanosOf = (ms: number) => `${Math.round(ms)}000000`;
