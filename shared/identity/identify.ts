import type { Caller } from "../contract/caller.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import { extractCredentials } from "./credentials.ts";
import { type ProjectKeys, type VerifiedKey, verifyProjectKey } from "./project_keys.ts";

/**
 * Who sent a request: its credentials are extracted, then each of them verified, then the caller authorised. One that is
 * present but invalid is rejected, even beside a valid one.
 * @throws GatewayError `credential_missing`, `credential_invalid`, `credential_insufficient`, `gateway_misconfigured`
 */
export async function identify(request: Request, keys: ProjectKeys): Promise<Caller> {
  const credentials = extractCredentials(request);
  const verified: VerifiedKey[] = [];
  for (const credential of credentials) verified.push(await verifyProjectKey(credential, keys));
  return authorise(verified);
}

/** The first credential names the caller; only a secret key may call models. */
function authorise([caller]: VerifiedKey[]): Caller {
  if (caller === undefined) throw new GatewayError("credential_missing");
  if (caller.kind === "publishable") throw new GatewayError("credential_insufficient");
  return { kind: "project", consumerId: null, tokenId: null, name: caller.name };
}
