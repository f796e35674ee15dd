import { GatewayError } from "../contract/gateway_error.ts";
import type { Log } from "../runtime/log.ts";
import { VERSION } from "../contract/version.ts";
import { type GatewayMetrics, readMetrics } from "../database/maintenance/metrics.ts";
import type { Transport } from "../database/transport/transport.ts";
import {
  CONTENT_TYPES,
  exposition,
  type ExpositionFormat,
  type Family,
  type HistogramSample,
  type Sample,
} from "./exposition.ts";
import { isMetricName, type MetricDescription, type MetricName, METRICS } from "./metric_registry.ts";
import { equalInConstantTime } from "../runtime/constant_time.ts";
import { sha256Of } from "../runtime/sha256.ts";

/** A key that a person makes up is shorter; one from a generator is longer. */
const MIN_KEY_CHARS = 16;
const MAX_KEY_CHARS = 8_192;

export interface MetricsDeps {
  call: Transport;
  /** `EVE_METRICS_KEY`: opens this page and nothing else. Null: only the project's secret key does. */
  metricsKey: string | null;
  /** Throws a GatewayError for a request without the project's secret key. */
  authorise(request: Request): Promise<void>;
  log: Log;
}

/**
 * `GET .../metrics`: the figures for Prometheus, in its text form, or in OpenMetrics' for those who accept that. The
 * caller of this function answers what it throws.
 * @throws GatewayError as `authorise` and the ledger do; `gateway_misconfigured` for an EVE_METRICS_KEY that is too short
 */
export function metricsHandler(deps: MetricsDeps): (request: Request) => Promise<Response> {
  return async (request) => {
    if (!await opensMetrics(request, deps.metricsKey)) await deps.authorise(request);
    const format = formatFor(request);
    const page = exposition(familiesOf(await readMetrics(deps.call), deps.log), format);
    return new Response(request.method === "HEAD" ? null : page, {
      headers: { "content-type": CONTENT_TYPES[format], "cache-control": "no-store", "vary": "accept" },
    });
  };
}

/** Whether the request carries the key of this page. Compared by digests, so that the time it takes reveals nothing. */
async function opensMetrics(request: Request, metricsKey: string | null): Promise<boolean> {
  if (metricsKey === null) return false;
  if (metricsKey.length < MIN_KEY_CHARS) {
    throw new GatewayError("gateway_misconfigured", {
      detail: `settings: EVE_METRICS_KEY must have at least ${MIN_KEY_CHARS} characters`,
    });
  }
  const { headers } = request;
  const given = /^bearer +(\S+)$/i.exec(headers.get("authorization")?.trim() ?? "")?.[1] ??
    headers.get("apikey")?.trim() ?? "";
  if (given === "" || given.length > MAX_KEY_CHARS) return false;
  return equalInConstantTime(await sha256Of(given), await sha256Of(metricsKey));
}

/** OpenMetrics only for those who name it: Prometheus does, a browser does not. */
function formatFor(request: Request): ExpositionFormat {
  const accept = request.headers.get("accept") ?? "";
  return /application\/openmetrics-text/i.test(accept) ? "openmetrics" : "prometheus";
}

/** What SQL returned, with the descriptions of the registry. A metric that the registry does not know is left out and logged, not a reason to show nothing. */
export function familiesOf({ samples, histograms }: GatewayMetrics, log: Log): Family[] {
  const own: Partial<Record<MetricName, Sample[]>> = {
    eve_build_info: [{ labels: { version: VERSION }, value: 1 }],
  };
  const found = new Map<string, (Sample | HistogramSample)[]>(Object.entries(own));
  const unknown = new Set<string>();
  for (const sample of [...samples, ...histograms]) {
    if (!isMetricName(sample.name)) {
      unknown.add(sample.name);
      continue;
    }
    const list = found.get(sample.name);
    if (list === undefined) found.set(sample.name, [sample]);
    else list.push(sample);
  }
  if (unknown.size > 0) log("warn", "metrics_unknown", { names: [...unknown] });
  return Object.entries<MetricDescription>(METRICS).map(([name, description]) => ({
    name,
    ...description,
    samples: found.get(name) ?? [],
  }));
}
