import type { CallBody } from "./snippets.ts";

/** The call that a captured prompt was, as far as llm-invoke's own API can say it. */
export interface CapturedCall {
  /** All of the body but the model. */
  body: CallBody;
  /** Names of what has no place in it. */
  leftOut: string[];
}

/** Why there is none: nothing was kept, only its head, or it was no conversation. */
export type NoCall = "not_kept" | "truncated" | "no_conversation";

type Fields = Record<string, unknown>;

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** As `settingsOf` of llm-invoke reads them, the other way round. */
const GENERATION: Readonly<Record<string, string>> = {
  topP: "top_p",
  topK: "top_k",
  maxOutputTokens: "max_output_tokens",
  stopSequences: "stop",
  presencePenalty: "presence_penalty",
  frequencyPenalty: "frequency_penalty",
  responseMimeType: "response_mime_type",
};
const THINKING: Readonly<Record<string, string>> = {
  thinkingLevel: "thinking_level",
  thinkingBudget: "thinking_budget",
  includeThoughts: "include_thoughts",
};

const renamed = (fields: Fields, names: Readonly<Record<string, string>>): Fields =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [names[name] ?? name, value]));

/** Settings, and the schema that the answer was to have. */
function settingsOf(config: Fields): { generation: Fields; schema: unknown } {
  const { responseSchema, responseJsonSchema, thinkingConfig, ...others } = config;
  const schema = responseJsonSchema ?? responseSchema;
  // Said by the schema.
  if (schema !== undefined && others.responseMimeType === "application/json") delete others.responseMimeType;
  const thinking = isObject(thinkingConfig) ? thinkingConfig : {};
  const isKnown = Object.keys(thinking).every((name) => name in THINKING);
  return {
    generation: {
      ...renamed(others, GENERATION),
      ...(isKnown ? renamed(thinking, THINKING) : { thinkingConfig }),
    },
    schema,
  };
}

/** Of a prompt in Gemini's form, as captures have it. */
export function capturedCall(prompt: unknown): CapturedCall | NoCall {
  if (prompt === undefined || prompt === null) return "not_kept";
  if (isObject(prompt) && prompt.truncated === true) return "truncated";
  if (!isObject(prompt) || !Array.isArray(prompt.contents) || prompt.contents.length === 0) {
    return "no_conversation";
  }
  const {
    contents,
    systemInstruction,
    tools,
    toolConfig,
    safetySettings,
    generationConfig,
    ...unknown
  } = prompt as Fields & { contents: unknown[] };
  const leftOut = Object.keys(unknown);
  const { generation, schema } = settingsOf(isObject(generationConfig) ? generationConfig : {});
  const systemParts = isObject(systemInstruction) && Array.isArray(systemInstruction.parts)
    ? systemInstruction.parts as unknown[]
    : [];
  const system = systemParts.flatMap((part) =>
    isObject(part) && typeof part.text === "string" ? part.text : []
  );
  if (system.length < systemParts.length) leftOut.push("systemInstruction");
  const only = contents.length === 1 ? soleText(contents[0]) : null;
  return {
    body: {
      ...(only === null ? { contents } : { prompt: only }),
      ...(system.length > 0 && { system: system.join("\n\n") }),
      ...(Object.keys(generation).length > 0 && { generation }),
      ...(schema !== undefined && { response_schema: schema }),
      ...(tools !== undefined && { tools }),
      ...(toolConfig !== undefined && { tool_config: toolConfig }),
      ...(safetySettings !== undefined && { safety_settings: safetySettings }),
    },
    leftOut,
  };
}

const isUsers = (content: unknown): content is Fields & { parts: unknown[] } =>
  isObject(content) && (content.role ?? "user") === "user" && Array.isArray(content.parts);

const hasNothingBut = (fields: Fields, names: readonly string[]) =>
  Object.keys(fields).every((name) => names.includes(name));

const isText = (part: unknown): part is { text: string } =>
  isObject(part) && typeof part.text === "string" && hasNothingBut(part, ["text"]);

function soleText(content: unknown): string | null {
  if (!isUsers(content) || content.parts.length !== 1) return null;
  const [part] = content.parts;
  return isText(part) ? part.text : null;
}

interface InlineFile {
  inlineData: { mimeType: string; data: string };
}

const isFile = (part: unknown): part is InlineFile =>
  isObject(part) && isObject(part.inlineData) && hasNothingBut(part, ["inlineData"]) &&
  typeof part.inlineData.data === "string" && typeof part.inlineData.mimeType === "string";

/** The turns before the question, and the question: where the last turn is a person's text, maybe with files behind it. */
export function questionOf({ prompt, contents }: CallBody): {
  turns: unknown[];
  prompt: string;
  files: InlineFile["inlineData"][];
} {
  if (typeof prompt === "string") return { turns: [], prompt, files: [] };
  const turns = Array.isArray(contents) ? contents as unknown[] : [];
  const last = turns.at(-1);
  if (isUsers(last)) {
    const [first, ...rest] = last.parts;
    if (isText(first) && rest.every(isFile)) {
      return {
        turns: turns.slice(0, -1),
        prompt: first.text,
        files: rest.map(({ inlineData }) => inlineData),
      };
    }
  }
  return { turns, prompt: "", files: [] };
}
