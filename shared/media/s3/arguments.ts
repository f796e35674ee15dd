import { hexToBytes } from "@noble/hashes/utils.js";
import type { ByteRange } from "../object_store.ts";
import { checkedRange, checkedSha256 } from "../store_arguments.ts";
import type { HashHeader } from "./probe.ts";
import { toBase64 } from "../../runtime/base64.ts";

/** A range as HTTP writes it. */
export function rangeHeader(range: ByteRange): string {
  const { from, to } = checkedRange(range);
  return `bytes=${from}-${to ?? ""}`;
}

/** The SHA-256 as the header that the store holds to; it writes one in hexadecimal and the other in base64. */
export function hashHeaders(header: HashHeader, sha256: string): Record<string, string> {
  const hex = checkedSha256(sha256);
  if (header === null) return {};
  return {
    [header]: header === "x-amz-content-sha256" ? hex : toBase64(hexToBytes(hex)),
  };
}
