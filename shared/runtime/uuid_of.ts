import { sha256Of } from "./sha256.ts";

/** A UUID (version 8) of a text: the same for the same text. */
export async function uuidOf(text: string): Promise<string> {
  const hex = await sha256Of(text);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${
    hex.slice(20, 32)
  }`;
}
