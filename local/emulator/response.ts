/**
 * Puts an answer on the wire: as one response, or as the chunks of a stream.
 */

import { type Answer, partTokens, usage } from "./answer.ts";
import type { PromptTokens } from "./tokens.ts";
import type { Candidate, GenerateResponse, Part } from "./wire.ts";

export interface ResponseNames {
  modelVersion: string;
  responseId: string;
}

export function response(answer: Answer, names: ResponseNames): GenerateResponse {
  const content: Candidate["content"] = answer.parts.length > 0
    ? { parts: answer.parts, role: "model" }
    : { role: "model" };
  return {
    candidates: [{ content, finishReason: answer.finishReason, index: 0, ...groundingIn(answer) }],
    usageMetadata: answer.usage,
    ...names,
  };
}

function groundingIn({ groundingMetadata }: Answer): Pick<Candidate, "groundingMetadata"> {
  return groundingMetadata === undefined ? {} : { groundingMetadata };
}

/** Letters in one chunk of a short text; a long one comes in at most `MAX_CHUNKS`. */
const CHUNK_LETTERS = 32;
const MAX_CHUNKS = 200;

/** Cuts at spaces, so that the pieces joined are the text again. */
function pieces(text: string): string[] {
  const size = Math.max(CHUNK_LETTERS, Math.ceil(text.length / MAX_CHUNKS));
  const found: string[] = [];
  for (let at = 0; at < text.length;) {
    const space = text.indexOf(" ", at + size);
    const end = space < 0 ? text.length : space;
    found.push(text.slice(at, end));
    at = end;
  }
  return found;
}

/**
 * The chunks of a stream. Each carries the counts so far, the last the reason it ended; a signed text is closed by an
 * empty part that holds its signature, as Gemini 3 does.
 */
export function chunks(answer: Answer, prompt: PromptTokens, names: ResponseNames): GenerateResponse[] {
  const parts: Part[] = answer.parts.flatMap((part): Part[] => {
    if (part.text === undefined) return [part];
    const { text, thoughtSignature, ...rest } = part;
    const cut: Part[] = pieces(text).map((piece) => ({ text: piece, ...rest }));
    return thoughtSignature === undefined ? cut : [...cut, { text: "", thoughtSignature }];
  });
  const total = answer.usage;
  if (parts.length === 0) return [response(answer, names)];
  let said = 0;
  return parts.map((part, i) => {
    const last = i === parts.length - 1;
    if (!part.thought) said += partTokens(part);
    return {
      candidates: [{
        content: { parts: [part], role: "model" },
        ...(last ? { finishReason: answer.finishReason, ...groundingIn(answer) } : {}),
        index: 0,
      }],
      usageMetadata: last
        ? total
        : usage(prompt, Math.min(said, total.candidatesTokenCount ?? 0), total.thoughtsTokenCount ?? 0),
      ...names,
    };
  });
}
