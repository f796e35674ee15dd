import { GatewayError } from "../contract/gateway_error.ts";
import type { TokenRules } from "../tokens/token_rules.ts";
import { verifyToken } from "../tokens/verify.ts";
import { type Credential, notValid } from "./credentials.ts";

export interface VerifiedToken {
  kind: "token";
  consumerId: string;
  tokenId: string;
}

/**
 * Checks a notebook's token. Whether it was revoked, and what is left of it, is asked by the reservation itself.
 * @throws GatewayError `token_revoked` when its time has passed, `credential_invalid` for every other fault
 */
export async function verifyScopedToken(credential: Credential, rules: TokenRules): Promise<VerifiedToken> {
  const verdict = await verifyToken(credential.value, rules);
  if (verdict.valid) return { kind: "token", consumerId: verdict.consumerId, tokenId: verdict.tokenId };
  if (verdict.reason === "expired") throw new GatewayError("token_revoked", { detail: verdict.detail });
  throw notValid(
    credential.from,
    "It is no token of this gateway's. Sessions of users and the legacy anon and service_role keys are not accepted.",
  );
}
