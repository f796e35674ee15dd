import type { ReadVariable } from "../runtime/settings.ts";
import { PROVIDER_DEFINITIONS } from "./provider_definitions.ts";

/** What the environment holds for a provider. */
export interface EnvironmentProvider {
  providerKind: string;
  /** The variable that holds the key. */
  variable: string;
  secret: string;
  model: string;
  settings: Record<string, string>;
}

/** Null: no key of that kind is set, or something that its calls need is missing. */
export function providerInEnvironment(kind: string, read: ReadVariable): EnvironmentProvider | null {
  const facts = PROVIDER_DEFINITIONS[kind];
  if (facts === undefined) return null;
  const value = (name: string) => read(name)?.trim() || undefined;
  const variable = facts.keyVariables.find((name) => value(name) !== undefined);
  if (variable === undefined) return null;
  const settings: Record<string, string> = {};
  for (const [name, rule] of Object.entries(facts.settings)) {
    const found = value(rule.variable);
    if (found !== undefined) settings[name] = found;
    else if (rule.required) return null;
  }
  return {
    providerKind: kind,
    variable,
    secret: value(variable)!,
    model: value(facts.modelVariable) ?? facts.defaultModel,
    settings,
  };
}

/** What serves a stage that has not been set up. */
export interface Fallback {
  providerKind: string;
  model: string;
  /** The variable that holds the key; null: the keys of the pool serve. */
  variable: string | null;
}

/**
 * The first of the stage's providers whose key is in the environment; without one, Gemini, whose keys are a pool anyhow.
 * Null: nothing can serve it.
 */
export function fallbackOf(kinds: readonly string[], read: ReadVariable): Fallback | null {
  for (const kind of kinds) {
    const found = providerInEnvironment(kind, read);
    if (found !== null) return { providerKind: kind, model: found.model, variable: found.variable };
  }
  if (!kinds.includes("gemini")) return null;
  const { modelVariable, defaultModel } = PROVIDER_DEFINITIONS.gemini!;
  return { providerKind: "gemini", model: read(modelVariable)?.trim() || defaultModel, variable: null };
}
