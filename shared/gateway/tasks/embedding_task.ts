import type { Embedding, EmbedItem, EmbedRequest } from "../../contract/embedding.ts";
import { estimateTokens } from "../estimate/estimate.ts";
import { capabilityOf } from "./capability.ts";
import { bookedUsage, type Task } from "./task.ts";

/** One text to embed. */
export function embeddingTask(request: EmbedRequest, item: EmbedItem): Task<Embedding> {
  return {
    asked: request,
    operation: "embeddings",
    // Vectors are not kept for repetitions, so there is nothing to compare.
    hash: null,
    tokens: estimateTokens({ contents: [item.content] }),
    question: item,
    prepare: (grant) => async (provider, to) => {
      const { embedding, usage } = await capabilityOf(provider, "embeddings").embed({ ...to, item });
      return {
        value: embedding,
        verdict: { ok: true },
        finishReason: null,
        usage: usage ?? bookedUsage(grant),
      };
    },
  };
}
