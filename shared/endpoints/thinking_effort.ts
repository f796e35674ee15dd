import { plainModel } from "./model_name.ts";

/** How hard a model is to think, in the words of OpenAI's and of Anthropic's API. */
export type Effort = "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max";

/** Gemma 4 thinks or hardly does: it has two levels. */
const GEMMA_LEVEL: Record<Effort, string> = {
  none: "MINIMAL",
  minimal: "MINIMAL",
  low: "MINIMAL",
  medium: "HIGH",
  high: "HIGH",
  xhigh: "HIGH",
  max: "HIGH",
};

const LEVEL: Record<Effort, string> = {
  none: "MINIMAL",
  minimal: "MINIMAL",
  low: "LOW",
  medium: "MEDIUM",
  high: "HIGH",
  xhigh: "HIGH",
  max: "HIGH",
};

/** Gemini 2.5 knows no levels but a number of tokens: those that Google's own OpenAI endpoint puts in their place. */
const BUDGET: Record<Effort, number> = {
  none: 0,
  minimal: 1_024,
  low: 1_024,
  medium: 8_192,
  high: 24_576,
  xhigh: 24_576,
  max: 24_576,
};

/** An effort as a thinking config of the model. */
export function effortSettings(effort: Effort, name: string): Record<string, unknown> {
  const model = plainModel(name);
  if (model.startsWith("gemini-2.5")) return { thinkingBudget: BUDGET[effort] };
  return { thinkingLevel: (model.startsWith("gemma") ? GEMMA_LEVEL : LEVEL)[effort] };
}

/** What each family of models thinks least with; pro models never stop. */
const LEAST: readonly [RegExp, Record<string, unknown>][] = [
  [/^gemma-4/, { thinkingLevel: "MINIMAL" }],
  [/^gemini-2\.5-flash/, { thinkingBudget: 0 }],
  [/^gemini-2\.5-pro/, { thinkingBudget: 128 }],
  [/^gemini-[3-9][\d.]*-flash/, { thinkingLevel: "MINIMAL" }],
  [/^gemini-[3-9][\d.]*-pro/, { thinkingLevel: "LOW" }],
];

/** A thinking config with which a model thinks as little as it can; undefined: of this model nothing is known, and it decides. */
export function leastThinking(model: string): Record<string, unknown> | undefined {
  return LEAST.find(([family]) => family.test(plainModel(model)))?.[1];
}
