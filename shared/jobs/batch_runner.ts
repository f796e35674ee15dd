import * as z from "zod";
import { anthropicLines } from "../batches/anthropic_lines.ts";
import { type CheckedLine, checkedLines, MAX_ERRORS } from "../batches/batch_lines.ts";
import type { BatchFiles } from "../batches/batch_files.ts";
import { geminiLines } from "../batches/gemini_lines.ts";
import { openaiLines } from "../batches/openai_lines.ts";
import type { ErrorCode } from "../contract/errors.ts";
import { asGatewayError, GatewayError } from "../contract/gateway_error.ts";
import type { ResolveTarget } from "../contract/target.ts";
import type { BatchError, Batches, BatchLine } from "../database/jobs/batches.ts";
import { bytesInTable, type JobMedia, MAX_BODY_IN_TABLE_BYTES } from "../media/job_media.ts";
import { uuidOf } from "../runtime/uuid_of.ts";
import { targetOf } from "../stages/stage_name.ts";
import { callerOf } from "./job_caller.ts";
import type { JobRunner } from "./job_runner.ts";

/** In one transaction: anyone who claims waits for it. */
const LINES_AT_ONCE = 500;
const CHARACTERS_AT_ONCE = 2_000_000;
/** A caller who has as many jobs waiting as they may have gets room as those are run. */
const FULL_DELAY_MS = 30_000;

const LINES = { openai: openaiLines, gemini: geminiLines, anthropic: anthropicLines } as const;
/** Where a batch names its model. */
const PARAMS = { openai: "body.model", gemini: "model", anthropic: "params.model" } as const;

const batchJob = z.object({ batch_id: z.string() });

export interface BatchRunnerOptions {
  batches: Batches;
  files: BatchFiles;
  jobMedia: Pick<JobMedia, "isOutside" | "keep" | "release">;
  resolve: ResolveTarget;
}

/**
 * Reads the file of a batch, checks all of it, and hands its lines in as jobs, some at a time. A second run goes on where the first
 * has ended: what has been checked is not checked again, and a line that is in already is no other one.
 */
