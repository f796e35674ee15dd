import { invalidRequest } from "../../contract/invalid_request.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { WebhookRow, Webhooks } from "../../database/webhooks.ts";
import { judgeUrl, PublicFetchError, type TargetRules } from "../../http/outgoing/public_target.ts";
import type { KeyEncryption } from "../../secrets/key_encryption.ts";
import { encryptSecret } from "./secret.ts";
import { isWebhookSecret, mintWebhookSecret } from "./sign.ts";

/** Hosts that webhooks may have although they are private, with commas between them. */
export const WEBHOOK_HOSTS_VARIABLE = "EVE_WEBHOOK_HOSTS";

const MAX_URL_CHARS = 2_000;

export interface RegisterDependencies {
  webhooks: Pick<Webhooks, "add" | "list" | "rotate">;
  encryption: KeyEncryption;
  allows: TargetRules["allows"];
  newId: () => string;
}

export interface AddedWebhook {
  webhook: WebhookRow;
  /** Shown once; null: the webhook was there already, and its holder has the secret. */
  secret: string | null;
}

/**
 * A webhook for an address, with a secret of its own. One that the caller has for the same address is answered as it is.
 * @param wanted.consumer a name in eve.consumers; null: the project
 * @param wanted.types types of events that it takes, at most 50; none: only what is addressed to it
 * @param wanted.secret `whsec_` and base64 of 24 to 64 bytes; absent: one is made
 * @throws GatewayError `invalid_request`, `invalid_argument`, and as the encryption and the database do
 */
export async function addWebhook(
  { webhooks, encryption, allows, newId }: Omit<RegisterDependencies, "webhooks"> & {
    webhooks: Pick<Webhooks, "add">;
  },
  wanted: {
    consumer: string | null;
    /** The consumer by its id, instead. */
    consumerId?: string | null;
    url: string;
    types: readonly string[];
    description?: string | null;
    secret?: string | null;
  },
): Promise<AddedWebhook> {
  const url = addressOf(wanted.url, allows);
  const secret = secretOf(wanted.secret);
  const { status, webhook } = await webhooks.add({
    id: newId(),
    consumer: wanted.consumer,
    consumerId: wanted.consumerId ?? null,
    url,
    types: wanted.types,
    description: wanted.description ?? null,
    secret: await encryptSecret(encryption, secret, url),
  });
  return { webhook, secret: status === "added" ? secret : null };
}

/**
 * A new secret for a webhook. The one before signs beside it for a while.
 * @throws GatewayError as `addWebhook`
 */
export async function rotateWebhook(
  { webhooks, encryption }: Pick<RegisterDependencies, "webhooks" | "encryption">,
  { id, secret: given, graceSeconds }: { id: string; secret?: string | null; graceSeconds: number },
): Promise<{ webhook: WebhookRow; secret: string }> {
  const known = (await webhooks.list()).find((webhook) => webhook.id === id);
  if (known === undefined) throw new GatewayError("not_found", { message: `There is no webhook ${id}.` });
  const secret = secretOf(given);
  const stored = await encryptSecret(encryption, secret, known.url);
  return { webhook: await webhooks.rotate(id, stored, graceSeconds), secret };
}

/** As it is stored and called. */
function addressOf(text: string, allows: TargetRules["allows"]): string {
  const wrong = (problem: string) => invalidRequest([{ field: "url", problem }]);
  if (text.length > MAX_URL_CHARS) throw wrong(`is longer than ${MAX_URL_CHARS} characters`);
  try {
    const url = judgeUrl(text, { allows });
    url.hash = "";
    return url.href;
  } catch (thrown) {
    if (thrown instanceof PublicFetchError) throw wrong(thrown.message);
    throw thrown;
  }
}

function secretOf(given: string | null | undefined): string {
  if (given === null || given === undefined) return mintWebhookSecret();
  if (isWebhookSecret(given)) return given;
  throw invalidRequest([{ field: "secret", problem: "must be whsec_ and the base64 of 24 to 64 bytes" }]);
}
