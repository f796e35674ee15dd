import { isObject } from "../contract/is_object.ts";
import type { BatchError } from "../database/jobs/batches.ts";

/** As many lines as a batch may have. */
export const MAX_LINES = 50_000;
/** More are not kept: who has made a hundred mistakes has made one, a hundred times. */
export const MAX_ERRORS = 100;
/** Of a line's name. */
export const MAX_NAME_LENGTH = 512;

export interface CheckedLine {
  /** How its answer is found; null: by its place. */
  customId: string | null;
  model: string;
  /** Where the gateway answers it. */
  path: string;
  body: Record<string, unknown>;
  /** Told with its answer. */
  metadata?: Record<string, unknown>;
  /** In the file, from 1 on. */
  line: number;
}

/** What is wrong with a line. */
export type LineError = Pick<BatchError, "code" | "param" | "message">;

/** What is an API's own about a line of its batches. Called with one line after the other. */
export type LineCheck = (
  said: Record<string, unknown>,
  line: number,
) => Omit<CheckedLine, "line"> | LineError;

/**
 * The lines of a batch's file as they come, and what is wrong with it. What a call itself would be refused for is not looked at: its line says
 * so in the error file. Empty lines are passed over. It ends after `MAX_ERRORS` errors, and after one that is about the whole file (`line`
 * null, or `too_many_lines`). Of the file no more than a line is held, and of lines that have passed their names.
 * @param check what is its API's own
 * @param after lines that are passed over, those that have been checked before
 * @throws what the file throws as it is read
 */
export async function* checkedLines(
  file: AsyncIterable<Uint8Array>,
  check: LineCheck,
  after = 0,
): AsyncGenerator<CheckedLine | BatchError> {
  let number = 0;
  let lines = 0;
  let errors = 0;
  for await (const written of writtenLines(file)) {
    number++;
    if (written === NO_TEXT) {
      return yield wholeFile("invalid_encoding", "The file is no text in UTF-8.");
    }
    if (written === "") continue;
    if (lines < after) {
      lines++;
      continue;
    }
    const checked = written === TOO_LONG ? tooLong(number) : checkedLine(written, number, check);
    if (!("code" in checked) && ++lines > MAX_LINES) {
      const message = `A batch has at most ${MAX_LINES} lines. Hand the others in as a second one.`;
      return yield { code: "too_many_lines", message, param: null, line: number };
    }
    yield checked;
    if ("code" in checked && ++errors >= MAX_ERRORS) return;
  }
  if (lines === 0 && errors === 0) {
    yield wholeFile("empty_file", "The file holds no lines. Write one request a line, as JSON.");
  }
}

/** A line that is longer than any job's body may be. */
const TOO_LONG = Symbol("too long");
/** What is no UTF-8; nothing follows it. */
const NO_TEXT = Symbol("no text");
const MAX_LINE_CHARACTERS = 10 * 1024 * 1024;

/** Each without spaces around it. */
async function* writtenLines(
  file: AsyncIterable<Uint8Array>,
): AsyncGenerator<string | typeof TOO_LONG | typeof NO_TEXT> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  /** Joined once, at the line's end: it may come in thousands of pieces. */
  let pieces: string[] = [];
  let length = 0;
  const take = (text: string) => {
    length += text.length;
    if (length <= MAX_LINE_CHARACTERS) pieces.push(text);
    else pieces = [];
  };
  const end = () => {
    const line = length > MAX_LINE_CHARACTERS ? TOO_LONG : pieces.join("").trim();
    pieces = [];
    length = 0;
    return line;
  };
  const decoded = (bytes?: Uint8Array) => {
    try {
      return bytes === undefined ? decoder.decode() : decoder.decode(bytes, { stream: true });
    } catch {
      return null;
    }
  };
  for await (const bytes of file) {
    const text = decoded(bytes);
    if (text === null) return yield NO_TEXT;
    let from = 0;
    for (let found; (found = text.indexOf("\n", from)) >= 0; from = found + 1) {
      take(text.slice(from, found));
      yield end();
    }
    take(text.slice(from));
  }
  if (decoded() === null) return yield NO_TEXT;
  yield end();
}

function wholeFile(code: string, message: string): BatchError {
  return { code, message, param: null, line: null };
}

function tooLong(line: number): BatchError {
  return {
    code: "line_too_long",
    message: `A line has at most ${MAX_LINE_CHARACTERS} characters.`,
    param: null,
    line,
  };
}

function checkedLine(written: string, line: number, check: LineCheck): CheckedLine | BatchError {
  let said: unknown;
  try {
    said = JSON.parse(written);
  } catch {
    said = null;
  }
  if (!isObject(said)) {
    return { ...wrongLine("invalid_json_line", null, "The line is no JSON object."), line };
  }
  const checked = check(said, line);
  // PostgreSQL's jsonb takes neither. Where the text has no such escape there is nothing to look for.
  if (!("code" in checked) && /\\u(?:0000|d[89a-f])/i.test(written) && !isStorable(said)) {
    const message = "The line holds the character U+0000, or half of a character.";
    return { ...wrongLine("invalid_text", null, message), line };
  }
  return { ...checked, line };
}

export function wrongLine(code: string, param: string | null, message: string): LineError {
  return { code, param, message };
}

function isStorable(value: unknown): boolean {
  if (typeof value === "string") return value.isWellFormed() && !value.includes("\0");
  if (typeof value !== "object" || value === null) return true;
  return Object.entries(value).every(([name, inner]) => isStorable(name) && isStorable(inner));
}
