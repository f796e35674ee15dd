import * as z from "zod";
import { knownFields, openFields } from "../../fields.ts";
import type { IgnoredFields } from "../../ignored_fields.ts";
import { type Fault, invalidRequest, listOf, validated } from "../../validated.ts";
import { isObject } from "../../../contract/is_object.ts";
import {
  asksForFunctions,
  inLegacyWords,
  messageOfToday,
  withoutLegacyFunctions,
} from "./legacy_functions.ts";

/** As many as Gemini takes; OpenAI takes four. */
const MAX_STOP_TEXTS = 5;
/** As many candidates as Gemini makes. */
const MAX_CHOICES = 8;
/** Seeds are 32 bits wide upstream, OpenAI's are 64. */
const SEEDS = 2 ** 31;
/** Goes into headers and logs: visible ASCII. */
const MODEL_NAME = /^[\x21-\x7e]{1,200}$/;
/** Limits of the API for `metadata`. */
const MAX_METADATA_ENTRIES = 16;
const MAX_METADATA_CHARS = 512;
/** Names of functions and of response formats, as the API has them. */
const NAME = /^[a-zA-Z0-9_-]{1,64}$/;

const anyObject = z.record(z.string(), z.unknown());

/** A list of parts; a text alone is a list of one. */
const partsOf = <Part extends z.ZodType>(part: Part) =>
  z.preprocess((value) => typeof value === "string" ? [{ type: "text", text: value }] : value, listOf(part));

const textPart = openFields({ type: z.literal("text"), text: z.string() });
const imagePart = openFields({
  type: z.literal("image_url"),
  image_url: z.preprocess(
    (value) => typeof value === "string" ? { url: value } : value,
    openFields({ url: z.string().min(1), detail: z.enum(["auto", "low", "high", "original"]).optional() }),
  ),
});
const filePart = openFields({
  type: z.literal("file"),
  file: z.preprocess(
    (value) =>
      isObject(value) && (value.file_data ?? null) === null && typeof value.file_id === "string"
        ? { ...value, file_data: value.file_id }
        : value,
    openFields({
      /** A link, data or the id of a kept file. */
      file_data: z.string({ error: "is needed, or a file_id" }).min(1),
      filename: z.string().optional(),
    }),
  ),
});
const userPart = z.discriminatedUnion("type", [
  textPart,
  imagePart,
  openFields({
    type: z.literal("input_audio"),
    input_audio: openFields({ data: z.string().min(1), format: z.enum(["wav", "mp3"]) }),
  }),
  filePart,
], { error: "must be a part of type text, image_url, input_audio or file" });
/** What a tool may answer with. */
const toolPart = z.discriminatedUnion("type", [textPart, imagePart, filePart], {
  error: "must be a part of type text, image_url or file",
});

const refusalPart = openFields({ type: z.literal("refusal"), refusal: z.string() });

const extraContent = openFields({
  google: openFields({ thought_signature: z.string().optional() }).optional(),
}).optional();

/** A call of a tool that takes any text, as one of a function with the text as its only argument. */
function callAsFunction(value: unknown): unknown {
  if (!isObject(value) || value.type !== "custom" || !isObject(value.custom)) return value;
  const { custom: { name, input }, ...call } = value;
  return { ...call, function: { name, arguments: JSON.stringify({ input }) } };
}

const toolCall = z.preprocess(
  callAsFunction,
  openFields({
    id: z.string().min(1),
    type: z.enum(["function", "custom"], {
      error: "must be function or custom: no other tools are called here",
    })
      .default("function"),
    function: openFields({ name: z.string().min(1), arguments: z.string().default("") }),
    extra_content: extraContent,
  }),
);

const speaker = z.string().optional();
const MESSAGE = "messages[]";

const message = z.preprocess(
  messageOfToday,
  z.discriminatedUnion("role", [
    knownFields(MESSAGE, { role: z.literal("system"), content: partsOf(textPart), name: speaker }),
    knownFields(MESSAGE, { role: z.literal("developer"), content: partsOf(textPart), name: speaker }),
    knownFields(MESSAGE, { role: z.literal("user"), content: partsOf(userPart), name: speaker }),
    knownFields(MESSAGE, {
      role: z.literal("tool"),
      content: partsOf(toolPart).optional(),
      tool_call_id: z.string(),
      name: speaker,
    }),
    // Open: clients send back the messages they were given, with everything that a server had added to them.
    openFields({
      role: z.literal("assistant"),
      content: partsOf(z.discriminatedUnion("type", [textPart, refusalPart])).optional(),
      refusal: z.string().optional(),
      name: speaker,
      tool_calls: listOf(toolCall).optional(),
      extra_content: extraContent,
      audio: z.undefined({ error: "sound cannot be said again here" }).optional(),
      function_call: z.undefined({ error: "has been replaced by tool_calls" }).optional(),
    }),
  ], { error: "must be a message with the role system, developer, user, assistant or tool" }),
);

