import type { GenerationConfig, Prompt } from "../../contract/content.ts";
import type { Grant } from "../../database/admission/reserve.ts";

/** The largest integer of the database. */
const MOST = 2_147_483_647;

/** How much a prompt lets the model write, all candidates together; null: it does not say. Thoughts count as written. */
export function outputAsked({ generationConfig = {} }: Prompt): number | null {
  const each = tokensEach(generationConfig);
  return each === null ? null : Math.min(each * candidates(generationConfig), MOST);
}

/**
 * A prompt whose answer fits what the caller's budget has reserved for it. Every provider takes its limit from `maxOutputTokens`.
 * @param allowed tokens, all candidates together; null: no budget bounds it
 */
export function withOutputLimit(prompt: Prompt, allowed: number | null): Prompt {
  if (allowed === null) return prompt;
  const { max_output_tokens: _, candidate_count, ...config } = prompt.generationConfig ?? {};
  const count = Math.min(candidates(prompt.generationConfig ?? {}), Math.max(allowed, 1));
  const each = Math.max(1, Math.floor(allowed / count));
  const maxOutputTokens = Math.min(tokensEach(prompt.generationConfig ?? {}) ?? each, each);
  const limited: GenerationConfig = { ...config, maxOutputTokens };
  if (config.candidateCount !== undefined || candidate_count !== undefined) limited.candidateCount = count;
  const thinking = thinkingBelow(config.thinkingConfig, maxOutputTokens);
  if (thinking !== undefined) limited.thinkingConfig = thinking;
  return { ...prompt, generationConfig: limited };
}

/** What the answer was lowered to, where it was; null: it may be as long as it would be without a budget. */
export function outputLoweredTo(
  prompt: Prompt,
  { maxOutputTokens, capabilities }: Pick<Grant, "maxOutputTokens" | "capabilities">,
): number | null {
  if (maxOutputTokens === null) return null;
  const without = outputAsked(prompt) ?? capabilities.maxOutputTokens;
  return without === null || maxOutputTokens < without ? maxOutputTokens : null;
}

/** Google takes numbers that are written as texts, and names with underscores. */
function tokensEach(config: GenerationConfig): number | null {
  return wholeAbove(0, config.maxOutputTokens ?? config.max_output_tokens);
}

function candidates(config: GenerationConfig): number {
  return wholeAbove(0, config.candidateCount ?? config.candidate_count) ?? 1;
}

/** Null: no such number, which upstream refuses. */
function wholeAbove(least: number, value: unknown): number | null {
  const number = typeof value === "string" ? Number(value) : value;
  return typeof number === "number" && Number.isInteger(number) && number > least ? number : null;
}

/** A budget for thoughts that is larger than the whole answer's is one that may be used up. */
function thinkingBelow(config: unknown, most: number): unknown {
  if (typeof config !== "object" || config === null) return undefined;
  const { thinkingBudget } = config as Record<string, unknown>;
  return typeof thinkingBudget === "number" && thinkingBudget > most
    ? { ...config, thinkingBudget: most }
    : undefined;
}
