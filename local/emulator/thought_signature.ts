/**
 * Thought signatures: opaque bytes that a client must hand back unchanged with the part they came with.
 *
 * The emulator's carry a checksum, so one that a proxy has cut, re-encoded or moved to another call is noticed.
 */

import { opaqueId } from "./fingerprint.ts";

/** Values the documentation allows for history that came from elsewhere. */
const ACCEPTED_ANYWHERE = ["skip_thought_signature_validator", "context_engineering_is_the_way_to_go"];

const PREFIX = "emulator-thought:";
const CHECK_LENGTH = 24;

export function signatureFor(content: string): string {
  return btoa(PREFIX + opaqueId(content, CHECK_LENGTH));
}

/** What a function call is signed by: its name and arguments. */
export function callContent(call: { name: string; args?: unknown }): string {
  return JSON.stringify([call.name, sorted(call.args ?? {})]);
}

/** Clients may reorder the members of an object; that changes nothing. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1).map(([key, item]) => [key, sorted(item)]),
  );
}

export function signatureIsValid(signature: string, content: string): boolean {
  if (signature === signatureFor(content)) return true;
  if (ACCEPTED_ANYWHERE.includes(signature)) return true;
  try {
    const bytes = atob(signature.replaceAll("-", "+").replaceAll("_", "/"));
    return ACCEPTED_ANYWHERE.includes(bytes) || isGoogles(bytes);
  } catch {
    return false;
  }
}

/**
 * One of Google's own, which clients put where they have none (LangChain's do): a protobuf message with a single field of bytes.
 * Google takes them with other calls, too.
 */
function isGoogles(bytes: string): boolean {
  if (bytes.charCodeAt(0) !== 0x12) return false;
  const low = bytes.charCodeAt(1);
  const length = low < 0x80 ? low : (low & 0x7f) | bytes.charCodeAt(2) << 7;
  return bytes.length === length + (low < 0x80 ? 2 : 3);
}
