import * as z from "zod";
import { cancelBatch } from "../../batches/cancel.ts";
import { piecesOf } from "../../batches/content.ts";
import { streamOfTexts } from "../../http/stream_of.ts";
import { geminiBatchEndpoint, modelOfBatch } from "../../batches/gemini_lines.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { Batch, BatchError } from "../../database/jobs/batches.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { streamedResponse } from "../../http/streamed_response.ts";
import { targetOf } from "../../stages/stage_name.ts";
import type { RequestContext } from "../endpoint.ts";
import { invalidRequest, listOf, validated } from "../validated.ts";
import { type GeminiFiles, timeOf } from "./files/files.ts";
import { knownModel } from "./models.ts";
import { nextPage, pageOf, resourceName, uuidOf } from "./resources.ts";
import { camelFields, changed, each } from "./spelling.ts";

const API = "gemini";
const TYPES = "type.googleapis.com/google.ai.generativelanguage.v1beta";
/** Of what a client calls a batch; Google bounds it nowhere. */
const MAX_DISPLAY_NAME = 512;
/** So many of what is wrong with a file are told. */
const NAMED_ERRORS = 5;

const anyObject = z.record(z.string(), z.unknown(), { error: "must be a JSON object" });
const inputConfig = z.strictObject({
  fileName: z.string().max(100).optional(),
  requests: z.strictObject({
    requests: listOf(z.strictObject({ request: anyObject, metadata: anyObject.optional() }))
      .min(1, "must have at least one request"),
  }).optional(),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined })
  .refine(
    ({ fileName, requests }) => (fileName === undefined) !== (requests === undefined),
    "must have either requests or a fileName",
  );
