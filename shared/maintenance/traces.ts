import type { ReadVariable } from "../runtime/settings.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import { nextTraces, tracesDone } from "../database/maintenance/traces.ts";
import { post } from "./alerts/alert_channel.ts";
import type { Operation } from "./operation.ts";
import { spansOf, traceRequest } from "./trace_spans.ts";

/** Where traces go: the base address of a collector, as OpenTelemetry's own variables have it. */
export const OTLP_ENDPOINT_VARIABLE = "EVE_OTLP_ENDPOINT";
/** Headers for it, such as a key: `name=value`, with commas between them, values percent-encoded. */
export const OTLP_HEADERS_VARIABLE = "EVE_OTLP_HEADERS";
export const OTLP_SERVICE_VARIABLE = "EVE_OTLP_SERVICE_NAME";

/** Some 400 kB of JSON; collectors take 4 MB by default. */
const REQUESTS_AT_A_TIME = 200;
/** Time for one batch, the database included. With less left, the rest is for the next run. */
const TIME_FOR_ONE_MS = 15_000;

/** Of OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes): everything else is not tried again. */
const RETRYABLE = new Set([429, 502, 503, 504]);

export interface TraceExport {
  /** With `/v1/traces` at its end. */
  url: string;
  headers: Record<string, string>;
  service: string;
  /** Tells this gateway's spans from another's: its host. */
  gateway: string;
}

/**
 * What the environment says of it; null: nothing.
 * @throws GatewayError `gateway_misconfigured`; it repeats nothing of a header's value
 */
export function traceExport(
  read: ReadVariable,
  gateway: string,
): TraceExport | null {
  const base = read(OTLP_ENDPOINT_VARIABLE)?.trim().replace(/\/+$/, "");
  if (!base) return null;
  const wrong = (problem: string) =>
    new GatewayError("gateway_misconfigured", { detail: `traces: ${problem}` });
  if (!URL.canParse(base) || !/^https?:$/.test(new URL(base).protocol)) {
    throw wrong(`${OTLP_ENDPOINT_VARIABLE} must be an http or https address`);
  }
  const headers: Record<string, string> = {};
  for (const pair of (read(OTLP_HEADERS_VARIABLE) ?? "").split(",").map((each) => each.trim())) {
    if (pair === "") continue;
    const [, name, value] = /^([\w!#$&'*+.^`|~-]+)\s*=\s*(.*)$/.exec(pair) ?? [];
    if (name === undefined) {
      throw wrong(`${OTLP_HEADERS_VARIABLE} must be name=value, with commas between them`);
    }
    try {
      headers[name.toLowerCase()] = decodeURIComponent(value!);
    } catch {
      throw wrong(`${OTLP_HEADERS_VARIABLE} has a value that is not percent-encoded: ${name}`);
    }
  }
  const service = read(OTLP_SERVICE_VARIABLE)?.trim() || "eve-gateway";
  return { url: `${base}/v1/traces`, headers, service, gateway };
}

/**
 * The operation `traces`: sends requests that have ended to a collector, with OTLP over HTTP in JSON. What the collector cannot take now
 * waits, a day at most; what it refuses is counted. A run that dies between sending and noting it sends the same spans again, under
 * the same ids.
 */
export function tracesOperation(open: () => TraceExport | null): Operation {
  return {
    name: "traces",
    async run({ call, fetch, deadline }) {
      const target = open();
      if (target === null) {
        throw new GatewayError("gateway_misconfigured", {
          detail: `traces: ${OTLP_ENDPOINT_VARIABLE} is not set, and trace_export in eve.settings is 1`,
        });
      }
      const counts = { requests: 0, sent: 0, rejected: 0 };
      let more = false;
      for (;;) {
        if (deadline.leftMs() < TIME_FOR_ONE_MS) {
          more = true;
          break;
        }
        const { requests, until } = await nextTraces(call, REQUESTS_AT_A_TIME);
        if (until === null) break;
        const spans = (await Promise.all(requests.map((request) => spansOf(request, target.gateway)))).flat();
        const body = JSON.stringify(traceRequest(spans, target));
        const rejected = await rejectedOf(target, body, spans.length, { fetch, signal: deadline.signal });
        await tracesDone(call, until, { sent: spans.length - rejected, rejected });
        counts.requests += requests.length;
        counts.sent += spans.length - rejected;
        counts.rejected += rejected;
        if (requests.length < REQUESTS_AT_A_TIME) break;
      }
      return {
        tables: counts.requests > 0 ? ["eve.trace_export"] : [],
        count: counts.requests,
        details: counts,
        more,
      };
    },
  };
}

/**
 * Sends spans, and answers how many were refused for good.
 * @throws GatewayError when they are to be sent again later
 */
async function rejectedOf(
  { url, headers }: TraceExport,
  body: string,
  spans: number,
  call: { fetch: typeof fetch; signal: AbortSignal },
): Promise<number> {
  const answer = await post(url, body, headers, call);
  const later = (why: string) =>
    new GatewayError("upstream_unavailable", { detail: `traces: the collector: ${why}` });
  if ("ok" in answer) throw later(answer.error);
  const { status, text } = answer;
  if (RETRYABLE.has(status)) throw later(`status ${status}`);
  // A wrong address or key is the owner's to correct: what ended meanwhile is kept for it.
  if (status === 401 || status === 403 || status === 404 || status >= 300 && status < 400) {
    throw later(`status ${status}`);
  }
  if (status < 200 || status >= 300) return spans;
  return Math.min(rejectedBy(text), spans);
}

/** `partialSuccess.rejectedSpans`, a 64-bit number and so a text in JSON; 0 where nothing is said. */
function rejectedBy(text: string): number {
  try {
    const said = Number(JSON.parse(text)?.partialSuccess?.rejectedSpans ?? 0);
    return Number.isSafeInteger(said) && said > 0 ? said : 0;
  } catch {
    return 0;
  }
}
