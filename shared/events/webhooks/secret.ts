import { GatewayError } from "../../contract/gateway_error.ts";
import type { StoredSecret } from "../../database/webhooks.ts";
import type { KeyBinding, KeyEncryption } from "../../secrets/key_encryption.ts";

/** What a secret is made for: one address, and nothing else is signed with it. */
const bindingOf = (url: string): KeyBinding => ({ providerKind: "webhook", origins: { url } });

/** A secret as it is stored. The address goes into what is encrypted, so that a change of the row cannot send it elsewhere. */
export async function encryptSecret(
  encryption: KeyEncryption,
  secret: string,
  url: string,
): Promise<StoredSecret> {
  return { token: await encryption.encrypt(secret, bindingOf(url)), lastFour: secret.slice(-4) };
}

/**
 * The secrets behind stored ones, for messages to `url`.
 * @throws GatewayError `gateway_misconfigured`: they were made for another address, or with another ADMIN_SECRET_KEY
 */
export async function openSecrets(
  encryption: KeyEncryption,
  tokens: readonly string[],
  url: string,
): Promise<string[]> {
  return await Promise.all(tokens.map(async (token) => {
    const { key, binding } = await encryption.decryptBound(token);
    if (binding?.providerKind === "webhook" && binding.origins.url === url) return key;
    const message =
      "The webhook's secret was made for another address, so nothing is signed with it. Rotate it, or remove the webhook and add it again.";
    throw new GatewayError("gateway_misconfigured", { message, detail: message });
  }));
}
