/**
 * What signs a block of thoughts. Upstream signs the part that follows them, and wants the signature back with that part: it travels in the
 * block's `signature`, behind a mark of ours, since what other models have signed is worth nothing here.
 */
const MARK = "eve_";
const BASE64 = /^[A-Za-z0-9+/_-]+={0,2}$/;

/** @param signature of the part that follows; null: it has none, or it is not there yet */
export function thinkingSignature(signature: string | null): string {
  return MARK + (signature !== null && BASE64.test(signature) ? signature : "");
}

/** Null: it is not ours, or there was none. */
export function signatureIn(written: string): string | null {
  const signature = written.startsWith(MARK) ? written.slice(MARK.length) : "";
  return BASE64.test(signature) ? signature : null;
}