const toCreate = z.strictObject({
  batch: z.strictObject({
    displayName: z.string().max(MAX_DISPLAY_NAME)
      .refine(
        (text) => text.isWellFormed() && !text.includes("\0"),
        "must hold whole characters, and no U+0000",
      )
      .optional(),
    inputConfig,
  }, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined }),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

/** `POST /v1beta/models/{model}:batchGenerateContent`: requests of a file, or that come with it, become jobs. */
export async function createBatch(
  context: RequestContext,
  model: string,
  { batches, files, wake, newId }: GeminiFiles,
): Promise<Response> {
  const { caller, requestId } = context;
  const { batch: asked } = validated(toCreate, camelBatch(await context.readJson()));
  const { stage } = await context.resolve(targetOf([model]));
  if (stage === null) await knownModel(context, model);
  const { fileName, requests } = asked.inputConfig;
  const input = requests === undefined ? null : await files.keep({
    filename: "requests.jsonl",
    bytes: new TextEncoder().encode(requests.requests.map((one) => JSON.stringify(one)).join("\n")),
    isListed: false,
  }, caller);
  try {
    const { batch, wake: isDue } = await batches.create({
      id: newId(),
      inputFileId: input?.id ?? inputOf(fileName!),
      api: API,
      endpoint: geminiBatchEndpoint(model),
      isInline: input !== null,
      metadata: asked.displayName === undefined ? null : { display_name: asked.displayName },
    }, caller);
    if (isDue) wake();
    return jsonResponse(200, operation(batch), requestId);
  } catch (thrown) {
    if (input !== null) await files.remove(input.id, caller).catch(() => {});
    throw thrown;
  }
}

/** `GET /v1beta/batches`: the newest first, without responses that are told inline. */
export async function listBatches(
  { request, requestId, caller }: RequestContext,
  { batches }: GeminiFiles,
): Promise<Response> {
  const { limit, after } = pageOf("batches", request.url);
  const page = await batches.list(caller, { after, limit }, API);
  return jsonResponse(
    200,
    { operations: page.batches.map((batch) => operation(batch)), ...nextPage(page.batches, page.hasMore) },
    requestId,
  );
}

/** `GET` and `DELETE` of `/v1beta/batches/{id}`. */
export async function oneBatch(context: RequestContext, name: string, parts: GeminiFiles): Promise<Response> {
  const { request, requestId, caller } = context;
  const id = uuidOf("batches", name);
  const batch = await parts.batches.find(id, caller, API);
  if (request.method === "DELETE") return await remove(context, batch, parts);
  if (!batch.is_inline || batch.output_file_id === null) {
    return jsonResponse(200, operation(batch), requestId);
  }
  const lines = () => piecesOf(parts.batches, batch.output_file_id!, caller);
  const body = await streamOfTexts(withResponses(batch, lines, parts.newId()));
  return streamedResponse(body, "application/json; charset=utf-8", requestId);
}

/** `POST /v1beta/batches/{id}:cancel`. */
export async function cancel(
  { request: { signal }, requestId, caller }: RequestContext,
  name: string,
  { batches }: GeminiFiles,
): Promise<Response> {
  await cancelBatch(batches, { id: uuidOf("batches", name), caller, api: API, signal });
  return jsonResponse(200, {}, requestId);
}

async function remove(
  { request: { signal }, requestId, caller }: RequestContext,
  { id, is_inline, input_file_id, ended_at }: Batch,
  { batches, files }: GeminiFiles,
): Promise<Response> {
  if (ended_at === null) {
    await cancelBatch(batches, { id, caller, api: API, signal }).catch(unless("batch_ended"));
  }
  // Before the batch: should it fail, the whole is asked for again.
  if (is_inline) await files.remove(input_file_id, caller).catch(unless("not_found"));
  await batches.delete(id, caller, API);
  return jsonResponse(200, {}, requestId);
}

function unless(code: "batch_ended" | "not_found") {
  return (thrown: unknown) => {
    if (!(thrown instanceof GatewayError && thrown.code === code)) throw thrown;
  };
}

/** @throws GatewayError `invalid_request`: Google's clients take a bare id for something else */
function inputOf(fileName: string): string {
  if (!fileName.startsWith("files/")) {
    throw invalidRequest([{
      field: "batch.inputConfig.fileName",
      problem: "must be the name of a file, files/{id}",
    }]);
  }
  return uuidOf("files", fileName);
}

function camelBatch(body: unknown): unknown {
  const requests = (list: unknown) =>
    changed(camelFields(list), { requests: (items) => each(items, camelFields) });
  const inputConfig = (config: unknown) => changed(camelFields(config), { requests });
  return changed(camelFields(body), { batch: (batch) => changed(camelFields(batch), { inputConfig }) });
}

/** A batch as the API describes one: an operation. @param responses what stands for those that are told inline */
function operation(batch: Batch, responses?: unknown) {
  const { state, is_inline: isInline, output_file_id: outputId, ended_at: endedAt } = batch;
  const name = resourceName("batches", batch.id);
  const output = outputId === null
    ? null
    : isInline
    ? responses === undefined ? null : { inlinedResponses: { inlinedResponses: responses } }
    : { responsesFile: resourceName("files", outputId) };
  const error = errorOf(batch);
  const ended = endedAt !== null;
  const failed = ended ? batch.total - batch.completed : batch.failed;
  return {
    name,
    metadata: {
      "@type": `${TYPES}.GenerateContentBatch`,
      name,
      model: `models/${modelOfBatch(batch.endpoint)}`,
      displayName: batch.metadata?.display_name ?? "",
      ...(!isInline && { inputConfig: { fileName: resourceName("files", batch.input_file_id) } }),
      ...(output !== null && { output }),
      createTime: timeOf(batch.created_at),
      updateTime: timeOf(endedAt ?? batch.cancelling_at ?? batch.in_progress_at ?? batch.created_at),
      ...(ended && { endTime: timeOf(endedAt) }),
      batchStats: {
        requestCount: String(batch.total),
        successfulRequestCount: String(batch.completed),
        failedRequestCount: String(failed),
        pendingRequestCount: String(batch.total - batch.completed - failed),
      },
      state: STATES[state],
    },
    ...(ended && { done: true }),
    ...(error !== null && { error }),
    ...(ended && error === null && {
      response: { "@type": `${TYPES}.GenerateContentBatchOutput`, ...output },
    }),
  };
}

const STATES: Readonly<Record<Batch["state"], string>> = {
  validating: "BATCH_STATE_PENDING",
  in_progress: "BATCH_STATE_RUNNING",
  finalizing: "BATCH_STATE_RUNNING",
  // Google has no word for it; what is under way comes to its end.
  cancelling: "BATCH_STATE_RUNNING",
  completed: "BATCH_STATE_SUCCEEDED",
  failed: "BATCH_STATE_FAILED",
  expired: "BATCH_STATE_EXPIRED",
  cancelled: "BATCH_STATE_CANCELLED",
};

/** The numbers are those of google.rpc.Code. */
function errorOf({ state, errors }: Batch): { code: number; message: string } | null {
  switch (state) {
    case "failed":
      return { code: 3, message: worded(errors ?? []) };
    case "expired":
      return { code: 4, message: "The batch expired before all of its requests were executed." };
    case "cancelled":
      return { code: 1, message: "The batch was cancelled." };
    default:
      return null;
  }
}

function worded(errors: readonly BatchError[]): string {
  const named = errors.slice(0, NAMED_ERRORS)
    .map(({ line, message }) => line === null ? message : `Line ${line}: ${message}`);
  const more = errors.length - named.length;
  return [...named, ...(more > 0 ? [`And ${more} more.`] : [])].join(" ") || "The batch failed.";
}

/** An operation with its responses in it, piece by piece: they may be larger than what is kept in memory. */
async function* withResponses(
  batch: Batch,
  lines: () => AsyncGenerator<string>,
  mark: string,
): AsyncGenerator<string> {
  const [first = "", ...others] = JSON.stringify(operation(batch, mark)).split(JSON.stringify(mark));
  yield first;
  for (const text of others) {
    let before = "[";
    for await (const some of lines()) {
      yield before + some.trimEnd().replaceAll("\n", ",");
      before = ",";
    }
    yield (before === "[" ? "[]" : "]") + text;
  }
}
