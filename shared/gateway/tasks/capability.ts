import { callersFault } from "../../providers/diagnoses.ts";
import { type Provider, type ProviderCapability, ProviderFailure } from "../../providers/provider.ts";

/**
 * What a task needs of a provider.
 * @throws ProviderFailure `unsupported_feature` where the provider lacks it: the caller should ask for another model
 */
export function capabilityOf<Name extends ProviderCapability>(
  provider: Provider,
  name: Name,
): NonNullable<Provider[Name]> {
  const capability = provider[name];
  if (capability !== undefined) return capability;
  throw new ProviderFailure(callersFault("unsupported_feature"), lackOf(provider, name), null);
}

function lackOf({ name, text }: Provider, lacking: ProviderCapability): string {
  if (lacking === "jobs") return `${name} makes no jobs`;
  if (lacking === "caches") return `${name} keeps no contents for prompts to name`;
  return text === undefined
    ? `${name} makes no text: ask for its stage`
    : `the gateway asks ${name} for no embeddings`;
}
