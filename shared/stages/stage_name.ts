/**
 * A stage as a model: `stage:POEM`. It is one in google_ai_model_limits, replaced by the model that serves the stage, so the
 * scope of consumers and the audit know it, and clients of every endpoint may ask for it.
 */
const PREFIX = "stage:";

/** Whether a model's name, or a key's `env_var_name`, is a stage's. */
export function isStageName(name: string): boolean {
  return name.startsWith(PREFIX);
}

export function stageName(stageType: string): string {
  return `${PREFIX}${stageType.toUpperCase()}`;
}

export function stageTypeOf(name: string): string {
  return name.slice(PREFIX.length).toUpperCase();
}
