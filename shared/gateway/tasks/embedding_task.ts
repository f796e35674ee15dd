import type { Embedding, EmbedItem, EmbedRequest } from "../../contract/embedding.ts";
import { estimateTokens } from "../estimate/estimate.ts";
import type { EmbeddingGroups } from "./embedding_group.ts";
import { capabilityOf } from "./capability.ts";
import { bookedUsage, type Task } from "./task.ts";

/** One text to embed, upstream perhaps with others. */
export function embeddingTask(
  request: EmbedRequest,
  item: EmbedItem,
  groups: EmbeddingGroups,
): Task<Embedding> {
  return {
    asked: request,
    operation: "embeddings",
    // Vectors are not kept for repetitions, so there is nothing to compare.
    hash: null,
    tokens: estimateTokens({ contents: [item.content] }),
    question: item,
    prepare: (grant) => async (provider, to) => {
      const embeddings = capabilityOf(provider, "embeddings");
      const { embedding, usage } = await groups.embed(embeddings, to, item, grant.tokens);
      return {
        value: embedding,
        verdict: { ok: true },
        finishReason: null,
        usage: usage ?? bookedUsage(grant),
      };
    },
  };
}
