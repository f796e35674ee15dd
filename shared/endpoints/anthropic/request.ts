import { z } from "zod";
import { isObject } from "../../contract/is_object.ts";
import { type Fault, invalidRequest, listOf, validated } from "../validated.ts";

/** As many as Gemini takes. */
const MAX_STOP_TEXTS = 5;
/** Of what a client says of its user. */
const MAX_USER_ID_CHARS = 512;
/** Goes into headers and logs: visible ASCII. */
const MODEL_NAME = /^[\x21-\x7e]{1,200}$/;
/** Names of tools, as the API has them. */
const TOOL_NAME = /^[a-zA-Z0-9_-]{1,128}$/;
/** The least that a client may let a model think, as the API has it. */
const MIN_THINKING_TOKENS = 1_024;

const anyObject = z.record(z.string(), z.unknown());

/** A list of blocks; a text alone is a list of one. */
const blocksOf = <Block extends z.ZodType>(block: Block) =>
  z.preprocess(
    (value) => typeof value === "string" ? [{ type: "text", text: value }] : value,
    listOf(block, { error: "must be a text or a list of blocks" }),
  );

// All blocks are open: `cache_control`, `citations` and the like ask for nothing that would be missing.
const textBlock = z.looseObject({ type: z.literal("text"), text: z.string() });

const link = z.looseObject({ type: z.literal("url"), url: z.string().min(1) });
const base64 = z.looseObject({
  type: z.literal("base64"),
  media_type: z.string().min(1),
  data: z.string().regex(/^[A-Za-z0-9+/_\s-]+={0,2}\s*$/, "does not hold base64"),
});

const imageBlock = z.looseObject({
  type: z.literal("image"),
  source: z.discriminatedUnion("type", [base64, link], {
    error: "must be a source of type base64 or url: files cannot be stored here, so file_id names none",
  }),
});

const documentBlock = z.looseObject({
  type: z.literal("document"),
  source: z.discriminatedUnion("type", [
    base64,
    link,
    z.looseObject({ type: z.literal("text"), data: z.string() }),
    z.looseObject({
      type: z.literal("content"),
      content: blocksOf(z.discriminatedUnion("type", [textBlock, imageBlock], {
        error: "must be a block of type text or image",
      })),
    }),
  ], {
    error:
      "must be a source of type base64, url, text or content: files cannot be stored here, so file_id names none",
  }),
  title: z.string().nullish(),
  context: z.string().nullish(),
});

const searchResultBlock = z.looseObject({
  type: z.literal("search_result"),
  source: z.string(),
  title: z.string(),
  content: listOf(textBlock),
});

const readable = [textBlock, imageBlock, documentBlock, searchResultBlock] as const;

const toolResultBlock = z.looseObject({
  type: z.literal("tool_result"),
  tool_use_id: z.string().min(1),
  content: blocksOf(z.discriminatedUnion("type", [...readable], {
    error: "must be a block of type text, image, document or search_result",
  })).nullish(),
  is_error: z.boolean().nullish(),
});

const toolUseBlock = z.looseObject({
  type: z.literal("tool_use"),
  id: z.string().min(1),
  name: z.string().min(1),
  input: z.preprocess((value) => value ?? {}, anyObject),
});

/** Thoughts are dropped: models do not want them back. What signs them is looked at. */
const thinkingBlock = z.looseObject({
  type: z.literal("thinking"),
  thinking: z.string(),
  signature: z.string().nullish(),
});
const redactedBlock = z.looseObject({ type: z.literal("redacted_thinking"), data: z.string() });

const message = z.discriminatedUnion("role", [
  z.looseObject({
    role: z.literal("user"),
    content: blocksOf(z.discriminatedUnion("type", [...readable, toolResultBlock], {
      error: "must be a block of type text, image, document, search_result or tool_result",
    })),
  }),
  z.looseObject({
    role: z.literal("assistant"),
    content: blocksOf(z.discriminatedUnion("type", [textBlock, toolUseBlock, thinkingBlock, redactedBlock], {
      error: "must be a block of type text, tool_use, thinking or redacted_thinking",
    })),
  }),
  // Said in the middle of a conversation.
  z.looseObject({ role: z.literal("system"), content: blocksOf(textBlock) }),
], { error: "must be a message with the role user or assistant" });

const tool = z.looseObject({
  type: z.literal("custom", {
    error:
      "must be custom or absent: the gateway runs no tools, and those of Anthropic's own are not known to these models",
  }).nullish(),
  name: z.string().regex(TOOL_NAME, "must be up to 128 letters, digits, _ and -"),
  description: z.string().nullish(),
  input_schema: anyObject,
  strict: z.boolean().nullish(),
});

const oneAtATime = { disable_parallel_tool_use: z.boolean().nullish() };
const toolChoice = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("auto"), ...oneAtATime }),
  z.looseObject({ type: z.literal("any"), ...oneAtATime }),
  z.looseObject({ type: z.literal("tool"), name: z.string(), ...oneAtATime }),
  z.looseObject({ type: z.literal("none") }),
], { error: "must be of type auto, any, tool or none" });

