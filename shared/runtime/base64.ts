/** Arguments of one call: millions of them overflow the stack. */
const PIECE_BYTES = 0x8000;

/**
 * Bytes in base64 (RFC 4648, section 4), of any length. The runtime's own `toBase64` is younger than Deno 2.1, and `jose`
 * writes base64url alone.
 */
export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (let from = 0; from < bytes.length; from += PIECE_BYTES) {
    binary += String.fromCharCode(...bytes.subarray(from, from + PIECE_BYTES));
  }
  return btoa(binary);
}

/** @throws DOMException for a text that is not base64; blanks and line ends in it are passed over */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
