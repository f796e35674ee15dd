/** A feature that a model may lack. */
export type Capability = "system" | "json" | "tools";

/** For how long. */
export type Lasting = { forMs: number } | { until: "pacific_midnight" | "forever" };

/**
 * Why something is not used, and how a person is told of it in English. The whole list: what is kept with a lane, a key or a key's model
 * is one of these. Other languages are in console/src/i18n.
 */
export const BLOCK_REASONS = {
  key_invalid: "upstream does not know its secret: it is mistyped, or the key was deleted there",
  key_leaked: "upstream has found its secret published",
  key_suspended: "upstream has suspended it",
  key_restricted: "the key's restrictions at upstream do not allow it",
  service_disabled: "the API is switched off in its project at upstream",
  credits_depleted: "its credits are spent",
  secret_missing: "the secret that its row names is not set, or cannot be read",
  model_not_found: "upstream does not know the model",
  no_quota: "its project has no quota for the model at upstream",
  project_denied: "upstream has denied its project access",
  permission_denied: "upstream did not allow it, and did not say why",
  upstream_minute_quota: "upstream said that the minute's quota is used up",
  upstream_daily_quota: "upstream said that the day's quota is used up",
} as const;

export type BlockReason = keyof typeof BLOCK_REASONS;

/** Null where a reason is not of the list: somebody has written it into the table by hand. */
export function blockWords(reason: string | null): string | null {
  return reason !== null && Object.hasOwn(BLOCK_REASONS, reason)
    ? BLOCK_REASONS[reason as BlockReason]
    : null;
}

/** What must not be used, and for how long, because of what upstream said. */
export type Block =
  | {
    /** `lane`: a quota project's model. `key`: a key altogether. `key_model`: a key for one model. */
    scope: "lane" | "key" | "key_model";
    lasts: Lasting;
    /** Kept with the block. */
    reason: BlockReason;
    /** Of the secret that upstream rejected (secrets/key_facts.ts), where that is what a key is blocked for. */
    secretHash?: string;
  }
  /** The model is no longer asked, for any caller, for this feature. */
  | { scope: "capability"; capability: Capability; reason: string };
