/** Metrics of storage: sums that functions hand over are added once, under any concurrency, and labels stay few. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  countStorage,
  type StorageSums,
  UPLOAD_BOUNDS_S,
} from "../../../shared/database/media/media_counts.ts";
import { readMetrics } from "../../../shared/database/maintenance/metrics.ts";
import {
  type DirectTransport,
  directTransport,
} from "../../../shared/database/transport/direct_transport.ts";
import { exposition } from "../../../shared/maintenance/exposition.ts";
import { familiesOf } from "../../../shared/maintenance/metrics.ts";
import { cloneDatabase, type TestDatabase } from "../../harness/database.ts";
import { empty } from "../../harness/rows.ts";
import { mediaCalls, setLimit, shaOf } from "../../harness/media.ts";

let database: TestDatabase;
let sql: TestDatabase["sql"];
let transport: DirectTransport;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
  transport = directTransport({ url: database.url, connections: 8, pooler: false });
});
afterAll(async () => {
  await transport?.close();
  await database?.drop();
});
beforeEach(async () => {
  await empty(sql, "eve.metric_counters", "eve.media_upload_times");
});

const NOTHING: StorageSums = { operations: [], uploads: [], violations: [], emergency_cleanups: 0 };
const count = (sums: Partial<StorageSums>) => countStorage(transport.call)({ ...NOTHING, ...sums });
/** The lines of the page about storage, without descriptions. */
async function page(begins = ""): Promise<string[]> {
  const text = exposition(familiesOf(await readMetrics(transport.call), () => {}), "prometheus");
  return text.split("\n").filter((line) => /^(storage|s3)_/.test(line) && line.startsWith(begins));
}
const oneUpload = (place: number) => UPLOAD_BOUNDS_S.map((_, at) => Number(at === place)).concat(0);

describe("counters and times", () => {
  test("are added up, and stand on the page with the bounds that functions count by", async () => {
    for (const times of [2, 3]) {
      await count({
        operations: [
          { operation: "put", result: "ok", content_type: "media", times },
          { operation: "list", result: "storage_unavailable", content_type: "", times: 1 },
        ],
        uploads: [{ content_type: "media", size_bucket: "1MB", counts: oneUpload(times), seconds: times }],
        emergency_cleanups: 1,
      });
    }
    const lines = await page();
    expect(lines).toContain('s3_operations_total{operation="put",result="ok",content_type="media"} 5');
    expect(lines).toContain(
      's3_operations_total{operation="list",result="storage_unavailable",content_type=""} 2',
    );
    expect(lines).toContain("storage_emergency_cleanups_total 2");
    const labels = 'content_type="media",size_bucket="1MB"';
    expect(await page("s3_upload_duration_seconds")).toEqual([
      ...[...UPLOAD_BOUNDS_S, "+Inf"].map((bound, place) =>
        `s3_upload_duration_seconds_bucket{${labels},le="${bound}"} ${place < 2 ? 0 : place < 3 ? 1 : 2}`
      ),
      `s3_upload_duration_seconds_sum{${labels}} 5`,
      `s3_upload_duration_seconds_count{${labels}} 2`,
    ]);
  });

  test("lose nothing when many functions hand over at once", async () => {
    await Promise.all(Array.from({ length: 200 }, (_, n) =>
      count({
        operations: [
          { operation: "put", result: "ok", content_type: "media", times: 1 },
          { operation: "get", result: "ok", content_type: "crawl", times: 2 },
        ].toSorted(() => n % 2 ? 1 : -1),
        uploads: [
          { content_type: "media", size_bucket: "1MB", counts: oneUpload(0), seconds: 0.5 },
          { content_type: "crawl", size_bucket: "1MB", counts: oneUpload(1), seconds: 0.5 },
        ].toSorted(() => n % 2 ? 1 : -1),
        violations: [{ tenant_id: "default", reason: "total", times: 1 }],
      })));
    const lines = await page();
    expect(lines).toContain('s3_operations_total{operation="put",result="ok",content_type="media"} 200');
    expect(lines).toContain('s3_operations_total{operation="get",result="ok",content_type="crawl"} 400');
    expect(lines).toContain('s3_upload_duration_seconds_sum{content_type="crawl",size_bucket="1MB"} 100');
    expect(lines).toContain('storage_quota_violations_total{tenant_id="default",reason="total"} 200');
  });

  test("take no other labels than ours, and no times of other buckets", async () => {
    await count({
      operations: [{ operation: "put", result: "x".repeat(99), content_type: "../secret", times: 1 }],
      violations: [
        { tenant_id: "nobody-s", reason: "tenant", times: 1 },
        { tenant_id: "default", reason: "made up", times: 1 },
      ],
    });
    const lines = await page();
    expect(lines).toContain(
      `s3_operations_total{operation="put",result="${"x".repeat(40)}",content_type=""} 1`,
    );
    expect(lines).toContain('storage_quota_violations_total{tenant_id="",reason="tenant"} 1');
    expect(lines).toContain('storage_quota_violations_total{tenant_id="default",reason=""} 1');
    await expect(count({ uploads: [{ content_type: "media", size_bucket: "1MB", counts: [1], seconds: 1 }] }))
      .rejects.toMatchObject({ code: "invalid_argument" });
    const many = Array.from({ length: 1_001 }, () =>
      NOTHING.operations[0] ?? {
        operation: "put",
        result: "ok",
        content_type: "media",
        times: 1,
      });
    await expect(count({ operations: many })).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test("have series for so many tenants, however many are refused at once", async () => {
    await sql`insert into eve.tenants (id) select 'm' || n from generate_series(1, 40) n`;
    await sql`insert into eve.settings (name, value, description) values ('metrics_consumers', 10, '-')
      on conflict (name) do update set value = 10`;
    await Promise.all([0, 20].map((from) =>
      count({
        violations: Array.from({ length: 20 }, (_, n) => ({
          tenant_id: `m${from + n + 1}`,
          reason: "tenant",
          times: 1,
        })),
      })
    ));
    const lines = await page("storage_quota_violations_total");
    expect(lines).toHaveLength(11);
    expect(lines).toContain('storage_quota_violations_total{tenant_id="other",reason="tenant"} 30');
    const [known] = lines.filter((line) => !line.includes("other"));
    await count({
      violations: [{ tenant_id: /tenant_id="(m\d+)"/.exec(known!)![1]!, reason: "tenant", times: 4 }],
    });
    expect(await page("storage_quota_violations_total")).toContain(known!.replace(/ 1$/, " 5"));
  });
});

test("gauges say what is stored by kind, and the limits", async () => {
  await setLimit(sql, { total: 15e9, crawl: 2e9 });
  const calls = mediaCalls(sql);
  await calls.reserve(shaOf(1), 250_000_000, { kind: "crawl" });
  expect(await page("storage_bucket_usage_gb")).toContain('storage_bucket_usage_gb{content_type="crawl"} 0');
  await calls.stored(shaOf(1), 250_000_000);
  expect(await page("storage_bucket_usage_gb")).toEqual([
    'storage_bucket_usage_gb{content_type="crawl"} 0.25',
    'storage_bucket_usage_gb{content_type="media"} 0',
    'storage_bucket_usage_gb{content_type="vision"} 0',
  ]);
  const limits = await page("storage_limit_bytes");
  expect(limits).toHaveLength(7);
  expect(limits).toContain('storage_limit_bytes{limit="total"} 15000000000');
  expect(limits).toContain('storage_limit_bytes{limit="crawl"} 2000000000');
});
