import type { ProviderSettings } from "./provider.ts";

/** What an upstream says about a key, asked in ways that it does not count against any limit. */
export interface KeyInspector {
  /**
   * Whether upstream accepts the key: resolves when it does.
   * @throws ProviderFailure whose diagnosis says whose fault it is; `fault: "key"` says that the key cannot be used
   * @throws the signal's reason when it aborts
   */
  checkKey(inquiry: KeyInquiry): Promise<void>;
  /**
   * The models that the key may use, by name (`gemma-4-31b-it`), each once, at most {@link MAX_LISTED_MODELS}.
   * @throws as checkKey does
   */
  listModels(inquiry: KeyInquiry): Promise<string[]>;
}

export interface KeyInquiry {
  /** The key itself. It goes into a header and nowhere else. */
  secret: string;
  /** Absent: as the environment says. */
  settings?: ProviderSettings;
  signal: AbortSignal;
}

/** Google lists some sixty. A longer list is not believed. */
export const MAX_LISTED_MODELS = 2_000;
