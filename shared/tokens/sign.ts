import { SignJWT } from "jose";
import { GatewayError } from "../contract/gateway_error.ts";
import { formatScope, type Scope } from "./scope.ts";
import { SIGNING_KEYS_VARIABLE } from "./signing_keys.ts";
import { TOKEN_ALGORITHM, TOKEN_TYPE, type TokenRules } from "./token_rules.ts";

export interface TokenFacts {
  tokenId: string;
  consumerId: string;
  scope: Scope;
  /** Seconds since 1970, by the database's clock. */
  issuedAt: number;
  expiresAt: number;
}

/** A signed token. @throws GatewayError `gateway_misconfigured` if there is no key to sign with */
export async function signToken(facts: TokenFacts, rules: TokenRules): Promise<string> {
  const [current] = rules.keys;
  if (current === undefined) {
    throw new GatewayError("gateway_misconfigured", {
      detail: `settings: ${SIGNING_KEYS_VARIABLE} is not set`,
    });
  }
  return await new SignJWT({ scope: formatScope(facts.scope) })
    .setProtectedHeader({ alg: TOKEN_ALGORITHM, typ: TOKEN_TYPE, kid: current.kid })
    .setIssuer(rules.issuer)
    .setAudience(rules.audience)
    .setSubject(facts.consumerId)
    .setJti(facts.tokenId)
    .setIssuedAt(facts.issuedAt)
    .setNotBefore(facts.issuedAt)
    .setExpirationTime(facts.expiresAt)
    .sign(current.key);
}
