import type { Command, CommandDependencies, Outcome } from "../command.ts";
import type { Connection } from "../connection.ts";
import { EXIT, misuse } from "../failure.ts";
import { callFunction, refused } from "../function_call.ts";
import { readInstant } from "../period.ts";
import { answered } from "../rows.ts";
import { count, dim, duration, exactly, green, red, shortened, table, yellow } from "../table.ts";
import { readNumber } from "../values.ts";

const LINES_BY_DEFAULT = 20;
/** A run says that there is more at the end of its time; so many of them are hours of work. */
const MOST_RUNS = 200;

export const maintenanceCommands: Command[] = [
  {
    name: "maintenance list",
    summary: "the operations, when they run, and how they went the last time",
    arguments: [],
    options: {},
    examples: ["maintenance list"],
    async run(_given, { connect }) {
      const { operations, now } = await connect().reading.facts();
      const ago = (iso: string | null) =>
        iso === null ? "never" : `${duration(Date.parse(now) - Date.parse(iso))} ago`;
      const rows = operations.map((one) => [
        one.operation,
        one.is_active ? one.schedule ?? dim("when asked") : yellow("off"),
        one.runs_in === "sql" ? "database" : "function",
        one.is_running ? "running" : statusOf(one.last_status),
        // The schedule may have found nothing to do since.
        ago([one.last_started_at, one.last_idle_at].filter((at) => at !== null).sort().at(-1) ?? null),
        ago(one.last_succeeded_at),
        one.last_error ?? "",
      ]);
      return {
        json: operations,
        text: table(
          ["operation", "schedule (UTC)", "runs in", "last run", "", "last success", "error"],
          rows,
        ),
      };
    },
  },
  {
    name: "maintenance run",
    summary: "run an operation now",
    about:
      "Operations are listed by maintenance list. A run is bounded in time; with --all it is asked for again until\n" +
      "there is nothing left to do.",
    arguments: ["OPERATION"],
    options: { all: { help: "until nothing is left to do" } },
    examples: [
      "maintenance run sweep",
      "maintenance run key_health --json",
      "maintenance run retention --all",
    ],
    run: (given, around) =>
      runOperation(around.connect(), given.arguments[0]!, given.switch("all") ? MOST_RUNS : 1, around),
  },
  {
    name: "maintenance log",
    summary: "what ran, when, and how it ended; the newest first",
    arguments: ["OPERATION?"],
    options: {
      failed: { help: "only runs that failed" },
      since: { value: "TIME", help: "24h, 7d, today, 2026-11-21" },
      limit: { value: "N", help: `how many; ${LINES_BY_DEFAULT} by default` },
    },
    examples: ["maintenance log", "maintenance log retention --since 7d", "maintenance log --failed"],
    async run(given, { connect, width }) {
      const { tables, reading } = connect();
      const atMost = readNumber(given, "limit") ?? LINES_BY_DEFAULT;
      if (atMost < 1 || atMost > 1_000) throw misuse("--limit must be between 1 and 1,000.");
      let query = tables.from("google_ai_maintenance_log")
        .select("operation, status, started_at, completed_at, deleted_count, tables_affected, details")
        .order("started_at", { ascending: false, nullsFirst: false }).limit(atMost);
      const [operation] = given.arguments;
      if (operation !== undefined) query = query.eq("operation", operation);
      if (given.switch("failed")) query = query.eq("status", "failed");
      const since = given.option("since");
      if (since !== undefined) {
        query = query.gte("started_at", readInstant("since", since, await reading.now()));
      }
      const runs = answered(await query);
      if (runs.length === 0) {
        const which = `${operation === undefined ? "" : ` of ${operation}`}${
          since === undefined ? "" : ` since ${since}`
        }`;
        return {
          json: runs,
          text: given.switch("failed") ? `No run${which} has failed.` : `There was no run${which}.`,
        };
      }
      const text = table(
        ["started", "operation", "status", "took>", "rows>", "details"],
        runs.map((run) => [
          exactly(run.started_at).slice(0, 19),
          run.operation ?? "",
          statusOf(run.status),
          run.started_at === null || run.completed_at === null
            ? ""
            : duration(Date.parse(run.completed_at) - Date.parse(run.started_at)),
          run.deleted_count === null ? "" : count(run.deleted_count),
          shortened(run.details === null ? "" : JSON.stringify(run.details), Math.max(width - 75, 30)),
        ]),
      );
      return { json: runs, text };
    },
  },
  {
    name: "maintenance connect",
    summary: "tell the schedule where the project is: puts its URL and secret key into Vault",
    about:
      "The schedule calls the function maintenance over HTTP with what it finds there. Run it once after the first\n" +
      "deployment, and again when the project's secret key has changed. --url is for a project that its database\n" +
      "reaches at another address than you do.",
    arguments: [],
    options: { url: { value: "URL", help: "the project's address as the database reaches it" } },
    examples: ["maintenance connect --profile production"],
    async run(given, { connect }) {
      const { admin, url, secretKey } = connect();
      const changed = await admin.connectSchedule(given.option("url") ?? url, secretKey);
      return {
        json: { changed },
        text: changed.length === 0
          ? "Vault has them already."
          : `${changed.join(" and ")} ${changed.length === 1 ? "is" : "are"} in Vault now.`,
      };
    },
  },
];

/** Asks the function for a run, and again while it says that there is more. */
export async function runOperation(
  connection: Connection,
  operation: string,
  atMost: number,
  { progress, signal }: Pick<CommandDependencies, "progress" | "signal">,
): Promise<Outcome> {
  const reports: Record<string, unknown>[] = [];
  let rows = 0;
  for (let run = 1; run <= atMost && !signal.aborted; run += 1) {
    progress(`${operation}: run ${run}${rows === 0 ? "" : `, ${count(rows)} rows so far`} ...`);
    const answer = await callFunction(connection, `maintenance/${encodeURIComponent(operation)}`, {}, {
      signal,
    });
    // A run that failed is shown with its report.
    if (answer.body?.status === undefined) throw refused(answer, "The function maintenance");
    reports.push(answer.body);
    rows += Number(answer.body.count ?? 0);
    if (answer.body.status !== "succeeded" || answer.body.more !== true) break;
  }
  const last = reports.at(-1);
  const status = String(last?.status);
  const facts = [
    statusOf(status),
    `${count(rows)} rows${reports.length > 1 ? ` in ${reports.length} runs` : ""}`,
    ...(last?.more === true ? [yellow("there is more to do: say it again, or with --all")] : []),
    ...[last?.reason, last?.error].filter((one) => typeof one === "string"),
  ];
  const details = last?.details === undefined ? "" : `\n${JSON.stringify(last.details, undefined, 2)}`;
  return {
    json: reports.length === 1 ? last : { runs: reports },
    text: `${operation}: ${facts.join(", ")}${details}`,
    exitCode: status === "succeeded" ? EXIT.done : EXIT.failed,
  };
}

function statusOf(status: string | null): string {
  if (status === null) return dim("has not run");
  return status === "succeeded" ? green(status) : status === "failed" ? red(status) : yellow(status);
}
