/** The page that Prometheus reads: to the letter of both formats, and judged by Prometheus's own tool. */
import { describe, expect, test } from "vitest";
import { exposition, type Family } from "../../../shared/maintenance/exposition.ts";
import { METRICS } from "../../../shared/maintenance/metric_registry.ts";
import { familiesOf } from "../../../shared/maintenance/metrics.ts";
import { FINE_BUT_FOR_A_NAME, promtool, withoutPromtool } from "../promtool.ts";

const FAMILIES: Family[] = [
  {
    name: "eve_things_total",
    type: "counter",
    help: 'Things, "so to speak".\nSecond line with \\.',
    labels: ["kind", "name"],
    samples: [
      { labels: { name: 'a "b" \\ c\nd', kind: "x" }, value: 3 },
      { labels: { kind: "", name: "ключ" }, value: 2.5e15 },
    ],
  },
  {
    name: "eve_level",
    type: "gauge",
    help: "Level.",
    labels: [],
    samples: [{ labels: {}, value: -Infinity }],
  },
  {
    name: "eve_wait_seconds",
    type: "histogram",
    help: "Wait.",
    labels: ["class"],
    samples: [{ labels: { class: "batch" }, bounds: [0.1, 1], counts: [2, 0, 1], sum: 62.5 }],
  },
  { name: "eve_nothing", type: "gauge", help: "Nothing yet.", labels: ["x"], samples: [] },
];

test("the text format 0.0.4", () => {
  expect(exposition(FAMILIES, "prometheus")).toBe(
    String.raw`# HELP eve_things_total Things, "so to speak".\nSecond line with \\.
# TYPE eve_things_total counter
eve_things_total{kind="x",name="a \"b\" \\ c\nd"} 3
eve_things_total{kind="",name="ключ"} 2500000000000000
# HELP eve_level Level.
# TYPE eve_level gauge
eve_level -Inf
# HELP eve_wait_seconds Wait.
# TYPE eve_wait_seconds histogram
eve_wait_seconds_bucket{class="batch",le="0.1"} 2
eve_wait_seconds_bucket{class="batch",le="1"} 2
eve_wait_seconds_bucket{class="batch",le="+Inf"} 3
eve_wait_seconds_sum{class="batch"} 62.5
eve_wait_seconds_count{class="batch"} 3
# HELP eve_nothing Nothing yet.
# TYPE eve_nothing gauge
`,
  );
});

test("OpenMetrics 1.0: its own name for a counter, floats as bounds, an end", () => {
  const page = exposition(FAMILIES, "openmetrics");
  expect(page).toContain('# HELP eve_things Things, \\"so to speak\\".\\nSecond line');
  expect(page).toContain("# TYPE eve_things counter\neve_things_total{");
  expect(page).toContain('le="1.0"} 2');
  expect(page.endsWith("# EOF\n")).toBe(true);
});

describe("what the format forbids is found here and not by the scraper", () => {
  const gauge = (more: Partial<Family>): Family => ({
    name: "eve_level",
    type: "gauge",
    help: "Level.",
    labels: ["a"],
    samples: [{ labels: { a: "1" }, value: 1 }],
    ...more,
  });
  const histogram = (bounds: number[], counts: number[]): Family =>
    gauge({ type: "histogram", labels: [], samples: [{ labels: {}, bounds, counts, sum: 1 }] });

  test.each<[string, Family[]]>([
    ["a bad name", [gauge({ name: "eve level" })]],
    ["a family twice", [gauge({}), gauge({})]],
    ["a missing label", [gauge({ samples: [{ labels: {}, value: 1 }] })]],
    ["one label too many", [gauge({ samples: [{ labels: { a: "1", b: "2" }, value: 1 }] })]],
    ["a bad label name", [gauge({ labels: ["__a"], samples: [{ labels: { __a: "1" }, value: 1 }] })]],
    ["the label of buckets", [gauge({ labels: ["le"], samples: [{ labels: { le: "1" }, value: 1 }] })]],
    ["a series twice", [gauge({ samples: [1, 2].map((value) => ({ labels: { a: "1" }, value })) })]],
    ["a counter without its ending", [gauge({ type: "counter" })]],
    ["a falling counter", [
      gauge({ name: "a_total", type: "counter", samples: [{ labels: { a: "1" }, value: -1 }] }),
    ]],
    ["a counter that is no number", [
      gauge({ name: "a_total", type: "counter", samples: [{ labels: { a: "1" }, value: NaN }] }),
    ]],
    ["a histogram of one value", [gauge({ type: "histogram" })]],
    ["a bucket too few", [histogram([1, 2], [1, 2])]],
    ["bounds that do not ascend", [histogram([1, 1], [1, 2, 3])]],
    ["a bound at infinity", [histogram([1, Infinity], [1, 2, 3])]],
  ])("%s", (_, families) => {
    expect(() => exposition(families, "prometheus")).toThrow();
  });
});

describe("the registry", () => {
  /** One series of every metric. */
  const everything = exposition(
    familiesOf({
      samples: Object.entries(METRICS).filter(([name, { type }]) =>
        type !== "histogram" && !name.endsWith("build_info")
      ).map(([name, { labels }]) => ({
        name,
        labels: Object.fromEntries(labels.map((label) => [label, "x"])),
        value: 1,
      })),
      histograms: Object.entries(METRICS).filter(([, { type }]) => type === "histogram").map((
        [name, { labels }],
      ) => ({
        name,
        labels: Object.fromEntries(labels.map((label) => [label, "x"])),
        bounds: [1],
        counts: [1, 1],
        sum: 3,
      })),
    }, () => {}),
    "prometheus",
  );

  test("describes each metric in a sentence, with few labels", () => {
    for (const [name, { help, labels }] of Object.entries(METRICS)) {
      expect.soft(help, name).toMatch(/^[A-Z0-9].{15,}\.$/);
      expect.soft(labels.length, name).toBeLessThanOrEqual(4);
    }
  });

  test.skipIf(withoutPromtool)("pleases promtool check metrics", async () => {
    expect(await promtool(["check", "metrics"], everything)).toEqual(FINE_BUT_FOR_A_NAME);
  });

  test.skipIf(withoutPromtool)("promtool would find a fault", async () => {
    const page = exposition(FAMILIES.map((family) => ({ ...family, help: "" })), "prometheus");
    expect((await promtool(["check", "metrics"], page)).code).not.toBe(0);
  });

  test("a metric that this version does not know is left out and logged", () => {
    const logged: unknown[] = [];
    const families = familiesOf(
      { samples: [{ name: "eve_from_tomorrow", labels: {}, value: 1 }], histograms: [] },
      (...line) => logged.push(line),
    );
    expect(families.map(({ name }) => name)).toEqual(Object.keys(METRICS));
    expect(logged).toEqual([["warn", "metrics_unknown", { names: ["eve_from_tomorrow"] }]]);
  });
});
