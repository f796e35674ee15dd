/** The page as a scraper asks for it: who may, in which form, and what stands on it. */
import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { VERSION } from "../../../shared/contract/version.ts";
import { SqlFailure, type Transport } from "../../../shared/database/transport/transport.ts";
import { METRICS } from "../../../shared/maintenance/metric_registry.ts";
import { metricsHandler } from "../../../shared/maintenance/metrics.ts";
import { FINE_BUT_FOR_A_NAME, promtool, withoutPromtool } from "../promtool.ts";

const KEY = "sixteen-letters-";

const STORAGE_ANSWER = {
  samples: [["storage_bucket_usage_gb", { content_type: "crawl" }, 0.25]],
  histograms: [],
};
const ANSWER = {
  samples: [
    ["eve_requests_total", { outcome: "succeeded", endpoint: "native", consumer: "bot", model: "m" }, 12],
    [
      "eve_requests_total",
      { outcome: "refused", endpoint: "openai", consumer: "other", model: "unknown" },
      3,
    ],
    ["eve_queue_length", { model: "m", class: "batch" }, 0],
    ["eve_lane_limit", { quota_project: "p", model: "m", limit: "rpm" }, 30],
  ],
  histograms: [
    ["eve_wait_seconds", { class: "batch", model: "m" }, [0.01, 1, 60], [5, 0, 2, 1], 130.25],
  ],
};

const EVENT_ANSWER = { samples: [["eve_dead_letters", { consumer: "webhook" }, 2]], histograms: [] };
const JOB_ANSWER = { samples: [["eve_jobs", { kind: "llm", state: "queued" }, 7]], histograms: [] };
const CHAT_ANSWER = { samples: [["eve_chat_answers_pending", {}, 1]], histograms: [] };
const ANSWERS: Record<string, unknown> = {
  eve_metrics: ANSWER,
  eve_storage_metrics: STORAGE_ANSWER,
  eve_event_metrics: EVENT_ANSWER,
  eve_job_metrics: JOB_ANSWER,
  eve_chat_metrics: CHAT_ANSWER,
  eve_vision_metrics: { samples: [], histograms: [] },
  eve_telegram_metrics: { samples: [], histograms: [] },
  eve_graph_metrics: { samples: [], histograms: [] },
  eve_cache_metrics: { samples: [], histograms: [] },
};

function page(options: { key?: string | null; call?: Transport } = {}) {
  const asked: string[] = [];
  const handle = metricsHandler({
    call: options.call ?? ((sqlFunction) => {
      asked.push(sqlFunction);
      return Promise.resolve(ANSWERS[sqlFunction]);
    }),
    metricsKey: options.key === undefined ? KEY : options.key,
    authorise: (request) =>
      request.headers.get("apikey") === "the project's"
        ? Promise.resolve()
        : Promise.reject(new GatewayError("credential_missing")),
    log: () => {},
  });
  const get = (headers: HeadersInit = { authorization: `Bearer ${KEY}` }, method = "GET") =>
    handle(new Request("http://gateway/maintenance/metrics", { method, headers }));
  return { get, asked };
}

/** Every line that is no description. */
const values = (text: string) => text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));

test("what SQL returned, in the order and the words of the registry", async () => {
  const response = await page().get();
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(response.headers.get("cache-control")).toBe("no-store");
  const text = await response.text();
  expect(values(text)).toEqual([
    'eve_requests_total{outcome="succeeded",endpoint="native",consumer="bot",model="m"} 12',
    'eve_requests_total{outcome="refused",endpoint="openai",consumer="other",model="unknown"} 3',
    'eve_wait_seconds_bucket{class="batch",model="m",le="0.01"} 5',
    'eve_wait_seconds_bucket{class="batch",model="m",le="1"} 5',
    'eve_wait_seconds_bucket{class="batch",model="m",le="60"} 7',
    'eve_wait_seconds_bucket{class="batch",model="m",le="+Inf"} 8',
    'eve_wait_seconds_sum{class="batch",model="m"} 130.25',
    'eve_wait_seconds_count{class="batch",model="m"} 8',
    'eve_lane_limit{quota_project="p",model="m",limit="rpm"} 30',
    'eve_queue_length{model="m",class="batch"} 0',
    "eve_chat_answers_pending 1",
    'eve_jobs{kind="llm",state="queued"} 7',
    'eve_dead_letters{consumer="webhook"} 2',
    'storage_bucket_usage_gb{content_type="crawl"} 0.25',
    `eve_build_info{version="${VERSION}"} 1`,
  ]);
  for (const [name, { type, help }] of Object.entries(METRICS)) {
    expect(text).toContain(`# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`);
  }
});

test.skipIf(withoutPromtool)("promtool reads it", async () => {
  expect(await promtool(["check", "metrics"], await (await page().get()).text())).toEqual(
    FINE_BUT_FOR_A_NAME,
  );
});

test("OpenMetrics for who asks for it, and headers alone for HEAD", async () => {
  const accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
  const open = await page().get({ authorization: `bearer ${KEY}`, accept });
  expect(open.headers.get("content-type")).toBe("application/openmetrics-text; version=1.0.0; charset=utf-8");
  expect(await open.text()).toMatch(/^# TYPE eve_requests counter$[^]*\n# EOF\n$/m);
  const head = await page().get(undefined, "HEAD");
  expect(await head.text()).toBe("");
});

describe("the credential", () => {
  test.each<[string, HeadersInit]>([
    ["the scraper's key as a Bearer token", { authorization: `Bearer ${KEY}` }],
    ["the scraper's key as apikey", { apikey: KEY }],
    ["the project's secret key", { apikey: "the project's" }],
  ])("%s opens it", async (_, headers) => expect((await page().get(headers)).status).toBe(200));

  test.each<[string, HeadersInit]>([
    ["none", {}],
    ["another", { authorization: "Bearer sixteen-letters_" }],
    ["a beginning of it", { authorization: `Bearer ${KEY.slice(0, -1)}` }],
    ["one beyond all measure", { authorization: `Bearer ${KEY.repeat(1_000)}` }],
    ["an empty one", { apikey: "" }],
  ])("%s does not, and the database is not asked", async (_, headers) => {
    const { get, asked } = page();
    await expect(get(headers)).rejects.toMatchObject({ code: "credential_missing" });
    expect(asked).toEqual([]);
  });

  test("without a scraper's key only the project's opens it", async () => {
    await expect(page({ key: null }).get({ authorization: "Bearer null" })).rejects.toMatchObject({
      status: 401,
    });
    expect((await page({ key: null }).get({ apikey: "the project's" })).status).toBe(200);
  });

  test("one that could be guessed is the owner's mistake", async () => {
    await expect(page({ key: "short" }).get({ authorization: "Bearer short" })).rejects.toMatchObject({
      code: "gateway_misconfigured",
      detail: expect.stringContaining("EVE_METRICS_KEY"),
    });
  });
});

test("a database that fails is an error, not an empty page", async () => {
  const call = () =>
    Promise.reject(new SqlFailure("57014", "canceling statement due to statement timeout", 500));
  await expect(page({ call }).get()).rejects.toMatchObject({ code: "database_unavailable" });
});
