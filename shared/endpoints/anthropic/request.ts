import * as z from "zod";
import type * as core from "zod/v4/core";
import { isObject } from "../../contract/is_object.ts";
import { knownFields, openFields } from "../fields.ts";
import type { IgnoredFields } from "../ignored_fields.ts";
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

// All below the body are open: `cache_control`, `citations` and the like ask for nothing that would be missing.
const textBlock = openFields({ type: z.literal("text"), text: z.string() });

const link = openFields({ type: z.literal("url"), url: z.string().min(1) });
const base64 = openFields({
  type: z.literal("base64"),
  media_type: z.string().min(1),
  data: z.string().refine(isBase64, "does not hold base64"),
});

/** Lines of it, too. One expression for all of it would take the square of the blanks before what is no base64. */
function isBase64(text: string): boolean {
  return /^[A-Za-z0-9+/_\s-]+={0,2}$/.test(text.trimEnd());
}

const imageBlock = openFields({
  type: z.literal("image"),
  source: z.discriminatedUnion("type", [base64, link], {
    error: "must be a source of type base64 or url: files cannot be stored here, so file_id names none",
  }),
});

const documentBlock = openFields({
  type: z.literal("document"),
  source: z.discriminatedUnion("type", [
    base64,
    link,
    openFields({ type: z.literal("text"), data: z.string() }),
    openFields({
      type: z.literal("content"),
      content: blocksOf(z.discriminatedUnion("type", [textBlock, imageBlock], {
        error: "must be a block of type text or image",
      })),
    }),
  ], {
    error:
      "must be a source of type base64, url, text or content: files cannot be stored here, so file_id names none",
  }),
  title: z.string().optional(),
  context: z.string().optional(),
});

const searchResultBlock = openFields({
  type: z.literal("search_result"),
  source: z.string(),
  title: z.string(),
  content: listOf(textBlock),
});

const readable = [textBlock, imageBlock, documentBlock, searchResultBlock] as const;

const toolResultBlock = openFields({
  type: z.literal("tool_result"),
  tool_use_id: z.string().min(1),
  content: blocksOf(z.discriminatedUnion("type", [...readable], {
    error: "must be a block of type text, image, document or search_result",
  })).optional(),
  is_error: z.boolean().optional(),
});

const toolUseBlock = openFields({
  type: z.literal("tool_use"),
  id: z.string().min(1),
  name: z.string().min(1),
  input: z.preprocess((value) => value ?? {}, anyObject),
});

/** Thoughts are dropped: models do not want them back. What signs them is looked at. */
const thinkingBlock = openFields({
  type: z.literal("thinking"),
  thinking: z.string(),
  signature: z.string().optional(),
});
const redactedBlock = openFields({ type: z.literal("redacted_thinking"), data: z.string() });

const message = z.discriminatedUnion("role", [
  openFields({
    role: z.literal("user"),
    content: blocksOf(z.discriminatedUnion("type", [...readable, toolResultBlock], {
      error: "must be a block of type text, image, document, search_result or tool_result",
    })),
  }),
  openFields({
    role: z.literal("assistant"),
    content: blocksOf(z.discriminatedUnion("type", [textBlock, toolUseBlock, thinkingBlock, redactedBlock], {
      error: "must be a block of type text, tool_use, thinking or redacted_thinking",
    })),
  }),
  // Said in the middle of a conversation.
  openFields({ role: z.literal("system"), content: blocksOf(textBlock) }),
], { error: "must be a message with the role user or assistant" });

/** Anthropic's own search, in any version: upstream searches in its place. */
const WEB_SEARCH = /^web_search_\d{8}$/;

const tool = openFields({
  type: z.string().refine((type) => type === "custom" || WEB_SEARCH.test(type), {
    error:
      "must be custom, absent or web_search: the gateway runs no tools, and the others of Anthropic's own are not known to these models",
  }).optional(),
  name: z.string().regex(TOOL_NAME, "must be up to 128 letters, digits, _ and -"),
  description: z.string().optional(),
  input_schema: anyObject.optional(),
  strict: z.boolean().optional(),
});

