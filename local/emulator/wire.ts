/**
 * The shapes of the wire and how they are written: pretty JSON, SSE frames, one JSON array, enums as numbers.
 */

export interface Part {
  text?: string;
  thought?: boolean;
  thoughtSignature?: string;
  inlineData?: { mimeType?: string; data?: string };
  fileData?: { mimeType?: string; fileUri?: string };
  functionCall?: { id?: string; name: string; args?: Record<string, unknown> };
  functionResponse?: { id?: string; name: string; response?: unknown };
  [field: string]: unknown;
}

export interface Content {
  role?: string;
  parts: Part[];
}

export interface FunctionDeclaration {
  name: string;
  description?: string;
  parameters?: Record<string, unknown>;
  parametersJsonSchema?: Record<string, unknown>;
}

export interface GenerateRequest {
  contents: Content[];
  systemInstruction?: Content;
  tools?: { functionDeclarations?: FunctionDeclaration[]; [tool: string]: unknown }[];
  toolConfig?: { functionCallingConfig?: { mode?: string; allowedFunctionNames?: string[] } };
  generationConfig?: {
    stopSequences?: string[];
    responseMimeType?: string;
    responseSchema?: Record<string, unknown>;
    responseJsonSchema?: Record<string, unknown>;
    candidateCount?: number;
    maxOutputTokens?: number;
    temperature?: number;
    topP?: number;
    topK?: number;
    responseModalities?: unknown[];
    thinkingConfig?: { includeThoughts?: boolean; thinkingBudget?: number; thinkingLevel?: string };
    [field: string]: unknown;
  };
  [field: string]: unknown;
}

export interface UsageMetadata {
  promptTokenCount: number;
  candidatesTokenCount?: number;
  totalTokenCount: number;
  promptTokensDetails: { modality: string; tokenCount: number }[];
  thoughtsTokenCount?: number;
  cachedContentTokenCount?: number;
  cacheTokensDetails?: { modality: string; tokenCount: number }[];
}

export interface Candidate {
  content?: { parts?: Part[]; role: string };
  finishReason?: string;
  index: number;
  groundingMetadata?: Record<string, unknown>;
  safetyRatings?: { category: string; probability: string; blocked?: boolean }[];
}

export interface GenerateResponse {
  candidates?: Candidate[];
  promptFeedback?: { blockReason: string; safetyRatings?: Candidate["safetyRatings"] };
  usageMetadata?: UsageMetadata;
  modelVersion?: string;
  responseId?: string;
}

/** How the caller wants the answer, from `alt` or `$alt`; old clients send `$alt=json;enum-encoding=int`. */
export interface Encoding {
  sse: boolean;
  enumsAsNumbers: boolean;
  pretty: boolean;
}

export function encodingOf(query: URLSearchParams): Encoding {
  const [format, ...flags] = (query.get("$alt") ?? query.get("alt") ?? "json").split(";");
  const pretty = query.get("$prettyPrint") ?? query.get("prettyPrint");
  return {
    sse: format === "sse",
    enumsAsNumbers: flags.includes("enum-encoding=int"),
    pretty: pretty !== "false" && pretty !== "0",
  };
}

/** Numbers of google.ai.generativelanguage.v1beta, by the field that holds the enum. */
const ENUM_NUMBERS: Record<string, Record<string, number>> = {
  finishReason: {
    STOP: 1,
    MAX_TOKENS: 2,
    SAFETY: 3,
    RECITATION: 4,
    OTHER: 5,
    LANGUAGE: 6,
    BLOCKLIST: 7,
    PROHIBITED_CONTENT: 8,
    SPII: 9,
    MALFORMED_FUNCTION_CALL: 10,
    IMAGE_SAFETY: 11,
    UNEXPECTED_TOOL_CALL: 12,
    TOO_MANY_TOOL_CALLS: 13,
  },
  blockReason: { SAFETY: 1, OTHER: 2, BLOCKLIST: 3, PROHIBITED_CONTENT: 4, IMAGE_SAFETY: 5 },
  modality: { TEXT: 1, IMAGE: 2, VIDEO: 3, AUDIO: 4, DOCUMENT: 5 },
  probability: { NEGLIGIBLE: 1, LOW: 2, MEDIUM: 3, HIGH: 4 },
  category: {
    HARM_CATEGORY_HARASSMENT: 7,
    HARM_CATEGORY_HATE_SPEECH: 8,
    HARM_CATEGORY_SEXUALLY_EXPLICIT: 9,
    HARM_CATEGORY_DANGEROUS_CONTENT: 10,
  },
};

/** Writes a body the way the caller asked for it; a stream's frames are never pretty. */
export function toJson(body: unknown, encoding: Encoding, pretty = encoding.pretty): string {
  const numbers = encoding.enumsAsNumbers
    ? (field: string, value: unknown) =>
      typeof value === "string" ? ENUM_NUMBERS[field]?.[value] ?? value : value
    : undefined;
  return JSON.stringify(body, numbers, pretty ? 2 : undefined);
}

/** One server-sent event, with the line ends Google uses. There is no `[DONE]`. */
export function sseFrame(json: string): string {
  return `data: ${json}\r\n\r\n`;
}

/** What stands before the nth element of a stream that is one JSON array, and what closes it. */
export function arrayOpening(index: number): string {
  return index === 0 ? "[" : "\n,\r\n";
}

export const ARRAY_END = "\n]";
