import * as z from "zod";
import { errorRow, isErrorCode } from "../../../contract/errors.ts";
import type { GatewayRequest } from "../../../contract/request.ts";
import type { CallBody } from "../../../database/jobs/job_queue.ts";
import type { StoredResponse, StoredResponses } from "../../../database/jobs/stored_responses.ts";
import type { Log } from "../../../runtime/log.ts";
import { sha256Of } from "../../../runtime/sha256.ts";
import type { EndpointRoute, RequestContext } from "../../endpoint.ts";
import { invalidRequest, validated } from "../../validated.ts";
import { answer, queryOf } from "../files/files.ts";
import { metadata, objectId, secondsOf, uuidIn } from "../objects.ts";
import { type PlacedItem, storableItems } from "./response_items.ts";
import type { BackgroundTerms } from "./responses_request.ts";
import { inputItemsRoute } from "./stored.ts";

/** What responses are kept and found with, and made in the background. */
export interface KeptResponses {
  responses: StoredResponses;
  log: Log;
  /** Calls the function worker, after the response has gone. */
  wake: () => void;
  newId: () => string;
}

const metadataField = z.object({ metadata });
const getQuery = z.strictObject({
  stream: z.literal("false", { error: "must be false: what is kept is not streamed" }).optional(),
  starting_after: z.undefined({ error: "is for streams, and what is kept is not streamed" }).optional(),
  include_obfuscation: z.string().optional(),
  include: z.string().optional(),
  "include[]": z.string().optional(),
});

/** Hands a request in as a job, and answers the response as it is then: `queued`. */
export async function beginResponse(
  { responses, wake, newId }: KeptResponses,
  { caller, requestId, jobId }: RequestContext,
  { body, store }: BackgroundTerms,
  { model, request, own }: { model: string; request: GatewayRequest; own: readonly PlacedItem[] },
): Promise<Response> {
  if (jobId !== null) {
    throw invalidRequest([{
      field: "background",
      problem: "must be false: this is run in the background already",
    }]);
  }
  const { capture } = request;
  const call: CallBody = { path: "/openai/v1/responses", body, ...(capture !== null && { capture }) };
  const id = newId();
  const previous = body.previous_response_id;
  const { response, wake: isDue } = await responses.create({
    id,
    requestId: request.idIsClients ? request.id : null,
    requestHash: await sha256Of(JSON.stringify(call)),
    body: call,
    class: request.class,
    model,
    models: request.models,
    // Who wants nothing kept gets what they asked for, and an hour to fetch it.
    store: store && capture !== false,
    metadata: validated(metadataField, { metadata: body.metadata }).metadata ?? null,
    input: storableItems(own.map(({ item }) => item), id),
    previousId: typeof previous === "string" ? uuidIn("response", previous) : null,
  }, caller);
  if (isDue) wake();
  return answer(responseJson(response), requestId);
}

/** `/responses/ID`: those that are kept. */
export function responseRoutes({ responses }: KeptResponses): EndpointRoute[] {
  return [{
    path: "/responses/:id",
    methods: ["GET", "DELETE"],
    async serve({ request, requestId, caller, param }) {
      const id = uuidIn("response", param("id"));
      if (request.method === "DELETE") {
        await responses.delete(id, caller);
        return answer({ id: objectId("response", id), object: "response", deleted: true }, requestId);
      }
      validated(getQuery, queryOf(request));
      return answer(responseJson(await responses.find(id, caller)), requestId);
    },
  }, {
    path: "/responses/:id/cancel",
    methods: ["POST"],
    async serve({ requestId, caller, param }) {
      const response = await responses.cancel(uuidIn("response", param("id")), caller);
      if (!response.background) {
        throw invalidRequest([{
          field: "id",
          problem: "only what is made in the background can be cancelled",
        }]);
      }
      return answer(responseJson(response), requestId);
    },
  }, inputItemsRoute(responses)];
}

function responseJson(response: StoredResponse) {
  const { state, answer: answered, background, store } = response;
  const kept = {
    id: objectId("response", response.id),
    object: "response",
    created_at: secondsOf(response.created_at),
    background,
    store,
    metadata: response.metadata ?? {},
  };
  if (answered !== null) return { ...answered, ...kept };
  return {
    ...kept,
    status: state,
    error: errorOf(response),
    incomplete_details: null,
    model: response.model,
    output: [],
    usage: null,
  };
}

/** Of a response that has failed: one of OpenAI's codes, and beside it ours. */
function errorOf({ error_code: code, error_detail: detail }: StoredResponse) {
  if (code === null) return null;
  const row = isErrorCode(code) ? errorRow(code) : null;
  const status = row?.status ?? 500;
  return {
    code: status === 429 ? "rate_limit_exceeded" : status >= 500 ? "server_error" : "invalid_prompt",
    message: detail ?? row?.message ?? code,
    eve: { code },
  };
}
