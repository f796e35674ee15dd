/**
 * What the emulated model says. Everything follows from the request, so the same request is answered the same way.
 *
 * The rules, in order: a function call when tools are given and asked for; JSON when a schema, the MIME type or the
 * prompt asks for it; an exact phrase or a number of words when the prompt wants that; otherwise a short text about
 * the prompt.
 */

import { opaqueId } from "./fingerprint.ts";
import { jsonAnswer, type Schema, schemaFromPrompt } from "./json_answer.ts";
import type { ModelRow, ThinkingLevel } from "./models.ts";
import { callContent, signatureFor } from "./thought_signature.ts";
import { firstTokens, type PromptTokens, textTokens } from "./tokens.ts";
import type { Content, FunctionDeclaration, GenerateRequest, Part, UsageMetadata } from "./wire.ts";

export interface Answer {
  /** Thoughts come first; empty when thinking used up the whole `maxOutputTokens`. */
  parts: Part[];
  finishReason: "STOP" | "MAX_TOKENS";
  usage: UsageMetadata;
  /** Where a search was made. */
  groundingMetadata?: Record<string, unknown>;
}

/** About how many tokens the model thinks for, before the answer. */
const THOUGHT_TOKENS: Record<ThinkingLevel, number> = { MINIMAL: 0, LOW: 24, MEDIUM: 48, HIGH: 80 };

/** The longest text a prompt can ask for by a number of words. */
const MAX_WORDS = 20_000;

/** @param now milliseconds since the epoch, for dates without a year. */
export function answer(
  request: GenerateRequest,
  model: ModelRow,
  prompt: PromptTokens,
  now: number,
): Answer {
  const calls = functionCalls(request, model, now);
  const text = calls.length > 0 ? "" : answerText(request, now);
  const answered = assemble(request, model, prompt, calls, untilStopSequence(text, request));
  if (request.generationConfig?.responseModalities?.includes("IMAGE")) {
    answered.parts.push({ inlineData: PIXEL });
  }
  const searches = text !== "" && (request.tools ?? []).some((tool) => tool.googleSearch !== undefined);
  return searches ? { ...answered, groundingMetadata: grounding(question(request), text) } : answered;
}

/** A PNG of one pixel. */
const PIXEL = {
  mimeType: "image/png",
  data: "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
};

/** As if all of the text stood on one page. */
function grounding(query: string, text: string): Record<string, unknown> {
  return {
    webSearchQueries: [query.replace(/\s+/gu, " ").slice(0, 60)],
    groundingChunks: [{ web: { uri: "https://example.com/", title: "example.com" } }],
    groundingSupports: [{
      segment: { endIndex: new TextEncoder().encode(text).length, text },
      groundingChunkIndices: [0],
    }],
  };
}

function assemble(
  request: GenerateRequest,
  model: ModelRow,
  prompt: PromptTokens,
  calls: Part[],
  whole: string,
): Answer {
  const limit = request.generationConfig?.maxOutputTokens ?? model.outputTokenLimit;
  const thinking = thoughts(request, model);
  const thought = firstTokens(thinking.text, limit);
  const thoughtTokens = textTokens(thought);
  const room = Math.max(0, limit - thoughtTokens);
  const text = firstTokens(whole, room);
  const cut = thought.length < thinking.text.length || text.length < whole.length;

  const parts: Part[] = [];
  if (thinking.shown && thought !== "") parts.push({ text: thought, thought: true });
  if (text !== "") parts.push({ text });
  if (!cut) parts.push(...calls);
  if (model.thoughtSignatures && thoughtTokens > 0 && text !== "") {
    parts[parts.length - 1]!.thoughtSignature = signatureFor(text);
  }
  const answerTokens = textTokens(text) + (cut ? 0 : calls.reduce((sum, call) => sum + partTokens(call), 0));
  return {
    parts,
    finishReason: cut ? "MAX_TOKENS" : "STOP",
    usage: usage(prompt, answerTokens, thoughtTokens),
  };
}

/** Counts as the API reports them; what is zero is left out, as on the wire. */
export function usage(prompt: PromptTokens, answerTokens: number, thoughtTokens: number): UsageMetadata {
  return {
    promptTokenCount: prompt.total,
    ...(answerTokens > 0 ? { candidatesTokenCount: answerTokens } : {}),
    totalTokenCount: prompt.total + answerTokens + thoughtTokens,
    promptTokensDetails: [
      { modality: "TEXT", tokenCount: prompt.text },
      ...(prompt.image > 0 ? [{ modality: "IMAGE", tokenCount: prompt.image }] : []),
    ],
    ...(prompt.cached === undefined ? {} : {
      cachedContentTokenCount: prompt.cached,
      cacheTokensDetails: [{ modality: "TEXT", tokenCount: prompt.cached }],
    }),
    ...(thoughtTokens > 0 ? { thoughtsTokenCount: thoughtTokens } : {}),
  };
}

export function partTokens(part: Part): number {
  return textTokens(part.text ?? JSON.stringify(part.functionCall ?? {}));
}

