import * as z from "zod";
import { cancelBatch } from "../../../batches/cancel.ts";
import { BATCH_ENDPOINTS } from "../../../batches/openai_lines.ts";
import type { Batch } from "../../../database/jobs/batches.ts";
import type { EndpointRoute, RequestContext } from "../../endpoint.ts";
import { validated } from "../../validated.ts";
import { answer, listJson, type OpenaiBatches, queryOf } from "./files.ts";
import { metadata, objectId, pageOf, secondsOf, uuidIn } from "../objects.ts";

const ENDPOINTS = Object.keys(BATCH_ENDPOINTS) as [string, ...string[]];

const toCreate = z.strictObject({
  input_file_id: z.string().max(100),
  endpoint: z.enum(ENDPOINTS, { error: `must be one of ${ENDPOINTS.join(", ")}` }),
  completion_window: z.literal("24h", { error: "must be 24h" }),
  metadata,
});
const listQuery = pageOf(100);

/** `/batches`: files of calls, whose lines become jobs. */
export function batchRoutes({ batches, wake, newId }: OpenaiBatches): EndpointRoute[] {
  return [{
    path: "/batches",
    methods: ["GET", "POST"],
    serve: (context) => context.request.method === "POST" ? create(context) : list(context),
  }, {
    path: "/batches/:id",
    methods: ["GET"],
    serve: async ({ caller, requestId, param }) =>
      answer(batchJson(await batches.find(uuidIn("batch", param("id")), caller, "openai")), requestId),
  }, {
    path: "/batches/:id/cancel",
    methods: ["POST"],
    async serve({ caller, requestId, param, request: { signal } }) {
      const id = uuidIn("batch", param("id"));
      return answer(batchJson(await cancelBatch(batches, { id, caller, api: "openai", signal })), requestId);
    },
  }];

  async function create(context: RequestContext): Promise<Response> {
    const asked = validated(toCreate, await context.readJson());
    const { batch, wake: isDue } = await batches.create({
      id: newId(),
      inputFileId: uuidIn("file", asked.input_file_id),
      api: "openai",
      isInline: false,
      endpoint: asked.endpoint,
      metadata: asked.metadata ?? null,
    }, context.caller);
    if (isDue) wake();
    return answer(batchJson(batch), context.requestId);
  }

  async function list({ request, requestId, caller }: RequestContext): Promise<Response> {
    const { after, limit } = validated(listQuery, queryOf(request));
    const page = await batches.list(caller, {
      after: after === undefined ? null : uuidIn("batch", after),
      limit: limit ?? 20,
    }, "openai");
    return answer(listJson(page.batches.map(batchJson), page.hasMore), requestId);
  }
}

function batchJson(batch: Batch) {
  const { state, errors, ended_at: endedAt } = batch;
  const at = (time: string | null) => time === null ? null : secondsOf(time);
  const file = (id: string | null) => id === null ? null : objectId("file", id);
  return {
    id: objectId("batch", batch.id),
    object: "batch",
    endpoint: batch.endpoint,
    errors: errors === null ? null : { object: "list", data: errors },
    input_file_id: objectId("file", batch.input_file_id),
    completion_window: "24h",
    status: state,
    output_file_id: file(batch.output_file_id),
    error_file_id: file(batch.error_file_id),
    created_at: secondsOf(batch.created_at),
    in_progress_at: at(batch.in_progress_at),
    expires_at: secondsOf(batch.expires_at),
    finalizing_at: at(batch.finalizing_at),
    completed_at: state === "completed" ? at(endedAt) : null,
    failed_at: state === "failed" ? at(endedAt) : null,
    expired_at: state === "expired" ? at(endedAt) : null,
    cancelling_at: at(batch.cancelling_at),
    cancelled_at: state === "cancelled" ? at(endedAt) : null,
    request_counts: { total: batch.total, completed: batch.completed, failed: batch.failed },
    metadata: batch.metadata,
  };
}
