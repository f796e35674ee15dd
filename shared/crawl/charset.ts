/** A meta element stands at the beginning (HTML, 13.2.3.2). */
const MAX_META_BYTES = 8 * 1024;
const SNIFFED_BYTES = 64 * 1024;

/** A page's text: by a byte order mark, its header, its meta element, or by what its bytes look like. */
export function decodePage(bytes: Uint8Array, contentType: string): { text: string; charset: string } {
  const charset = markOf(bytes) ?? known(/charset\s*=\s*["']?([\w:-]+)/i.exec(contentType)?.[1]) ??
    metaOf(bytes) ?? sniffed(bytes);
  return { text: new TextDecoder(charset).decode(bytes), charset };
}

function markOf(bytes: Uint8Array): string | null {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) return "utf-8";
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "utf-16be";
  return bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : null;
}

function known(label: string | undefined): string | null {
  try {
    return label === undefined ? null : new TextDecoder(label).encoding;
  } catch {
    return null;
  }
}

function metaOf(bytes: Uint8Array): string | null {
  const beginning = new TextDecoder("windows-1252").decode(bytes.subarray(0, MAX_META_BYTES));
  const said = known(/<meta\s[^>]*?charset\s*=\s*["']?\s*([\w:-]+)/i.exec(beginning)?.[1]);
  // What could be read as ASCII is not UTF-16.
  return said?.startsWith("utf-16") ? "utf-8" : said;
}

/** UTF-8 if it is; of the others the one in which the letters above ASCII are those of Russian in small letters, or Latin. */
function sniffed(bytes: Uint8Array): string {
  const sample = bytes.subarray(0, SNIFFED_BYTES);
  try {
    // The sample may end within a character.
    new TextDecoder("utf-8", { fatal: true }).decode(sample, { stream: true });
    return "utf-8";
  } catch {
    // It is one of the older ones.
  }
  const high = sample.reduce((count, byte) => count + (byte >= 0x80 ? 1 : 0), 0);
  const share = (charset: string) =>
    (new TextDecoder(charset).decode(sample).match(/[а-яё]/g)?.length ?? 0) / high;
  const [best] = ["windows-1251", "koi8-r", "ibm866"].map((charset) => ({ charset, share: share(charset) }))
    .sort((a, b) => b.share - a.share);
  const runs = new TextDecoder("windows-1251").decode(sample).match(/[а-яё]{3,}/g)?.length ?? 0;
  return best!.share > 0.6 && (runs > 0 || best!.charset !== "windows-1251") ? best!.charset : "windows-1252";
}
