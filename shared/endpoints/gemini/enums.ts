/**
 * Enums as numbers, for clients that ask for them (`enum-encoding=int`).
 *
 * They ask with reason: the Python parser of protobuf 3.21 (4.21 on PyPI) throws the whole answer away at an enum name that
 * it does not know, even when told to ignore unknown fields, and takes any number. So no name may be left: one
 * without a number here becomes the enum's "other", or 0, "unspecified".
 *
 * The numbers are those of google.ai.generativelanguage.v1beta.
 */
interface Enum {
  numbers: Readonly<Record<string, number>>;
  /** For names that have no number here. */
  other: number;
}

const MODALITY: Enum = { numbers: { TEXT: 1, IMAGE: 2, VIDEO: 3, AUDIO: 4, DOCUMENT: 5 }, other: 0 };

/** By the field that holds them. */
const ENUMS: Readonly<Record<string, Enum>> = {
  finishReason: {
    numbers: {
      FINISH_REASON_UNSPECIFIED: 0,
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
    other: 5,
  },
  blockReason: {
    numbers: { SAFETY: 1, OTHER: 2, BLOCKLIST: 3, PROHIBITED_CONTENT: 4, IMAGE_SAFETY: 5 },
    other: 2,
  },
  category: {
    numbers: {
      HARM_CATEGORY_DEROGATORY: 1,
      HARM_CATEGORY_TOXICITY: 2,
      HARM_CATEGORY_VIOLENCE: 3,
      HARM_CATEGORY_SEXUAL: 4,
      HARM_CATEGORY_MEDICAL: 5,
      HARM_CATEGORY_DANGEROUS: 6,
      HARM_CATEGORY_HARASSMENT: 7,
      HARM_CATEGORY_HATE_SPEECH: 8,
      HARM_CATEGORY_SEXUALLY_EXPLICIT: 9,
      HARM_CATEGORY_DANGEROUS_CONTENT: 10,
      HARM_CATEGORY_CIVIC_INTEGRITY: 11,
    },
    other: 0,
  },
  probability: { numbers: { NEGLIGIBLE: 1, LOW: 2, MEDIUM: 3, HIGH: 4 }, other: 0 },
  modality: MODALITY,
  language: { numbers: { PYTHON: 1 }, other: 0 },
  outcome: { numbers: { OUTCOME_OK: 1, OUTCOME_FAILED: 2, OUTCOME_DEADLINE_EXCEEDED: 3 }, other: 0 },
};

/** What holds a user's or a tool's own JSON, where a field of the same name means something else. */
const NOT_OURS = new Set([
  "functionCall",
  "functionResponse",
  "toolCall",
  "toolResponse",
  "partMetadata",
  "groundingMetadata",
]);

/** A copy of an answer with its enums as numbers. */
export function withNumericEnums<Body>(body: Body): Body {
  return numbered(body) as Body;
}

function numbered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(numbered);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([field, inner]) => {
      if (NOT_OURS.has(field)) return [field, inner];
      const numbers = Object.hasOwn(ENUMS, field) ? ENUMS[field] : undefined;
      if (numbers === undefined || typeof inner !== "string") return [field, numbered(inner)];
      return [field, Object.hasOwn(numbers.numbers, inner) ? numbers.numbers[inner] : numbers.other];
    }),
  );
}
