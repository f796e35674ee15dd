import { base64url } from "jose";

/** Base64 of RFC 4648, section 5, with its padding, as Fernet writes it; `jose` leaves the padding out. */
export function toBase64Url(bytes: Uint8Array): string {
  const text = base64url.encode(bytes);
  return text.padEnd(Math.ceil(text.length / 4) * 4, "=");
}

/** Null: the text is not base64url with its padding. */
export function fromBase64Url(text: string): Uint8Array<ArrayBuffer> | null {
  if (text.length % 4 !== 0 || !/^[\w-]*={0,2}$/.test(text)) return null;
  return new Uint8Array(base64url.decode(text));
}
