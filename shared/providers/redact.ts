/** Google names a key's consumer as `api_key:AIza...` in some messages; whichever key it is, it goes no further. */
const NAMED_KEY = /api_key:[^\s'",}]+/g;

/** A piece of a key of so many characters is found; less tells keys apart, and opens nothing. */
const PIECE_CHARS = 12;
/** Of a key that is shorter than this, what looks like its base64 may be anything: it is found as it is written. */
const MIN_ENCODED_CHARS = 8;
/** What is longer is cut: nobody reads further, and no upstream decides how long we search. */
const MAX_SEARCHED_CHARS = 16_384;
/** Base64 of percent-encoding, or percent-encoding of base64; three levels would be on purpose, and then there are other ways. */
const TIMES_ENCODED = 2;

/**
 * `text` without the key, in case upstream repeated it: also in another case, percent-encoded wholly or in part, in base64 of
 * either alphabet wherever the key stands in what was encoded; and of all that any piece of 12 characters or more.
 * What comes after 16,384 characters is left out.
 */
export function redact(text: string, secret: string): string {
  const searched = text.length > MAX_SEARCHED_CHARS ? `${text.slice(0, MAX_SEARCHED_CHARS)}…` : text;
  const named = searched.replace(NAMED_KEY, "api_key:[redacted]");
  if (secret === "") return named;
  if (secret.length < MIN_ENCODED_CHARS) return named.replaceAll(secret, "[redacted]");
  const hidden = new Uint8Array(named.length);
  search(asItIs(named), piecesOf(secret), hidden, TIMES_ENCODED);
  return without(named, hidden);
}

/** A text that was read out of the one that is to be shown. */
interface Reading {
  text: string;
  /** Where the characters begin that each of its characters was read from. */
  from: Int32Array;
  /** And where they end. */
  to: Int32Array;
}

interface Pieces {
  length: number;
  /** In small letters. */
  all: ReadonlySet<string>;
  /** Finds what is long enough and has no character that the key has not. */
  alike: RegExp;
}

function piecesOf(secret: string): Pieces {
  const length = Math.min(PIECE_CHARS, secret.length);
  const low = lowered(secret);
  const all = new Set<string>();
  for (let at = 0; at + length <= low.length; at++) all.add(low.slice(at, at + length));
  const characters = [...new Set(low.split(""))].map((char) =>
    `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`
  );
  return { length, all, alike: new RegExp(`[${characters.join("")}]{${length},}`, "g") };
}

/** Marks every piece of the key in a reading, and in what can be read out of that. */
function search(reading: Reading, pieces: Pieces, hidden: Uint8Array, times: number): void {
  const { text, from, to } = reading;
  for (const { 0: run, index } of lowered(text).matchAll(pieces.alike)) {
    for (let at = 0; at + pieces.length <= run.length; at++) {
      if (!pieces.all.has(run.slice(at, at + pieces.length))) continue;
      hidden.fill(1, from[index + at], to[index + at + pieces.length - 1]);
    }
  }
  if (times === 0) return;
  if (text.includes("%")) search(percentDecoded(reading), pieces, hidden, times - 1);
  for (const decoded of base64Decoded(reading, pieces.length)) search(decoded, pieces, hidden, times - 1);
}

function asItIs(text: string): Reading {
  const from = Int32Array.from({ length: text.length }, (_, at) => at);
  return { text, from, to: from.map((at) => at + 1) };
}

/** With every `%2D` as the character that it stands for. */
function percentDecoded({ text, from, to }: Reading): Reading {
  const begins: number[] = [];
  const ends: number[] = [];
  const decoded = text.replace(/%[0-9A-Fa-f]{2}|[^]/g, (found: string, at: number) => {
    begins.push(from[at]!);
    ends.push(to[at + found.length - 1]!);
    return found.length === 1 ? found : String.fromCharCode(Number.parseInt(found.slice(1), 16));
  });
  return { text: decoded, from: Int32Array.from(begins), to: Int32Array.from(ends) };
}

/** Six bits for each character of base64, of either alphabet. */
const SIX_BITS = new Map(
  [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].map((char, bits) => [char, bits]),
).set("-", 62).set("_", 63);
/** Line breaks stand anywhere in it. */
const BASE64_RUN = /[\w+/-](?:[\r\n]*[\w+/-])*/g;

/**
 * What looks like base64, as the bytes that it stands for: four times, since nothing says with which character a group of four
 * begins. Runs that are too short to hold as many bytes are left out.
 */
function* base64Decoded({ text, from, to }: Reading, bytes: number): Generator<Reading> {
  for (const { 0: run, index } of text.matchAll(BASE64_RUN)) {
    if (run.length * 6 < bytes * 8) continue;
    const bits: number[] = [];
    const at: number[] = [];
    for (let offset = 0; offset < run.length; offset++) {
      const six = SIX_BITS.get(run[offset]!);
      if (six === undefined) continue;
      bits.push(six);
      at.push(index + offset);
    }
    for (let first = 0; first < 4; first++) {
      const length = Math.max(0, Math.floor((bits.length - first) * 6 / 8));
      const decoded = new Uint8Array(length);
      const [begins, ends] = [new Int32Array(length), new Int32Array(length)];
      for (let byte = 0; byte < length; byte++) {
        // A byte is in two characters: what is left of the first one's six bits, and as many of the second's as are needed.
        const bit = first * 6 + byte * 8;
        const left = Math.floor(bit / 6);
        decoded[byte] = (bits[left]! << 6 | bits[left + 1]!) >> (4 - bit % 6);
        begins[byte] = from[at[left]!]!;
        ends[byte] = to[at[left + 1]!]!;
      }
      yield { text: LATIN1.decode(decoded), from: begins, to: ends };
    }
  }
}

/** A character for each byte. */
const LATIN1 = new TextDecoder("latin1");

/** Only ASCII: other letters may change their length. */
function lowered(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

function without(text: string, hidden: Uint8Array): string {
  let shown = "";
  let at = 0;
  for (let from = hidden.indexOf(1); from >= 0; from = hidden.indexOf(1, at)) {
    const end = hidden.indexOf(0, from);
    shown += `${text.slice(at, from)}[redacted]`;
    at = end < 0 ? text.length : end;
  }
  return shown + text.slice(at);
}
