import { GatewayError } from "../contract/gateway_error.ts";
import { STAGE_PREFIX, type Target } from "../contract/target.ts";

/**
 * A stage as a model: `stage:POEM`. It is one in google_ai_model_limits, replaced by the model that serves the stage, so the
 * scope of consumers and the audit know it, and clients of every endpoint may ask for it.
 */
export function stageName(stageType: string): string {
  return `${STAGE_PREFIX}${stageType.toUpperCase()}`;
}

/**
 * What a client asks for by the names of models, of which one alone may be a stage's.
 * @param models at least one, in order of preference
 * @throws GatewayError `invalid_request`
 */
export function targetOf(models: string[]): Target {
  const stage = models.find((model) => model.startsWith(STAGE_PREFIX));
  if (stage === undefined) return { kind: "models", models };
  if (models.length === 1) {
    return { kind: "stage", stageType: stage.slice(STAGE_PREFIX.length).toUpperCase() };
  }
  throw new GatewayError("invalid_request", {
    message: "A stage stands alone: leave the other models out, or the stage.",
  });
}
