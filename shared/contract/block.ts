/** What shall not be used, and for how long, because of what upstream said. */
export interface Block {
  /** `lane`: a quota project's model. `key`: a key altogether. `key_model`: a key for one model. */
  scope: "lane" | "key" | "key_model";
  lasts: { forMs: number } | { until: "pacific_midnight" | "forever" };
  /** Stable, snake_case; kept with the block. */
  reason: string;
}
