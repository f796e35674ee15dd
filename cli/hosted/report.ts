/** What was measured of a project, in words that can be sent to others: no address, no name and no key of it. */
import type { Measured } from "./measure.ts";

export interface Report {
  gateway: string;
  measured_at: string;
  deno: string | null;
  postgres: string;
  extensions: Record<string, string | null>;
  schedule: { jobs: number; jobs_that_ran: number };
  vault: boolean;
  functions_called_by_the_schedule: boolean;
  /** Instances that answered, and the slowest first answer of one that had just begun, in milliseconds. */
  instances: number;
  cold_start_ms: number | null;
  answer_ms: number;
  refusal_ms: Record<string, number | string>;
  rest_ms: number;
  direct_ms: number | null;
  direct_connect_ms: number | null;
  direct_problem: string | null;
  connections: { most: number; used: number } | null;
  resolve_dns: boolean;
  tls_by_address: boolean;
  waits_until: boolean;
  disconnect: Measured["disconnect"];
  memory_mb: number | null;
  work_ms: number;
  advice: string[];
}

/** Connections that instances of the function may hold at once, four each, before others lack them. */
const SPARE_CONNECTIONS = 20;
/** Below this a connection of one's own is not worth holding. */
const WORTH_MS = 3;

export function reportOf(
  { samples, refusals, disconnect, database }: Measured,
  gateway: string,
  at: Date,
): Report {
  const last = samples.at(-1)!.facts;
  const cold = samples.filter(({ facts }) => facts.asked_before === 0 && facts.age_ms < 2_000).map(({ ms }) =>
    ms
  );
  const warm = samples.filter(({ facts }) => facts.asked_before > 0);
  const direct = last.direct !== null && "question_ms" in last.direct ? last.direct : null;
  const draft = {
    gateway,
    measured_at: at.toISOString(),
    deno: last.deno,
    postgres: database.server_version,
    extensions: Object.fromEntries(
      database.extensions.map((
        { name, installed, schema },
      ) => [name, installed ?? (schema ? "stand-in" : null)]),
    ),
    schedule: {
      jobs: database.jobs?.filter(({ active }) => active).length ?? 0,
      jobs_that_ran: database.jobs?.filter(({ last_ok_at }) => last_ok_at !== null).length ?? 0,
    },
    vault: ["eve_project_url", "eve_secret_key"].every((name) => database.vault_names?.includes(name)),
    functions_called_by_the_schedule: (database.http_last_hour?.answered ?? 0) > 0,
    instances: new Set(samples.map(({ facts }) => facts.instance)).size,
    cold_start_ms: cold.length === 0 ? null : round(Math.max(...cold)),
    answer_ms: round(median((warm.length > 0 ? warm : samples).map(({ ms }) => ms))),
    refusal_ms: Object.fromEntries(
      Object.entries(refusals).map((
        [name, took],
      ) => [name, typeof took === "string" ? took : round(median(took))]),
    ),
    rest_ms: round(median(samples.flatMap(({ facts }) => facts.rest_ms))),
    direct_ms: direct === null ? null : round(median(direct.question_ms)),
    direct_connect_ms: direct === null ? null : round(direct.connect_ms),
    direct_problem: last.direct !== null && "problem" in last.direct ? last.direct.problem : null,
    connections: direct === null ? null : { most: direct.connections_most, used: direct.connections_used },
    resolve_dns: last.resolve_dns.works,
    tls_by_address: last.connects,
    waits_until: last.waits_until,
    disconnect,
    memory_mb: last.memory_bytes === null ? null : Math.round(last.memory_bytes / 1e6),
    work_ms: round(median(samples.map(({ facts }) => facts.work_ms))),
  };
  return { ...draft, advice: adviceOn(draft) };
}

