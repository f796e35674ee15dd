/** What a PromQL expression asks for, as far as a test needs to know: metrics and labels, found by their form. */
import { METRICS } from "../../shared/maintenance/metric_registry.ts";

/** Labels that Prometheus itself adds. */
const ADDED = ["job", "instance"];

/** The metric of the registry that a series belongs to, and the labels that it has. */
export function labelsOfSeries(series: string): string[] | null {
  const all: Record<string, { type: string; labels: readonly string[] }> = METRICS;
  const plain = all[series];
  if (plain !== undefined && plain.type !== "histogram") return [...plain.labels, ...ADDED];
  const [, family = "", part] = /^(.*)_(bucket|sum|count)$/.exec(series) ?? [];
  const histogram = all[family];
  if (histogram?.type !== "histogram") return null;
  return [...histogram.labels, ...ADDED, ...(part === "bucket" ? ["le"] : [])];
}

/** What is wrong with an expression: a metric that is not on the page, or a label that it does not have. */
export function faultsOf(expression: string, legend = ""): string[] {
  const faults: string[] = [];
  const bare = expression.replaceAll(/^\s*#.*$/gm, "");
  const known = new Set<string>();
  for (
    const [, series = "", selector = ""] of bare.matchAll(
      /\b((?:eve|storage|s3|vision)_\w+)(?:\{([^}]*)\})?/g,
    )
  ) {
    const labels = labelsOfSeries(series);
    if (labels === null) {
      faults.push(`there is no ${series}`);
      continue;
    }
    for (const label of labels) known.add(label);
    for (const [, label = ""] of selector.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)) {
      if (!labels.includes(label)) faults.push(`${series} has no label ${label}`);
    }
  }
  if (!/\b(eve|storage|s3|vision)_\w+/.test(bare) && !/\bup\{/.test(bare)) {
    faults.push("it asks for nothing of the gateway's");
  }
  const grouped = [...bare.matchAll(/\bby\s*\(([^)]*)\)/g)].flatMap(([, list = ""]) =>
    list.split(",").map((one) => one.trim())
  );
  for (const label of grouped) {
    if (!known.has(label) && !/\bup\{/.test(bare)) faults.push(`nothing has the label ${label}`);
  }
  const shown = grouped.length > 0 ? grouped : [...known];
  for (const [, label = ""] of legend.matchAll(/\{\{\s*(\w+)\s*\}\}/g)) {
    if (!shown.includes(label)) faults.push(`the legend shows ${label}, which is not there`);
  }
  return faults;
}

export interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: { refId: string; expr: string; legendFormat: string }[];
  fieldConfig?: { defaults: { unit?: string } };
}

export interface Dashboard {
  title: string;
  uid: string;
  schemaVersion: number;
  panels: Panel[];
  templating: { list: { name: string; type: string; definition?: string }[] };
  annotations: { list: { expr?: string }[] };
}

export async function readDashboard(): Promise<Dashboard> {
  return JSON.parse(await Deno.readTextFile(new URL("../../ops/grafana/eve-gateway.json", import.meta.url)));
}

/** An expression as Grafana sends it: with "All" chosen everywhere. */
export const filledIn = (expression: string, rateInterval = "5m") =>
  expression.replaceAll("$__rate_interval", rateInterval).replaceAll(
    /\$\{?(model|consumer|quota_project)\}?/g,
    ".*",
  );
