import { bytesToHex, hexToBytes } from "@noble/hashes/utils.js";
import { GatewayError } from "../contract/gateway_error.ts";

/** Who holds such an address may read, or send, one object until its time is over: it goes into no log. */
export interface AddressSigner {
  sign(method: "GET" | "PUT", key: string, terms: AddressTerms): Promise<string>;
  /** @throws GatewayError `credential_invalid`: it is not signed by us, for another method, or its time is over */
  verify(method: "GET" | "PUT", key: string, query: URLSearchParams): Promise<AddressTerms>;
}

/** What is signed beside the method and the key. */
export interface AddressTerms {
  /** Milliseconds since 1970. */
  expiresAt: number;
  contentType?: string;
  contentDisposition?: string;
  contentEncoding?: string;
  /** Of the bytes that are to be sent. */
  sha256?: string;
  sizeBytes?: number;
}

export interface AddressSignerOptions {
  /** Where `/v1/blobs/<key>` is served, without a slash at its end. */
  baseUrl: string;
  /** Signs with the first; addresses of all are valid, so that a key can be changed without a gap. */
  secrets: readonly string[];
  /** Milliseconds since 1970. */
  now: () => number;
}

/** Names in the query, in the order in which they are signed. */
const NAMES = {
  expiresAt: "expires",
  contentType: "type",
  contentDisposition: "disposition",
  contentEncoding: "encoding",
  sha256: "sha256",
  sizeBytes: "size",
} as const;
type Name = keyof typeof NAMES;

const SIGNATURE = "signature";

/** Addresses signed by HMAC-SHA-256 with the project's secret key, for objects that the database holds. */
export function createAddressSigner({ baseUrl, secrets, now }: AddressSignerOptions): AddressSigner {
  const keys = secrets.map((secret) =>
    crypto.subtle.importKey(
      "raw",
      new TextEncoder().encode(secret),
      { name: "HMAC", hash: "SHA-256" },
      false,
      ["sign", "verify"],
    )
  );
  return {
    async sign(method, key, terms) {
      const [first] = keys;
      if (first === undefined) {
        throw new GatewayError("gateway_misconfigured", { detail: "no secret to sign addresses with" });
      }
      const query = new URLSearchParams();
      for (const name of Object.keys(NAMES) as Name[]) {
        if (terms[name] !== undefined) query.set(NAMES[name], String(terms[name]));
      }
      const signature = await crypto.subtle.sign("HMAC", await first, toSign(method, key, query));
      query.set(SIGNATURE, bytesToHex(new Uint8Array(signature)));
      return `${baseUrl}/v1/blobs/${key.split("/").map(encodeURIComponent).join("/")}?${query}`;
    },
    async verify(method, key, query) {
      const hex = query.get(SIGNATURE) ?? "";
      if (!/^[0-9a-f]{64}$/.test(hex)) throw notValid();
      const signature = hexToBytes(hex);
      const signed = toSign(method, key, query);
      let valid = false;
      // The runtime compares in constant time.
      for (const each of keys) {
        valid = await crypto.subtle.verify("HMAC", await each, signature, signed) || valid;
      }
      const expiresAt = Number(query.get(NAMES.expiresAt));
      if (!valid || !(expiresAt > now())) throw notValid();
      const text = (name: Name) => query.get(NAMES[name]) ?? undefined;
      const size = text("sizeBytes");
      return {
        expiresAt,
        contentType: text("contentType"),
        contentDisposition: text("contentDisposition"),
        contentEncoding: text("contentEncoding"),
        sha256: text("sha256"),
        ...(size !== undefined && { sizeBytes: Number(size) }),
      };
    },
  };
}

/** Unambiguous: no value can pass for two, as each is a line of JSON. */
function toSign(method: string, key: string, query: URLSearchParams): Uint8Array<ArrayBuffer> {
  const values = Object.values(NAMES).map((name) => query.get(name));
  return new TextEncoder().encode(JSON.stringify(["eve media address v1", method, key, ...values]));
}

function notValid(): GatewayError {
  return new GatewayError("credential_invalid", {
    message: "This address is not valid, or its time is over. Ask for a new one.",
  });
}
