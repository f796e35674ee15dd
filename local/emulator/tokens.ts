/**
 * A small tokenizer, for the emulator's own counting.
 *
 * It cuts text the way subword tokenizers do (a word takes its leading space along, a digit stands alone) and gives
 * each piece a whole number of tokens. It is deterministic and plausible, not Google's: a client that wants exact
 * figures must take them from `usageMetadata`, as it must with the real API.
 */

/** Tokens of one inline image: the real API counts 258 for a small one, up to 1,120 for a large one. */
export const IMAGE_TOKENS = 258;

/** Tokens that the turn's own markers cost. */
const TURN_TOKENS = 1;

const PIECES =
  /\p{Script=Han}+|[\p{Script=Hiragana}\p{Script=Katakana}]+|[\p{L}\p{M}]+|\p{N}|[ \t]+|\r?\n|[!-/:-@[-`{-~]+|[^\p{L}\p{M}\p{N}\s!-~]+|./gsu;

const LETTER = /^[\p{L}\p{M}]/u;
const HAN = /^\p{Script=Han}/u;
const KANA = /^[\p{Script=Hiragana}\p{Script=Katakana}]/u;
const LATIN = /^[\p{Script=Latin}\p{M}]+$/u;
const DIGIT = /^\p{N}/u;
const PUNCTUATION = /^[!-/:-@[-`{-~]/;

/** Letters one token spans: frequent Latin words are one token, Cyrillic ones are cut sooner. */
const LATIN_FIRST_PIECE = 7;
const LATIN_NEXT_PIECE = 5;
const OTHER_ALPHABET_PIECE = 4.5;

function pieceTokens(piece: string, next: string | undefined): number {
  if (HAN.test(piece)) return Math.ceil(piece.length * 0.7);
  if (KANA.test(piece)) return Math.ceil(piece.length * 0.46);
  if (LETTER.test(piece)) {
    if (!LATIN.test(piece)) return Math.max(1, Math.ceil((piece.length - 1) / OTHER_ALPHABET_PIECE));
    return 1 + Math.ceil(Math.max(0, piece.length - LATIN_FIRST_PIECE) / LATIN_NEXT_PIECE);
  }
  if (piece === " ") return next !== undefined && DIGIT.test(next) ? 1 : 0;
  if (PUNCTUATION.test(piece)) return Math.ceil(piece.length * 0.64);
  if (/^[ \t\r\n\p{N}]/u.test(piece)) return 1;
  return Math.ceil(piece.length / 2);
}

/** Tokens of a text. Zero for an empty one. */
export function textTokens(text: string): number {
  const pieces = text.match(PIECES) ?? [];
  let sum = 0;
  for (let i = 0; i < pieces.length; i++) sum += pieceTokens(pieces[i]!, pieces[i + 1]);
  return sum;
}

/** The longest beginning of `text` that is at most `limit` tokens. */
export function firstTokens(text: string, limit: number): string {
  const pieces = text.match(PIECES) ?? [];
  let sum = 0;
  let end = 0;
  for (let i = 0; i < pieces.length; i++) {
    sum += pieceTokens(pieces[i]!, pieces[i + 1]);
    if (sum > limit) break;
    end += pieces[i]!.length;
  }
  return text.slice(0, end);
}

export interface PromptTokens {
  text: number;
  image: number;
  total: number;
  /** Of the total, what is in a cached content; absent: the request names none. */
  cached?: number;
}

interface CountedPart {
  text?: string;
  inlineData?: unknown;
  fileData?: unknown;
  [field: string]: unknown;
}

/** Input tokens of a whole request: its turns, the system instruction, the tools and the schema. */
export function promptTokens(request: {
  contents: { parts: CountedPart[] }[];
  systemInstruction?: { parts: CountedPart[] };
  tools?: unknown[];
  generationConfig?: { responseSchema?: unknown; responseJsonSchema?: unknown };
}): PromptTokens {
  let text = 0;
  let image = 0;
  const turns = request.systemInstruction
    ? [request.systemInstruction, ...request.contents]
    : request.contents;
  for (const turn of turns) {
    text += TURN_TOKENS;
    for (const part of turn.parts) {
      if (part.inlineData !== undefined || part.fileData !== undefined) image += IMAGE_TOKENS;
      else if (part.text !== undefined) text += textTokens(part.text);
      else text += textTokens(JSON.stringify(part));
    }
  }
  const schema = request.generationConfig?.responseSchema ?? request.generationConfig?.responseJsonSchema;
  if (schema !== undefined) text += textTokens(JSON.stringify(schema));
  if (request.tools?.length) text += textTokens(JSON.stringify(request.tools));
  return { text, image, total: text + image };
}