const oneAtATime = { disable_parallel_tool_use: z.boolean().optional() };
const toolChoice = z.discriminatedUnion("type", [
  openFields({ type: z.literal("auto"), ...oneAtATime }),
  openFields({ type: z.literal("any"), ...oneAtATime }),
  openFields({ type: z.literal("tool"), name: z.string(), ...oneAtATime }),
  openFields({ type: z.literal("none") }),
], { error: "must be of type auto, any, tool or none" });

const display = z.enum(["summarized", "omitted"]).optional();
const thinking = z.discriminatedUnion("type", [
  openFields({
    type: z.literal("enabled"),
    budget_tokens: z.number().int().min(MIN_THINKING_TOKENS),
    display,
  }),
  openFields({ type: z.literal("adaptive"), display }),
  openFields({ type: z.literal("between_tools"), display }),
  openFields({ type: z.literal("disabled") }),
], { error: "must be of type enabled, adaptive or disabled" });

const outputFormat = openFields({
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
  system: blocksOf(textBlock).optional(),
  tools: listOf(tool).optional(),
  tool_choice: toolChoice.optional(),
  thinking: thinking.optional(),
  output_config: openFields({
    effort: z.enum(["low", "medium", "high", "xhigh", "max"]).optional(),
    format: outputFormat.optional(),
  }).optional(),
  /** Its name before `output_config`. */
  output_format: outputFormat.optional(),
};
const object = {
  error: (issue: core.$ZodRawIssue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined,
};

const counted = knownFields("", fields, object);
const messages = knownFields("", {
  ...fields,
  max_tokens: z.number({ error: "is needed, as a number" }).int().min(1),
  stream: z.boolean().optional(),
  temperature: z.number().min(0).max(2).optional(),
  top_p: z.number().min(0).max(1).optional(),
  top_k: z.number().int().min(0).optional(),
  stop_sequences: listOf(z.string().min(1)).max(
    MAX_STOP_TEXTS,
    `must hold at most ${MAX_STOP_TEXTS} texts: the models stop at no more`,
  ).optional(),
  metadata: openFields({ user_id: z.string().max(MAX_USER_ID_CHARS).optional() }).optional(),
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

/**
 * The body of `/v1/messages`. Null fields count as absent.
 * @param ignored takes the names of fields that nothing is done about; null: they are refused
 * @throws GatewayError `invalid_request`
 */
export function decodeMessages(json: unknown, ignored: IgnoredFields | null = null): AnthropicRequest {
  return withKnownTools(validated(messages, offered(json), ignored));
}

/** The body of `/v1/messages/count_tokens`. @throws GatewayError `invalid_request` */
export function decodeCounted(json: unknown, ignored: IgnoredFields | null = null): AnthropicQuestion {
  return withKnownTools(validated(counted, offered(json), ignored));
}

/** @throws GatewayError `invalid_request`, naming what cannot be had and would change the answer */
function offered(json: unknown): unknown {
  if (!isObject(json)) return json;
  const refused: Fault[] = [];
  const rest = Object.entries(json).filter(([field, value]) => {
    const why = Object.hasOwn(NOT_OFFERED, field) ? NOT_OFFERED[field] : undefined;
    if (why !== undefined && asksForSomething(value)) {
      refused.push({ field, problem: `is not supported here: ${why}` });
    }
    return why === undefined;
  });
  if (refused.length > 0) throw invalidRequest(refused);
  return Object.fromEntries(rest);
}

function asksForSomething(value: unknown): boolean {
  if (value === null) return false;
  return typeof value !== "object" || Object.keys(value).length > 0;
}

export const isWebSearch = ({ type }: { type?: string | undefined }) =>
  type !== undefined && WEB_SEARCH.test(type);

function withKnownTools<Body extends AnthropicQuestion>(body: Body): Body {
  const faults = (body.tools ?? []).flatMap((tool, i): Fault[] => {
    const at = (field: string, problem: string) => ({ field: `tools[${i}].${field}`, problem });
    if (!isWebSearch(tool)) return tool.input_schema === undefined ? [at("input_schema", "is needed")] : [];
    return ["allowed_domains", "blocked_domains"].filter((field) => asksForSomething(tool[field] ?? null))
      .map((field) => at(field, "is not supported here: upstream's search knows no such bounds"));
  });
  if (faults.length > 0) throw invalidRequest(faults);
  return body;
}
