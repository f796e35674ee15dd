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
 * The size of a JSON text's value, before it is parsed. What is no JSON is measured up to where a parser would stop,
 * or further.
 */
export function jsonSize(bytes: Uint8Array, most: JsonSize): JsonSize {
  const meter = new JsonMeter(most);
  meter.add(bytes);
  return meter.size;
}

/**
 * The same for a text that arrives in pieces, cut anywhere.
 *
 * One pass over the bytes that keeps nothing, and ends as soon as there is more than `most` of either. Texts, which are most of
 * a large body, are skipped without a look at what is in them.
 */
export class JsonMeter {
  readonly size: JsonSize = { values: 1, depth: 0 };
  readonly #most: JsonSize;
  #depth = 0;
  #inText = false;
  /** The last piece ended within a text, with an odd number of backslashes. */
  #escapes = false;

  constructor(most: JsonSize) {
    this.#most = most;
  }

  /** False: there is more than there may be. */
  add(bytes: Uint8Array): boolean {
    const { size } = this;
    const most = this.#most;
    let depth = this.#depth;
    let at = this.#inText ? this.#afterText(bytes, 0) : 0;
    for (; at < bytes.length; at++) {
      switch (bytes[at]) {
        case QUOTE:
          at = this.#afterText(bytes, at + 1) - 1;
          break;
        case BRACKET:
        case BRACE:
          if (++depth > size.depth) size.depth = depth;
          if (++size.values > most.values || depth > most.depth) return false;
          break;
        case CLOSING_BRACKET:
        case CLOSING_BRACE:
          depth--;
          break;
        case COMMA:
        case COLON:
          if (++size.values > most.values) return false;
      }
    }
    this.#depth = depth;
    return true;
  }

  /** Behind the quote that closes the text in which `start` stands: one with an even number of backslashes before it. */
  #afterText(bytes: Uint8Array, start: number): number {
    for (let from = start;;) {
      const quote = bytes.indexOf(QUOTE, from);
      const end = quote < 0 ? bytes.length : quote;
      let first = end;
      while (first > from && bytes[first - 1] === BACKSLASH) first--;
      const carried = first === 0 && this.#inText && this.#escapes ? 1 : 0;
      const escaped = (end - first + carried) % 2 === 1;
      if (quote >= 0 && !escaped) {
        this.#inText = false;
        this.#escapes = false;
        return quote + 1;
      }
      if (quote < 0) {
        this.#inText = true;
        this.#escapes = escaped;
        return bytes.length;
      }
      from = quote + 1;
    }
  }
}
