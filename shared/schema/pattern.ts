import { RE2JS } from "re2js";

/** Longer than what any client's library writes for a format of its own (IPv6 in zod: under 1,000). */
const MAX_PATTERN_CHARS = 2_000;

/** How much a pattern may unfold to, in instructions: time to match is this times the text. */
export const MAX_PATTERN_SIZE = 1_000;

/** A pattern that cannot be used here; the message says why, after its name. */
export class PatternFault extends Error {}

export interface Pattern {
  /** Instructions; a text of n characters is matched in n times as many steps at most. */
  size: number;
  matches(text: string): boolean;
}

/**
 * A regular expression of JSON Schema, run by RE2, which takes time in proportion to the text whatever the expression:
 * JavaScript's own engine backtracks, and a caller's expression over a model's text can make that endless.
 * What RE2 cannot do (looking around, referring back) is refused. Its `\s` and `.` know ASCII's white space and line ends.
 * @throws PatternFault
 */
export function compilePattern(source: string): Pattern {
  if (source.length > MAX_PATTERN_CHARS) {
    throw new PatternFault(`is longer than ${MAX_PATTERN_CHARS} characters`);
  }
  const translated = RE2JS.translateRegExp(source);
  // Before it is compiled: unfolding it is what costs.
  if (unfoldedSize(translated) > MAX_PATTERN_SIZE) {
    throw new PatternFault("repeats too much: its counts, multiplied where they nest, are too large");
  }
  if (/\\k/.test(source)) throw new PatternFault("refers back to a group, which takes unbounded time");
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(translated);
  } catch {
    throw new PatternFault(
      "cannot be used: regular expressions run in linear time here, without looking around (?=, ?!, ?<) or referring back (\\1)",
    );
  }
  return { size: compiled.programSize(), matches: (text) => compiled.test(text) };
}

/** At least the number of things to match in a pattern once its counted repetitions are written out. */
export function unfoldedSize(source: string): number {
  const open: number[] = [];
  let before = 0;
  let last = 0;
  const next = (size: number) => {
    before += last;
    last = size;
  };
  for (let at = 0; at < source.length; at++) {
    switch (source[at]) {
      case "\\":
        at += /^[pPx]\{[^}]*\}/.exec(source.slice(at + 1, at + 66))?.[0].length ?? 1;
        next(1);
        break;
      case "[":
        at = classEnd(source, at);
        next(1);
        break;
      case "(":
        next(0);
        open.push(before);
        before = last = 0;
        break;
      case ")":
        last += before + 2;
        before = open.pop() ?? 0;
        break;
      case "{": {
        const counts = /^\{(\d+)(?:,(\d*))?\}/.exec(source.slice(at, at + 24));
        if (counts === null) next(1);
        else {
          last *= Math.max(1, Number(counts[1]), Number(counts[2] ?? 0)) + (counts[2] === "" ? 1 : 0);
          at += counts[0].length - 1;
        }
        break;
      }
      case "*":
      case "+":
      case "?":
      case "|":
        last += 1;
        break;
      default:
        next(1);
    }
  }
  return before + last + open.reduce((sum, size) => sum + size, 0);
}

/** Where the character class that begins at `start` ends. */
function classEnd(source: string, start: number): number {
  let at = start + 1;
  if (source[at] === "^") at++;
  // First in a class, it stands for itself.
  if (source[at] === "]") at++;
  while (at < source.length && source[at] !== "]") at += source[at] === "\\" ? 2 : 1;
  return at;
}
