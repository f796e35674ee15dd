import { base64url } from "jose";
import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";

/** The Edge secret that holds the keys. */
export const SIGNING_KEYS_VARIABLE = "EVE_TOKEN_SIGNING_KEYS";

/** HS256 wants a key at least as long as its digest (RFC 7518, 3.2). */
const MIN_KEY_BYTES = 32;

export interface SigningKey {
  /** Names the key in a token's header. */
  kid: string;
  key: Uint8Array;
}

const keyList = z.array(z.object({
  kid: z.string().regex(/^[\w.-]{1,64}$/),
  k: z.base64url(),
}));

/**
 * The keys of tokens, as the Edge secret holds them: a JSON array of `{"kid": "...", "k": "<base64url>"}`, which are octet
 * keys of JSON Web Key (RFC 7517). The first signs, all verify: rotate by putting a new one in front, and drop the old one
 * when the last token that it signed has expired. Unset: there are none, and no token is valid.
 * @throws GatewayError `gateway_misconfigured`; it repeats nothing of the value
 */
export function readSigningKeys(text: string | undefined): SigningKey[] {
  if (!text) return [];
  const keys = parse(text);
  if (keys.some(({ key }) => key.byteLength < MIN_KEY_BYTES)) {
    throw misconfigured(`each k must hold at least ${MIN_KEY_BYTES} bytes`);
  }
  if (new Set(keys.map(({ kid }) => kid)).size < keys.length) {
    throw misconfigured("each kid may be there once");
  }
  return keys;
}

function parse(text: string): SigningKey[] {
  try {
    return keyList.parse(JSON.parse(text)).map(({ kid, k }) => ({ kid, key: base64url.decode(k) }));
  } catch {
    throw misconfigured(
      'must be a JSON array such as [{"kid":"2026-11","k":"<32 random bytes in base64url>"}]',
    );
  }
}

function misconfigured(what: string): GatewayError {
  return new GatewayError("gateway_misconfigured", { detail: `settings: ${SIGNING_KEYS_VARIABLE}: ${what}` });
}