/** A tool that takes any text, as a function with the text as its only parameter: the models know no other. */
function declaredAsFunction(value: unknown): unknown {
  if (!isObject(value) || value.type !== "custom" || !isObject(value.custom)) return value;
  const { custom: { format, description, ...declared }, ...tool } = value;
  const { type, grammar = format } = (isObject(format) ? format : {}) as Record<string, unknown>;
  const { syntax, definition } = (isObject(grammar) ? grammar : {}) as Record<string, unknown>;
  const rule = type === "grammar" ? `The input must match this ${syntax} grammar:\n${definition}` : undefined;
  const words = [description, rule].filter((text) => typeof text === "string");
  return {
    ...tool,
    function: {
      ...declared,
      ...(words.length > 0 && { description: words.join("\n\n") }),
      parameters: { type: "object", properties: { input: { type: "string" } }, required: ["input"] },
    },
  };
}

const TOOL_TYPE = "must be function or custom: no other tools are offered here";
const toolType = z.enum(["function", "custom"], { error: TOOL_TYPE });

const tool = z.preprocess(
  declaredAsFunction,
  knownFields("tools[]", {
    type: toolType,
    function: knownFields("tools[].function", {
      name: z.string().regex(NAME, "must be up to 64 letters, digits, _ and -"),
      description: z.string().optional(),
      parameters: anyObject.optional(),
      strict: z.boolean().optional(),
    }),
  }),
);

const namedTool = z.preprocess(
  (value) =>
    isObject(value) && value.function === undefined ? { ...value, function: value.custom ?? value } : value,
  openFields({ type: toolType, function: openFields({ name: z.string() }) }),
);
const allowedTools = openFields({ mode: z.enum(["auto", "required"]), tools: listOf(namedTool).min(1) });

const toolChoice = z.preprocess(
  (value) => {
    if (typeof value === "string") return { type: value };
    if (!isObject(value)) return value;
    if (value.type === "allowed_tools") return { allowed_tools: value, ...value };
    return value.type === "custom" ? { ...value, type: "function", function: value.custom } : value;
  },
  z.discriminatedUnion("type", [
    openFields({ type: z.literal("none") }),
    openFields({ type: z.literal("auto") }),
    openFields({ type: z.literal("required") }),
    openFields({ type: z.literal("function"), function: openFields({ name: z.string() }) }),
    openFields({ type: z.literal("allowed_tools"), allowed_tools: allowedTools }),
  ], { error: "must be none, auto, required, a tool or a list of allowed tools" }),
);

const responseFormat = z.discriminatedUnion("type", [
  knownFields("response_format", { type: z.literal("text") }),
  knownFields("response_format", { type: z.literal("json_object") }),
  knownFields("response_format", {
    type: z.literal("json_schema"),
    json_schema: knownFields("response_format.json_schema", {
      name: z.string().regex(NAME, "must be up to 64 letters, digits, _ and -"),
      description: z.string().optional(),
      schema: anyObject.default({ type: "object" }),
      strict: z.boolean().optional(),
    }),
  }),
], { error: "must be of type text, json_object or json_schema" });

/** What Google's own OpenAI endpoint takes in `extra_body`. */
const googleExtras = knownFields("extra_body", {
  google: knownFields("extra_body.google", {
    thinking_config: knownFields("extra_body.google.thinking_config", {
      thinking_level: z.string().optional(),
      thinking_budget: z.number().int().optional(),
      include_thoughts: z.boolean().optional(),
    }).optional(),
  }).optional(),
});