function adviceOn(report: Omit<Report, "advice">): string[] {
  const advice: string[] = [];
  for (const [name, version] of Object.entries(report.extensions)) {
    if (version === null) {
      advice.push(`Enable the extension ${name} (Database, Extensions), then: select public.eve_schedule();`);
    }
  }
  if (!report.vault) {
    advice.push(
      "The schedule does not know the functions' address: POST /functions/v1/maintenance/connect with a secret key.",
    );
  }
  const { direct_ms, connections } = report;
  if (direct_ms === null) {
    advice.push(
      `Stay with the REST API: ${
        report.direct_problem === null
          ? "the functions have no SUPABASE_DB_URL"
          : `a connection of its own did not come about (${report.direct_problem})`
      }.`,
    );
  } else {
    const gain = report.rest_ms - direct_ms;
    const spare = connections!.most - connections!.used;
    advice.push(
      gain >= WORTH_MS && spare >= SPARE_CONNECTIONS
        ? `EVE_LEDGER_TRANSPORT=direct saves ${
          round(gain)
        } ms for each question to the database, and ${spare} connections are free.`
        : gain >= WORTH_MS
        ? `Stay with the REST API: a connection would save ${
          round(gain)
        } ms a question, but only ${spare} of ${connections!.most} connections are free.`
        : `Stay with the REST API: a connection of its own would save ${
          round(Math.max(gain, 0))
        } ms for each question.`,
    );
  }
  if (!report.resolve_dns) {
    advice.push(
      "Names cannot be looked up before a connection: links to pictures are checked by name alone (docs/security.md).",
    );
  }
  if (report.disconnect === "not noticed") {
    advice.push(
      "A client that leaves is not noticed before its answer begins: its call goes on and is paid for.",
    );
  }
  return advice;
}

export function inWords(report: Report): string[] {
  const ms = (value: number | null) => value === null ? "not measured" : `${value} ms`;
  const rows: [string, string][] = [
    ["runtime", report.deno === null ? "tells no version" : `Deno ${report.deno}`],
    ["PostgreSQL", report.postgres],
    [
      "extensions",
      Object.entries(report.extensions).map(([name, version]) => `${name} ${version ?? "missing"}`).join(
        ", ",
      ),
    ],
    [
      "schedule",
      `${report.schedule.jobs} jobs, ${report.schedule.jobs_that_ran} have run; functions ${
        report.functions_called_by_the_schedule ? "called" : "not called yet"
      }; Vault ${report.vault ? "knows" : "does not know"} the address`,
    ],
    [
      "cold start",
      report.cold_start_ms === null ? "none was seen (the functions were warm)" : ms(report.cold_start_ms),
    ],
    [
      "answer",
      `${ms(report.answer_ms)}, ${report.instances} ${report.instances === 1 ? "instance" : "instances"}`,
    ],
    ...Object.entries(report.refusal_ms).map((
      [name, took],
    ): [string, string] => [`  ${name}`, typeof took === "string" ? took : ms(took)]),
    ["REST API", ms(report.rest_ms)],
    [
      "connection",
      report.direct_ms === null
        ? report.direct_problem ?? "no address of the database"
        : `${ms(report.direct_ms)}, ${ms(report.direct_connect_ms)} to connect, ${
          report.connections!.used
        } of ${report.connections!.most} connections in use`,
    ],
    [
      "names",
      `${report.resolve_dns ? "can" : "cannot"} be looked up; TLS by address ${
        report.tls_by_address ? "can" : "cannot"
      } be had`,
    ],
    ["disconnects", report.disconnect],
    [
      "after the answer",
      report.waits_until ? "work goes on (EdgeRuntime.waitUntil)" : "no EdgeRuntime.waitUntil",
    ],
    ["memory", report.memory_mb === null ? "not told" : `${report.memory_mb} MB`],
    ["processor", `${ms(report.work_ms)} for 2 MB of JSON there and back, eight times`],
  ];
  return [...rows.map(([name, value]) => `${name.padEnd(18)}${value}`), "", ...report.advice];
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
