/** What `usage` writes for people and spreadsheets: the others in one line, costs that are not known, and what is covered. */
import { expect, test } from "vitest";
import { eve } from "../../../cli/eve.ts";
import type { Connection } from "../../../cli/eve/connection.ts";
import type { UsageFigures, UsageFilter, UsageReport } from "../../../shared/database/reading.ts";

const figures = (some: Partial<UsageFigures>): UsageFigures => ({
  requests: 0,
  succeeded: 0,
  failed: 0,
  cancelled: 0,
  expired: 0,
  refused: 0,
  attempts: 0,
  dispatched: 0,
  upstream_refused: 0,
  input_tokens: 0,
  output_tokens: 0,
  thoughts_tokens: 0,
  cached_tokens: 0,
  wait_ms: 0,
  latency_ms: 0,
  paid_usd: 0,
  free_usd: 0,
  paid_unknown: false,
  free_unknown: false,
  ...some,
});

const report: UsageReport = {
  by: ["consumer"],
  since: "2026-11-14T08:00:00+00:00",
  until: null,
  complete_until: "2026-11-20T12:00:00+00:00",
  rows: [
    { ...figures({ requests: 5, paid_usd: 1.5 }), consumer: "bot" },
    { ...figures({ requests: 4, free_usd: 0.0123 }), consumer: "free" },
    { ...figures({ requests: 3, paid_unknown: true }), consumer: "new" },
    { ...figures({ requests: 2, free_unknown: true }), consumer: "gemma" },
  ],
  rows_of: 4,
  others: figures({ requests: 7, paid_usd: 2, paid_unknown: true }),
  others_of: 990,
  totals: figures({ requests: 19, paid_usd: 3.5, free_usd: 0.0123, paid_unknown: true }),
  unpriced: ["m"],
};

async function run(answered: Partial<UsageReport>, ...words: string[]) {
  const said: string[] = [];
  const asked: UsageFilter[] = [];
  const clock = {
    now: "2026-11-20T12:00:00+00:00",
    pacific_day: "2026-11-20",
    pacific_day_begins: "2026-11-20T08:00:00+00:00",
    pacific_day_ends: "2026-11-21T08:00:00+00:00",
  };
  const connection = {
    reading: {
      now: () => Promise.resolve(clock),
      rollUp: () => Promise.resolve(true),
      usage: (filter: UsageFilter) => {
        asked.push(filter);
        return Promise.resolve({ ...report, ...answered });
      },
    },
    cache: { stats: () => Promise.resolve({ totals: { hits: 0, misses: 0 } }) },
  } as unknown as Connection;
  const code = await eve(["usage", ...words], {
    say: (text) => said.push(text),
    complain: (text) => said.push(text),
    connect: () => connection,
    width: 200,
  });
  return { code, asked, said: said.join("\n") };
}

test("all others are one line, and what has no known price is never answered as nothing", async () => {
  const { said, asked } = await run({}, "--by", "consumer", "--top", "3");
  expect(asked).toMatchObject([{ by: ["consumer"], top: 3 }]);
  const costs = said.split("\n").map((line) => line.replace(/ +[▏▎▍▌▋▊▉█]+ *$/, "").trimEnd());
  expect(costs.find((line) => line.startsWith("bot"))).toMatch(/\$1\.50$/);
  expect(costs.find((line) => line.startsWith("free"))).toMatch(/\$0\.00 \(\$0\.0123\)$/);
  expect(costs.find((line) => line.startsWith("new"))).toMatch(/ unknown$/);
  expect(costs.find((line) => line.startsWith("gemma"))).toMatch(/\$0\.00 \(unknown\)$/);
  expect(costs.find((line) => line.includes("990 others"))).toMatch(/ 7 .*over \$2\.00$/);
  expect(costs.find((line) => /\ball\b/.test(line))).toMatch(/ 19 .*over \$3\.50 \(\$0\.0123\)$/);
  expect(said).not.toContain("The first");
});

test("a spreadsheet has the others too, and rows that are left out are said", async () => {
  const lines = (await run({}, "--by", "consumer", "--top", "3", "--csv")).said.split("\r\n");
  expect(lines.map((line) => line.split(",").slice(0, 2).join(" "))).toEqual([
    "consumer requests",
    "bot 5",
    "free 4",
    "new 3",
    "gemma 2",
    "others 7",
  ]);
  expect((await run({ others: null, rows_of: 1_200 }, "--by", "consumer")).said).toContain(
    "The first 4 of 1,200 rows: see --limit and --top.",
  );
});

test("what the sums cover is said where it is not what was asked for", async () => {
  const covered = async (since: string) => (await run({ since }, "--since", "2026-11-14T08:30Z")).said;
  expect(await covered("2026-11-14T08:00:00+00:00")).toContain("The sums are of whole hours");
  expect(await covered("2026-11-14T00:00:00+00:00")).toContain("hours of that time are no longer kept");
  expect(await covered("2026-11-16T00:00:00+00:00")).toContain("hours of that time are no longer kept");
  expect(await covered("2026-11-14T08:30:00+00:00")).not.toMatch(/whole hours|no longer kept/);
});
