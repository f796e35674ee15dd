import { isEmbeddingModel } from "../../contract/embedding.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { ModelInfo } from "../../contract/model_info.ts";
import type { RequestContext } from "../endpoint.ts";
import { modelNamed } from "../model_name.ts";
import { invalidRequest } from "../validated.ts";

/** Google's own. */
const DEFAULT_PAGE = 50;
const MAX_PAGE = 1_000;

/** A model as the API describes one, as far as the gateway knows it. */
export function geminiModel(info: ModelInfo): Record<string, unknown> {
  const embeds = isEmbeddingModel(info.model);
  return {
    name: `models/${info.model}`,
    baseModelId: info.model,
    displayName: info.model,
    description: info.replacedBy === null
      ? "Served through EVE Gateway."
      : `Served through EVE Gateway by its successor ${info.replacedBy}.`,
    // A prompt above the tokens of a minute can never pass, whatever the model itself could read.
    ...(info.tpm !== null && !embeds && { inputTokenLimit: info.tpm }),
    ...(info.maxOutputTokens !== null && { outputTokenLimit: info.maxOutputTokens }),
    // What streams is not listed by Google either.
    supportedGenerationMethods: embeds ? ["embedContent", "countTokens"] : ["generateContent", "countTokens"],
    ...(info.capabilities.thinking && { thinking: true }),
  };
}

/** @throws GatewayError `unknown_model`: there is none of that name, or not for the caller */
export async function knownModel(
  { models }: Pick<RequestContext, "models">,
  model: string,
): Promise<ModelInfo> {
  const info = modelNamed(await models(), model);
  if (info !== undefined) return info;
  throw new GatewayError("unknown_model", {
    message: `models/${model} is not found, or not for this caller. List the models to see which there are.`,
    model,
  });
}

export interface ModelsPage {
  models: Record<string, unknown>[];
  nextPageToken?: string;
}

/**
 * One page of the models, by `pageSize` and `pageToken` of the query.
 * @throws GatewayError `invalid_request`
 */
export function geminiModels(infos: readonly ModelInfo[], url: string): ModelsPage {
  const query = new URL(url).searchParams;
  const size = Math.min(MAX_PAGE, wholeNumber(query, "pageSize") || DEFAULT_PAGE);
  const start = wholeNumber(query, "pageToken");
  const models = infos.slice(start, start + size).map(geminiModel);
  return { models, ...(start + size < infos.length && { nextPageToken: String(start + size) }) };
}

/** In either spelling; 0 if it is absent. */
function wholeNumber(query: URLSearchParams, name: "pageSize" | "pageToken"): number {
  const text = query.get(name) ?? query.get(name.replace(/[A-Z]/, (letter) => `_${letter.toLowerCase()}`)) ??
    "";
  if (!/^\d{0,9}$/.test(text)) throw invalidRequest([{ field: name, problem: "must be a whole number" }]);
  return Number(text);
}