function textOf(content: Content | undefined): string {
  return (content?.parts ?? []).map((part) => part.thought ? "" : part.text ?? "").filter(Boolean).join("\n");
}

/** The last thing the user said. */
function question(request: GenerateRequest): string {
  return textOf(request.contents.findLast((content) => content.role !== "model" && textOf(content) !== ""));
}

/** Everything the user said, and the system instruction. */
function everything(request: GenerateRequest): string {
  const users = request.contents.filter((content) => content.role !== "model");
  return [request.systemInstruction, ...users].map(textOf).filter(Boolean).join("\n\n");
}

function thoughts(request: GenerateRequest, model: ModelRow): { text: string; shown: boolean } {
  if (!model.thinking) return { text: "", shown: false };
  const config = request.generationConfig?.thinkingConfig ?? {};
  const asked = config.thinkingLevel as ThinkingLevel | undefined;
  const level = asked && asked in THOUGHT_TOKENS ? asked : model.thinking.default;
  const budget = config.thinkingBudget ?? -1;
  const wanted = budget === 0 ? 0 : THOUGHT_TOKENS[level];
  const asksFor = question(request).replace(/\s+/gu, " ").slice(0, 60);
  const steps = [
    `*   The user wants an answer to: "${asksFor}".`,
    `*   ${
      request.generationConfig?.responseMimeType === "application/json"
        ? "It has to be JSON that fits the schema."
        : "A short and direct answer fits."
    }`,
    "*   What the text itself says comes first; nothing is to be made up.",
    "*   Check the draft against the question once more.",
    "*   The draft holds, so this is the answer.",
  ];
  let text = "";
  for (const step of steps) {
    if (textTokens(text) >= wanted) break;
    text += (text === "" ? "" : "\n") + step;
  }
  return {
    text: budget > 0 ? firstTokens(text, budget) : text,
    shown: model.thinking.shown === "always" || config.includeThoughts === true,
  };
}

function declarations(request: GenerateRequest): FunctionDeclaration[] {
  return (request.tools ?? []).flatMap((tool) => tool.functionDeclarations ?? []);
}

/**
 * Calls are made when the mode is ANY, or when the question names a function or asks to call one; right after a
 * function's response, which is answered in words otherwise, only when the mode is ANY.
 */
function functionCalls(request: GenerateRequest, model: ModelRow, now: number): Part[] {
  const config = request.toolConfig?.functionCallingConfig;
  const allowed = config?.allowedFunctionNames;
  const functions = declarations(request).filter((one) => !allowed?.length || allowed.includes(one.name));
  if (functions.length === 0 || config?.mode === "NONE") return [];
  const answered = lastTurn(request.contents).some((part) => part.functionResponse);
  if (answered && config?.mode !== "ANY") return [];
  const asked = question(request).toLowerCase();
  const named = functions.filter((one) => {
    const name = one.name.toLowerCase();
    return asked.includes(name) || asked.includes(name.replaceAll("_", " "));
  });
  const wanted = config?.mode === "ANY" ||
    /call (?:the |a )?(?:function|tool)|use (?:the |a )?tool|вызови|используй инструмент/iu.test(asked);
  // A model that must call once more calls what was not called yet: agents that wait for a last tool come to their end.
  const called = calledSinceAsked(request.contents);
  const left = functions.filter((one) => !called.has(one.name));
  const chosen = answered && left.length > 0
    ? left.slice(0, 1)
    : named.length > 0
    ? named
    : wanted
    ? functions.slice(0, 1)
    : [];
  return chosen.map((one, i) => {
    const schema = (one.parameters ?? one.parametersJsonSchema) as Schema | undefined;
    const args = schema ? jsonAnswer(schema, question(request), now) as Record<string, unknown> : {};
    const call = { name: one.name, args };
    const signed = model.thoughtSignatures && i === 0;
    return {
      functionCall: {
        ...(model.thoughtSignatures ? { id: opaqueId(`${i}${callContent(call)}`, 8) } : {}),
        ...call,
      },
      ...(signed ? { thoughtSignature: signatureFor(callContent(call)) } : {}),
    };
  });
}

/** What was said last, by one side: clients cut it into contents as they like. */
function lastTurn(contents: Content[]): Part[] {
  return turns(contents).at(-1)?.parts ?? [];
}

function turns(contents: Content[]): { isModel: boolean; parts: Part[] }[] {
  const found: { isModel: boolean; parts: Part[] }[] = [];
  for (const { role, parts } of contents) {
    const isModel = role === "model";
    const last = found.at(-1);
    if (last?.isModel === isModel) last.parts.push(...parts);
    else found.push({ isModel, parts: [...parts] });
  }
  return found;
}

/** Names of the functions that were called since the user said more than what functions had answered. */
function calledSinceAsked(contents: Content[]): Set<string> {
  const all = turns(contents);
  const asked = all.findLastIndex(({ isModel, parts }) =>
    !isModel && !parts.some((part) => part.functionResponse)
  );
  return new Set(
    all.slice(asked + 1).flatMap(({ parts }) => parts.flatMap((part) => part.functionCall?.name ?? [])),
  );
}

