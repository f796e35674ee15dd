import { createJobLists, type JobListState } from "../../../shared/database/jobs/job_lists.ts";
import { createJobQueue } from "../../../shared/database/jobs/job_queue.ts";
import { JOB_STATES, type JobCaller, type JobRow } from "../../../shared/database/jobs/jobs.ts";
import { rpcTransport } from "../../../shared/database/transport/rpc_transport.ts";
import type { Command, CommandDependencies, Given } from "../command.ts";
import type { Connection } from "../connection.ts";
import { CliFailure, EXIT, misuse } from "../failure.ts";
import { batchIdOf, jobsIn } from "../jobs/lines.ts";
import { longBodies } from "../jobs/long_bodies.ts";
import { submitAll } from "../jobs/submit.ts";
import { all, ended, watchJobs } from "../jobs/watch.ts";
import {
  count,
  counted,
  dim,
  exactly,
  green,
  instant,
  pairs,
  red,
  shortened,
  table,
  yellow,
} from "../table.ts";
import { readChoice, readNumber, UUID } from "../values.ts";

const LINES_BY_DEFAULT = 20;
const MOST_LINES = 200;

const WHICH =
  "WHICH is the id of a job, the id that jobs submit said, or the file itself, which with --consumer is that consumer's.";
const ofConsumer = {
  consumer: { value: "NAME", help: "jobs of this consumer; all of them, or the project's file, by default" },
};

