/** What is stored and shown of a key, which itself is never shown. */
export interface KeyFacts {
  /** The first 32 hexadecimal digits of its SHA-256: tells keys apart, and says nothing about a key that was made at random. */
  fingerprint: string;
  /** Of a key of eight characters or fewer, none: there is nothing to spare. */
  lastFour: string;
}

export async function factsOfKey(key: string): Promise<KeyFacts> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key)));
  const hex = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return { fingerprint: hex.slice(0, 32), lastFour: key.length > 8 ? key.slice(-4) : "" };
}
