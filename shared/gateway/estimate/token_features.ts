/**
 * What a text is made of, as far as its length in tokens goes: words by their length and case, digits, marks, white space,
 * letters of other scripts.
 *
 * Tokenizers cut words, and mostly know the short ones: what a word costs depends on its length and script far more than a
 * character's class does. Found in one pass, without a word being looked up.
 */

/** Longer words are counted as one of this length, and their rest as letters of no word. */
const MAX_WORD = 20;
const MAX_CAPITALS = 12;
/** Lengths in five steps, for what depends on them only roughly: 1, 2 to 3, 4 to 6, 7 to 9, 10 and more. */
const STEPS = 5;

/** Each feature and how many counts it has; where there are several, they are by length, from 1 on or in STEPS. */
const COUNTS = {
  /** Latin words in small letters; the parts of `camelCase` are words of their own. */
  word: MAX_WORD,
  /** The same with a capital first. */
  title: MAX_WORD,
  capitals: MAX_CAPITALS,
  /** Latin words that follow a mark or a digit: a leading space is part of a word's token, and there is none. */
  glued: STEPS,
  /** Letters that make no words: hexadecimal, Base64, identifiers. */
  coded: 1,
  /** Letters beyond ASCII, in addition to their word. */
  accent: 1,
  cyrillic: MAX_WORD,
  cyrillicTitle: STEPS,
  cyrillicGlued: STEPS,
  /** Letters of words all in capitals, in addition to their word. */
  cyrillicCapitals: 1,
  /** Letters that Russian does not have, in addition to their word. */
  cyrillicForeign: 1,
  digit: 1,
  /** A space before a digit has a token of its own. */
  digitAfterSpace: 1,
  lineBreaks: 1,
  carriageReturn: 1,
  /** Two spaces or more; of these, of tabs and of line breaks up to 31 are one token. */
  spaces: 1,
  tabs: 1,
  /** ASCII punctuation, by how many stand together. */
  mark: 1,
  marks2: 1,
  marks3: 1,
  marks4: 1,
  /** Each beyond the fourth. */
  marksMore: 1,
  /** One mark four times or more, such as a line of dashes, by sixteens. */
  ruler: 1,
  /** Quotation marks, dashes, arrows, symbols beyond ASCII. */
  symbol: 1,
  /** Half of a character beyond the basic plane: of an emoji, mostly. */
  surrogate: 1,
  /** Accents that are characters of their own. */
  combining: 1,
  // Letters of other scripts, one by one.
  han: 1,
  kana: 1,
  hangul: 1,
  greek: 1,
  armenian: 1,
  hebrew: 1,
  arabic: 1,
  devanagari: 1,
  bengali: 1,
  gurmukhi: 1,
  gujarati: 1,
  tamil: 1,
  telugu: 1,
  kannada: 1,
  malayalam: 1,
  sinhala: 1,
  thai: 1,
  lao: 1,
  tibetan: 1,
  burmese: 1,
  georgian: 1,
  ethiopic: 1,
  khmer: 1,
  other: 1,
} as const;

export type TokenFeature = keyof typeof COUNTS;

/** Where each feature's counts begin. */
const AT = {} as Record<TokenFeature, number>;
let size = 0;
for (const feature of Object.keys(COUNTS) as TokenFeature[]) {
  AT[feature] = size;
  size += COUNTS[feature];
}

/** How many counts a text comes to. */
export const FEATURE_COUNTS = size;

/** A value for each count, as one flat row. @throws RangeError if a feature has too many or too few */
export function flatten(
  values: Readonly<Record<TokenFeature, readonly number[]>>,
): Float64Array {
  const flat = new Float64Array(FEATURE_COUNTS);
  for (const feature of Object.keys(COUNTS) as TokenFeature[]) {
    if (values[feature].length !== COUNTS[feature]) {
      throw new RangeError(`${feature} has ${COUNTS[feature]} counts`);
    }
    flat.set(values[feature], AT[feature]);
  }
  return flat;
}

/** The reverse of `flatten`. */
export function unflatten(flat: ArrayLike<number>): Record<TokenFeature, number[]> {
  const features = Object.keys(COUNTS) as TokenFeature[];
  return Object.fromEntries(
    features.map((
      feature,
    ) => [
      feature,
      Array.from({ length: COUNTS[feature] }, (_, i) => flat[AT[feature] + i] ?? 0),
    ]),
  ) as Record<TokenFeature, number[]>;
}

// Classes of characters. Below LETTER_END are those of which alphanumeric runs are made.
const LOWER = 0;
const UPPER = 1;
const ACCENTED = 2;
const DIGIT = 3;
const ALNUM_END = 4;
const SPACE = 4;
const LINE = 5;
const TAB = 6;
const RETURN = 7;
const MARK = 8;
const CYRILLIC = 9;
/** Classes from here on are single characters: the count's place, moved up. */
const SINGLE = 10;

