/**
 * Embedding vectors: each word and each three letters in a row add to a few dimensions, so texts that share words are
 * close to each other. Unit length, and always the same for the same text.
 */

export const DEFAULT_DIMENSIONS = 3_072;

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    value = Math.imul(value ^ text.charCodeAt(i), 0x01000193) >>> 0;
  }
  return value;
}

/** @param dimensions 1 to 3,072. */
export function embed(text: string, dimensions: number): number[] {
  const vector = new Float64Array(dimensions);
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const features = words.flatMap((word) => {
    const padded = ` ${word} `;
    const grams = Array.from({ length: padded.length - 2 }, (_, i) => padded.slice(i, i + 3));
    return [`word:${word}`, ...grams];
  });
  for (const feature of features.length > 0 ? features : [`empty:${text}`]) {
    const bits = hash(feature);
    const index = bits % dimensions;
    vector[index] = vector[index]! + ((bits >>> 16) & 1 ? 1 : -1) * (feature.startsWith("word:") ? 2 : 1);
  }
  const length = Math.hypot(...vector) || 1;
  return Array.from(vector, (value) => Math.fround(value / length));
}
