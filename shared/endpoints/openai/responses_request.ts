import { z } from "zod";
import { GatewayError } from "../../contract/gateway_error.ts";
import { type Chat, decodeChat } from "./chat_request.ts";
import { type Fault, invalidRequest, listOf, validated } from "../validated.ts";

type Json = Record<string, unknown>;

const text = z.looseObject({ type: z.enum(["input_text", "output_text", "text"]), text: z.string() });
const image = z.looseObject({
  type: z.literal("input_image"),
  image_url: z.string({ error: "is needed: files cannot be stored here, so file_id names none" }),
  detail: z.enum(["auto", "low", "high"]).nullish(),
});
const item = z.preprocess(
  (value) =>
    typeof value === "object" && value !== null && !("type" in value) ? { type: "message", ...value } : value,
  z.discriminatedUnion("type", [
    z.looseObject({
      type: z.literal("message"),
      role: z.enum(["user", "assistant", "system", "developer"]),
      content: z.union([z.string(), listOf(z.union([text, image]))]),
    }),
    z.looseObject({
      type: z.literal("function_call"),
      call_id: z.string(),
      name: z.string(),
      arguments: z.string(),
    }),
    z.looseObject({ type: z.literal("function_call_output"), call_id: z.string(), output: z.string() }),
    z.looseObject({ type: z.literal("reasoning") }),
  ], { error: "must be a message, a function_call, a function_call_output or reasoning" }),
);