const display = z.enum(["summarized", "omitted"]).nullish();
const thinking = z.discriminatedUnion("type", [
  z.looseObject({
    type: z.literal("enabled"),
    budget_tokens: z.number().int().min(MIN_THINKING_TOKENS),
    display,
  }),
  z.looseObject({ type: z.literal("adaptive"), display }),
  z.looseObject({ type: z.literal("between_tools"), display }),
  z.looseObject({ type: z.literal("disabled") }),
], { error: "must be of type enabled, adaptive or disabled" });

const outputFormat = z.looseObject({
  type: z.literal("json_schema", { error: "must be json_schema" }),
  schema: anyObject,
});

const fields = {
  model: z.string({ error: "must be the name of a model" })
    .regex(MODEL_NAME, "must be the name of a model: visible ASCII characters without spaces")
    .transform((name) => name.replace(/^models\//, "")),
  messages: listOf(message, { error: "must be a list of messages" }).min(
    1,
    "must hold at least one message",
  ),
  system: blocksOf(textBlock).nullish(),
  tools: listOf(tool).nullish(),
  tool_choice: toolChoice.nullish(),
  thinking: thinking.nullish(),
  output_config: z.looseObject({
    effort: z.enum(["low", "medium", "high", "xhigh", "max"]).nullish(),
    format: outputFormat.nullish(),
  }).nullish(),
  /** Its name before `output_config`. */
  output_format: outputFormat.nullish(),
};
const object = {
  error: (issue: z.core.$ZodRawIssue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined,
};

const counted = z.looseObject(fields, object);
const messages = z.looseObject({
  ...fields,
  max_tokens: z.number({ error: "is needed, as a number" }).int().min(1),
  stream: z.boolean().nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.number().int().min(0).nullish(),
  stop_sequences: listOf(z.string().min(1)).max(
    MAX_STOP_TEXTS,
    `must hold at most ${MAX_STOP_TEXTS} texts: the models stop at no more`,
  ).nullish(),
  metadata: z.looseObject({ user_id: z.string().max(MAX_USER_ID_CHARS).nullish() }).nullish(),
}, object);

/** What is asked of a model, without how much and how it is told. */
export type AnthropicQuestion = z.output<typeof counted>;
export type AnthropicRequest = z.output<typeof messages>;
export type Message = AnthropicQuestion["messages"][number];
export type UserBlock = Extract<Message, { role: "user" }>["content"][number];
export type AssistantBlock = Extract<Message, { role: "assistant" }>["content"][number];
export type ResultBlock = Extract<UserBlock, { type: "tool_result" }>;
/** What a person, or a tool, shows to a model. */
export type ReadableBlock = Exclude<UserBlock, ResultBlock>;

/** Fields that change what is answered, and that nobody here can honour. */
const NOT_OFFERED: Readonly<Record<string, string>> = {
  container: "no code is run here",
  mcp_servers: "the gateway calls no servers: give their tools as tools",
};

/** Fields of any request of ours. */
const KNOWN = new Set([...Object.keys(messages.shape)]);

/** So many of what is ignored are named; clients that send more have sent something else. */
const MAX_IGNORED = 20;
/** Goes into a header. */
const PLAIN_FIELD = /^[\w.-]{1,64}$/;

export interface Decoded<Body> {
  body: Body;
  /** Fields that were there and asked for nothing that can be done here: tiers, regions, what a newer client knows. */
  ignored: string[];
}

/** The body of `/v1/messages`. Null fields count as absent. @throws GatewayError `invalid_request` */
export function decodeMessages(json: unknown): Decoded<AnthropicRequest> {
  const body = validated(messages, offered(json));
  return { body, ignored: ignoredIn(body) };
}

/** The body of `/v1/messages/count_tokens`. @throws GatewayError `invalid_request` */
export function decodeCounted(json: unknown): Decoded<AnthropicQuestion> {
  const body = validated(counted, offered(json));
  return { body, ignored: ignoredIn(body) };
}

function offered(json: unknown): unknown {
  if (!isObject(json)) return json;
  const refused: Fault[] = [];
  for (const [field, why] of Object.entries(NOT_OFFERED)) {
    if (Object.hasOwn(json, field) && asksForSomething(json[field])) {
      refused.push({ field, problem: `is not supported here: ${why}` });
    }
  }
  if (refused.length > 0) throw invalidRequest(refused);
  return json;
}

function asksForSomething(value: unknown): boolean {
  if (value === null || value === undefined) return false;
  return typeof value !== "object" || Object.keys(value).length > 0;
}

function ignoredIn(body: Record<string, unknown>): string[] {
  return Object.keys(body)
    .filter((field) => !KNOWN.has(field) && asksForSomething(body[field]) && PLAIN_FIELD.test(field))
    .slice(0, MAX_IGNORED);
}
