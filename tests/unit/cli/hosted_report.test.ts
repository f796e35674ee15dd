import { expect, test } from "vitest";
import type { Measured } from "../../../cli/hosted/measure.ts";
import { inWords, reportOf } from "../../../cli/hosted/report.ts";

const FACTS: Measured["samples"][number]["facts"] = {
  instance: "a",
  age_ms: 60_000,
  asked_before: 3,
  deno: "2.1.14",
  resolve_dns: { works: true, ms: 3, problem: null },
  connects: true,
  waits_until: true,
  memory_bytes: 90e6,
  work_ms: 40,
  rest_ms: [9, 10, 11],
  direct: { connect_ms: 30, question_ms: [2, 2, 3], connections_most: 60, connections_used: 12 },
};

function measured(facts: Partial<typeof FACTS> = {}, more: Partial<Measured> = {}): Measured {
  return {
    samples: [{ ms: 900, facts: { ...FACTS, ...facts, asked_before: 0, age_ms: 50 } }, {
      ms: 20,
      facts: { ...FACTS, ...facts },
    }],
    refusals: { "llm-invoke": [30, 20, 25], telegram: "not deployed" },
    disconnect: "not noticed",
    database: {
      server_version: "17.4",
      migrations: [],
      extensions: [{ name: "pg_cron", installed: "1.6", available: "1.6", schema: true }],
      jobs: [{ name: "eve_alerts", active: true, last_ok_at: null }],
      vault_names: ["eve_project_url", "eve_secret_key"],
      http_last_hour: { answered: 3 },
    },
    ...more,
  };
}

const adviceFor = (facts: Partial<typeof FACTS>, more: Partial<Measured> = {}) =>
  reportOf(measured(facts, more), "1", new Date(0)).advice.join("\n");

test("a connection is advised where it saves time and there are enough of them, and not otherwise", () => {
  expect(adviceFor({})).toContain("EVE_LEDGER_TRANSPORT=direct saves 8 ms");
  expect(adviceFor({ rest_ms: [4] })).toContain(
    "Stay with the REST API: a connection of its own would save 2 ms",
  );
  expect(
    adviceFor({ direct: { connect_ms: 1, question_ms: [1], connections_most: 60, connections_used: 50 } }),
  )
    .toContain("only 10 of 60");
  expect(adviceFor({ direct: null })).toContain("no SUPABASE_DB_URL");
  expect(adviceFor({ direct: { problem: "no route" } })).toContain("(no route)");
});

test("what is missing on the project is said with what to do", () => {
  const { database } = measured();
  const advice = adviceFor({ resolve_dns: { works: false, ms: 0, problem: "x" } }, {
    database: {
      ...database,
      extensions: [{ name: "pg_net", installed: null, available: "0.14", schema: false }],
      vault_names: null,
    },
  });
  expect(advice).toContain("Enable the extension pg_net");
  expect(advice).toContain("maintenance/connect");
  expect(advice).toContain("Names cannot be looked up");
  expect(advice).toContain("A client that leaves is not noticed");
});

test("cold and warm answers are told apart", () => {
  expect(reportOf(measured(), "1", new Date(0))).toMatchObject({
    cold_start_ms: 900,
    answer_ms: 20,
    instances: 1,
  });
  expect(inWords(reportOf(measured(), "1", new Date(0))).join("\n")).toContain(
    "telegram        not deployed",
  );
});
