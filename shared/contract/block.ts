/** A feature that a model may lack. */
export type Capability = "system" | "json" | "tools";

/** For how long. */
export type Lasting = { forMs: number } | { until: "pacific_midnight" | "forever" };

/** What must not be used, and for how long, because of what upstream said. */
export type Block =
  | {
    /** `lane`: a quota project's model. `key`: a key altogether. `key_model`: a key for one model. */
    scope: "lane" | "key" | "key_model";
    lasts: Lasting;
    /** Stable, snake_case; kept with the block. */
    reason: string;
    /** Of the secret that upstream rejected (secrets/key_facts.ts), where that is what a key is blocked for. */
    secretHash?: string;
  }
  /** The model is no longer asked, for any caller, for this feature. */
  | { scope: "capability"; capability: Capability; reason: string };
