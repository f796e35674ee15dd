import type { Answer, Candidate, Part } from "../../contract/content.ts";

/**
 * The most of a streamed answer that is accumulated, in characters of JSON: as much as is stored for repeated
 * requests and captures. A stream may be larger than memory.
 */
export const MAX_ACCUMULATED_CHARS = 262_144;

/** Accumulates the chunks of a stream to the answer that `generateContent` would have given. */
export class StreamAccumulator {
  #candidates = new Map<number, Candidate>();
  #rest: Answer = {};
  #chars = 0;
  readonly #most: number;

  /** @param most characters of JSON */
  constructor(most = MAX_ACCUMULATED_CHARS) {
    this.#most = most;
  }

  /** False: it was too much, and the parts are gone. */
  get whole(): boolean {
    return this.#chars <= this.#most;
  }

  add(chunk: Answer): void {
    const { candidates = [], ...rest } = chunk;
    Object.assign(this.#rest, rest);
    for (const [place, candidate] of candidates.entries()) {
      const index = typeof candidate.index === "number" ? candidate.index : place;
      const { content, ...facts } = candidate;
      const known = this.#candidates.get(index) ?? { content: { role: "model", parts: [] } };
      Object.assign(known, facts);
      this.#candidates.set(index, known);
      const parts = known.content?.parts ?? [];
      for (const part of content?.parts ?? []) this.#append(parts, part);
    }
    if (!this.whole) {
      for (const candidate of this.#candidates.values()) candidate.content = { role: "model", parts: [] };
    }
  }

  answer(): Answer {
    return this.#candidates.size === 0
      ? this.#rest
      : { candidates: [...this.#candidates.values()], ...this.#rest };
  }

  #append(parts: Part[], part: Part): void {
    if (!this.whole) return;
    const last = parts.at(-1);
    if (last !== undefined && isPlain(last) && isPlain(part) && last.thought === part.thought) {
      last.text = `${last.text}${part.text}`;
      this.#chars += part.text?.length ?? 0;
    } else {
      parts.push({ ...part });
      this.#chars += isPlain(part) ? part.text?.length ?? 0 : JSON.stringify(part).length;
    }
  }
}

/** Text or thought and nothing else: a signature belongs to the part that it came with. */
function isPlain(part: Part): boolean {
  return typeof part.text === "string" &&
    Object.keys(part).every((key) => key === "text" || key === "thought");
}
