import * as z from "zod";
import { chargedName } from "../../../contract/caller.ts";
import { asGatewayError } from "../../../contract/gateway_error.ts";
import type { GatewayRequest } from "../../../contract/request.ts";
import type { StoredResponses } from "../../../database/jobs/stored_responses.ts";
import type { Log } from "../../../runtime/log.ts";
import { sha256Of } from "../../../runtime/sha256.ts";
import type { EndpointRoute, RequestContext } from "../../endpoint.ts";
import { invalidRequest, validated } from "../../validated.ts";
import { answer, listJson, queryOf } from "../files/files.ts";
import { uuidIn } from "../objects.ts";
import { namedResponses, type PlacedItem, storableItems, wholeConversation } from "./response_items.ts";
import type { ResponseTerms } from "./responses.ts";
import type { ResponsesBody } from "./responses_request.ts";

/** All that a request says: what it goes on from, and its own items. */
export interface Conversation {
  before: PlacedItem[];
  own: PlacedItem[];
}

const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/;

/**
 * The id of the response to a request. A client's own name for the request stands for the same response whenever it is sent again.
 * @returns a UUID
 */
export async function responseIdOf(
  { id, idIsClients }: Pick<GatewayRequest, "id" | "idIsClients">,
  { caller, jobId }: RequestContext,
): Promise<string> {
  // Its row has the job's id, where one is made in the background.
  if (jobId !== null) return jobId;
  if (!idIsClients && UUID.test(id)) return id;
  const hex = await sha256Of(`${chargedName(caller)}\n${id}`);
  return hex.slice(0, 32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/**
 * The items of a request, with those of kept responses that it goes on from or names.
 * @param responses absent: none are kept
 * @throws GatewayError `invalid_request`, `not_found`
 */
export async function conversationOf(
  { input, previous_response_id: previous }: ResponsesBody,
  responses: StoredResponses | undefined,
  { caller }: RequestContext,
): Promise<Conversation> {
  const named = namedResponses(previous, input);
  if (named !== null && responses === undefined) {
    throw invalidRequest([{
      field: previous === undefined ? "input" : "previous_response_id",
      problem: "this gateway keeps no responses: send what was said in input",
    }]);
  }
  const stored = named === null || responses === undefined
    ? { turns: [], others: [] }
    : await responses.context(named, caller);
  return wholeConversation(input, stored);
}

/** What keeps a response that has ended. A database that is away costs its caller the row and not the answer. */
export function keeping(
  { responses, log }: { responses: StoredResponses; log: Log },
  { caller }: RequestContext,
  { id, request, asked, conversation }: {
    id: string;
    request: GatewayRequest;
    asked: ResponsesBody;
    conversation: Conversation;
  },
): NonNullable<ResponseTerms["keep"]> {
  return async (response) => {
    if (response.status === "in_progress") return false;
    try {
      return await responses.store({
        id,
        model: String(asked.model),
        models: request.models,
        state: response.status,
        metadata: response.metadata as Record<string, string>,
        input: storableItems(conversation.own.map(({ item }) => item), id),
        previousId: asked.previous_response_id === undefined
          ? null
          : uuidIn("response", asked.previous_response_id),
        answer: response,
      }, caller);
    } catch (thrown) {
      const { code, detail } = asGatewayError(thrown);
      log("warn", "response_not_kept", { request_id: request.id, code, detail });
      return false;
    }
  };
}

const listQuery = z.strictObject({
  after: z.string().max(200).optional(),
  limit: z.coerce.number({ error: "must be a whole number" }).int().min(1).max(100).default(20),
  order: z.enum(["asc", "desc"]).default("desc"),
  "include[]": z.string().optional(),
  include: z.string().optional(),
});

/** `/responses/ID/input_items`: what a response was asked with, without what it goes on from. */
export function inputItemsRoute(responses: StoredResponses): EndpointRoute {
  return {
    path: "/responses/:id/input_items",
    methods: ["GET"],
    async serve({ request, requestId, caller, param }) {
      const id = uuidIn("response", param("id"));
      const { after, limit, order } = validated(listQuery, queryOf(request));
      await responses.find(id, caller);
      const { others: [found] } = await responses.context({ previousId: null, otherIds: [id] }, caller);
      const items = (found?.input ?? []) as { id: string }[];
      const ordered = order === "asc" ? items : items.toReversed();
      const from = after === undefined ? 0 : ordered.findIndex((one) => one.id === after) + 1;
      if (after !== undefined && from === 0) {
        throw invalidRequest([{ field: "after", problem: "names no item of this response" }]);
      }
      const page = ordered.slice(from, from + limit);
      return answer(listJson(page, from + limit < ordered.length), requestId);
    },
  };
}
