import type { ProviderSettings } from "../providers/provider.ts";
import type { KeyBinding } from "../secrets/key_encryption.ts";
import type { ReadVariable } from "../runtime/settings.ts";
import { PROVIDER_DEFINITIONS } from "./provider_definitions.ts";

/**
 * Where a kind of provider is called with these settings: for each of its settings that is an address, the origin of the
 * setting, or else of the environment, or else the provider's own. A key that is entered now is entered for that.
 */
export function bindingOf(kind: string, settings: ProviderSettings, read: ReadVariable): KeyBinding {
  const origins: Record<string, string> = {};
  for (const [name, rule] of Object.entries(PROVIDER_DEFINITIONS[kind]?.settings ?? {})) {
    if (rule.ownAddress === undefined) continue;
    origins[name] = originOf(settings[name] ?? (read(rule.variable)?.trim() || rule.ownAddress));
  }
  return { providerKind: kind, origins };
}

/** What is not the same in the second; null: a key that is bound to the first may be used for the second. */
export function differenceOf(
  bound: KeyBinding,
  wanted: KeyBinding,
): { name: string; bound: string; wanted: string } | null {
  if (bound.providerKind !== wanted.providerKind) {
    return { name: "provider_kind", bound: bound.providerKind, wanted: wanted.providerKind };
  }
  for (const name of new Set([...Object.keys(bound.origins), ...Object.keys(wanted.origins)])) {
    const [one, other] = [bound.origins[name] ?? "", wanted.origins[name] ?? ""];
    if (one !== other) return { name, bound: one, wanted: other };
  }
  return null;
}

/**
 * Whether a key out of the environment may be sent where these settings lead: to the provider's own address, or to one that
 * the environment names too. Settings come from the database, which had no part in putting the key there.
 */
export function environmentKeyMayGo(kind: string, settings: ProviderSettings, read: ReadVariable): boolean {
  return differenceOf(bindingOf(kind, {}, read), bindingOf(kind, settings, read)) === null;
}

/** Of a text that is no URL, a value that no URL can have. */
function originOf(text: string): string {
  return URL.canParse(text) ? new URL(text).origin : `not a URL: ${text}`;
}
