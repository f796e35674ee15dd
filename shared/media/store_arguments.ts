/** Arguments of every store, held to their bounds. */
import { GatewayError } from "../contract/gateway_error.ts";
import type { ByteRange } from "./object_store.ts";

export const MAX_LIST = 1_000;
const WEEK_SECONDS = 604_800;

/** @throws GatewayError `invalid_request`: it is none */
export function checkedRange({ from, to }: ByteRange): ByteRange {
  const bound = (value: number) => Number.isSafeInteger(value) && value >= 0;
  if (bound(from) && (to === undefined || bound(to) && to >= from)) {
    return { from, ...(to !== undefined && { to }) };
  }
  throw new GatewayError("invalid_request", {
    message: "The range of bytes must be 0 or more, from before to.",
  });
}

/** @throws GatewayError `file_too_large`, with both sizes */
export function checkSize(sizeBytes: number, limitBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
    throw new GatewayError("invalid_request", {
      message: "The size of a file is a whole number of bytes, 0 or more.",
    });
  }
  if (sizeBytes <= limitBytes) return;
  throw new GatewayError("file_too_large", {
    message: `Size of file exceeds limit: ${sizeBytes} bytes of at most ${limitBytes}.`,
    details: { size_bytes: sizeBytes, limit_bytes: limitBytes },
  });
}

export function checkedSha256(sha256: string): string {
  if (/^[0-9a-f]{64}$/.test(sha256)) return sha256;
  throw new GatewayError("invalid_request", {
    message: "A SHA-256 is 64 hexadecimal digits, in small letters.",
  });
}

/** Seconds that an address holds. */
export function checkedExpiry(seconds: number): number {
  if (Number.isInteger(seconds) && seconds >= 1 && seconds <= WEEK_SECONDS) return seconds;
  throw new GatewayError("invalid_request", {
    message: `An address may hold for 1 to ${WEEK_SECONDS} seconds (a week).`,
  });
}

export function checkedLimit(limit: number): number {
  if (Number.isInteger(limit) && limit >= 1 && limit <= MAX_LIST) return limit;
  throw new GatewayError("invalid_request", { message: `A page has 1 to ${MAX_LIST} entries.` });
}
