import * as z from "zod";
import type { EmbedRequest, EmbedResult } from "../../contract/embedding.ts";
import { cacheKeyOf } from "./cache_key.ts";
import { type Keepable, MAX_KEPT_CHARS } from "./keepable.ts";

/** A number of a vector has more, as JSON: what is far too long is not even written. */
const LEAST_CHARS = 4;

const kept = z.object({
  version: z.literal(1),
  embeddings: z.array(z.looseObject({ values: z.array(z.number()) })).min(1),
  usage: z.object({ inputTokens: z.number(), estimated: z.boolean() }),
});

/** Vectors, as the cache handles them: those of all texts of a call together, since that is what is asked again. */
export const KEPT_EMBEDDINGS: Keepable<EmbedRequest, EmbedResult, Omit<z.output<typeof kept>, "version">> = {
  operation: "embeddings",
  keyOf: ({ models, items }) => cacheKeyOf(["embeddings", models, items]),
  wantsChance: () => false,
  jsonOf({ embeddings, usage }) {
    const numbers = embeddings.reduce((sum, { values }) => sum + values.length, 0);
    if (numbers * LEAST_CHARS > MAX_KEPT_CHARS) return null;
    const json = JSON.stringify({ version: 1, embeddings, usage } satisfies z.input<typeof kept>);
    return json.length <= MAX_KEPT_CHARS ? json : null;
  },
  keptIn(json) {
    const record = kept.safeParse(json);
    return record.success ? record.data : null;
  },
  resultOf: ({ embeddings, usage }, request, { model, requestedModel, waitMs }) => ({
    requestId: request.id,
    model,
    requestedModel,
    replaced: model !== requestedModel,
    embeddings,
    usage,
    keyAlias: "",
    attempts: 0,
    waitMs,
    limits: null,
  }),
};
