/** Tokens of one call. Null: upstream did not say. */
export interface TokenUsage {
  /** What upstream counts against tokens per minute: prompt, cached part and tool results included. */
  inputTokens: number;
  /** The visible answer, without thoughts. */
  outputTokens: number | null;
  thoughtsTokens: number | null;
  /** The part of `inputTokens` that came from a cache. */
  cachedTokens: number | null;
  totalTokens: number | null;
  /** True: counted by us, because upstream reported nothing. */
  estimated: boolean;
}
