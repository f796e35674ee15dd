import type { Caller } from "../contract/caller.ts";
import type { ModelInfo } from "../contract/model_info.ts";
import type { ResolveTarget } from "../contract/target.ts";

/** What clients that know several makers put before a model's name: `models/`, `google/`, `gemini/`. */
const PREFIXES = /^(?:(?:models|google|gemini)\/)+/;

/** A model's name without what clients put before it. */
export function plainModel(name: string): string {
  return name.replace(PREFIXES, "");
}

/** The model by that name; of two the one that has just that name. */
export function modelNamed<Model extends Pick<ModelInfo, "model">>(
  models: readonly Model[],
  name: string,
): Model | undefined {
  const withName = (wanted: string) => models.find(({ model }) => model === wanted);
  return withName(name.replace(/^models\//, "")) ?? withName(plainModel(name));
}

/**
 * Takes models by prefixed names, too. A provider's own names may begin so (`google/gemma-3-27b-it`): a row with just that name serves it, and
 * whether there is one is only looked up for such names.
 */
export function withPlainNames(
  resolve: ResolveTarget,
  models: (caller: Caller) => Promise<readonly Pick<ModelInfo, "model">[]>,
): ResolveTarget {
  return async (target, caller) => {
    if (target.kind !== "models" || !target.models.some((name) => PREFIXES.test(name))) {
      return await resolve(target, caller);
    }
    const known = await models(caller);
    const names = target.models.map((name) => modelNamed(known, name)?.model ?? plainModel(name));
    return await resolve({ ...target, models: names }, caller);
  };
}
