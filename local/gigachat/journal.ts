/**
 * What GigaChat's emulator saw, told independently of the gateway, and a check of it against the limits that Sber publishes. No key and
 * no token is in it.
 */

/** https://developers.sber.ru/docs/ru/gigachat/api/working-with-files, and .../tariffs for calls at a time. */
export const PUBLISHED = {
  imageBytes: 15_000_000,
  requestBytes: 20_000_000,
  imagesInMessage: 1,
  imagesInRequest: 10,
  imageTypes: ["image/jpeg", "image/png", "image/tiff", "image/bmp"],
  tokenLifeMs: 30 * 60_000,
} as const;

export interface JournalEntry {
  what: "token" | "models" | "upload" | "list" | "delete" | "chat" | "other";
  /** Milliseconds since 1970, by the emulator's clock. */
  at: number;
  status: number;
  /** Calls with a token that were under way as this one began, itself included. */
  atOnce: number;
  /** The life that its token had left; null: it has none, or a bad one. */
  tokenLeftMs: number | null;
  rqUid?: string;
  /** Of an upload: what was sent, by its bytes. */
  file?: { name: string; mimeType: string; bytes: number };
  /** Of a chat: the pictures of each message. */
  images?: { inMessages: number[]; bytes: number };
}

/** Everything that a client did against the published limits; nothing: []. */
export function breachesOf(journal: readonly JournalEntry[], callsAtOnce = Infinity): string[] {
  const breaches: string[] = [];
  const ids = new Set<string>();
  for (const [place, entry] of journal.entries()) {
    const at = `${place} ${entry.what}`;
    if (entry.what === "token") {
      if (ids.has(entry.rqUid ?? "")) breaches.push(`${at}: its RqUID came before`);
      ids.add(entry.rqUid ?? "");
    }
    if (entry.atOnce > callsAtOnce) breaches.push(`${at}: ${entry.atOnce} calls at once`);
    if (entry.file !== undefined) {
      const { mimeType, bytes } = entry.file;
      if (bytes > PUBLISHED.imageBytes) breaches.push(`${at}: ${bytes} bytes`);
      if (!(PUBLISHED.imageTypes as readonly string[]).includes(mimeType)) {
        breaches.push(`${at}: ${mimeType}`);
      }
    }
    if (entry.images !== undefined) {
      const { inMessages, bytes } = entry.images;
      const all = inMessages.reduce((sum, one) => sum + one, 0);
      if (Math.max(0, ...inMessages) > PUBLISHED.imagesInMessage) {
        breaches.push(`${at}: several pictures in a message`);
      }
      if (all > PUBLISHED.imagesInRequest) breaches.push(`${at}: ${all} pictures`);
      if (bytes >= PUBLISHED.requestBytes) breaches.push(`${at}: ${bytes} bytes of pictures`);
    }
  }
  // A token is kept for its half hour: more of them would be fetched for nothing.
  const tokens = journal.filter(({ what, status }) => what === "token" && status === 200).map(({ at }) => at);
  const refused = journal.filter(({ status, what }) => status === 401 && what !== "token").length;
  const first = tokens[0] ?? 0;
  const needed = 1 + Math.floor(((tokens.at(-1) ?? 0) - first) / (PUBLISHED.tokenLifeMs / 2)) + refused;
  if (tokens.length > needed) breaches.push(`${tokens.length} tokens, where ${needed} were needed`);
  return breaches;
}
