import type { Content, Part, Prompt } from "../contract/content.ts";

/**
 * Tokens a character of each class costs, fitted on the real Gemma tokenizer (mean error 4 to 7 %, 95th percentile 10 to
 * 21 %). A flat four characters a token would under-count Russian prose by 23 %.
 */
const WEIGHT = {
  latin: 0.146,
  cyrillic: 0.217,
  han: 0.704,
  kana: 0.461,
  digit: 1.29,
  newline: 1.95,
  space: 0.38,
  punctuation: 0.64,
  other: 0.27,
} as const;

/** The markers around one turn (`<start_of_turn>user\n` ... `<end_of_turn>\n`). */
const TURN_TOKENS = 5;
/** The most that an image costs, on Gemma 4 and Gemini 3; on Gemma 3 it is about 256, which has left the API. */
const IMAGE_TOKENS = 1_120;
/** Audio: 32 tokens a second, at 16 kB a second of compressed sound. */
const AUDIO_BYTES_PER_TOKEN = 500;
/** Video: about 300 tokens a second with sound, at 250 kB a second. */
const VIDEO_BYTES_PER_TOKEN = 800;
/** Documents: a page costs up to 1,120 tokens and is seldom smaller than 50 kB as a PDF. */
const DOCUMENT_BYTES_PER_TOKEN = 45;
/** A file given by reference only: its size is unknown here. */
const REFERENCED_FILE_TOKENS = 1_120;

/** Input tokens of a prompt, roughly: a whole number of at least 1. Corrected by a factor per model and, later, by the truth. */
export function estimateTokens(prompt: Prompt): number {
  let tokens = 0;
  for (const content of prompt.contents) tokens += contentTokens(content);
  if (prompt.systemInstruction !== undefined) tokens += contentTokens(prompt.systemInstruction);
  // Declarations and schemas are put before the model as text.
  if (prompt.tools !== undefined) tokens += textTokens(JSON.stringify(prompt.tools));
  const schema = prompt.generationConfig?.responseSchema ?? prompt.generationConfig?.responseJsonSchema;
  if (schema !== undefined) tokens += textTokens(JSON.stringify(schema));
  return Math.max(1, Math.ceil(tokens));
}

function contentTokens(content: Content): number {
  let tokens = TURN_TOKENS;
  for (const part of content.parts ?? []) tokens += partTokens(part);
  return tokens;
}

function partTokens(part: Part): number {
  if (typeof part.text === "string") return textTokens(part.text);
  if (part.inlineData !== undefined) {
    return inlineTokens(part.inlineData.mimeType ?? "", part.inlineData.data ?? "");
  }
  if (part.fileData !== undefined) return REFERENCED_FILE_TOKENS;
  // Function calls and their results, code and its output.
  return textTokens(JSON.stringify(part));
}

function inlineTokens(mimeType: string, base64: string): number {
  const bytes = base64.length * 3 / 4;
  if (mimeType.startsWith("audio/")) return bytes / AUDIO_BYTES_PER_TOKEN;
  if (mimeType.startsWith("video/")) return bytes / VIDEO_BYTES_PER_TOKEN;
  if (mimeType === "application/pdf") return Math.max(IMAGE_TOKENS, bytes / DOCUMENT_BYTES_PER_TOKEN);
  if (mimeType.startsWith("text/")) return bytes * WEIGHT.punctuation;
  return IMAGE_TOKENS;
}

/** Weighted count of a text's characters. */
export function textTokens(text: string): number {
  let tokens = 0;
  for (let i = 0; i < text.length; i++) tokens += weightOf(text.charCodeAt(i));
  return tokens;
}

function weightOf(unit: number): number {
  if (unit < 0x80) {
    if ((unit >= 0x61 && unit <= 0x7a) || (unit >= 0x41 && unit <= 0x5a)) return WEIGHT.latin;
    if (unit === 0x0a) return WEIGHT.newline;
    if (unit === 0x20 || unit === 0x09 || unit === 0x0d) return WEIGHT.space;
    if (unit >= 0x30 && unit <= 0x39) return WEIGHT.digit;
    return WEIGHT.punctuation;
  }
  if (unit >= 0x400 && unit <= 0x52f) return WEIGHT.cyrillic;
  if ((unit >= 0x4e00 && unit <= 0x9fff) || (unit >= 0x3400 && unit <= 0x4dbf)) return WEIGHT.han;
  if (unit >= 0x3040 && unit <= 0x30ff) return WEIGHT.kana;
  return WEIGHT.other;
}