const modelName = z.string({ error: "must be the name of a model" })
  .regex(MODEL_NAME, "must be the name of a model: visible ASCII characters without spaces")
  .transform((name) => name.replace(/^models\//, ""));

const chat = knownFields("", {
  model: modelName,
  messages: listOf(message, { error: "must be a list of messages" }).min(
    1,
    "must hold at least one message",
  ),
  stream: z.boolean().default(false),
  stream_options: knownFields("stream_options", { include_usage: z.boolean().optional() }).optional(),
  temperature: z.number().min(0).max(2).optional(),
  top_p: z.number().min(0).max(1).optional(),
  top_k: z.number().int().min(1).optional(),
  n: z.number().int().min(1).max(MAX_CHOICES).optional(),
  stop: z.preprocess(
    (value) => typeof value === "string" ? [value] : value,
    listOf(z.string().min(1), { error: "must be a text or a list of texts" }).max(
      MAX_STOP_TEXTS,
      `must hold at most ${MAX_STOP_TEXTS} texts: the models stop at no more`,
    ),
  ).optional(),
  max_tokens: z.number().int().min(1).optional(),
  max_completion_tokens: z.number().int().min(1).optional(),
  seed: z.number().int().transform((seed) => seed >= -SEEDS && seed < SEEDS ? seed : Math.abs(seed) % SEEDS)
    .optional(),
  presence_penalty: z.number().min(-2).max(2).optional(),
  frequency_penalty: z.number().min(-2).max(2).optional(),
  response_format: responseFormat.optional(),
  tools: listOf(tool).optional(),
  tool_choice: toolChoice.optional(),
  parallel_tool_calls: z.boolean().optional(),
  reasoning_effort: z.enum(["none", "minimal", "low", "medium", "high", "xhigh", "max"]).optional(),
  extra_body: googleExtras.optional(),
  web_search_options: knownFields("web_search_options", {}).optional(),
  user: z.string().max(MAX_METADATA_CHARS).optional(),
  safety_identifier: z.string().max(MAX_METADATA_CHARS).optional(),
  prompt_cache_key: z.string().max(MAX_METADATA_CHARS).optional(),
  metadata: z.record(z.string(), z.string().max(MAX_METADATA_CHARS))
    .refine((entries) => Object.keys(entries).length <= MAX_METADATA_ENTRIES, {
      error: `must have at most ${MAX_METADATA_ENTRIES} entries`,
    }).optional(),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

export type Chat = z.output<typeof chat>;
export type Message = Chat["messages"][number];
export type UserPart = Extract<Message, { role: "user" }>["content"][number];
export type ToolCall = z.output<typeof toolCall>;

/** Fields of the API that would change what an answer is, and the values under which they ask for nothing. */
const NOT_OFFERED: Readonly<Record<string, { allowed: unknown[]; why: string }>> = {
  logprobs: { allowed: [false], why: "probabilities of tokens are not available" },
  top_logprobs: { allowed: [0], why: "probabilities of tokens are not available" },
  logit_bias: { allowed: [{}], why: "tokens cannot be biased" },
  modalities: { allowed: [["text"]], why: "answers are text" },
  audio: { allowed: [], why: "answers are text" },
  functions: { allowed: [[]], why: "it has been replaced by tools" },
  function_call: { allowed: ["none"], why: "it has been replaced by tool_choice" },
};

/** Those that an answer does without, and the values under which they ask for nothing. */
const HARMLESS: Readonly<Record<string, { allowed: unknown[]; why: string }>> = {
  store: { allowed: [false], why: "chat completions are not stored for later retrieval" },
  service_tier: {
    allowed: ["auto", "default"],
    why: "there are no tiers; the header x-eve-class says how urgent it is",
  },
  verbosity: { allowed: ["medium"], why: "ask for the length in the prompt, or set max_completion_tokens" },
  prediction: { allowed: [], why: "predicted outputs are not supported" },
  prompt_cache_retention: { allowed: [], why: "caching is the upstream's own business" },
};

/**
 * A chat completion's body. What it asks for and cannot have is refused by name; null fields count as absent.
 * @param ignored takes the names of fields that an answer does without; null: they are refused, too
 * @throws GatewayError `invalid_request`
 */
export function decodeChat(json: unknown, ignored: IgnoredFields | null = null): Chat {
  try {
    return decoded(withoutLegacyFunctions(json), ignored);
  } catch (thrown) {
    throw asksForFunctions(json) ? inLegacyWords(thrown) : thrown;
  }
}

function decoded(json: unknown, ignored: IgnoredFields | null): Chat {
  const body = validated(chat, withoutNotOffered(json, ignored), ignored);
  if (
    body.max_tokens !== undefined && body.max_completion_tokens !== undefined &&
    body.max_tokens !== body.max_completion_tokens
  ) {
    if (ignored === null) {
      throw invalidRequest([{
        field: "max_tokens",
        problem: "says another number than max_completion_tokens",
      }]);
    }
    // The newer name counts; the older one is sent beside it for servers that know no other.
    ignored.add("max_tokens");
  }
  if (body.stream_options !== undefined && !body.stream) {
    throw invalidRequest([{ field: "stream_options", problem: "is for streams: set stream to true" }]);
  }
  return body;
}

function withoutNotOffered(json: unknown, ignored: IgnoredFields | null): unknown {
  if (!isObject(json)) return json;
  const refused: Fault[] = [];
  const offered = Object.entries(withoutObfuscation(json)).filter(([field, value]) => {
    if (value === null || value === undefined) return false;
    const harmless = rowOf(HARMLESS, field);
    const row = harmless ?? rowOf(NOT_OFFERED, field);
    if (row === undefined) return true;
    const text = JSON.stringify(value);
    if (row.allowed.some((allowed) => JSON.stringify(allowed) === text)) return false;
    if (harmless !== undefined && ignored !== null) ignored.add(field);
    else refused.push({ field, problem: `is not supported here: ${row.why}` });
    return false;
  });
  if (refused.length > 0) throw invalidRequest(refused);
  return Object.fromEntries(offered);
}

/** What is not asked for is not there anyway. */
function withoutObfuscation(json: Record<string, unknown>): Record<string, unknown> {
  if (!isObject(json.stream_options) || json.stream_options.include_obfuscation !== false) return json;
  const { include_obfuscation: _, ...stream_options } = json.stream_options;
  return { ...json, stream_options };
}

function rowOf<Row>(rows: Readonly<Record<string, Row>>, field: string): Row | undefined {
  return Object.hasOwn(rows, field) ? rows[field] : undefined;
}
