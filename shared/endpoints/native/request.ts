import * as z from "zod";
import type { Content, GenerationConfig, Part, Prompt } from "../../contract/content.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { DEFAULT_HISTORY_TOKENS } from "../../chats/answering.ts";
import type { GatewayRequest, Unresolved } from "../../contract/request.ts";
import type { Target } from "../../contract/target.ts";
import { targetOf } from "../../stages/stage_name.ts";
import { DEFAULT_WAIT_MS } from "../endpoint.ts";
import { MAX_CACHE_TTL_S } from "../eve_options.ts";
import { schemaSettings } from "../response_schema.ts";
import { invalidRequest, listOf, textOfBytes, validated } from "../validated.ts";

/** What the database takes as well. */
const MAX_MODELS = 10;
const MAX_ID_CHARS = 200;
/** Metadata is a note on the record, not a store. */
const MAX_METADATA_CHARS = 16_384;

/** Goes into headers and logs: visible ASCII. */
const plainName = (most: number) =>
  z.string().regex(/^[\x21-\x7e]+$/, "must be visible ASCII characters without spaces").max(most);

const modelName = plainName(200).transform((name) => name.replace(/^models\//, ""));

const part = z.looseObject({
  text: z.string().optional(),
  inlineData: z.looseObject({ mimeType: z.string(), data: z.string() }).optional(),
});

/** The API writes its fields either way; inside the gateway there is one. */
const anyPart = z.preprocess((value) => {
  if (typeof value !== "object" || value === null || !("inline_data" in value)) return value;
  const { inline_data, ...rest } = value;
  if (typeof inline_data !== "object" || inline_data === null) return { ...rest, inlineData: inline_data };
  const { mime_type, ...data } = inline_data as Record<string, unknown>;
  return { ...rest, inlineData: mime_type === undefined ? data : { ...data, mimeType: mime_type } };
}, part);

const content = z.looseObject({ role: z.string().optional(), parts: listOf(anyPart).min(1) });

const message = z.strictObject({
  role: z.enum(["system", "user", "assistant", "model"]),
  content: z.union([z.string(), listOf(anyPart).min(1)], { error: "must be a text or a list of parts" }),
});

/** Settings that we know, in our spelling; others go to the model as they are. */
const generation = z.looseObject({
  temperature: z.number().min(0).max(2).optional(),
  top_p: z.number().min(0).max(1).optional(),
  top_k: z.number().int().min(1).optional(),
  max_output_tokens: z.number().int().min(1).optional(),
  stop: z.union([z.string(), listOf(z.string())], { error: "must be a text or a list of texts" }).optional(),
  seed: z.number().int().optional(),
  presence_penalty: z.number().optional(),
  frequency_penalty: z.number().optional(),
  response_mime_type: z.string().optional(),
  thinking_level: z.string().optional(),
  thinking_budget: z.number().int().optional(),
  include_thoughts: z.boolean().optional(),
});

const anyObject = z.record(z.string(), z.unknown());

/** In which chat the call is a question, and where it stands there. */
const chat = z.strictObject({
  /** The caller's name for the question: the same one again asks nothing, and is answered as before. */
  client_id: textOfBytes(800, 1).optional(),
  parent_id: z.uuid().nullable().optional(),
  edits: z.uuid().optional(),
  message_type: textOfBytes(400).optional(),
  /** How many estimated tokens of earlier messages go along. */
  history_tokens: z.number().int().min(0).max(2_000_000).default(DEFAULT_HISTORY_TOKENS),
  /** For the secret key: the signed-in user who asks, in a chat of theirs. */
  owner: z.uuid().optional(),
}).refine(
  ({ parent_id, edits }) => parent_id === undefined || edits === undefined,
  "give parent_id or edits, not both",
);

const body = z.strictObject({
  model: z.union([modelName, listOf(modelName).min(1).max(MAX_MODELS)], {
    error: `must be the name of a model, or a list of up to ${MAX_MODELS} names in order of preference`,
  }).optional(),
  stage: z.string().trim().regex(/^[A-Za-z][A-Za-z0-9_]{0,31}$/, "must be the name of a stage, such as POEM")
    .optional(),
  chat_id: z.uuid().optional(),
  chat: chat.optional(),
  prompt: z.string().optional(),
  messages: listOf(message).min(1).optional(),
  contents: listOf(content).min(1).optional(),
  system: z.string().optional(),
  generation: generation.optional(),
  response_schema: anyObject.optional(),
  schema_repair: z.boolean().default(false),
  tools: listOf(anyObject).optional(),
  tool_config: anyObject.optional(),
  safety_settings: listOf(anyObject).optional(),
  mode: z.enum(["wait", "no_wait", "queue"]).default("wait"),
  max_wait_ms: z.number().int().min(0).optional(),
  class: z.enum(["interactive", "batch"]).optional(),
  stream: z.boolean().default(false),
  webhook: z.strictObject({ url: z.string().min(1).max(2_000) }).optional(),
  request_id: plainName(MAX_ID_CHARS).optional(),
  capture: z.boolean().optional(),
  cache: z.strictObject({ ttl_s: z.number().int().min(0).max(MAX_CACHE_TTL_S) }).optional(),
  metadata: anyObject.refine((value) => JSON.stringify(value).length <= MAX_METADATA_CHARS, {
    error: `must be no longer than ${MAX_METADATA_CHARS} characters as JSON`,
  }).default({}),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

type Body = z.output<typeof body>;

export interface NativeTerms {
  /** For a request that brings no id. */
  newId: string;
  traceId: string | null;
  /** The most that `max_wait_ms` may be. */
  maxWaitMs: number;
}

export interface NativeAsked {
  request: Unresolved<GatewayRequest>;
  target: Target;
  /** Whether the answer is wanted as events. */
  stream: boolean;
  /** Null: it is a question in no chat. */
  chat: NativeChat | null;
  /** Whether nobody waits for it: it is to become a job. */
  queue: boolean;
  /** Where the job's end is told; null: nowhere of the caller's. */
  webhookUrl: string | null;
}

/** The chat that a call is a question in. */
export type NativeChat = z.output<typeof chat> & { chat_id: string };

/**
 * A native body as a gateway request.
 * @throws GatewayError `invalid_request`, `empty_prompt`
 */
export function decodeNative(json: unknown, terms: NativeTerms): NativeAsked {
  const asked = validated(body, json);
  if (asked.schema_repair) mustBeRepairable(asked);
  const target = targetIn(asked);
  const queue = asked.mode === "queue";
  if (queue && asked.stream) {
    throw invalidRequest([{ field: "stream", problem: 'nobody reads it with mode "queue": leave this out' }]);
  }
  if (!queue && asked.webhook !== undefined) {
    throw invalidRequest([{
      field: "webhook",
      problem: 'is told of a job\'s end: set mode to "queue", or leave this out',
    }]);
  }
  const request = {
    id: asked.request_id ?? terms.newId,
    idIsClients: asked.request_id !== undefined,
    endpoint: "native" as const,
    prompt: promptOf(asked),
    // What waits in a queue is nobody's conversation, unless its caller says so.
    class: asked.class ?? (queue ? "batch" : "interactive"),
    maxWaitMs: waitOf(asked, terms.maxWaitMs),
    metadata: asked.metadata,
    traceId: terms.traceId,
    capture: asked.capture ?? null,
    cacheTtlS: asked.cache?.ttl_s ?? null,
    schemaRepair: asked.schema_repair,
  };
  return {
    request,
    target,
    stream: asked.stream,
    queue,
    webhookUrl: asked.webhook?.url ?? null,
    chat: chatIn(asked),
  };
}

function chatIn({ chat_id, chat: more, mode, schema_repair }: Body): NativeChat | null {
  if (chat_id === undefined) {
    if (more === undefined) return null;
    throw invalidRequest([{ field: "chat", problem: "needs chat_id, which names the chat" }]);
  }
  if (mode === "queue") {
    throw invalidRequest([{
      field: "mode",
      problem: "a chat is answered while somebody waits: leave this or chat_id out",
    }]);
  }
  if (schema_repair) {
    throw invalidRequest([{
      field: "schema_repair",
      problem: "a chat keeps one answer: leave this or chat_id out",
    }]);
  }
  return { history_tokens: DEFAULT_HISTORY_TOKENS, ...more, chat_id };
}

/** A stage stands in place of models. */
function targetIn({ model, stage }: Body): Target {
  const fault = (problem: string) => invalidRequest([{ field: "model", problem }]);
  if (stage !== undefined) {
    if (model !== undefined) throw fault("a stage has its own model: leave this or stage out");
    return { kind: "stage", stageType: stage.toUpperCase() };
  }
  if (model === undefined) {
    throw fault(`must be the name of a model, or a list of up to ${MAX_MODELS} names in order of preference`);
  }
  return targetOf(Array.isArray(model) ? [...new Set(model)] : [model]);
}

function mustBeRepairable({ stream, response_schema }: Body): void {
  const problem = stream
    ? "a stream cannot be taken back: leave this or stream out"
    : response_schema === undefined
    ? "needs a response_schema to check the answer against"
    : null;
  if (problem !== null) throw invalidRequest([{ field: "schema_repair", problem }]);
}

function waitOf({ mode, max_wait_ms: asked }: Body, cap: number): number {
  const fault = (problem: string) => invalidRequest([{ field: "max_wait_ms", problem }]);
  if (mode === "no_wait") {
    if (asked !== undefined && asked > 0) throw fault('mode "no_wait" does not wait: leave max_wait_ms out');
    return 0;
  }
  if (mode === "queue" && asked !== undefined) {
    throw fault('mode "queue" waits as long as it takes: leave max_wait_ms out');
  }
  if (asked !== undefined && asked > cap) throw fault(`must be at most ${cap} here`);
  return asked ?? Math.min(DEFAULT_WAIT_MS, cap);
}

function promptOf(asked: Body): Prompt {
  const { contents, system } = turnsOf(asked);
  if (!contents.some((turn) => turn.parts?.some(isSaying))) throw new GatewayError("empty_prompt");
  const systemParts = [...(asked.system ? [{ text: asked.system }] : []), ...system];
  const generationConfig = settingsOf(asked);
  return {
    contents,
    ...(systemParts.length > 0 && { systemInstruction: { parts: systemParts } }),
    ...(asked.tools !== undefined && { tools: asked.tools }),
    ...(asked.tool_config !== undefined && { toolConfig: asked.tool_config }),
    ...(asked.safety_settings !== undefined && { safetySettings: asked.safety_settings }),
    ...(Object.keys(generationConfig).length > 0 && { generationConfig }),
  };
}

/** The turns of the conversation, and the system parts among the messages. */
function turnsOf(asked: Body): { contents: Content[]; system: Part[] } {
  const given = (["prompt", "messages", "contents"] as const).filter((field) => asked[field] !== undefined);
  if (given.length !== 1) {
    const problem = given.length === 0
      ? "one of prompt, messages and contents is needed"
      : `${given.join(" and ")} exclude each other: send one of them`;
    throw invalidRequest([{ field: given[1] ?? "prompt", problem }]);
  }
  if (asked.prompt !== undefined) {
    return { contents: [{ role: "user", parts: [{ text: asked.prompt }] }], system: [] };
  }
  if (asked.contents !== undefined) return { contents: asked.contents, system: [] };
  const messages = asked.messages ?? [];
  return {
    contents: messages.filter(({ role }) => role !== "system").map(({ role, content }) => ({
      role: role === "user" ? "user" : "model",
      parts: partsFrom(content),
    })),
    system: messages.filter(({ role }) => role === "system").flatMap(({ content }) => partsFrom(content)),
  };
}

function partsFrom(content: string | Part[]): Part[] {
  return typeof content === "string" ? [{ text: content }] : content;
}

/** A part that is not just white space. */
function isSaying(part: Part): boolean {
  return typeof part.text === "string" ? part.text.trim() !== "" : Object.keys(part).length > 0;
}

function settingsOf({ generation: asked = {}, response_schema }: Body): GenerationConfig {
  const {
    top_p,
    top_k,
    max_output_tokens,
    stop,
    presence_penalty,
    frequency_penalty,
    response_mime_type,
    thinking_level,
    thinking_budget,
    include_thoughts,
    ...rest
  } = asked;
  const thinkingConfig = defined({
    thinkingLevel: thinking_level,
    thinkingBudget: thinking_budget,
    includeThoughts: include_thoughts,
  });
  return {
    ...rest,
    ...defined({
      topP: top_p,
      topK: top_k,
      maxOutputTokens: max_output_tokens,
      stopSequences: typeof stop === "string" ? [stop] : stop,
      presencePenalty: presence_penalty,
      frequencyPenalty: frequency_penalty,
      responseMimeType: response_mime_type,
    }),
    ...(Object.keys(thinkingConfig).length > 0 && { thinkingConfig }),
    ...(response_schema !== undefined && schemaSettings(response_schema, "response_schema")),
  };
}

function defined(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
