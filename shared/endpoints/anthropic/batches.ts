import * as z from "zod";
import { ANTHROPIC_BATCH_ENDPOINT, anthropicLines } from "../../batches/anthropic_lines.ts";
import { MAX_LINES } from "../../batches/batch_lines.ts";
import { cancelBatch } from "../../batches/cancel.ts";
import { piecesOf } from "../../batches/content.ts";
import { streamOfTexts } from "../../http/stream_of.ts";
import type { BatchFiles } from "../../batches/batch_files.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { Batch, Batches } from "../../database/jobs/batches.ts";
import { answerHeaders } from "../../http/answer_headers.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { targetOf } from "../../stages/stage_name.ts";
import type { EndpointRoute, RequestContext } from "../endpoint.ts";
import { modelNamed } from "../model_name.ts";
import { objectId, uuidIn } from "../openai/objects.ts";
import { type Fault, invalidRequest, listOf, MAX_FAULTS, validated } from "../validated.ts";
import { idHeaders } from "./headers.ts";
import { pageJson, pageOf } from "./models.ts";

/** What batches are kept and found with. */
export interface AnthropicBatches {
  batches: Batches;
  files: BatchFiles;
  /** Calls the function worker, after the response has gone. */
  wake: () => void;
  newId: () => string;
  /** Of llm-invoke, as clients reach it. */
  functionUrl: string;
}

const API = "anthropic";
/** As many as the database hands out at once. */
const MAX_PAGE = 100;

