import { isEmbeddingModel } from "../contract/embedding.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { ServedBy } from "../contract/target.ts";

/**
 * Refuses what is of the wrong kind for the request, before anything is booked: a stage that makes no text, and a model. Upstream would answer 404 as if it did not
 * have the model, and one such answer switches the model off for the key: a single mistaken client would take it from
 * everybody.
 * @throws GatewayError `invalid_request`, `unsupported_feature`
 */
export function requireKind(
  { models, stage }: Pick<ServedBy, "models" | "stage">,
  kind: "answers" | "embeddings",
): void {
  if (stage !== null && stage.produces !== "text") {
    throw new GatewayError("invalid_request", {
      message:
        `Stage ${stage.stageType} makes no text but a ${stage.produces}, as a job: ask for it with "stage" at llm-invoke itself.`,
    });
  }
  const wrong = models.find((model) => isEmbeddingModel(model) !== (kind === "embeddings"));
  if (wrong === undefined) return;
  throw new GatewayError("unsupported_feature", {
    message: kind === "embeddings"
      ? `${wrong} does not embed texts. Use an embedding model.`
      : `${wrong} only embeds texts. Use another model for answers.`,
    model: wrong,
  });
}