export const jobCommands: Command[] = [
  {
    name: "jobs submit",
    summary: "hand in a file of calls, one a line, to be made as the limits allow",
    about:
      "A line is a body of the native endpoint, or {custom_id, body} as in OpenAI's batches, with url for others than chat completions. Submitting the same file again adds nothing, and goes on where it broke off.",
    arguments: ["FILE"],
    options: {
      watch: { help: "show how far they are until all have ended; ends with 1 if one did not succeed" },
      class: { value: "CLASS", help: "batch (default) or interactive, of lines that name none" },
      consumer: {
        value: "NAME",
        help: "hand them in for this consumer: its models, budget and limits; for the project by default",
      },
    },
    examples: ["jobs submit prompts.jsonl --watch", "jobs submit prompts.jsonl --consumer kaggle"],
    async run(given, around) {
      const [file] = given.arguments as [string];
      const trafficClass = readChoice(given, "class", ["batch", "interactive"]) ?? "batch";
      const text = await around.read(file);
      const connection = around.connect();
      const { queue, lists, keepLong } = jobsOf(connection);
      const caller = await callerOf(connection, given);
      const { batchId, jobs } = await jobsIn(text, caller.consumerId, trafficClass);
      const waits = given.switch("watch");
      const added = await submitAll(connection, queue, jobs, caller, { ...around, keepLong, waits });
      const handedIn = `${counted(added, "job was", "jobs were")} handed in as ${batchId}${
        added < jobs.length ? `; ${count(jobs.length - added)} had been before` : ""
      }.`;
      if (!waits) {
        return {
          json: { id: batchId, lines: jobs.length, added },
          text: `${handedIn} See: npm run eve -- jobs show ${batchId}`,
        };
      }
      // Anyone who stops watching has the id.
      if (!around.json) around.say(handedIn);
      const state = await watchJobs(connection, lists, batchId, caller, around);
      return {
        json: { id: batchId, lines: jobs.length, added, ...state },
        text: `${summary(state)}\nThe results: npm run eve -- jobs results ${batchId}`,
        exitCode: exitCodeOf(state),
      };
    },
  },
  {
    name: "jobs list",
    summary: "jobs, the newest first",
    arguments: [],
    options: {
      state: { value: "STATE", help: JOB_STATES.join(", ") },
      batch: { value: "ID", help: "of one file or batch" },
      ...ofConsumer,
      limit: { value: "N", help: `how many, ${MOST_LINES} at most; ${LINES_BY_DEFAULT} by default` },
    },
    examples: ["jobs list --state failed", "jobs list --consumer kaggle --limit 100"],
    async run(given, { connect, width }) {
      const state = readChoice(given, "state", JOB_STATES);
      const limit = readNumber(given, "limit") ?? LINES_BY_DEFAULT;
      if (limit < 1 || limit > MOST_LINES) throw misuse(`--limit must be between 1 and ${MOST_LINES}.`);
      const batchId = given.option("batch");
      if (batchId !== undefined && !UUID.test(batchId)) {
        throw misuse(`--batch must be an id as jobs submit says it, not ${batchId}.`);
      }
      const connection = connect();
      const { jobs } = await jobsOf(connection).queue.list(await callerOf(connection, given), {
        ...(state !== undefined && { states: [state] }),
        ...(batchId !== undefined && { batchId }),
        atMost: limit,
      });
      const rows = jobs.map((job) => [
        job.id,
        inColour(job.state),
        job.stage_type ?? (job.models ?? []).join(", "),
        shortened(job.custom_id ?? job.request_id, 36),
        instant(job.submitted_at),
        instant(job.finished_at),
        shortened(job.error_code ?? "", Math.max(width - 130, 20)),
      ]);
      const text = rows.length === 0
        ? "There is no such job."
        : table(["id", "state", "model", "name", "submitted", "ended", "error"], rows);
      return { json: jobs, text };
    },
  },
  {
    name: "jobs show",
    summary: "one job with its answer, or how far a file is",
    about: WHICH,
    arguments: ["WHICH"],
    options: ofConsumer,
    examples: ["jobs show prompts.jsonl", "jobs show 7f1c5ac0-52c5-4a3e-9d1d-0f0f6a1f9f10"],
    async run(given, around) {
      const { connection, caller, id } = await asked(given, around);
      const { queue, lists } = jobsOf(connection);
      const job = await queue.find(id, caller);
      if (job !== null) return { json: job, text: described(job) };
      const state = await lists.state(id, caller);
      if (state === null) throw noJobs(given);
      return { json: { id, ...state }, text: summary(state) };
    },
  },
  {
    name: "jobs cancel",
    summary: "cancel a job, or all of a file that have not ended",
    about: `What waits is never run; what runs is broken off. ${WHICH}`,
    arguments: ["WHICH"],
    options: ofConsumer,
    examples: ["jobs cancel prompts.jsonl"],
    async run(given, around) {
      const { connection, caller, id } = await asked(given, around);
      const { queue, lists } = jobsOf(connection);
      const job = await queue.find(id, caller);
      if (job === null && await lists.state(id, caller) === null) throw noJobs(given);
      const cancelled = job === null ? await lists.cancel(id, caller) : await queue.cancel([id], caller);
      return {
        json: { cancelled },
        text: cancelled === 0
          ? "All of them had ended."
          : `${counted(cancelled, "job was", "jobs were")} cancelled.`,
      };
    },
  },
  {
    name: "jobs results",
    summary: "the answers to a file's calls as JSON Lines, in the file's order",
    about:
      "One line for each call that has ended: {custom_id, id, line, status, response: {status_code, body}, error}; what is there no answer of has null. A line without a custom_id of its own has its request_id, or line-N. It ends with 1 if one has not ended or not succeeded.",
    arguments: ["WHICH"],
    options: ofConsumer,
    examples: ["jobs results prompts.jsonl > answers.jsonl"],
    async run(given, around) {
      const { connection, caller, id } = await asked(given, around);
      const { lists } = jobsOf(connection);
      const state = await lists.state(id, caller);
      if (state === null) throw noJobs(given);
      for (let after: number | null = null;;) {
        around.signal.throwIfAborted();
        const page = await lists.results(id, after, caller);
        for (const job of page.jobs) around.say(JSON.stringify(resultLine(job)));
        if (page.next === null) break;
        after = page.next;
      }
      const exitCode = exitCodeOf(state);
      if (exitCode === EXIT.done) return undefined;
      throw new CliFailure(
        `Not all calls have been answered. ${summary(state).replaceAll("\n", " ")}`,
        exitCode,
      );
    },
  },
];

