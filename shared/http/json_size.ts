const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const BRACKET = 0x5b;
const BRACE = 0x7b;
const CLOSING_BRACKET = 0x5d;
const CLOSING_BRACE = 0x7d;

export interface JsonSize {
  /** An upper bound on values and names, at most twice what there are: arrays, objects, commas and colons, and one. */
  values: number;
  /** How deep arrays and objects nest. */
  depth: number;
}

/**
 * What a JSON text would come to, before any of it is made. What is no JSON is measured up to where a parser would stop,
 * or further.
 *
 * One pass over the bytes that keeps nothing, and ends as soon as there is more than `most` of either. Texts, which are most of
 * a large body, are skipped without a look at what is in them.
 */
export function jsonSize(bytes: Uint8Array, most: JsonSize): JsonSize {
  const size = { values: 1, depth: 0 };
  let depth = 0;
  for (let at = 0; at < bytes.length; at++) {
    switch (bytes[at]) {
      case QUOTE:
        at = endOfText(bytes, at + 1);
        break;
      case BRACKET:
      case BRACE:
        if (++depth > size.depth) size.depth = depth;
        if (++size.values > most.values || depth > most.depth) return size;
        break;
      case CLOSING_BRACKET:
      case CLOSING_BRACE:
        depth--;
        break;
      case COMMA:
      case COLON:
        if (++size.values > most.values) return size;
    }
  }
  return size;
}

/** Where the text that begins at `start` is closed: at a quote with an even number of backslashes before it. */
function endOfText(bytes: Uint8Array, start: number): number {
  for (let from = start;;) {
    const quote = bytes.indexOf(QUOTE, from);
    if (quote < 0) return bytes.length;
    let first = quote;
    while (first > from && bytes[first - 1] === BACKSLASH) first--;
    if ((quote - first) % 2 === 0) return quote;
    from = quote + 1;
  }
}