const DESCRIBE =
  /^\s*(?:describe|what (?:is|do you see) (?:in|on)|опиши|что (?:на|видно на))\s[^.\n]{0,40}(?:picture|image|photo|картинк|изображени|фото|снимк)/iu;

/** It cannot see; what it says of a picture differs from what it says of another. Null: it was not asked to describe one. */
function caption(request: GenerateRequest): string | null {
  const last = lastTurn(request.contents);
  const images = last.flatMap(({ inlineData }) =>
    inlineData?.mimeType?.startsWith("image/") ? [inlineData] : []
  );
  if (images.length === 0 || !last.some(({ text = "" }) => DESCRIBE.test(text))) return null;
  return images.map(({ mimeType, data = "" }) =>
    `Emulated picture ${opaqueId(data, 6)}: ${mimeType}, ${Math.floor(data.length * 3 / 4)} bytes`
  ).join("\n");
}

function answerText(request: GenerateRequest, now: number): string {
  const config = request.generationConfig ?? {};
  const seen = caption(request);
  const schema = (config.responseSchema ?? config.responseJsonSchema) as Schema | undefined;
  if (config.responseMimeType === "text/x.enum" && schema) {
    return String(jsonAnswer(schema, everything(request), now));
  }
  if (schema) return JSON.stringify(jsonAnswer(schema, seen ?? everything(request), now), null, 2);
  const prompt = everything(request);
  if (config.responseMimeType === "application/json") {
    return JSON.stringify(jsonAnswer(schemaFromPrompt(prompt), seen ?? prompt, now), null, 2);
  }
  const response = lastTurn(request.contents).find((part) => part.functionResponse)?.functionResponse;
  if (response) return `${response.name} answered: ${JSON.stringify(response.response ?? {})}`;
  if (/json/iu.test(prompt)) {
    const json = JSON.stringify(jsonAnswer(schemaFromPrompt(prompt), seen ?? prompt, now), null, 2);
    // Without JSON mode models put a fence around it, unless they are told not to.
    const bare =
      /(?:only|just|raw|plain|valid|pure) json|json only|no (?:markdown|fences?)|без (?:пояснен|markdown|разметк)|только json|json без/iu;
    return bare.test(prompt) ? json : `\`\`\`json\n${json}\n\`\`\``;
  }
  return seen ?? plainText(question(request), request.contents);
}

const EXACTLY =
  /(?:^(?:say|repeat|скажи|повтори)|(?:reply|respond|answer)\s+(?:with\s+)?(?:exactly|only|just)|say exactly|ответь (?:ровно|только|одним словом)|скажи ровно)\s*:?\s+["«“]?(.+?)["»”]?\s*$/isu;

/** How long the answer is to be is not part of what to say. */
const ONE_WORD =
  /^(?:say|скажи)\s+["«“]?(\p{L}+)["»”]?,?\s+(?:in (?:one|a single) word|одним словом)\s*[.!]?\s*$/iu;

function plainText(asked: string, contents: Content[]): string {
  const word = ONE_WORD.exec(asked)?.[1];
  if (word) return word.charAt(0).toUpperCase() + word.slice(1);
  const exact = EXACTLY.exec(asked)?.[1];
  if (exact) return exact;
  const russian = /\p{Script=Cyrillic}/u.test(asked);
  const count = Number(/(\d{1,6})\s+(?:words|слов)/iu.exec(asked)?.[1] ?? 0);
  if (count > 0) return manyWords(asked, Math.min(count, MAX_WORDS));
  const words = asked.match(/[\p{L}\p{N}]+/gu)?.length ?? 0;
  const start = asked.replace(/\s+/gu, " ").trim();
  const quoted = start.length > 120 ? `${start.slice(0, 120).replace(/\s\S*$/u, "")}…` : start;
  const turn = contents.filter((content) => content.role !== "model").length;
  if (russian) {
    return `Отвечает эмулятор Google AI. Вы написали: «${quoted}». Слов в сообщении: ${words}. ` +
      `Реплика в разговоре: ${turn}.`;
  }
  return `This is the Google AI emulator. You wrote: "${quoted}". Words in the message: ${words}. ` +
    `Turn of the conversation: ${turn}.`;
}

/** The prompt's own words over and over, in sentences of twelve. */
function manyWords(asked: string, count: number): string {
  const words = asked.match(/\p{L}+/gu) ?? ["word"];
  let text = "";
  for (let i = 0; i < count; i++) {
    const word = words[i % words.length]!;
    const first = i % 12 === 0;
    text += (i === 0 ? "" : first ? ". " : " ") +
      (first ? word.charAt(0).toUpperCase() + word.slice(1) : word);
  }
  return `${text}.`;
}

function untilStopSequence(text: string, request: GenerateRequest): string {
  const ends = (request.generationConfig?.stopSequences ?? [])
    .filter((sequence) => sequence !== "")
    .map((sequence) => text.indexOf(sequence))
    .filter((at) => at >= 0);
  return ends.length > 0 ? text.slice(0, Math.min(...ends)) : text;
}
