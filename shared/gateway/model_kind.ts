import { isEmbeddingModel } from "../contract/embedding.ts";
import { GatewayError } from "../contract/gateway_error.ts";

/**
 * Refuses a model that is of the wrong kind for the request, before anything is booked. Upstream would answer 404 as if it did not
 * have the model, and one such answer switches the model off for the key: a single mistaken client would take it from
 * everybody.
 * @throws GatewayError `unsupported_feature`
 */
export function requireKind(models: readonly string[], kind: "answers" | "embeddings"): void {
  const wrong = models.find((model) => isEmbeddingModel(model) !== (kind === "embeddings"));
  if (wrong === undefined) return;
  throw new GatewayError("unsupported_feature", {
    message: kind === "embeddings"
      ? `${wrong} does not embed texts. Use an embedding model.`
      : `${wrong} only embeds texts. Use another model for answers.`,
    model: wrong,
  });
}