/** Blocks of Unicode beyond ASCII, from their first character on; all begin at a multiple of 16. */
const BLOCKS: readonly (readonly [number, number])[] = [
  [0x80, SINGLE + AT.symbol],
  [0xc0, ACCENTED],
  [0x250, SINGLE + AT.other],
  [0x300, SINGLE + AT.combining],
  [0x370, SINGLE + AT.greek],
  [0x400, CYRILLIC],
  [0x530, SINGLE + AT.armenian],
  [0x590, SINGLE + AT.hebrew],
  [0x600, SINGLE + AT.arabic],
  [0x900, SINGLE + AT.devanagari],
  [0x980, SINGLE + AT.bengali],
  [0xa00, SINGLE + AT.gurmukhi],
  [0xa80, SINGLE + AT.gujarati],
  [0xb80, SINGLE + AT.tamil],
  [0xc00, SINGLE + AT.telugu],
  [0xc80, SINGLE + AT.kannada],
  [0xd00, SINGLE + AT.malayalam],
  [0xd80, SINGLE + AT.sinhala],
  [0xe00, SINGLE + AT.thai],
  [0xe80, SINGLE + AT.lao],
  [0xf00, SINGLE + AT.tibetan],
  [0x1000, SINGLE + AT.burmese],
  [0x10a0, SINGLE + AT.georgian],
  [0x1100, SINGLE + AT.hangul],
  [0x1200, SINGLE + AT.ethiopic],
  [0x13a0, SINGLE + AT.other],
  [0x1780, SINGLE + AT.khmer],
  [0x1800, SINGLE + AT.other],
  [0x1e00, ACCENTED],
  [0x1f00, SINGLE + AT.greek],
  [0x2000, SINGLE + AT.symbol],
  [0x2c00, SINGLE + AT.other],
  [0x3000, SINGLE + AT.symbol],
  [0x3040, SINGLE + AT.kana],
  [0x3100, SINGLE + AT.other],
  [0x3400, SINGLE + AT.han],
  [0xa000, SINGLE + AT.other],
  [0xac00, SINGLE + AT.hangul],
  [0xd7b0, SINGLE + AT.other],
  [0xd800, SINGLE + AT.surrogate],
  [0xe000, SINGLE + AT.other],
  [0xf900, SINGLE + AT.han],
  [0xfb00, SINGLE + AT.other],
  [0xfb50, SINGLE + AT.arabic],
  [0xfe00, SINGLE + AT.symbol],
];

const ASCII = new Uint8Array(0x80).fill(MARK);
ASCII.fill(LOWER, 0x61, 0x7b).fill(UPPER, 0x41, 0x5b).fill(DIGIT, 0x30, 0x3a);
ASCII[0x20] = SPACE;
ASCII[0x0a] = LINE;
ASCII[0x09] = TAB;
ASCII[0x0d] = RETURN;

const BEYOND = new Uint8Array(0x1000);
for (const [place, [from, kind]] of BLOCKS.entries()) {
  BEYOND.fill(kind, from >> 4, (BLOCKS[place + 1]?.[0] ?? 0x10000) >> 4);
}

/** Of Cyrillic, the capitals that are in use, and the letters of Russian. */
const isCyrillicCapital = (unit: number) => unit < 0x430;
const isRussian = (unit: number) => (unit >= 0x410 && unit <= 0x44f) || unit === 0x451 || unit === 0x401;

/** A run of letters and digits in which the kind changes that often, on so few characters, spells no words. */
const CODED_LEAST_CHARS = 6;
const CODED_LEAST_CHANGES = 3;
const CODED_CHARS_PER_CHANGE = 5;
/** The same without a digit in it, where camel case is near. */
const CODED_LETTERS_LEAST_CHARS = 16;
const CODED_LETTERS_PER_CHANGE = 4;

/** One mark this many times in a row is a drawn line. */
const RULER_LEAST = 4;

/** How much of a row of the same character one token takes, at most. */
const BLANKS_A_TOKEN = 31;
const MARKS_A_TOKEN = 16;

/** How often each feature is in a text. */
export function countFeatures(text: string): Float64Array {
  return new FeatureCounter(text).counts;
}