const toCreate = z.looseObject({
  requests: listOf(z.record(z.string(), z.unknown()), { error: "must be a list of requests" })
    .min(1, "must have at least one request").max(MAX_LINES, `must have at most ${MAX_LINES} requests`),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

/** `/messages/batches`: requests that come together become jobs. */
export function batchRoutes(parts: AnthropicBatches): EndpointRoute[] {
  const { batches, files, wake, newId } = parts;
  const BATCH = "/messages/batches/:id";
  const idOf = ({ param }: RequestContext) => uuidIn("message batch", param("id"));
  const answerWith = (batch: Batch, { requestId }: RequestContext) =>
    jsonResponse(200, batchJson(batch, parts.functionUrl), requestId, idHeaders(requestId));

  return [{
    path: "/messages/batches",
    methods: ["GET", "POST"],
    serve: (context) => context.request.method === "POST" ? create(context) : list(context),
  }, {
    path: BATCH,
    methods: ["GET", "DELETE"],
    async serve(context) {
      const batch = await batches.find(idOf(context), context.caller, API);
      return context.request.method === "GET" ? answerWith(batch, context) : await remove(batch, context);
    },
  }, {
    path: `${BATCH}/cancel`,
    methods: ["POST"],
    async serve(context) {
      const { caller, request: { signal } } = context;
      return answerWith(await cancelBatch(batches, { id: idOf(context), caller, api: API, signal }), context);
    },
  }, {
    path: `${BATCH}/results`,
    methods: ["GET"],
    serve: results,
  }];

  async function create(context: RequestContext): Promise<Response> {
    const { caller } = context;
    const { requests } = validated(toCreate, await context.readJson());
    await checkRequests(requests, context);
    const input = await files.keep({
      filename: "requests.jsonl",
      bytes: new TextEncoder().encode(requests.map((one) => JSON.stringify(one)).join("\n")),
      isListed: false,
    }, caller);
    try {
      const { batch, wake: isDue } = await batches.create({
        id: newId(),
        inputFileId: input.id,
        api: API,
        endpoint: ANTHROPIC_BATCH_ENDPOINT,
        isInline: true,
        metadata: null,
      }, caller);
      if (isDue) wake();
      return answerWith(batch, context);
    } catch (thrown) {
      await files.remove(input.id, caller).catch(() => {});
      throw thrown;
    }
  }

  async function list(context: RequestContext): Promise<Response> {
    const { request, requestId, caller } = context;
    const { limit, after_id: after, before_id: before } = pageOf(request.url);
    if (before !== undefined) {
      throw invalidRequest([{
        field: "before_id",
        problem: "is not supported here: batches are listed from the newest on",
      }]);
    }
    const page = await batches.list(caller, {
      after: after === undefined ? null : uuidIn("message batch", after),
      limit: Math.min(limit, MAX_PAGE),
    }, API);
    const data = page.batches.map((batch) => batchJson(batch, parts.functionUrl));
    return jsonResponse(200, pageJson(data, page.hasMore), requestId, idHeaders(requestId));
  }

  /** What came of it, a line for each request, as it is read. */
  async function results(context: RequestContext): Promise<Response> {
    const { caller, requestId } = context;
    const batch = await batches.find(idOf(context), caller, API);
    if (batch.ended_at === null) {
      throw new GatewayError("not_found", {
        message: "The batch has not ended: its results come when it has.",
      });
    }
    const { output_file_id: outputId } = batch;
    const body = outputId === null ? null : await streamOfTexts(piecesOf(batches, outputId, caller));
    return new Response(body ?? "", {
      headers: answerHeaders("application/x-jsonl", requestId, {
        ...idHeaders(requestId),
        // It came from elsewhere: a browser must not guess another type than the declared one.
        "x-content-type-options": "nosniff",
      }),
    });
  }

  async function remove({ id, input_file_id, ended_at }: Batch, context: RequestContext): Promise<Response> {
    const { caller, requestId } = context;
    if (ended_at === null) {
      throw new GatewayError("invalid_request", {
        message: "The batch has not ended: cancel it, and delete it when it has.",
      });
    }
    // Before the batch: should it fail, the whole is asked for again.
    await files.remove(input_file_id, caller).catch((thrown) => {
      if (!(thrown instanceof GatewayError && thrown.code === "not_found")) throw thrown;
    });
    await batches.delete(id, caller, API);
    const body = { id: objectId("message batch", id), type: "message_batch_deleted" };
    return jsonResponse(200, body, requestId, idHeaders(requestId));
  }
}

/** At once, as the API does; what a call itself would be refused for its line says. @throws GatewayError `invalid_request` */
async function checkRequests(
  requests: readonly Record<string, unknown>[],
  context: Pick<RequestContext, "models" | "resolve">,
): Promise<void> {
  const check = anthropicLines();
  const faults: Fault[] = [];
  const asking = new Map<string, number>();
  requests.forEach((request, i) => {
    const line = check(request, i + 1);
    if (!("code" in line)) asking.set(line.model, asking.get(line.model) ?? i);
    else if (faults.length < MAX_FAULTS) {
      faults.push({ field: `requests[${i}].${line.param}`, problem: line.message });
    }
  });
  if (faults.length > 0) throw invalidRequest(faults);
  const known = await context.models();
  for (const [model, i] of asking) {
    const target = targetOf([model]);
    if (target.kind === "stage") await context.resolve(target);
    else if (modelNamed(known, model) === undefined) {
      faults.push({
        field: `requests[${i}].params.model`,
        problem: `there is no model ${JSON.stringify(model)} for this caller`,
      });
    }
  }
  if (faults.length > 0) throw invalidRequest(faults);
}

function batchJson(batch: Batch, functionUrl: string) {
  const { state, ended_at: endedAt, total, completed, failed } = batch;
  const id = objectId("message batch", batch.id);
  const ended = endedAt !== null;
  const rest = total - completed - failed;
  return {
    id,
    type: "message_batch",
    processing_status: ended ? "ended" : state === "cancelling" ? "canceling" : "in_progress",
    // Until the batch has ended all count as being processed.
    request_counts: {
      processing: ended ? 0 : total,
      succeeded: ended ? completed : 0,
      errored: ended ? failed : 0,
      canceled: ended && state === "cancelled" ? rest - batch.expired : 0,
      expired: !ended ? 0 : state === "cancelled" ? batch.expired : rest,
    },
    created_at: timeOf(batch.created_at),
    expires_at: timeOf(batch.expires_at),
    ended_at: endedAt === null ? null : timeOf(endedAt),
    cancel_initiated_at: batch.cancelling_at === null ? null : timeOf(batch.cancelling_at),
    archived_at: null,
    results_url: ended ? `${functionUrl}/anthropic/v1/messages/batches/${id}/results` : null,
  };
}

function timeOf(time: string): string {
  return new Date(time).toISOString();
}
