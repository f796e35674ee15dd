import type { TokenUsage } from "../../contract/usage.ts";

/** Tokens as Anthropic counts them: what came from a cache is no input, thoughts are output. */
export function usageJson({ inputTokens, cachedTokens, outputTokens, thoughtsTokens }: TokenUsage) {
  const cached = Math.min(cachedTokens ?? 0, inputTokens);
  return {
    input_tokens: inputTokens - cached,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cached,
    cache_creation: { ephemeral_5m_input_tokens: 0, ephemeral_1h_input_tokens: 0 },
    output_tokens: (outputTokens ?? 0) + (thoughtsTokens ?? 0),
    output_tokens_details: { thinking_tokens: thoughtsTokens ?? 0 },
    server_tool_use: null,
    service_tier: "standard",
    inference_geo: null,
    speed: null,
  };
}
