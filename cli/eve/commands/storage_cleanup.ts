import type { CleanupReport } from "../../../shared/media/cleanup.ts";
import type { Command, CommandDependencies } from "../command.ts";
import { bar } from "../chart.ts";
import type { Connection } from "../connection.ts";
import { EXIT, misuse } from "../failure.ts";
import { postToApi } from "../storage/api.ts";
import { bytes, count, counted, dim, green, table, yellow } from "../table.ts";
import { readAmount, readNumber } from "../values.ts";
import { runOperation } from "./maintenance.ts";

const WHAT = ["auto", "crawl", "vision", "media", "multipart"] as const;
/** A run is bounded in time; so many of them are hours of work. */
const MOST_RUNS = 200;
const BAR_WIDTH = 20;

interface Report {
  details?: { missing?: number; resized?: number };
}

export const cleanupCommands: Command[] = [
  {
    name: "storage cleanup",
    summary: "delete what is in use least: auto, crawl, vision, media or multipart",
    about:
      "auto goes in the order crawl older than 3 days, vision older than 7, media that nothing refers to, unfinished\n" +
      "uploads in parts, until no more than the target is used; without --target-gb it only works beyond the emergency\n" +
      "threshold. A kind alone, without a target, loses everything that is older than --max-age-days and that nothing\n" +
      "refers to. What something refers to is never deleted.",
    arguments: ["WHAT"],
    options: {
      "target-gb": { value: "N", help: "stop when no more than this is used in all; 1 GB is 10^9 bytes" },
      "max-age-days": { value: "N", help: "leave what was used in the last N days" },
      "dry-run": { help: "say what would go, and delete nothing" },
    },
    examples: [
      "storage cleanup auto --target-gb 10 --dry-run",
      "storage cleanup crawl --max-age-days 3",
      "storage cleanup multipart",
    ],
    async run(given, around) {
      const what = WHAT.find((one) => one === given.arguments[0]);
      if (what === undefined) {
        throw misuse(
          `What is to be cleaned up must be one of ${WHAT.join(", ")}, not ${given.arguments[0]}.`,
        );
      }
      const targetGb = readAmount(given, "target-gb");
      const terms = {
        what,
        // Anyone who names a target wants it reached.
        force: targetGb !== undefined,
        target_gb: targetGb,
        max_age_days: readNumber(given, "max-age-days"),
      };
      const connection = around.connect();
      const report = given.switch("dry-run")
        ? await ask(connection, { ...terms, dry_run: true }, around.signal)
        : await cleanUp(connection, terms, around);
      return {
        json: report,
        text: described(report),
        exitCode: report.status === "not_enough" || report.status === "more" ? EXIT.failed : EXIT.done,
      };
    },
  },
  {
    name: "storage reconcile",
    summary:
      "compare the registry with the bucket, and count everything again; ends with 1 if files are missing",
    about:
      "Counters are repaired. What is in the bucket and not in the registry, or the other way, is told and left alone:\n" +
      "unknown, missing, resized. It is what maintenance does once a day (media_reconcile).",
    arguments: [],
    options: {},
    examples: ["storage reconcile", "storage reconcile --json"],
    async run(_given, around) {
      const outcome = await runOperation(around.connect(), "media_reconcile", MOST_RUNS, around);
      const { runs, ...only } = outcome.json as Report & { runs?: Report[] };
      // A large bucket takes several runs; the last one knows what all have found.
      const { details } = runs?.at(-1) ?? only;
      const isWrong = (details?.missing ?? 0) + (details?.resized ?? 0) > 0;
      return isWrong ? { ...outcome, exitCode: EXIT.failed } : outcome;
    },
  },
];

type Terms = Record<string, unknown>;

function ask(connection: Connection, terms: Terms, signal: AbortSignal): Promise<CleanupReport> {
  return postToApi<CleanupReport>(connection, "storage/cleanup", terms, { signal });
}

/** Asks again while there is more to do: a call ends in time. The dry run before it says how much there is. */
async function cleanUp(
  connection: Connection,
  terms: Terms,
  { progress, signal }: Pick<CommandDependencies, "progress" | "signal">,
): Promise<CleanupReport> {
  progress("Looking what is to go ...");
  const planned = await ask(connection, { ...terms, dry_run: true }, signal);
  let sum: CleanupReport | null = null;
  for (let run = 1; run <= MOST_RUNS; run += 1) {
    const freed = sum?.freed_bytes ?? 0;
    const share = bar(freed, planned.freed_bytes, BAR_WIDTH).padEnd(BAR_WIDTH);
    progress(`Deleting ${share} ${bytes(freed)} of ${bytes(planned.freed_bytes)}`);
    const report = await ask(connection, { ...terms, dry_run: false }, signal);
    sum = sum === null ? report : added(sum, report);
    if (report.status !== "more") break;
  }
  return sum!;
}

function added(before: CleanupReport, after: CleanupReport): CleanupReport {
  const steps = before.steps.map((step) => ({ ...step }));
  for (const step of after.steps) {
    const same = steps.find(({ what }) => what === step.what);
    if (same === undefined) steps.push({ ...step });
    else {
      same.objects += step.objects;
      same.bytes += step.bytes;
    }
  }
  return {
    ...after,
    used_bytes_before: before.used_bytes_before,
    freed_bytes: before.freed_bytes + after.freed_bytes,
    deleted_objects: before.deleted_objects + after.deleted_objects,
    steps,
  };
}

function described(report: CleanupReport): string {
  const { status, dry_run, steps, freed_bytes, deleted_objects, used_bytes_before, used_bytes_after } =
    report;
  const used = `${bytes(used_bytes_before)} are used`;
  if (status === "not_needed") {
    return green(`Nothing is to be done: ${used}, which is below the emergency threshold.`) +
      "\nSay --target-gb to clean up all the same.";
  }
  const rows = steps.map(({ what, min_age_days, objects, bytes: size }) => [
    what,
    min_age_days === 0 ? "any age" : `over ${counted(min_age_days, "day")}`,
    count(objects),
    what === "multipart" ? "" : bytes(size),
  ]);
  const sum = dry_run
    ? `${counted(deleted_objects, "file")} would go, ${bytes(freed_bytes)}: ${used}, and ${
      bytes(used_bytes_after)
    } would be. Nothing was deleted.`
    : `${counted(deleted_objects, "file")} deleted, ${bytes(freed_bytes)}: ${
      bytes(used_bytes_before)
    } were used, and ${bytes(used_bytes_after)} are.`;
  return [
    ...(rows.length === 0
      ? []
      : [table([dry_run ? "would go" : "went", "unused for", "files>", "bytes>"], rows)]),
    sum,
    ...(status === "not_enough"
      ? [yellow(`That is not enough: ${bytes(report.target_bytes)} was the target, and the rest is in use.`)]
      : []),
    ...(status === "more" ? [dim("There is more to do: say it again.")] : []),
  ].join("\n\n");
}

/** A number with or without a point, 0 or more. Undefined: the option is absent. */
