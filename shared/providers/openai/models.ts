import { type KeyInquiry, MAX_LISTED_MODELS } from "../key_inspector.ts";
import { connectionFailed, recordsIn } from "../upstream.ts";

/**
 * The names in an answer of `/models`, each once.
 * @throws ProviderFailure where it is no list
 */
export function modelsIn({ data }: Record<string, unknown>, { secret }: KeyInquiry): string[] {
  if (!Array.isArray(data)) throw connectionFailed("a list of models without data", secret);
  const names = recordsIn(data).map(({ id }) => id).filter((id) => typeof id === "string");
  return [...new Set(names)].slice(0, MAX_LISTED_MODELS);
}
