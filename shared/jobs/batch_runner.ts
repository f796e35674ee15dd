import { z } from "zod";
import { BATCH_ENDPOINTS, type CheckedLine, checkedLines, MAX_ERRORS } from "../batches/batch_lines.ts";
import type { BatchFiles } from "../batches/batch_files.ts";
import { asGatewayError, GatewayError } from "../contract/gateway_error.ts";
import type { ResolveTarget } from "../contract/target.ts";
import type { BatchError, Batches, BatchLine } from "../database/batches.ts";
import { targetOf } from "../stages/stage_name.ts";
import { callerOf } from "./job_caller.ts";
import type { JobRunner } from "./job_runner.ts";

/** In one transaction: whoever claims waits for it. */
const LINES_AT_ONCE = 500;
const CHARACTERS_AT_ONCE = 2_000_000;
/** A caller who has as many jobs waiting as they may have gets room as those are run. */
const FULL_DELAY_MS = 30_000;

const batchJob = z.object({ batch_id: z.string() });

export interface BatchRunnerOptions {
  batches: Batches;
  files: BatchFiles;
  resolve: ResolveTarget;
}

/**
 * Reads the file of a batch, checks all of it, and hands its lines in as jobs, some at a time. A second run hands in what the first
 * has not: a line that is in already is no other one.
 */
export function batchRunner({ batches, files, resolve }: BatchRunnerOptions): JobRunner {
  return async (job, { signal, progress }) => {
    const { batch_id: id } = batchJob.parse(job.body);
    const input = await batches.input(id);
    const read = async () => checkedLines(unbroken(await files.open(input)), input.endpoint);
    const errors: BatchError[] = [];
    /** The lines that ask for each, as many as are ever named. */
    const asking = new Map<string, number[]>();
    let total = 0;
    for await (const checked of await read()) {
      if (signal.aborted) return { kind: "unspent" };
      if ("code" in checked) {
        errors.push(checked);
        continue;
      }
      total++;
      const lines = asking.get(checked.model) ?? [];
      if (lines.length < MAX_ERRORS) lines.push(checked.line);
      asking.set(checked.model, lines);
    }
    const isAboutAll = errors.some(({ code }) => ABOUT_ALL.has(code));
    const modelsOf = new Map<string, string[]>();
    for (const [model, lines] of isAboutAll ? [] : asking) {
      const models = await resolved(model);
      if (Array.isArray(models)) modelsOf.set(model, models);
      else errors.push(...lines.map((line) => ({ ...models, param: "body.model", line })));
    }
    if (errors.length > 0) {
      errors.sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
      const told = isAboutAll ? errors.filter(({ code }) => ABOUT_ALL.has(code)) : errors;
      await batches.reject(id, told.slice(0, MAX_ERRORS));
      return { kind: "done", result: { errors: errors.length } };
    }
    const all = [...new Set([...modelsOf.values()].flat())];
    const path = BATCH_ENDPOINTS[input.endpoint]!;
    let done = 0;
    // Read once more: nothing is handed in before all of it has been checked, and all of it may be more than there is memory.
    for await (const some of portions(await read())) {
      if (signal.aborted) return { kind: "unspent" };
      const lines = some.map(({ customId, model, body }, n): BatchLine => ({
        place: done + n,
        custom_id: customId,
        models: modelsOf.get(model)!,
        body: { path, body },
      }));
      try {
        if (!await batches.add(id, total, all, lines)) break;
      } catch (thrown) {
        if (asGatewayError(thrown).code === "jobs_full") return { kind: "unspent", delayMs: FULL_DELAY_MS };
        throw thrown;
      }
      done += some.length;
      progress({ done, total });
    }
    return { kind: "done", result: { lines: done } };

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

type BadModel = Pick<BatchError, "code" | "message">;

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
