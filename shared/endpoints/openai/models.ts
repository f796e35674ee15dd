import { GatewayError } from "../../contract/gateway_error.ts";
import type { ModelInfo } from "../../contract/model_info.ts";
import { modelNamed } from "../model_name.ts";

/** A model as OpenAI lists them, with what the gateway knows of it beside. */
export function modelJson(info: ModelInfo) {
  const created = Date.parse(info.createdAt ?? "");
  return {
    id: info.model,
    object: "model",
    created: Number.isNaN(created) ? 0 : Math.floor(created / 1000),
    owned_by: info.provider,
    eve: {
      replaced_by: info.replacedBy,
      limits: { rpm: info.rpm, tpm: info.tpm, rpd: info.rpd },
      capabilities: info.capabilities,
      max_output_tokens: info.maxOutputTokens,
    },
  };
}

export function modelList(models: ModelInfo[]) {
  return { object: "list", data: models.map(modelJson) };
}

/** @throws GatewayError `unknown_model` for one that the caller may not use, too */
export function shownModel(models: ModelInfo[], name: string) {
  const info = modelNamed(models, name);
  if (info === undefined) throw new GatewayError("unknown_model", { details: { model: name } });
  return modelJson(info);
}
