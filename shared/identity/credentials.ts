import { GatewayError } from "../contract/gateway_error.ts";

/** Longer than any key or token we know of; what is longer is not compared with anything. */
const MAX_CREDENTIAL_CHARS = 8_192;

export interface Credential {
  /** `key`: the query's parameter, as old clients of Google send it. */
  from: "authorization" | "x-goog-api-key" | "x-api-key" | "key" | "apikey";
  value: string;
}

/**
 * The credentials that a request carries, unverified; the one that names the caller comes first. Where several are
 * present, `Authorization` names the caller, then Google's and Anthropic's own places do, and `apikey` the project, as everywhere on
 * Supabase. The same credential in several places is one.
 * @throws GatewayError `credential_invalid` for an `Authorization` that is no Bearer token
 */
export function extractCredentials(request: Request): Credential[] {
  const found: Credential[] = [];
  const add = (from: Credential["from"], value: string | null) => {
    const given = value?.trim();
    if (given && !found.some((other) => other.value === given)) found.push({ from, value: given });
  };
  const authorization = request.headers.get("authorization")?.trim();
  if (authorization) {
    // The scheme is case-insensitive (RFC 9110, 11.1).
    const value = /^bearer +(\S+)$/i.exec(authorization)?.[1];
    if (value === undefined) {
      throw new GatewayError("credential_invalid", {
        message: "The Authorization header is not of the form `Bearer <key>`.",
      });
    }
    add("authorization", value);
  }
  // A header that was set twice arrives as a list, and no key has a comma.
  for (const value of request.headers.get("x-goog-api-key")?.split(",") ?? []) add("x-goog-api-key", value);
  for (const value of parameters(request.url, "key")) add("key", value);
  add("x-api-key", request.headers.get("x-api-key"));
  add("apikey", request.headers.get("apikey"));
  for (const { from, value } of found) {
    if (value.length > MAX_CREDENTIAL_CHARS) throw notValid(from);
  }
  return found;
}

function parameters(url: string, name: string): string[] {
  // Most requests have no query, and parsing the address costs more than all of the above.
  return url.includes("?") ? new URL(url).searchParams.getAll(name) : [];
}

/** The name of each place in messages for the caller. */
const PLACES: Readonly<Record<Credential["from"], string>> = {
  "authorization": "`Authorization`",
  "x-goog-api-key": "`x-goog-api-key`",
  "x-api-key": "`x-api-key`",
  "key": "the query's `key`",
  "apikey": "`apikey`",
};

export function notValid(from: Credential["from"], hint = ""): GatewayError {
  return new GatewayError("credential_invalid", {
    message: `The credential in ${PLACES[from]} is not valid. ${
      hint || "Check that it is complete, current and of this project."
    }`,
  });
}