export function batchRunner({ batches, files, jobMedia, resolve }: BatchRunnerOptions): JobRunner {
  return async (job, { signal, progress }) => {
    const { batch_id: id } = batchJob.parse(job.body);
    const input = await batches.input(id);
    const modelsOf = new Map<string, string[]>();
    let { total, added: done } = input;
    if (input.state === "validating") {
      const checked = await check();
      if (checked === null) return { kind: "unspent" };
      if (checked.errors.length > 0) {
        await batches.reject(id, checked.errors);
        return { kind: "done", result: { errors: checked.errors.length } };
      }
      total = checked.total;
    }
    const all = [...new Set([...modelsOf.values()].flat())];
    // Read once more: nothing is handed in before all of it has been checked, and all of it may be more than there is memory.
    for await (const some of portions(await read(done))) {
      if (signal.aborted) return { kind: "unspent" };
      const lines: BatchLine[] = [];
      for (const [n, { customId, model, path, body, metadata }] of some.entries()) {
        const models = modelsOf.get(model) ?? await resolvedAgain(model);
        const what = { path, body, ...(metadata !== undefined && { metadata }) };
        lines.push({ place: done + n, custom_id: customId, models, ...await bodyOf(what, done + n) });
      }
      try {
        if (!await batches.add(id, total, all, lines)) {
          await release(lines);
          break;
        }
      } catch (thrown) {
        if (asGatewayError(thrown).code === "jobs_full") return { kind: "unspent", delayMs: FULL_DELAY_MS };
        throw thrown;
      }
      done += some.length;
      progress({ done, total });
    }
    return { kind: "done", result: { lines: done } };

    /** A long body goes where S3 is. In the database it stays with its job, as it does where S3 has no room for it. */
    async function bodyOf(
      body: NonNullable<BatchLine["body"]>,
      place: number,
    ): Promise<Pick<BatchLine, "body" | "id" | "body_media">> {
      const json = JSON.stringify(body);
      if (bytesInTable(json) <= MAX_BODY_IN_TABLE_BYTES || !await jobMedia.isOutside()) return { body };
      // The same in a second run, which would otherwise keep it for a job that there never is.
      const lineId = await uuidOf(`${id} ${place}`);
      try {
        return {
          id: lineId,
          body_media: await jobMedia.keep(lineId, json, { ...callerOf(job), tokenId: null }),
        };
      } catch (thrown) {
        const { code } = asGatewayError(thrown);
        if (code === "storage_quota_exceeded" || code === "file_too_large") return { body };
        throw thrown;
      }
    }

    /** Of lines that the batch did not take any more. */
    async function release(lines: readonly BatchLine[]): Promise<void> {
      for (const { id: lineId, body_media: kept } of lines) {
        if (lineId !== undefined && kept !== undefined) await jobMedia.release(lineId, kept).catch(() => {});
      }
    }

    async function read(after: number): Promise<ReturnType<typeof checkedLines>> {
      return checkedLines(unbroken(await files.open(input)), LINES[input.api](input.endpoint), after);
    }

    /** How many lines there are, and what is wrong with them; null: the job is lost, or the worker ends. */
    async function check(): Promise<{ total: number; errors: BatchError[] } | null> {
      const errors: BatchError[] = [];
      /** The lines that ask for each, as many as are ever named. */
      const asking = new Map<string, number[]>();
      let total = 0;
      for await (const line of await read(0)) {
        if (signal.aborted) return null;
        if ("code" in line) {
          if (ABOUT_ALL.has(line.code)) return { total, errors: [line] };
          errors.push(line);
          continue;
        }
        total++;
        const lines = asking.get(line.model) ?? [];
        if (lines.length < MAX_ERRORS) lines.push(line.line);
        asking.set(line.model, lines);
      }
      for (const [model, lines] of asking) {
        const models = await resolved(model);
        if (Array.isArray(models)) modelsOf.set(model, models);
        else errors.push(...lines.map((line) => ({ ...models, param: PARAMS[input.api], line })));
      }
      errors.sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
      return { total, errors: errors.slice(0, MAX_ERRORS) };
    }

    /** In a second run. @throws GatewayError what it is not offered for any more: the job fails, and the batch has the lines that are in */
    async function resolvedAgain(model: string): Promise<string[]> {
      const models = await resolved(model);
      if (!Array.isArray(models)) throw new GatewayError(models.code, { message: models.message });
      modelsOf.set(model, models);
      return models;
    }

    async function resolved(model: string): Promise<string[] | BadModel> {
      try {
        const { models, stage } = await resolve(targetOf([model]), callerOf(job));
        if (stage !== null && stage.produces !== "text") {
          return { code: "unknown_model", message: `${model} makes no text: a batch cannot ask for it.` };
        }
        const { models: allowed } = input;
        if (allowed === null || models.some((one) => allowed.includes(one))) return models;
        return { code: "model_not_allowed", message: `This consumer may not use ${model}.` };
      } catch (thrown) {
        const { code, status, publicMessage: message } = asGatewayError(thrown);
        if (status >= 500) throw thrown;
        return { code, message };
      }
    }
  };
}

interface BadModel {
  code: ErrorCode;
  message: string;
}

/** Errors beside which no others count. */
const ABOUT_ALL: ReadonlySet<string> = new Set(["invalid_encoding", "too_many_lines"]);

/** The file as it comes. What breaks off may be there the next time. @throws GatewayError `storage_unavailable` */
async function* unbroken(file: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<Uint8Array> {
  try {
    yield* file;
  } catch (thrown) {
    throw thrown instanceof GatewayError ? thrown : new GatewayError("storage_unavailable");
  }
}

async function* portions(lines: AsyncIterable<CheckedLine | BatchError>): AsyncGenerator<CheckedLine[]> {
  let some: CheckedLine[] = [];
  let characters = 0;
  for await (const line of lines) {
    // The first reading has found none.
    if ("code" in line) throw new GatewayError("internal", { detail: "a batch's file has changed" });
    const length = JSON.stringify(line.body).length;
    if (some.length > 0 && (some.length >= LINES_AT_ONCE || characters + length > CHARACTERS_AT_ONCE)) {
      yield some;
      some = [];
      characters = 0;
    }
    some.push(line);
    characters += length;
  }
  if (some.length > 0) yield some;
}
