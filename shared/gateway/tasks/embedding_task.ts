import type { Embedding, EmbedItem, EmbedRequest } from "../../contract/embedding.ts";
import type { Grant } from "../../database/admission/reserve.ts";
import { estimateTokens } from "../estimate/estimate.ts";
import { capabilityOf } from "./capability.ts";
import { type Call, type Task } from "./task.ts";

/** One text to embed. */
export class EmbeddingTask implements Task<Embedding> {
  readonly asked: EmbedRequest;
  readonly operation = "embeddings";
  readonly #item: EmbedItem;
  readonly #tokens: number;
  /** Vectors are not kept for repetitions, so there is nothing to compare. */
  readonly hash = null;

  constructor(request: EmbedRequest, item: EmbedItem) {
    this.asked = request;
    this.#item = item;
    this.#tokens = estimateTokens({ contents: [item.content] });
  }

  models = () => this.asked.models;
  tokens = () => this.#tokens;
  maxOutput = () => 0;
  outputLoweredTo = () => null;
  countable = () => null;
  question = () => this.#item;
  without = () => false;
  repair = () => false;
  resultToStore = () => null;

  prepare(grant: Grant): Call<Embedding> {
    const item = this.#item;
    return async (provider, to) => {
      const { embedding, usage } = await capabilityOf(provider, "embeddings").embed({ ...to, item });
      return {
        value: embedding,
        verdict: { ok: true },
        finishReason: null,
        usage: usage ?? {
          inputTokens: grant.tokens,
          outputTokens: 0,
          thoughtsTokens: null,
          cachedTokens: null,
          totalTokens: grant.tokens,
          estimated: true,
        },
      };
    };
  }
}
