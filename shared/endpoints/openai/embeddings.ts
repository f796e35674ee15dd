import * as z from "zod";
import type { EmbedItem, EmbedResult } from "../../contract/embedding.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { rateLimitHeaders } from "../../http/rate_limit_headers.ts";
import { idHeaders, modelHeaders } from "./headers.ts";
import { listOf, validated } from "../validated.ts";
import { toBase64 } from "../../runtime/base64.ts";

/** As many as OpenAI takes. */
const MAX_TEXTS = 2_048;
/** The longest vector of any model. */
const MAX_DIMENSIONS = 3_072;

/** LangChain counts by OpenAI's own tokens unless it is told not to (`check_embedding_ctx_length=False`). */
const text = z.string({
  error: "must be a text: numbers of tokens mean nothing to these models. Let your client send texts.",
}).min(1, "must not be empty: there is nothing to embed");

const embedding = z.strictObject({
  model: z.string({ error: "must be the name of a model" }).regex(
    /^[\x21-\x7e]{1,200}$/,
    "must be the name of a model",
  )
    .transform((name) => name.replace(/^models\//, "")),
  input: z.preprocess(
    (value) => typeof value === "string" ? [value] : value,
    listOf(text, { error: "must be a text or a list of texts" }).min(1, "must hold at least one text")
      .max(MAX_TEXTS, `must hold at most ${MAX_TEXTS} texts`),
  ),
  encoding_format: z.enum(["float", "base64"]).nullish(),
  dimensions: z.number().int().min(1).max(MAX_DIMENSIONS).nullish(),
  user: z.string().max(512).nullish(),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

export type Embeddings = z.output<typeof embedding>;

/** @throws GatewayError `invalid_request` */
export function decodeEmbeddings(json: unknown): Embeddings {
  return validated(embedding, json);
}

export function embedItems({ input, dimensions }: Embeddings): EmbedItem[] {
  return input.map((text) => ({
    content: { parts: [{ text }] },
    ...(typeof dimensions === "number" && { outputDimensionality: dimensions }),
  }));
}

export function encodeEmbeddings(result: EmbedResult, { encoding_format: format }: Embeddings): Response {
  const { inputTokens, estimated } = result.usage;
  const body = {
    object: "list",
    data: result.embeddings.map(({ values }, index) => ({
      object: "embedding",
      index,
      embedding: format === "base64" ? base64(values) : values,
    })),
    model: result.model,
    usage: { prompt_tokens: inputTokens, total_tokens: inputTokens, ...(estimated && { estimated: true }) },
  };
  return jsonResponse(200, body, result.requestId, {
    ...idHeaders(result.requestId),
    ...rateLimitHeaders(result.limits),
    ...modelHeaders(result),
  });
}

/** Little-endian floats of 32 bits: what OpenAI's own clients ask for and decode. */
function base64(values: number[]): string {
  const bytes = new DataView(new ArrayBuffer(values.length * 4));
  values.forEach((value, index) => bytes.setFloat32(index * 4, value, true));
  return toBase64(new Uint8Array(bytes.buffer));
}
