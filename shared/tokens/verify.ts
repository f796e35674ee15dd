import { errors, jwtVerify } from "jose";
import * as z from "zod";
import { CLOCK_TOLERANCE_S, TOKEN_ALGORITHM, TOKEN_TYPE, type TokenRules } from "./token_rules.ts";

export type TokenVerdict =
  | { valid: true; tokenId: string; consumerId: string }
  /** `detail` is for the log; it holds nothing of the token. */
  | { valid: false; reason: "expired" | "invalid"; detail: string };

const claims = z.object({ sub: z.uuid(), jti: z.uuid() });

/** Whether a credential has the form of a JSON Web Token (RFC 7519), of whatever kind. */
export function looksLikeJwt(credential: string): boolean {
  return /^eyJ[\w-]*\.[\w-]+\.[\w-]*$/.test(credential);
}

/**
 * Whether a token is ours and its time has come and not passed. The database decides what it may still do: it knows
 * what was spent and what was revoked. @param now only for tests
 */
export async function verifyToken(token: string, rules: TokenRules, now?: Date): Promise<TokenVerdict> {
  try {
    const { payload } = await jwtVerify(token, ({ kid }) => {
      const known = rules.keys.find((key) => key.kid === kid);
      if (known === undefined) throw new errors.JWKSNoMatchingKey();
      return known.key;
    }, {
      algorithms: [TOKEN_ALGORITHM],
      typ: TOKEN_TYPE,
      issuer: rules.issuer,
      audience: rules.audience,
      requiredClaims: ["sub", "jti", "iat", "nbf", "exp", "scope"],
      clockTolerance: CLOCK_TOLERANCE_S,
      currentDate: now,
    });
    const { sub, jti } = claims.parse(payload);
    return { valid: true, tokenId: jti, consumerId: sub };
  } catch (thrown) {
    if (thrown instanceof errors.JWTExpired) return { valid: false, reason: "expired", detail: thrown.code };
    const detail = thrown instanceof errors.JOSEError ? thrown.code : "claims are not of the right form";
    return { valid: false, reason: "invalid", detail };
  }
}
