/**
 * The models the emulator serves and what each can do.
 *
 * Limits are the free tier's; capabilities are what the real API accepted or refused when it was last looked at.
 */

/** Requests a minute, input tokens a minute, requests a Pacific day. `null` means unlimited, 0 means no quota. */
export interface Limits {
  rpm: number | null;
  tpm: number | null;
  rpd: number | null;
}

export type LimitName = keyof Limits;

export const THINKING_LEVELS = ["MINIMAL", "LOW", "MEDIUM", "HIGH"] as const;
export type ThinkingLevel = typeof THINKING_LEVELS[number];

export interface Thinking {
  /** Values of `thinkingLevel` that are accepted; empty: the field itself is refused. */
  levels: ThinkingLevel[];
  /** Whether `thinkingBudget` is accepted. */
  budget: boolean;
  /** What happens when the request says nothing. */
  default: ThinkingLevel;
  /**
   * When parts with `thought: true` are in the answer. Gemma 4 sends them whatever `includeThoughts` says
   * (google-gemini/cookbook#1198), Gemini only when asked.
   */
  shown: "always" | "when_asked";
}

export interface ModelRow {
  /** Without the `models/` prefix. */
  name: string;
  displayName: string;
  methods: ModelMethod[];
  limits: Limits;
  inputTokenLimit: number;
  outputTokenLimit: number;
  /** `systemInstruction` is accepted ("Developer instruction is not enabled" otherwise). */
  system: boolean;
  /** `responseMimeType: application/json` is accepted. */
  json: boolean;
  /** `tools` are accepted. */
  tools: boolean;
  /** Tools and JSON mode may be used in one request. */
  toolsWithJson: boolean;
  /** `googleSearch` is accepted. */
  search: boolean;
  /** Answers with a picture where `responseModalities` asks for one. */
  images: boolean;
  thinking: Thinking | null;
  /** A function call in the history must carry the signature it came with. */
  thoughtSignatures: boolean;
  /** Answers 404, and is not listed. */
  withdrawn: boolean;
}

export type ModelMethod =
  | "generateContent"
  | "streamGenerateContent"
  | "countTokens"
  | "embedContent"
  | "batchEmbedContents"
  | "createCachedContent";

const GENERATES: ModelMethod[] = ["generateContent", "streamGenerateContent", "countTokens"];
const EMBEDS: ModelMethod[] = ["embedContent", "batchEmbedContents", "countTokens"];

const GEMMA_4: Omit<ModelRow, "name" | "displayName"> = {
  methods: GENERATES,
  limits: { rpm: 30, tpm: 16_000, rpd: 14_400 },
  inputTokenLimit: 262_144,
  outputTokenLimit: 32_768,
  system: true,
  json: true,
  tools: true,
  toolsWithJson: true,
  search: false,
  images: false,
  thinking: { levels: ["MINIMAL", "HIGH"], budget: false, default: "HIGH", shown: "always" },
  thoughtSignatures: false,
  withdrawn: false,
};

/** Gemma 3 had no system turn, no JSON mode, no tools; it left the API in May 2026. */
const GEMMA_3: Omit<ModelRow, "name" | "displayName"> = {
  ...GEMMA_4,
  limits: { rpm: 30, tpm: 15_000, rpd: 14_400 },
  inputTokenLimit: 131_072,
  outputTokenLimit: 8_192,
  system: false,
  json: false,
  tools: false,
  thinking: null,
  withdrawn: true,
};

const GEMINI_3: Omit<ModelRow, "name" | "displayName" | "limits"> = {
  ...GEMMA_4,
  methods: [...GENERATES, "createCachedContent"],
  inputTokenLimit: 1_048_576,
  outputTokenLimit: 65_536,
  search: true,
  thinking: { levels: [...THINKING_LEVELS], budget: true, default: "HIGH", shown: "when_asked" },
  thoughtSignatures: true,
};

export const DEFAULT_MODELS: ModelRow[] = [
  { ...GEMMA_4, name: "gemma-4-31b-it", displayName: "Gemma 4 31B" },
  { ...GEMMA_4, name: "gemma-4-26b-a4b-it", displayName: "Gemma 4 26B A4B" },
  {
    ...GEMINI_3,
    name: "gemini-3.5-flash-lite",
    displayName: "Gemini 3.5 Flash-Lite",
    limits: { rpm: 15, tpm: 250_000, rpd: 500 },
    thinking: { levels: [...THINKING_LEVELS], budget: true, default: "MINIMAL", shown: "when_asked" },
  },
  {
    ...GEMINI_3,
    name: "gemini-3.5-flash",
    displayName: "Gemini 3.5 Flash",
    limits: { rpm: 5, tpm: 250_000, rpd: 20 },
  },
  {
    ...GEMINI_3,
    name: "gemini-2.5-flash",
    displayName: "Gemini 2.5 Flash",
    limits: { rpm: 5, tpm: 250_000, rpd: 20 },
    toolsWithJson: false,
    thinking: { levels: [], budget: true, default: "MEDIUM", shown: "when_asked" },
    thoughtSignatures: false,
  },
  {
    ...GEMMA_4,
    name: "gemini-embedding-001",
    displayName: "Gemini Embedding 001",
    methods: EMBEDS,
    limits: { rpm: 100, tpm: 30_000, rpd: 1_000 },
    inputTokenLimit: 2_048,
    outputTokenLimit: 1,
    thinking: null,
  },
  { ...GEMMA_3, name: "gemma-3-27b-it", displayName: "Gemma 3 27B" },
  { ...GEMMA_3, name: "gemma-3-27b", displayName: "Gemma 3 27B" },
];

/** What a model that no default row describes can do: everything, without thinking. */
const UNKNOWN_MODEL: Omit<ModelRow, "name" | "displayName"> = {
  ...GEMMA_4,
  limits: { rpm: null, tpm: null, rpd: null },
  thinking: null,
};

export type ModelOption = { name: string; limits?: Partial<Limits> } & Partial<Omit<ModelRow, "limits">>;

/**
 * The rows for a list of options. What an option leaves out comes from the default row of that name; an option with
 * limits of its own loses no limit it does not mention.
 */
export function modelRows(options: ModelOption[] | undefined): ModelRow[] {
  if (!options) return DEFAULT_MODELS.map((row) => structuredClone(row));
  return options.map((option) => {
    const known = DEFAULT_MODELS.find((row) => row.name === option.name);
    const base: ModelRow = known ?? { ...UNKNOWN_MODEL, name: option.name, displayName: option.name };
    return structuredClone({ ...base, ...option, limits: { ...base.limits, ...option.limits } });
  });
}

/** The model as quota errors name it: without the suffix of an instruction-tuned or preview build. */
export function quotaModelName(model: string): string {
  return model.replace(/-(it|preview)$/, "");
}