/** The fields that chat completions have too, under the same name or another, and those that ask for nothing. */
const body = z.strictObject({
  model: z.unknown(),
  input: z.union([z.string(), listOf(item).min(1)], { error: "must be a text or a list of items" }),
  instructions: z.string().nullish(),
  stream: z.unknown().optional(),
  temperature: z.unknown().optional(),
  top_p: z.unknown().optional(),
  max_output_tokens: z.unknown().optional(),
  parallel_tool_calls: z.unknown().optional(),
  metadata: z.unknown().optional(),
  user: z.unknown().optional(),
  safety_identifier: z.unknown().optional(),
  prompt_cache_key: z.unknown().optional(),
  service_tier: z.unknown().optional(),
  reasoning: z.strictObject({ effort: z.unknown().optional(), summary: z.null().optional() }).nullish(),
  text: z.strictObject({
    format: z.looseObject({ type: z.string() }).optional(),
    verbosity: z.unknown().optional(),
  })
    .nullish(),
  tools: listOf(
    z.looseObject({ type: z.literal("function", { error: "must be function: no other tools are offered" }) }),
  )
    .nullish(),
  tool_choice: z.unknown().optional(),
  // Answers that are given at once are not stored: a client that continues a conversation sends what was said.
  store: z.boolean().nullish(),
  previous_response_id: z.null({ error: "answers are not kept here: send what was said in input" })
    .optional(),
  include: listOf(z.never({ error: "is not offered here" })).nullish(),
  truncation: z.enum(["disabled"], { error: "must be disabled: nothing is left out of a prompt here" })
    .nullish(),
  background: z.boolean().nullish(),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

type Item = z.output<typeof item>;

/** Names of a chat completion's fields, and what they are called in a response's body. */
const RENAMED: readonly (readonly [RegExp, string])[] = [
  [/^max_completion_tokens/, "max_output_tokens"],
  [/^reasoning_effort/, "reasoning.effort"],
  [/^verbosity/, "text.verbosity"],
  [/^response_format(\.json_schema)?/, "text.format"],
  [/^(tools\[\d+\]|tool_choice)\.function/, "$1"],
];

export interface DecodedResponses {
  chat: Chat;
  /** A fault of the chat completion, in the names of the Responses API. */
  rename: (thrown: unknown) => unknown;
  /** Null: the caller waits for the answer. */
  background: BackgroundTerms | null;
}

/** What is done while nobody waits. */
export interface BackgroundTerms {
  /** The request as one that is waited for. */
  body: Json;
  /** Whether the answer is to be kept for longer than it takes to fetch it. */
  store: boolean;
}

/**
 * A body of the Responses API as that of a chat completion.
 * @throws GatewayError `invalid_request`, in the names of the Responses API
 */
export function decodeResponses(json: unknown): DecodedResponses {
  const asked = validated(body, json);
  const places: string[] = [];
  const messages = messagesOf(asked.input, places);
  if (typeof asked.instructions === "string") {
    messages.unshift({ role: "system", content: asked.instructions });
    places.unshift("instructions");
  }
  const rename = (thrown: unknown) => renamed(thrown, places);
  try {
    const chat = decodeChat({
      model: asked.model,
      messages,
      stream: asked.stream,
      temperature: asked.temperature,
      top_p: asked.top_p,
      max_completion_tokens: asked.max_output_tokens,
      parallel_tool_calls: asked.parallel_tool_calls,
      metadata: asked.metadata,
      user: asked.user,
      safety_identifier: asked.safety_identifier,
      prompt_cache_key: asked.prompt_cache_key,
      reasoning_effort: asked.reasoning?.effort,
      response_format: formatOf(asked.text?.format),
      tools: asked.tools?.map(({ type, ...declared }) => ({ type, function: declared })),
      tool_choice: choiceOf(asked.tool_choice),
      ...(asked.service_tier !== undefined && { service_tier: asked.service_tier }),
      ...(asked.text?.verbosity !== undefined && { verbosity: asked.text.verbosity }),
    });
    return { chat, rename, background: backgroundOf(asked) };
  } catch (thrown) {
    throw rename(thrown);
  }
}

function backgroundOf(
  { background, store, stream, ...asked }: z.output<typeof body>,
): BackgroundTerms | null {
  if (background !== true) return null;
  if (stream === true) {
    throw invalidRequest([{
      field: "stream",
      problem: "must be false with background: ask for the response until it has ended",
    }]);
  }
  return { body: asked, store: store !== false };
}

function messagesOf(input: string | Item[], places: string[]): Json[] {
  if (typeof input === "string") {
    places.push("input");
    return [{ role: "user", content: input }];
  }
  const messages: Json[] = [];
  const add = (message: Json, place: string) => {
    places.push(place);
    messages.push(message);
  };
  input.forEach((one, i) => {
    const place = `input[${i}]`;
    if (one.type === "message") add({ role: one.role, content: contentOf(one.content) }, place);
    if (one.type === "function_call_output") {
      add({ role: "tool", tool_call_id: one.call_id, content: one.output }, place);
    }
    if (one.type !== "function_call") return;
    const call = {
      id: one.call_id,
      type: "function",
      function: { name: one.name, arguments: one.arguments },
    };
    // What the model said and called in one turn stands one after the other.
    const last = messages.at(-1);
    if (last?.role !== "assistant") add({ role: "assistant", tool_calls: [call] }, place);
    else last.tool_calls = [...(Array.isArray(last.tool_calls) ? last.tool_calls : []), call];
  });
  return messages;
}

function contentOf(content: Extract<Item, { type: "message" }>["content"]): unknown {
  if (typeof content === "string") return content;
  return content.map((part) =>
    part.type === "input_image"
      ? { type: "image_url", image_url: { url: part.image_url, ...(part.detail && { detail: part.detail }) } }
      : { type: "text", text: part.text }
  );
}

function formatOf(format: Json | undefined): unknown {
  if (format?.type !== "json_schema") return format;
  const { type, ...json_schema } = format;
  return { type, json_schema };
}

function choiceOf(choice: unknown): unknown {
  const { type, name } = Object(choice) as Json;
  return type === "function" ? { type, function: { name } } : choice;
}

function renamed(thrown: unknown, places: string[]): unknown {
  if (!(thrown instanceof GatewayError) || thrown.code !== "invalid_request") return thrown;
  return invalidRequest(
    (thrown.details as Fault[]).map(({ field, problem }) => ({ field: nameOf(field, places), problem })),
  );
}

/** The place in the body of a field of the chat completion that was made of it. */
function nameOf(field: string, places: readonly string[]): string {
  const place = /^messages\[(\d+)\]/.exec(field);
  if (place !== null) return (places[Number(place[1])] ?? "input") + field.slice(place[0].length);
  for (const [theirs, ours] of RENAMED) if (theirs.test(field)) return field.replace(theirs, ours);
  return field;
}
