/** A model that a caller may use. */
export interface ModelInfo {
  model: string;
  /** The model that serves in its place; null: it serves itself. */
  replacedBy: string | null;
  provider: string;
  /** Limits of one quota project: requests a minute, input tokens a minute, requests a day. Null: unlimited. */
  rpm: number | null;
  tpm: number | null;
  rpd: number | null;
  capabilities: { system: boolean; json: boolean; tools: boolean; thinking: boolean };
  /** The longest answer; null: unknown. */
  maxOutputTokens: number | null;
  /** When its row was made, as ISO 8601; null: unknown. */
  createdAt: string | null;
}