class FeatureCounter {
  readonly counts = new Float64Array(FEATURE_COUNTS);
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
    let at = 0;
    let before = LINE;
    while (at < text.length) {
      const kind = this.#kindAt(at);
      const from = at;
      if (kind < ALNUM_END) at = this.#alphanumeric(from, before);
      else if (kind === SPACE) {
        at = this.#endOf(SPACE, from);
        if (at - from > 1) this.#add(AT.spaces, Math.ceil((at - from) / BLANKS_A_TOKEN));
      } else if (kind === MARK) at = this.#marks(from);
      else if (kind === CYRILLIC) at = this.#cyrillic(from, before);
      else if (kind >= SINGLE) {
        this.#add(kind - SINGLE);
        at++;
      } else {
        at = this.#endOf(kind, from);
        const feature = kind === LINE ? AT.lineBreaks : kind === TAB ? AT.tabs : AT.carriageReturn;
        this.#add(feature, Math.ceil((at - from) / BLANKS_A_TOKEN));
      }
      before = this.#kindAt(at - 1);
    }
  }

  #add(place: number, count = 1): void {
    this.counts[place]! += count;
  }

  /** LINE beyond the end. */
  #kindAt(at: number): number {
    const unit = this.#text.charCodeAt(at);
    return unit < 0x80 ? ASCII[unit]! : unit >= 0x80 ? BEYOND[unit >> 4]! : LINE;
  }

  #endOf(kind: number, from: number): number {
    let at = from + 1;
    while (at < this.#text.length && this.#kindAt(at) === kind) at++;
    return at;
  }

  #endOfLetters(from: number): number {
    let at = from;
    for (;; at++) {
      const kind = this.#kindAt(at);
      if (kind === ACCENTED) this.#add(AT.accent);
      else if (kind !== LOWER) return at;
    }
  }

  /** Letters and digits with nothing between them. */
  #alphanumeric(from: number, before: number): number {
    let at = from;
    let digits = 0;
    let changes = 0;
    let last = -1;
    for (;; at++) {
      let kind = this.#kindAt(at);
      if (kind >= ALNUM_END) break;
      if (kind === ACCENTED) kind = LOWER;
      if (kind === DIGIT) digits++;
      // A capital and then small letters is how words begin.
      if (last >= 0 && kind !== last && !(last === UPPER && kind === LOWER)) {
        changes++;
      }
      last = kind;
    }
    const length = at - from;
    this.#add(AT.digit, digits);
    if (before === SPACE && this.#kindAt(from) === DIGIT) {
      this.#add(AT.digitAfterSpace);
    }
    if (digits === length) return at;
    const coded = digits > 0
      ? length >= CODED_LEAST_CHARS && changes >= CODED_LEAST_CHANGES &&
        changes * CODED_CHARS_PER_CHANGE >= length
      : length >= CODED_LETTERS_LEAST_CHARS &&
        changes * CODED_LETTERS_PER_CHANGE >= length;
    if (coded) this.#add(AT.coded, length - digits);
    else this.#words(from, at, before);
    return at;
  }

  /** The words of an alphanumeric run, cut where a capital follows a small letter. */
  #words(from: number, end: number, before: number): void {
    let at = from;
    while (at < end) {
      const start = at;
      const kind = this.#kindAt(at);
      if (kind === DIGIT) {
        at++;
        continue;
      }
      const previous = start === from ? before : this.#kindAt(start - 1);
      if (kind !== UPPER) {
        at = this.#endOfLetters(at);
        this.#word(AT.word, MAX_WORD, at - start);
      } else {
        at = this.#endOf(UPPER, at);
        const small = at < end && this.#kindAt(at) !== DIGIT;
        if (at - start === 1 && small) {
          at = this.#endOfLetters(at);
          this.#word(AT.title, MAX_WORD, at - start);
        } else {
          // Of `HTMLElement`, the E belongs to what follows.
          if (small) at--;
          this.#word(AT.capitals, MAX_CAPITALS, at - start);
        }
      }
      if (previous !== SPACE && (previous >= ALNUM_END || previous === DIGIT)) {
        this.#add(AT.glued + step(at - start));
      }
    }
  }

  #word(feature: number, longest: number, length: number): void {
    this.#add(feature + Math.min(length, longest) - 1);
    if (length > longest) this.#add(AT.coded, length - longest);
  }

  #cyrillic(from: number, before: number): number {
    const text = this.#text;
    let at = from;
    let capitals = 0;
    let foreign = 0;
    for (; at < text.length; at++) {
      if (this.#kindAt(at) !== CYRILLIC) break;
      const unit = text.charCodeAt(at);
      if (isCyrillicCapital(unit)) capitals++;
      if (!isRussian(unit)) foreign++;
    }
    const length = at - from;
    this.#word(AT.cyrillic, MAX_WORD, length);
    if (foreign > 0) this.#add(AT.cyrillicForeign, foreign);
    if (capitals > 1 && capitals * 2 > length) {
      this.#add(AT.cyrillicCapitals, length);
    } else if (isCyrillicCapital(text.charCodeAt(from))) {
      this.#add(AT.cyrillicTitle + step(length));
    }
    if (before !== SPACE) this.#add(AT.cyrillicGlued + step(length));
    return at;
  }

  #marks(from: number): number {
    const end = this.#endOf(MARK, from);
    const first = this.#text.charCodeAt(from);
    let same = from + 1;
    while (same < end && this.#text.charCodeAt(same) === first) same++;
    if (same - from >= RULER_LEAST) {
      this.#add(AT.ruler, Math.ceil((same - from) / MARKS_A_TOKEN));
      return same;
    }
    const length = end - from;
    if (length === 1) this.#add(AT.mark);
    else if (length === 2) this.#add(AT.marks2);
    else if (length === 3) this.#add(AT.marks3);
    else {
      this.#add(AT.marks4);
      this.#add(AT.marksMore, length - 4);
    }
    return end;
  }
}

function step(length: number): number {
  return length <= 1 ? 0 : length <= 3 ? 1 : length <= 6 ? 2 : length <= 9 ? 3 : 4;
}
