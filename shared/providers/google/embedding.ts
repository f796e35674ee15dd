import type { Embedding, EmbedItem } from "../../contract/embedding.ts";
import type { TokenUsage } from "../../contract/usage.ts";
import { usageOf } from "../../contract/answer_verdict.ts";
import type { ProviderEmbedding } from "../provider.ts";
import { connectionFailed } from "../upstream.ts";
import { type GoogleDestination, jsonFromGoogle, methodPath } from "./fetch.ts";

/** `embedContent`: one text. */
export async function embedAtGoogle(
  { model, item, ...to }: GoogleDestination & { model: string; item: EmbedItem },
): Promise<ProviderEmbedding> {
  const body = await jsonFromGoogle({
    ...to,
    path: methodPath(model, "embedContent"),
    body: { ...item, model: `models/${model}` },
  });
  const { embedding } = body;
  if (!isEmbedding(embedding)) throw connectionFailed("an answer without an embedding", to.secret);
  return { embedding, usage: usageOf(body) };
}

/** `batchEmbedContents`: up to 100 texts in one call. Each of them counts as a request there. */
export async function embedManyAtGoogle(
  { model, items, ...to }: GoogleDestination & { model: string; items: EmbedItem[] },
): Promise<{ embeddings: Embedding[]; usage: TokenUsage | null }> {
  const body = await jsonFromGoogle({
    ...to,
    path: methodPath(model, "batchEmbedContents"),
    body: { requests: items.map((item) => ({ ...item, model: `models/${model}` })) },
  });
  const { embeddings } = body;
  if (!Array.isArray(embeddings) || embeddings.length !== items.length || !embeddings.every(isEmbedding)) {
    throw connectionFailed("an answer without an embedding for each text", to.secret);
  }
  return { embeddings, usage: usageOf(body) };
}

function isEmbedding(value: unknown): value is Embedding {
  return typeof value === "object" && value !== null && "values" in value && Array.isArray(value.values);
}
