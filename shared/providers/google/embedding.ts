import type { EmbedItem } from "../../contract/embedding.ts";
import { usageOf } from "../../contract/answer_verdict.ts";
import { type GoogleCall, jsonFromGoogle } from "./fetch.ts";
import type { ProviderEmbedding } from "../provider.ts";
import { connectionFailed } from "../upstream.ts";

/** `embedContent`: one text. Batches are charged text by text, so the gateway books and sends them one by one. */
export async function embedAtGoogle(
  call: Omit<GoogleCall, "method" | "body"> & { item: EmbedItem },
): Promise<ProviderEmbedding> {
  const body = await jsonFromGoogle({
    ...call,
    method: "embedContent",
    body: { ...call.item, model: `models/${call.model}` },
  });
  const { embedding } = body;
  if (!isEmbedding(embedding)) throw connectionFailed("an answer without an embedding", call.secret);
  return { embedding, usage: usageOf(body) };
}

function isEmbedding(value: unknown): value is ProviderEmbedding["embedding"] {
  return typeof value === "object" && value !== null && "values" in value && Array.isArray(value.values);
}
