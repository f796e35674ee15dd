import type { TokenUsage } from "../../contract/usage.ts";

/** Tokens as OpenAI counts them: thoughts are part of the completion. `estimated` is present when the gateway had to count itself. */
export function usageJson(usage: TokenUsage) {
  const thoughts = usage.thoughtsTokens ?? 0;
  const completion = (usage.outputTokens ?? 0) + thoughts;
  return {
    prompt_tokens: usage.inputTokens,
    completion_tokens: completion,
    total_tokens: usage.inputTokens + completion,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens ?? 0 },
    completion_tokens_details: { reasoning_tokens: thoughts },
    ...(usage.estimated && { estimated: true }),
  };
}
