import * as z from "zod";
import type { EmbedItem, EmbedResult } from "../../contract/embedding.ts";
import { plainModel } from "../model_name.ts";
import { servedHeaders } from "./answer.ts";
import { geminiContent } from "./request.ts";
import { camelContent, camelFields, changed, each } from "./spelling.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { invalidRequest, listOf, validated } from "../validated.ts";

/** As many as Google takes in one batch, each of which it counts as a request. */
export const MAX_BATCH = 100;

const item = z.looseObject({
  model: z.string().optional(),
  content: geminiContent,
  // A number from clients that write enums so.
  taskType: z.union([z.string(), z.number()]).optional(),
  title: z.string().optional(),
  outputDimensionality: z.number().int().min(1).optional(),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

const batch = z.looseObject({
  requests: listOf(item, { error: "must be a list of requests, as embedContent takes them" })
    .min(1, "must have at least one request")
    .max(MAX_BATCH, `must have at most ${MAX_BATCH} requests`),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

type Item = z.output<typeof item>;

/**
 * The body of `embedContent`.
 * @throws GatewayError `invalid_request`
 */
export function geminiEmbedItem(body: unknown, model: string): EmbedItem {
  return itemFor(model, validated(item, camelItem(body)), "model");
}

/**
 * The body of `batchEmbedContents`.
 * @throws GatewayError `invalid_request`, also for an item that names another model than the path
 */
export function geminiEmbedBatch(body: unknown, model: string): EmbedItem[] {
  const requests = (list: unknown) => each(list, camelItem);
  return validated(batch, changed(camelFields(body), { requests })).requests
    .map((one, index) => itemFor(model, one, `requests[${index}].model`));
}

function camelItem(value: unknown): unknown {
  return changed(camelFields(value), { content: camelContent, embedContentConfig: camelFields });
}

function itemFor(model: string, { model: named, ...asked }: Item, field: string): EmbedItem {
  if (named !== undefined && plainModel(named) !== plainModel(model)) {
    throw invalidRequest([{ field, problem: `must be models/${model}, as the address says` }]);
  }
  return asked as EmbedItem;
}

/** @param many whether the answer is that of a batch, however many there are */
export function encodeEmbeddings(result: EmbedResult, many: boolean): Response {
  const { embeddings, usage } = result;
  const body = {
    ...(many ? { embeddings } : { embedding: embeddings[0] }),
    ...(!usage.estimated && { usageMetadata: { promptTokenCount: usage.inputTokens } }),
  };
  return jsonResponse(
    200,
    body,
    result.requestId,
    servedHeaders(result.limits, result.replaced ? result.model : null),
  );
}
