import { z } from "zod";
import { type Fault, invalidRequest, listOf, validated } from "../validated.ts";
import { isObject } from "../../contract/is_object.ts";

/** As many as Gemini takes; OpenAI takes four. */
const MAX_STOP_TEXTS = 5;
/** As many candidates as Gemini makes. */
const MAX_CHOICES = 8;
/** Seeds are 32 bits wide upstream. */
const MAX_SEED = 2 ** 31 - 1;
/** Goes into headers and logs: visible ASCII. */
const MODEL_NAME = /^[\x21-\x7e]{1,200}$/;
/** Limits of the API for `metadata`. */
const MAX_METADATA_ENTRIES = 16;
const MAX_METADATA_CHARS = 512;
/** Names of functions and of response formats, as the API has them. */
const NAME = /^[a-zA-Z0-9_-]{1,64}$/;

const anyObject = z.record(z.string(), z.unknown());

/** Fields that are null count as absent: clients send them for everything that they know and do not use. */
function withoutNulls(value: unknown): unknown {
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null));
}

/** A list of parts; a text alone is a list of one. */
const partsOf = <Part extends z.ZodType>(part: Part) =>
  z.preprocess((value) => typeof value === "string" ? [{ type: "text", text: value }] : value, listOf(part));

const textPart = z.looseObject({ type: z.literal("text"), text: z.string() });
const userPart = z.discriminatedUnion("type", [
  textPart,
  z.looseObject({
    type: z.literal("image_url"),
    image_url: z.preprocess(
      (value) => typeof value === "string" ? { url: value } : value,
      z.looseObject({ url: z.string().min(1), detail: z.enum(["auto", "low", "high"]).optional() }),
    ),
  }),
  z.looseObject({
    type: z.literal("input_audio"),
    input_audio: z.looseObject({ data: z.string().min(1), format: z.enum(["wav", "mp3"]) }),
  }),
  z.looseObject({
    type: z.literal("file"),
    file: z.looseObject({
      file_data: z.string({ error: "is needed: files cannot be stored here, so file_id names none" }).min(1),
    }),
  }),
], { error: "must be a part of type text, image_url, input_audio or file" });

const refusalPart = z.looseObject({ type: z.literal("refusal"), refusal: z.string() });

const extraContent = z.looseObject({
  google: z.looseObject({ thought_signature: z.string().optional() }).optional(),
}).optional();

const toolCall = z.preprocess(
  withoutNulls,
  z.looseObject({
    id: z.string().min(1),
    type: z.literal("function", { error: "must be function: no other tools are called here" }).default(
      "function",
    ),
    function: z.looseObject({ name: z.string().min(1), arguments: z.string() }),
    extra_content: extraContent,
  }),
);

const speaker = z.string().optional();

