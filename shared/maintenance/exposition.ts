import type { MetricDescription } from "./metric_registry.ts";

/** A value with its labels. */
export interface Sample {
  labels: Readonly<Record<string, string>>;
  value: number;
}

export interface HistogramSample {
  labels: Readonly<Record<string, string>>;
  /** Upper bounds of the buckets, ascending; one more bucket holds what is above them all. */
  bounds: readonly number[];
  /** Observations in each bucket, one more than there are bounds. */
  counts: readonly number[];
  sum: number;
}

export interface Family extends MetricDescription {
  name: string;
  samples: readonly (Sample | HistogramSample)[];
}

/**
 * `prometheus`: the text format 0.0.4, which every Prometheus reads. `openmetrics`: OpenMetrics 1.0, for those who ask for it.
 * https://prometheus.io/docs/instrumenting/exposition_formats/, https://prometheus.io/docs/specs/om/open_metrics_spec/
 */
export type ExpositionFormat = "prometheus" | "openmetrics";

export const CONTENT_TYPES: Readonly<Record<ExpositionFormat, string>> = {
  prometheus: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL_NAME = /^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/;

/**
 * The page that a scraper reads. Written here, since the packages (`prom-client` and its kin) count in a process and print what
 * they counted: here the database has counted, over all instances, and only the printing is left. Strict, because a scraper drops a whole page for one bad line.
 * @throws Error for what the format forbids: a bad name, labels other than described, a series twice, a counter below zero, a
 * histogram whose buckets do not fit its bounds
 */
export function exposition(families: readonly Family[], format: ExpositionFormat): string {
  const lines: string[] = [];
  const names = new Set<string>();
  for (const family of families) {
    if (!METRIC_NAME.test(family.name)) throw new Error(`metric name ${family.name}`);
    if (names.has(family.name)) throw new Error(`metric ${family.name} is there twice`);
    names.add(family.name);
    lines.push(...linesOf(family, format));
  }
  if (format === "openmetrics") lines.push("# EOF");
  return `${lines.join("\n")}\n`;
}

function linesOf(family: Family, format: ExpositionFormat): string[] {
  const { name, type, help, samples } = family;
  if (type === "counter" && !name.endsWith("_total")) throw new Error(`counter ${name} must end in _total`);
  // OpenMetrics names the family of a counter without the ending of its samples.
  const familyName = format === "openmetrics" && type === "counter" ? name.slice(0, -"_total".length) : name;
  const lines = [`# HELP ${familyName} ${escapeHelp(help, format)}`, `# TYPE ${familyName} ${type}`];
  const series = new Set<string>();
  for (const sample of samples) {
    const labels = labelPairs(family, sample.labels);
    const key = labels.join();
    if (series.has(key)) throw new Error(`${name}{${key}} is there twice`);
    series.add(key);
    if ("counts" in sample) lines.push(...histogramLines(family, labels, sample, format));
    else {
      if (type === "histogram") throw new Error(`${name} is a histogram and has a plain value`);
      if (type === "counter" && !(sample.value >= 0)) throw new Error(`counter ${name} is ${sample.value}`);
      lines.push(line(name, labels, sample.value));
    }
  }
  return lines;
}

function histogramLines(
  { name, type }: Family,
  labels: string[],
  { bounds, counts, sum }: HistogramSample,
  format: ExpositionFormat,
): string[] {
  if (type !== "histogram") throw new Error(`${name} is no histogram`);
  if (counts.length !== bounds.length + 1) throw new Error(`${name} has ${counts.length} buckets`);
  if (bounds.some((bound, place) => !Number.isFinite(bound) || bound <= (bounds[place - 1] ?? -Infinity))) {
    throw new Error(`${name} has bounds that do not ascend`);
  }
  const lines: string[] = [];
  let upTo = 0;
  counts.forEach((count, place) => {
    upTo += count;
    lines.push(line(`${name}_bucket`, [...labels, `le="${boundText(bounds[place], format)}"`], upTo));
  });
  return [...lines, line(`${name}_sum`, labels, sum), line(`${name}_count`, labels, upTo)];
}

/** OpenMetrics wants a float even where it is whole. */
function boundText(bound: number | undefined, format: ExpositionFormat): string {
  if (bound === undefined) return "+Inf";
  return format === "openmetrics" && Number.isInteger(bound) ? bound.toFixed(1) : String(bound);
}

function labelPairs({ name, labels }: Family, values: Readonly<Record<string, string>>): string[] {
  const given = Object.keys(values);
  if (given.length !== labels.length || !labels.every((label) => Object.hasOwn(values, label))) {
    throw new Error(`${name} has the labels ${given.join()}, not ${labels.join()}`);
  }
  return labels.map((label) => {
    if (!LABEL_NAME.test(label) || label === "le") throw new Error(`label name ${label} of ${name}`);
    return `${label}="${escapeValue(values[label] ?? "")}"`;
  });
}

const line = (name: string, labels: string[], value: number) =>
  `${name}${labels.length > 0 ? `{${labels.join()}}` : ""} ${numberText(value)}`;

function numberText(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  return String(value);
}

const escapeValue = (text: string) =>
  text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');

/** The two formats differ in whether a quote in a help text is escaped. */
function escapeHelp(text: string, format: ExpositionFormat): string {
  const escaped = text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
  return format === "openmetrics" ? escaped.replaceAll('"', '\\"') : escaped;
}