function jobsOf(connection: Connection) {
  const { url, secretKey } = connection;
  const transport = rpcTransport({ url, secretKey });
  return {
    queue: createJobQueue(transport),
    lists: createJobLists(transport),
    keepLong: longBodies(connection, transport),
  };
}

/** The consumer that --consumer names; the project without it. */
async function callerOf({ admin }: Connection, given: Given): Promise<JobCaller> {
  const name = given.option("consumer");
  if (name === undefined) return { consumerId: null, tokenId: null };
  const [consumer] = await admin.consumers(name);
  if (consumer === undefined) {
    throw new CliFailure(`There is no consumer named ${name}. See \`consumers list\`.`);
  }
  return { consumerId: consumer.id, tokenId: null };
}

async function asked(given: Given, around: Pick<CommandDependencies, "connect" | "read">) {
  const [which] = given.arguments as [string];
  const text = UUID.test(which) ? null : await around.read(which);
  const connection = around.connect();
  const caller = await callerOf(connection, given);
  const id = text === null ? which.toLowerCase() : await batchIdOf(text, caller.consumerId);
  return { connection, caller, id };
}

function noJobs(given: Given): CliFailure {
  const [which] = given.arguments as [string];
  return new CliFailure(
    UUID.test(which)
      ? `There are no jobs ${which}. See \`jobs list\`.`
      : `No jobs of ${which} as it is now were handed in${
        given.option("consumer") === undefined ? " by the project" : ""
      }, or they are gone.`,
  );
}

function resultLine({ id, custom_id, place, state, result, error_code, error_detail }: JobRow) {
  const { status, body } = (result ?? {}) as { status?: number; body?: unknown };
  return {
    custom_id,
    id,
    line: place === null ? null : place + 1,
    status: state,
    response: status === undefined ? null : { status_code: status, body },
    error: error_code === null ? null : { code: error_code, message: error_detail ?? error_code },
  };
}

function inColour(state: string): string {
  if (state === "succeeded") return green(state);
  return state === "failed" || state === "expired"
    ? red(state)
    : state === "cancelled"
    ? yellow(state)
    : state;
}

function summary(state: JobListState): string {
  const parts = JOB_STATES.flatMap((name) => {
    const jobs = state.states[name] ?? 0;
    return jobs === 0 ? [] : [`${count(jobs)} ${inColour(name)}`];
  });
  return `${count(ended(state))} of ${counted(all(state), "job has", "jobs have")} ended: ${
    parts.join(", ")
  }.${state.finished_at === null ? "" : `\n${dim(`The last one ended at ${instant(state.finished_at)}.`)}`}`;
}

function exitCodeOf(state: JobListState): number {
  return (state.states.succeeded ?? 0) === all(state) ? EXIT.done : EXIT.failed;
}

function described(job: JobRow): string {
  const head = pairs([
    ["id", job.id],
    ["kind", job.kind],
    ["state", inColour(job.state)],
    ["model", (job.models ?? []).join(", ")],
    ["name", job.custom_id ?? job.request_id],
    ["class", job.class ?? ""],
    ["submitted", exactly(job.submitted_at)],
    ["started", exactly(job.started_at)],
    ["ended", exactly(job.finished_at)],
    ["runs", `${job.tries}${job.losses > 0 ? `, ${job.losses} lost with their workers` : ""}`],
    ["error", job.error_code === null ? "" : `${job.error_code}: ${job.error_detail ?? ""}`],
  ]);
  return job.result === null || job.result === undefined
    ? head
    : `${head}\n\n${JSON.stringify(job.result, undefined, 2)}`;
}