const message = z.preprocess(
  withoutNulls,
  z.discriminatedUnion("role", [
    z.strictObject({ role: z.literal("system"), content: partsOf(textPart), name: speaker }),
    z.strictObject({ role: z.literal("developer"), content: partsOf(textPart), name: speaker }),
    z.strictObject({ role: z.literal("user"), content: partsOf(userPart), name: speaker }),
    z.strictObject({
      role: z.literal("tool"),
      content: partsOf(textPart),
      tool_call_id: z.string(),
      name: speaker,
    }),
    // Open: clients send back the messages they were given, with everything that a server had added to them.
    z.looseObject({
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

const tool = z.preprocess(
  withoutNulls,
  z.strictObject({
    type: z.literal("function", { error: "must be function: no other tools are offered here" }),
    function: z.preprocess(
      withoutNulls,
      z.strictObject({
        name: z.string().regex(NAME, "must be up to 64 letters, digits, _ and -"),
        description: z.string().optional(),
        parameters: anyObject.optional(),
        strict: z.boolean().optional(),
      }),
    ),
  }),
);

const namedTool = z.looseObject({
  type: z.literal("function", { error: "must be function: no other tools are offered here" }),
  function: z.looseObject({ name: z.string() }),
});

const toolChoice = z.preprocess(
  (value) => typeof value === "string" ? { type: value } : value,
  z.discriminatedUnion("type", [
    z.looseObject({ type: z.literal("none") }),
    z.looseObject({ type: z.literal("auto") }),
    z.looseObject({ type: z.literal("required") }),
    namedTool,
    z.looseObject({
      type: z.literal("allowed_tools"),
      allowed_tools: z.looseObject({ mode: z.enum(["auto", "required"]), tools: listOf(namedTool).min(1) }),
    }),
  ], { error: "must be none, auto, required, a function or a list of allowed tools" }),
);

const responseFormat = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    json_schema: z.preprocess(
      withoutNulls,
      z.strictObject({
        name: z.string().regex(NAME, "must be up to 64 letters, digits, _ and -"),
        description: z.string().optional(),
        schema: anyObject.default({ type: "object" }),
        strict: z.boolean().optional(),
      }),
    ),
  }),
], { error: "must be of type text, json_object or json_schema" });

/** What Google's own OpenAI endpoint takes in `extra_body`. */
const googleExtras = z.strictObject({
  google: z.strictObject({
    thinking_config: z.strictObject({
      thinking_level: z.string().optional(),
      thinking_budget: z.number().int().optional(),
      include_thoughts: z.boolean().optional(),
    }).optional(),
  }),
});

const modelName = z.string({ error: "must be the name of a model" })
  .regex(MODEL_NAME, "must be the name of a model: visible ASCII characters without spaces")
  .transform((name) => name.replace(/^models\//, ""));

const chat = z.strictObject({
  model: modelName,
  messages: listOf(message, { error: "must be a list of messages" }).min(
    1,
    "must hold at least one message",
  ),
  stream: z.boolean().default(false),
  stream_options: z.strictObject({
    include_usage: z.boolean().optional(),
    include_obfuscation: z.literal(false, { error: "is not supported here: leave it out" }).optional(),
  }).optional(),
  temperature: z.number().min(0).max(2).optional(),
  top_p: z.number().min(0).max(1).optional(),
  top_k: z.number().int().min(1).optional(),
  n: z.number().int().min(1).max(MAX_CHOICES).optional(),
  stop: z.preprocess(
    (value) => typeof value === "string" ? [value] : value,
    listOf(z.string().min(1), { error: "must be a text or a list of texts" }).max(MAX_STOP_TEXTS),
  ).optional(),
  max_tokens: z.number().int().min(1).optional(),
  max_completion_tokens: z.number().int().min(1).optional(),
  seed: z.number().int().min(-MAX_SEED - 1).max(MAX_SEED).optional(),
  presence_penalty: z.number().min(-2).max(2).optional(),
  frequency_penalty: z.number().min(-2).max(2).optional(),
  response_format: responseFormat.optional(),
  tools: listOf(tool).optional(),
  tool_choice: toolChoice.optional(),
  parallel_tool_calls: z.boolean().optional(),
  reasoning_effort: z.enum(["none", "minimal", "low", "medium", "high", "xhigh", "max"]).optional(),
  extra_body: googleExtras.optional(),
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

/** Fields of the API that are taken only with the values under which they ask for nothing. */
const NOT_OFFERED: Readonly<Record<string, { allowed: unknown[]; why: string }>> = {
  logprobs: { allowed: [false], why: "probabilities of tokens are not available" },
  top_logprobs: { allowed: [0], why: "probabilities of tokens are not available" },
  logit_bias: { allowed: [{}], why: "tokens cannot be biased" },
  store: { allowed: [false], why: "answers are not stored for later retrieval" },
  service_tier: {
    allowed: ["auto", "default"],
    why: "there are no tiers; the header x-eve-class says how urgent it is",
  },
  verbosity: { allowed: ["medium"], why: "ask for the length in the prompt, or set max_completion_tokens" },
  modalities: { allowed: [["text"]], why: "answers are text" },
  audio: { allowed: [], why: "answers are text" },
  prediction: { allowed: [], why: "predicted outputs are not supported" },
  web_search_options: { allowed: [], why: "the models are not connected to a search" },
  prompt_cache_retention: { allowed: [], why: "caching is the upstream's own business" },
  functions: { allowed: [[]], why: "it has been replaced by tools" },
  function_call: { allowed: ["none"], why: "it has been replaced by tool_choice" },
};

/**
 * A chat completion's body. What it asks for and cannot have is refused by name; null fields count as absent.
 * @throws GatewayError `invalid_request`
 */
export function decodeChat(json: unknown): Chat {
  const body = validated(chat, withoutNotOffered(withoutNulls(json)));
  if (
    body.max_tokens !== undefined && body.max_completion_tokens !== undefined &&
    body.max_tokens !== body.max_completion_tokens
  ) {
    throw invalidRequest([{
      field: "max_tokens",
      problem: "says another number than max_completion_tokens",
    }]);
  }
  if (body.stream_options !== undefined && !body.stream) {
    throw invalidRequest([{ field: "stream_options", problem: "is for streams: set stream to true" }]);
  }
  return body;
}

function withoutNotOffered(json: unknown): unknown {
  if (!isObject(json)) return json;
  const refused: Fault[] = [];
  const offered = Object.entries(json).filter(([field, value]) => {
    const row = Object.hasOwn(NOT_OFFERED, field) ? NOT_OFFERED[field] : undefined;
    if (row === undefined) return true;
    const text = JSON.stringify(value);
    if (!row.allowed.some((allowed) => JSON.stringify(allowed) === text)) {
      refused.push({ field, problem: `is not supported here: ${row.why}` });
    }
    return false;
  });
  if (refused.length > 0) throw invalidRequest(refused);
  return Object.fromEntries(offered);
}
