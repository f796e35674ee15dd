import { functionUrl } from "../runtime/function_names.ts";
import type { SigningKey } from "./signing_keys.ts";

/**
 * The one algorithm, on both sides, whatever a token says of itself. The functions that sign and those that verify are
 * parts of one project and read the same Edge secrets, so a public key would have no reader of its own; HMAC needs one
 * secret, costs microseconds of the two seconds of CPU that a request has, and does not fall to a quantum computer.
 */
export const TOKEN_ALGORITHM = "HS256";

/** Says what the token is (RFC 9068, 2.1): a user's session, signed by whatever key, is never taken for one. */
export const TOKEN_TYPE = "at+jwt";

/** The database sets a token's times and a function compares them: their clocks may differ by this, in seconds. */
export const CLOCK_TOLERANCE_S = 5;

export interface TokenRules {
  keys: readonly SigningKey[];
  issuer: string;
  audience: string;
}

/** @param projectUrl as in `SUPABASE_URL`: tokens of one project mean nothing to another */
export function tokenRules(projectUrl: string, keys: readonly SigningKey[]): TokenRules {
  return {
    keys,
    issuer: functionUrl(projectUrl, "issue-kaggle-token"),
    audience: functionUrl(projectUrl, "llm-invoke"),
  };
}
