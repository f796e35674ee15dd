import { GatewayError } from "../contract/gateway_error.ts";
import type { Access } from "../database/access.ts";
import { readConsumerSecret } from "../tokens/consumer_secret.ts";
import { type Credential, notValid } from "./credentials.ts";
import { tooManyWrong } from "./wrong_credentials.ts";

export interface VerifiedConsumer {
  kind: "service" | "notebook";
  consumerId: string;
  name: string;
}

/** Takes the place of a malformed secret, so that it costs what a wrong one costs. No consumer has such an id. */
const NOBODY = { keyId: "none", proof: "0".repeat(64) };

/**
 * Asks the database whose secret a credential is. A wrong secret, an unknown id and a malformed one get the same answer for
 * the same work.
 * @throws GatewayError `credential_invalid`, `consumer_disabled`, `rate_limited`
 */
export async function verifyConsumerSecret(
  credential: Credential,
  access: Pick<Access, "authenticate">,
  address: string | null,
): Promise<VerifiedConsumer> {
  const secret = await readConsumerSecret(credential.value);
  const found = await access.authenticate(secret ?? NOBODY, address);
  // That a consumer is disabled is said only where the secret is right.
  if (found.status === "refused" && found.code === "consumer_disabled") throw new GatewayError(found.code);
  if (found.status === "refused" && found.code === "rate_limited") throw tooManyWrong(found.retryAfterMs);
  if (found.status === "refused" || found.kind !== secret?.kind) throw notValid(credential.from);
  return { kind: found.kind, consumerId: found.consumerId, name: found.name };
}
