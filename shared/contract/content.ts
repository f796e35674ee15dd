/**
 * The one shape in which prompts and answers travel inside the gateway: the Gemini API's own
 * (`contents`, `parts`, `tools`, `generationConfig`, `usageMetadata`).
 *
 * Every type is open: fields that nobody here knows (thought signatures, new part kinds) pass through untouched, so the
 * Gemini endpoint and the Google provider lose nothing.
 */

export interface InlineData {
  mimeType?: string;
  /** Base64. */
  data?: string;
  [field: string]: unknown;
}

export interface Part {
  text?: string;
  /** True: the model's reasoning, which is not part of its answer. */
  thought?: boolean;
  thoughtSignature?: string;
  inlineData?: InlineData;
  [field: string]: unknown;
}

export interface Content {
  role?: string;
  parts?: Part[];
  [field: string]: unknown;
}

export type Tool = Record<string, unknown>;
export type GenerationConfig = Record<string, unknown>;

/** What is asked of a model: the body of `generateContent`. */
export interface Prompt {
  contents: Content[];
  systemInstruction?: Content;
  tools?: Tool[];
  toolConfig?: Record<string, unknown>;
  safetySettings?: Record<string, unknown>[];
  generationConfig?: GenerationConfig;
  [field: string]: unknown;
}

export interface Candidate {
  content?: Content;
  finishReason?: string;
  finishMessage?: string;
  safetyRatings?: unknown[];
  [field: string]: unknown;
}

/** What a model answered: the body of a `generateContent` response, or one chunk of a stream. */
export interface Answer {
  candidates?: Candidate[];
  promptFeedback?: { blockReason?: string; blockReasonMessage?: string; [field: string]: unknown };
  usageMetadata?: Record<string, unknown>;
  [field: string]: unknown;
}

/** The parts of the first candidate. */
export function partsOf(answer: Answer): Part[] {
  return answer.candidates?.[0]?.content?.parts ?? [];
}

/** The text that a reader sees: the first candidate's text parts without the model's thoughts. */
export function textOf(answer: Answer): string {
  let text = "";
  for (const part of partsOf(answer)) {
    if (part.thought !== true && typeof part.text === "string") text += part.text;
  }
  return text;
}
