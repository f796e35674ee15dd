/** The dashboard and the rules ask for what is there, and Prometheus's own tool understands them. */
import { describe, expect, test } from "vitest";
import { METRICS } from "../../../shared/maintenance/metric_registry.ts";
import { faultsOf, filledIn, labelsOfSeries, readDashboard } from "../promql.ts";
import { promtool, withoutPromtool } from "../promtool.ts";

const OPS = new URL("../../../ops/", import.meta.url);
const folder = (name: string) => new URL(name, OPS).pathname;
const dashboard = await readDashboard();
const panels = dashboard.panels.filter(({ type }) => type !== "row");
const queries = panels.flatMap(({ title, targets }) =>
  (targets ?? []).map((target) => ({ title, ...target, legend: target.legendFormat }))
);

describe("the dashboard", () => {
  test("has panels that say what they show, in which unit, and none over another", () => {
    expect(panels.length).toBeGreaterThan(25);
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
    expect(new Set(panels.map(({ title }) => title)).size).toBeGreaterThan(25);
    for (const panel of panels) {
      expect.soft(panel.description, panel.title).toMatch(/^.{20,}\.$/s);
      expect.soft(panel.targets?.length, panel.title).toBeGreaterThan(0);
      expect.soft(panel.fieldConfig?.defaults.unit, panel.title).toBeTruthy();
    }
    const taken = new Set<string>();
    for (const { title, gridPos: { x, y, w, h } } of dashboard.panels) {
      expect.soft(x + w, title).toBeLessThanOrEqual(24);
      for (let column = x; column < x + w; column++) {
        for (let line = y; line < y + h; line++) {
          expect.soft(taken.has(`${column} ${line}`), `${title} covers another panel`).toBe(false);
          taken.add(`${column} ${line}`);
        }
      }
    }
  });

  test.each(queries)("$title ($refId) asks for metrics and labels of the page", ({ expr, legend }) => {
    expect(faultsOf(expr, legend === "__auto" ? "" : legend)).toEqual([]);
  });

  test("its variables and annotations do as well", () => {
    const variables = dashboard.templating.list.filter(({ type }) => type === "query");
    expect(variables.map(({ name }) => name)).toEqual(["model", "consumer", "quota_project"]);
    for (const { definition = "" } of variables) {
      const [, metric = "", label = ""] = /^label_values\((\w+), (\w+)\)$/.exec(definition) ?? [];
      expect(labelsOfSeries(metric), definition).toContain(label);
    }
    for (const { expr } of dashboard.annotations.list) if (expr) expect(faultsOf(expr)).toEqual([]);
  });

  test("shows every metric but the build", () => {
    const asked = [...queries.map(({ expr }) => expr)].join("\n");
    const left = Object.keys(METRICS).filter((name) => !new RegExp(`\\b${name}(_bucket)?\\b`).test(asked));
    expect(left).toEqual(["eve_metrics_behind_seconds", "eve_build_info"]);
  });

  test.skipIf(withoutPromtool)("is PromQL, says promtool", async () => {
    const all = [
      ...queries.map(({ expr }) => expr),
      ...dashboard.annotations.list.flatMap(({ expr }) => expr ?? []),
    ];
    const rules = all.map((expr, place) => ({ record: `query:${place}`, expr: filledIn(expr) }));
    const file = await Deno.makeTempFile({ suffix: ".yml" });
    try {
      await Deno.writeTextFile(file, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
      expect(await promtool(["check", "rules", file])).toMatchObject({
        code: 0,
        said: expect.stringContaining(`${rules.length} rules found`),
      });
    } finally {
      await Deno.remove(file);
    }
  });
});

describe("the rules", async () => {
  const text = await Deno.readTextFile(new URL("prometheus/alerts.yml", OPS));
  // Enough of YAML for a file of this form: an expression is the rest of its line, or the indented block below.
  const rules = text.split(/^ {6}- alert: /m).slice(1).map((rule) => {
    const [, first = "", block = ""] = /^ {8}expr: (.*)\n((?: {10,}.*\n)*)/m.exec(rule) ?? [];
    return { name: rule.split("\n")[0]!, expr: first === "|" ? block : first };
  });

  test("are read", () => {
    expect(rules.length).toBeGreaterThan(10);
    for (const { name, expr } of rules) expect(expr, name).toMatch(/eve_|storage_|s3_|vision_|up\{/);
  });

  test.each(rules)("$name asks for metrics and labels of the page", ({ expr }) => {
    expect(faultsOf(expr)).toEqual([]);
  });

  test("each has a test, and its line in docs/alerts.md", async () => {
    const tests = await Deno.readTextFile(new URL("prometheus/alerts_test.yml", OPS));
    const docs = await Deno.readTextFile(new URL("../docs/alerts.md", OPS));
    for (const { name } of rules) {
      expect.soft(tests, name).toMatch(new RegExp(`alertname: ${name}\\b`));
      expect.soft(docs, name).toContain(`\`${name}\``);
    }
  });

  test.skipIf(withoutPromtool)("please promtool, and fire when they should", async () => {
    expect(await promtool(["check", "rules", folder("prometheus/alerts.yml")])).toMatchObject({ code: 0 });
    expect(await promtool(["test", "rules", folder("prometheus/alerts_test.yml")])).toMatchObject({
      code: 0,
    });
    expect(await promtool(["check", "config", "--syntax-only", folder("prometheus/prometheus.yml")]))
      .toMatchObject({ code: 0 });
  });
});

async function sourceOf(folder: URL): Promise<string> {
  let text = "";
  for await (const entry of Deno.readDir(folder)) {
    const url = new URL(entry.isDirectory ? `${entry.name}/` : entry.name, folder);
    text += entry.isDirectory ? await sourceOf(url) : await Deno.readTextFile(url);
  }
  return text;
}

describe("a query that asks for what is not there would be found", () => {
  test.each([
    ["sum(eve_request_total)", "", "no eve_request_total"],
    ['rate(eve_requests_total{status="ok"}[5m])', "", "no label status"],
    ["sum by (customer) (eve_queue_length)", "", "label customer"],
    ["sum by (model) (eve_queue_length)", "{{class}}", "shows class"],
    ["eve_wait_seconds", "", "no eve_wait_seconds"],
    ["eve_queue_length_bucket", "", "no eve_queue_length_bucket"],
    ["vector(1)", "", "nothing of the gateway"],
  ])("%s", (expression, legend, fault) => {
    expect(faultsOf(expression, legend).join()).toContain(fault);
  });
});

describe("the documentation", () => {
  test("names lines of the log that are written", async () => {
    const docs = await Deno.readTextFile(new URL("../docs/metrics.md", OPS));
    const table = /^\| line .*\n((?:\|.*\n)+)/m.exec(docs)![1]!;
    const named = table.split("\n").flatMap((row) =>
      [...(row.split("|")[1] ?? "").matchAll(/`([a-z_]+)`/g)].map((match) => match[1]!)
    );
    expect(named.length).toBeGreaterThan(10);
    const written = await sourceOf(new URL("../shared/", OPS));
    for (const line of named) expect(written, line).toContain(`"${line}"`);
  });

  test("describes every metric with its labels, and no other", async () => {
    const docs = await Deno.readTextFile(new URL("../docs/metrics.md", OPS));
    const rows = [...docs.matchAll(/^\| `((?:eve|storage|s3|vision)_\w+)` +\| (\w+) +\| ([^|]*)\|/gm)];
    const described = Object.fromEntries(
      rows.map((
        [, name, type, labels = ""],
      ) => [name, { type, labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label) }]),
    );
    const there = Object.fromEntries(
      Object.entries(METRICS).map(([name, { type, labels }]) => [name, { type, labels: [...labels] }]),
    );
    expect(described).toEqual(there);
  });
});
