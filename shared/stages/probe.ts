import type { ConfigStatus } from "../database/stages.ts";
import type { KeyInspector } from "../providers/key_inspector.ts";
import { ProviderFailure, type ProviderSettings } from "../providers/provider.ts";
import { PROVIDER_DEFINITIONS } from "./provider_definitions.ts";

/** What a provider says of a key, in the words of provider_configs. */
export interface ProbeResult {
  status: Extract<ConfigStatus, "active" | "invalid" | "error">;
  reason: string | null;
  /** Null: it gave no list. */
  models: string[] | null;
}

/** By the name in a key's `provider`. */
export type Inspectors = Readonly<Record<string, KeyInspector | undefined>>;

/** A list of models comes in a second; a provider that needs longer counts as not answering. */
const PROBE_TIMEOUT_MS = 15_000;
/** As the table keeps it: enough to know what to do. */
const MAX_REASON_CHARS = 300;

/**
 * Asks a provider whether it accepts a key, and which models it offers. A key that is refused is `invalid`; everything else
 * that goes wrong is an `error` of the provider's, which says nothing about the key.
 */
export async function probe(
  inspectors: Inspectors,
  kind: string,
  key: { secret: string; settings: ProviderSettings },
  signal: AbortSignal,
): Promise<ProbeResult> {
  const facts = PROVIDER_DEFINITIONS[kind];
  const inspector = facts && inspectors[facts.provider];
  if (facts === undefined || inspector === undefined) {
    return { status: "error", reason: `this version does not know the provider ${kind}`, models: null };
  }
  const inquiry = { ...key, signal: AbortSignal.any([signal, AbortSignal.timeout(PROBE_TIMEOUT_MS)]) };
  try {
    // Our own list says nothing about the key.
    if (!facts.listsAll) await inspector.checkKey(inquiry);
    const models = await inspector.listModels(inquiry);
    return { status: "active", reason: null, models: models.toSorted(byName) };
  } catch (thrown) {
    signal.throwIfAborted();
    const said = thrown instanceof Error && !(thrown instanceof DOMException)
      ? thrown.message
      : `no answer within ${PROBE_TIMEOUT_MS / 1000} s`;
    const reason = said.slice(0, MAX_REASON_CHARS) || "no reason given";
    const isKeys = thrown instanceof ProviderFailure && thrown.diagnosis.fault === "key";
    return { status: isKeys ? "invalid" : "error", reason, models: null };
  }
}

/** Plain order of the letters, the same everywhere. */
function byName(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
