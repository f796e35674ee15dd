import type { Content, InlineData, Part, Prompt } from "../../contract/content.ts";
import { countFeatures } from "./token_features.ts";
import { WEIGHTS } from "./token_weights.ts";

/** The markers around one turn (`<start_of_turn>user\n` ... `<end_of_turn>\n`). */
const TURN_TOKENS = 5;
/**
 * What an image costs on Gemini 3, by its resolution, 1,120 being what it gets unasked; on Gemma 4 it is as many at most.
 * Older models take less: 258 a tile.
 */
const IMAGE_TOKENS: Readonly<Record<string, number>> = {
  MEDIA_RESOLUTION_LOW: 280,
  MEDIA_RESOLUTION_MEDIUM: 560,
  MEDIA_RESOLUTION_HIGH: 1_120,
  MEDIA_RESOLUTION_ULTRA_HIGH: 2_240,
};
/** By the numbers that older Python clients send instead of names. */
const RESOLUTIONS = [
  "MEDIA_RESOLUTION_UNSPECIFIED",
  "MEDIA_RESOLUTION_LOW",
  "MEDIA_RESOLUTION_MEDIUM",
  "MEDIA_RESOLUTION_HIGH",
];
const USUAL_IMAGE_TOKENS = 1_120;
/** Audio: 32 tokens a second, at 16 kB a second of compressed sound. */
const AUDIO_BYTES_PER_TOKEN = 500;
/** Video: about 300 tokens a second with sound, at 250 kB a second. */
const VIDEO_BYTES_PER_TOKEN = 800;
/** Documents: a page costs up to 1,120 tokens and is seldom smaller than 50 kB as a PDF. */
const DOCUMENT_BYTES_PER_TOKEN = 45;
/** A text as a file, unread: dense code or a table of figures costs half a token a byte. */
const TEXT_TOKENS_PER_BYTE = 0.5;
/** A file given by reference only: its size is unknown here. */
const REFERENCED_FILE_TOKENS = 1_120;

/** Signed thoughts come back encrypted, in Base64: about as many tokens as text of that length. */
const SIGNATURE_CHARS_PER_TOKEN = 4;

/**
 * Characters of a prompt's texts that are counted wholly: 60,000 tokens. Of longer prompts one block in so many is, chosen
 * at random: to count nine megabytes takes a quarter of a second, in which nobody else is served, and what is rare
 * enough to be missed in a sample of 64 blocks makes no difference of more than some percent.
 */
const COUNTED_CHARS = 256 * 1024;
const BLOCK_CHARS = 4 * 1024;

/**
 * Input tokens of a prompt, roughly: a whole number of at least 1. Corrected by a factor per model and, later, by the truth.
 * @param random from 0 up to 1: chooses what is counted of a very long prompt
 */
export function estimateTokens(prompt: Prompt, random: () => number = Math.random): number {
  const image = imageTokens(prompt.generationConfig?.mediaResolution) ??
    USUAL_IMAGE_TOKENS;
  const texts: string[] = [];
  let tokens = 0;
  for (const content of prompt.contents) {
    tokens += contentTokens(content, image, texts);
  }
  if (prompt.systemInstruction !== undefined) {
    tokens += contentTokens(prompt.systemInstruction, image, texts);
  }
  // Declarations and schemas are put before the model as text.
  if (prompt.tools !== undefined) texts.push(JSON.stringify(prompt.tools));
  const schema = prompt.generationConfig?.responseSchema ??
    prompt.generationConfig?.responseJsonSchema;
  if (schema !== undefined) texts.push(JSON.stringify(schema));
  tokens += allTokens(texts, random);
  return Math.max(1, Math.ceil(tokens));
}

/** Tokens of several texts, counted or, beyond `COUNTED_CHARS`, judged by a sample. */
function allTokens(texts: string[], random: () => number): number {
  const chars = texts.reduce((sum, text) => sum + text.length, 0);
  if (chars <= COUNTED_CHARS) return texts.reduce((sum, text) => sum + textTokens(text), 0);
  // One block of each group, so that the sample lies evenly over the prompt and nobody knows where.
  const group = Math.ceil(chars / COUNTED_CHARS);
  let place = 0;
  let chosen = 0;
  let counted = 0;
  let tokens = 0;
  for (const text of texts) {
    for (let from = 0; from < text.length; from += BLOCK_CHARS) {
      if (place % group === 0) chosen = Math.floor(random() * group);
      if (place++ % group !== chosen) continue;
      const block = text.slice(from, from + BLOCK_CHARS);
      counted += block.length;
      tokens += textTokens(block);
    }
  }
  return counted === 0 ? chars : tokens * chars / counted;
}

/** What a turn takes beside its texts, which are added to `texts`. */
function contentTokens(content: Content, image: number, texts: string[]): number {
  let tokens = TURN_TOKENS;
  for (const part of content.parts ?? []) tokens += partTokens(part, image, texts);
  return tokens;
}

/** @param image what one costs here, unless the part says otherwise */
function partTokens(part: Part, image: number, texts: string[]): number {
  const { thoughtSignature, mediaResolution, ...rest } = part;
  const signature = (thoughtSignature?.length ?? 0) / SIGNATURE_CHARS_PER_TOKEN;
  if (typeof part.text === "string") {
    texts.push(part.text);
    return signature;
  }
  if (part.inlineData !== undefined) {
    return signature +
      inlineTokens(part.inlineData, imageTokens(mediaResolution) ?? image);
  }
  if (part.fileData !== undefined) return signature + REFERENCED_FILE_TOKENS;
  // Function calls and their results, code and its output; a result may have pictures in it.
  let media = 0;
  texts.push(JSON.stringify(rest, (field, value) => {
    if (field !== "inlineData" || !isInlineData(value)) return value;
    media += inlineTokens(value, image);
    return undefined;
  }));
  return signature + media;
}

function inlineTokens(
  { mimeType = "", data = "" }: InlineData,
  image: number,
): number {
  const bytes = data.length * 3 / 4;
  if (mimeType.startsWith("audio/")) return bytes / AUDIO_BYTES_PER_TOKEN;
  if (mimeType.startsWith("video/")) return bytes / VIDEO_BYTES_PER_TOKEN;
  if (mimeType === "application/pdf") {
    return Math.max(image, bytes / DOCUMENT_BYTES_PER_TOKEN);
  }
  if (mimeType.startsWith("text/")) return bytes * TEXT_TOKENS_PER_BYTE;
  return image;
}

function isInlineData(value: unknown): value is InlineData {
  return typeof value === "object" && value !== null && "data" in value &&
    typeof value.data === "string" &&
    (!("mimeType" in value) || typeof value.mimeType === "string");
}

/** A resolution stands as its name, or as `{ level: name }` in a part. Null: none is named that is known here. */
function imageTokens(resolution: unknown): number | null {
  const name = typeof resolution === "object" && resolution !== null &&
      "level" in resolution
    ? resolution.level
    : resolution;
  const known = typeof name === "number" ? RESOLUTIONS[name] : name;
  return typeof known === "string" ? IMAGE_TOKENS[known] ?? null : null;
}

/** Tokens of a text, by the features that it is made of. */
export function textTokens(text: string): number {
  const counts = countFeatures(text);
  let tokens = 0;
  for (let place = 0; place < counts.length; place++) {
    tokens += counts[place]! * WEIGHTS[place]!;
  }
  return tokens;
}
