import * as z from "zod";
import type { ModelInfo } from "../contract/model_info.ts";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

export interface ModelsFor {
  /** Null: the project itself. */
  consumerId: string | null;
  tokenId: string | null;
}

const model = z.object({
  model: z.string(),
  replaced_by: z.string().nullish(),
  provider: z.string().default("google"),
  rpm: z.number().nullish(),
  tpm: z.number().nullish(),
  rpd: z.number().nullish(),
  capabilities: z.object({
    system: z.boolean().default(true),
    json: z.boolean().default(true),
    tools: z.boolean().default(true),
    thinking: z.boolean().default(true),
  }).prefault({}),
  max_output_tokens: z.number().nullish(),
  created_at: z.string().nullish(),
}).transform((row): ModelInfo => ({
  model: row.model,
  replacedBy: row.replaced_by ?? null,
  provider: row.provider,
  rpm: row.rpm ?? null,
  tpm: row.tpm ?? null,
  rpd: row.rpd ?? null,
  capabilities: row.capabilities,
  maxOutputTokens: row.max_output_tokens ?? null,
  createdAt: row.created_at ?? null,
}));

/** The models that a caller may use, by name. */
export function listModels(transport: Transport, caller: ModelsFor, timeoutMs: number): Promise<ModelInfo[]> {
  const args = { consumer_id: caller.consumerId, token_id: caller.tokenId };
  return call(transport, "eve_models", args, z.array(model), timeoutMs);
}
