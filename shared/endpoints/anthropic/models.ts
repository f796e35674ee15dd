import * as z from "zod";
import { isEmbeddingModel } from "../../contract/embedding.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { ModelInfo } from "../../contract/model_info.ts";
import { modelNamed } from "../model_name.ts";
import { invalidRequest, validated } from "../validated.ts";

/** Anthropic's own. */
const DEFAULT_PAGE = 20;
const MAX_PAGE = 1_000;

/** A model as Anthropic describes them, with what the gateway knows of it beside. */
export function modelJson(info: ModelInfo) {
  const supported = (is: boolean) => ({ supported: is });
  const { capabilities: can } = info;
  return {
    type: "model",
    id: info.model,
    display_name: info.model,
    created_at: timeOf(info.createdAt),
    lifecycle: info.replacedBy === null ? "active" : "deprecated",
    line: null,
    deprecated_at: null,
    retires_at: null,
    // A prompt above the tokens of a minute can never pass, whatever the model itself could read.
    max_input_tokens: info.tpm,
    max_tokens: info.maxOutputTokens,
    capabilities: {
      batch: supported(true),
      citations: supported(false),
      code_execution: supported(false),
      context_management: {
        supported: false,
        clear_thinking_20251015: null,
        clear_tool_uses_20250919: null,
        compact_20260112: null,
      },
      effort: {
        ...supported(can.thinking),
        low: supported(can.thinking),
        medium: supported(can.thinking),
        high: supported(can.thinking),
        xhigh: supported(can.thinking),
        max: supported(can.thinking),
      },
      image_input: supported(true),
      pdf_input: supported(true),
      server_tools: { supported: false, code_execution: supported(false), web_search: supported(false) },
      structured_outputs: supported(can.json),
      thinking: {
        supported: can.thinking,
        types: {
          adaptive: supported(can.thinking),
          between_tools: supported(false),
          disabled: supported(true),
          enabled: supported(can.thinking),
        },
      },
    },
    eve: {
      provider: info.provider,
      replaced_by: info.replacedBy,
      limits: { rpm: info.rpm, tpm: info.tpm, rpd: info.rpd },
    },
  };
}

function timeOf(createdAt: string | null): string {
  const time = Date.parse(createdAt ?? "");
  return new Date(Number.isNaN(time) ? 0 : time).toISOString().replace(/\.\d+Z$/, "Z");
}

const page = z.object({
  limit: z.coerce.number({ error: "must be a whole number" }).int().min(1).max(MAX_PAGE).default(
    DEFAULT_PAGE,
  ),
  after_id: z.string().max(200).optional(),
  before_id: z.string().max(200).optional(),
});

/** The query of a list. @throws GatewayError `invalid_request` */
export function pageOf(url: string): z.output<typeof page> {
  const asked = validated(page, Object.fromEntries(new URL(url).searchParams));
  if (asked.after_id !== undefined && asked.before_id !== undefined) {
    throw invalidRequest([{ field: "before_id", problem: "goes with no after_id: send one of them" }]);
  }
  return asked;
}

export interface Page<Item> {
  data: Item[];
  has_more: boolean;
  first_id: string | null;
  last_id: string | null;
}

/** What a page of a list is answered with. */
export function pageJson<Item extends { id: string }>(data: Item[], hasMore: boolean): Page<Item> {
  return { data, has_more: hasMore, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
}

/** Those that write: this API knows no embeddings. @throws GatewayError `invalid_request` */
export function modelPage(models: readonly ModelInfo[], url: string) {
  const { limit, after_id: after, before_id: before } = pageOf(url);
  const writing = models.filter(({ model }) => !isEmbeddingModel(model));
  const placeOf = (id: string) => writing.findIndex(({ model }) => model === id);
  const to = before === undefined ? writing.length : Math.max(0, placeOf(before));
  const from = before === undefined
    ? after === undefined ? 0 : placeOf(after) < 0 ? writing.length : placeOf(after) + 1
    : Math.max(0, to - limit);
  const shown = writing.slice(from, Math.min(to, from + limit));
  const hasMore = before === undefined ? from + shown.length < writing.length : from > 0;
  return pageJson(shown.map(modelJson), hasMore);
}

/** @throws GatewayError `unknown_model` for one that the caller may not use, too */
export function shownModel(models: readonly ModelInfo[], name: string) {
  const info = modelNamed(models, name);
  if (info === undefined) throw new GatewayError("unknown_model", { details: { model: name } });
  return modelJson(info);
}
