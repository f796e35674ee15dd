import { GatewayError } from "../contract/gateway_error.ts";

/** Longer than any key or token we know of; what is longer is not compared with anything. */
const MAX_CREDENTIAL_CHARS = 8_192;

export interface Credential {
  from: "authorization" | "apikey";
  value: string;
}

/**
 * The credentials that a request carries, unverified; the one that names the caller comes first. Where both headers are
 * present, `Authorization` names the caller and `apikey` the project, as everywhere on Supabase.
 * @throws GatewayError `credential_invalid` for an `Authorization` that is no Bearer token
 */
export function extractCredentials(request: Request): Credential[] {
  const found: Credential[] = [];
  const authorization = request.headers.get("authorization")?.trim();
  if (authorization) {
    // The scheme is case-insensitive (RFC 9110, 11.1).
    const value = /^bearer +(\S+)$/i.exec(authorization)?.[1];
    if (value === undefined) {
      throw new GatewayError("credential_invalid", {
        message: "The Authorization header is not of the form `Bearer <key>`.",
      });
    }
    found.push({ from: "authorization", value });
  }
  const apikey = request.headers.get("apikey")?.trim();
  if (apikey) found.push({ from: "apikey", value: apikey });
  for (const { from, value } of found) {
    if (value.length > MAX_CREDENTIAL_CHARS) throw notValid(from);
  }
  return found;
}

export function notValid(from: Credential["from"], hint = ""): GatewayError {
  const header = from === "apikey" ? "`apikey`" : "`Authorization`";
  return new GatewayError("credential_invalid", {
    message: `The credential in ${header} is not valid. ${
      hint || "Check that it is complete, current and of this project."
    }`,
  });
}
