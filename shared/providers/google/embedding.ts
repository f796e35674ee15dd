import type { EmbedItem } from "../../contract/embedding.ts";
import { usageOf } from "../../contract/answer_verdict.ts";
import type { ProviderEmbedding } from "../provider.ts";
import { connectionFailed } from "../upstream.ts";
import { type GoogleDestination, jsonFromGoogle, methodPath } from "./fetch.ts";

/** `embedContent`: one text. Batches are charged text by text, so the gateway books and sends them one by one. */
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

function isEmbedding(value: unknown): value is ProviderEmbedding["embedding"] {
  return typeof value === "object" && value !== null && "values" in value && Array.isArray(value.values);
}
