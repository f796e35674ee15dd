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
    const text = await textOf(await files.open(input));
    const checked = text === null ? notText() : checkedLines(text, input.endpoint);
    const modelsOf = new Map<string, string[] | BadModel>();
    for (const model of new Set(checked.lines.map(({ model }) => model))) {
      modelsOf.set(model, await resolved(model));
    }
    const errors = [...checked.errors];
    for (const { model, line } of checked.lines) {
      const models = modelsOf.get(model)!;
      if (!Array.isArray(models)) errors.push({ ...models, param: "body.model", line });
    }
    if (errors.length > 0) {
      errors.sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
      await batches.reject(id, errors.slice(0, MAX_ERRORS));
      return { kind: "done", result: { errors: errors.length } };
    }
    const all = [...new Set([...modelsOf.values()].flat() as string[])];
    const path = BATCH_ENDPOINTS[input.endpoint]!;
    let done = 0;
    for (const some of portions(checked.lines)) {
      if (signal.aborted) return { kind: "unspent" };
      const lines = some.map(({ customId, model, body }, n): BatchLine => ({
        place: done + n,
        custom_id: customId,
        models: modelsOf.get(model) as string[],
        body: { path, body },
      }));
      try {
        if (!await batches.add(id, checked.lines.length, all, lines)) break;
      } catch (thrown) {
        if (asGatewayError(thrown).code === "jobs_full") return { kind: "unspent", delayMs: FULL_DELAY_MS };
        throw thrown;
      }
      done += some.length;
      progress({ done, total: checked.lines.length });
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

function notText(): ReturnType<typeof checkedLines> {
  const message = "The file is no text in UTF-8.";
  return { lines: [], errors: [{ code: "invalid_encoding", message, param: null, line: null }] };
}

/** Null: it is no UTF-8. */
async function textOf(body: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<string | null> {
  const bytes = await new Response(body).arrayBuffer().catch(() => {
    throw new GatewayError("storage_unavailable");
  });
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

function* portions(lines: readonly CheckedLine[]): Generator<CheckedLine[]> {
  let some: CheckedLine[] = [];
  let characters = 0;
  for (const line of lines) {
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
