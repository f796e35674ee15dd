import * as z from "zod";
import { GatewayError } from "../../../contract/gateway_error.ts";
import { isObject } from "../../../contract/is_object.ts";
import { knownFields, openFields } from "../../fields.ts";
import { IgnoredFields } from "../../ignored_fields.ts";
import { type Chat, decodeChat } from "../chat/chat_request.ts";
import { isDoneElsewhere, type PlacedItem, responseInput, type SaidItem } from "./response_items.ts";
import { type Fault, invalidRequest, listOf, validated } from "../../validated.ts";

type Json = Record<string, unknown>;

/** What may be asked to stand in the answer, and whether it would be missing. */
const LOGPROBS = "message.output_text.logprobs";
const WEB_SEARCH = /^web_search/;

const noneOf = (why: string) => z.undefined({ error: `is not supported here: ${why}` }).optional();

/** The fields that chat completions have too, under the same name or another, and those of this API alone. */
const body = knownFields("", {
  model: z.unknown(),
  input: responseInput,
  instructions: z.string().optional(),
  stream: z.unknown().optional(),
  stream_options: knownFields("stream_options", {}).optional(),
  temperature: z.unknown().optional(),
  top_p: z.unknown().optional(),
  max_output_tokens: z.unknown().optional(),
  parallel_tool_calls: z.unknown().optional(),
  metadata: z.unknown().optional(),
  user: z.unknown().optional(),
  safety_identifier: z.unknown().optional(),
  prompt_cache_key: z.unknown().optional(),
  prompt_cache_retention: z.unknown().optional(),
  service_tier: z.unknown().optional(),
  top_logprobs: z.unknown().optional(),
  reasoning: knownFields("reasoning", {
    effort: z.unknown().optional(),
    summary: z.enum(["auto", "concise", "detailed"]).optional(),
    generate_summary: z.enum(["auto", "concise", "detailed"]).optional(),
  }).optional(),
  text: knownFields("text", {
    format: openFields({ type: z.string() }).optional(),
    verbosity: z.unknown().optional(),
  }).optional(),
  tools: listOf(
    openFields({
      type: z.string().refine(
        (type) => type === "function" || type === "custom" || WEB_SEARCH.test(type),
        "must be function, custom or web_search: no other tools are offered",
      ),
    }),
  ).optional(),
  tool_choice: z.unknown().optional(),
  store: z.boolean().optional(),
  previous_response_id: z.string().optional(),
  conversation: noneOf("go on from a previous_response_id"),
  prompt: noneOf("no prompts are kept, send what they say"),
  include: listOf(
    z.string().refine(
      (name) => name !== LOGPROBS,
      "is not supported here: probabilities of tokens are not available",
    ),
  ).optional(),
  truncation: z.enum(["disabled", "auto"]).optional(),
  background: z.boolean().optional(),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

/** A body of the Responses API, with what it goes on from still by its name. */
export type ResponsesBody = z.output<typeof body>;

/** Names of a chat completion's fields, and what they are called in a response's body. */
const RENAMED: readonly (readonly [RegExp, string])[] = [
  [/^max_completion_tokens/, "max_output_tokens"],
  [/^reasoning_effort/, "reasoning.effort"],
  [/^verbosity/, "text.verbosity"],
  [/^response_format(\.json_schema)?/, "text.format"],
  [/^web_search_options/, "tools"],
  [/^(tools\[\d+\]|tool_choice|tool_choice\.allowed_tools\.tools\[\d+\])\.function/, "$1"],
];

export interface DecodedResponses {
  chat: Chat;
  /** A fault of the chat completion, in the names of the Responses API. */
  rename: (thrown: unknown) => unknown;
}

/** What is done while nobody waits. */
export interface BackgroundTerms {
  /** The request as one that is waited for. */
  body: Json;
  /** Whether the answer is to be kept for longer than it takes to fetch it. */
  store: boolean;
}

/**
 * @param ignored takes the names of fields that an answer does without; null: they are refused
 * @throws GatewayError `invalid_request`
 */
export function readResponses(json: unknown, ignored: IgnoredFields | null): ResponsesBody {
  const asked = validated(body, json, ignored);
  // What is left out of a prompt that is too long would be left out by nobody here, and it is refused as ever.
  leftOut("truncation", asked.truncation === "auto", "nothing is left out of a prompt", ignored);
  leftOut("include", (asked.include ?? []).length > 0, "nothing more can be included", ignored);
  for (const { type } of asked.input.filter(isDoneElsewhere)) {
    leftOut(`input[].${type}`, true, "it is of a tool that no model here knows", ignored);
  }
  return asked;
}

function leftOut(field: string, isAsked: boolean, why: string, ignored: IgnoredFields | null): void {
  if (!isAsked) return;
  if (ignored === null) throw invalidRequest([{ field, problem: `is not supported here: ${why}` }]);
  ignored.add(field);
}

/**
 * Whether a body is one, as far as that can be told without what it goes on from.
 * @throws GatewayError `invalid_request`
 */
export function decodeResponses(json: unknown): DecodedResponses {
  const ignored = new IgnoredFields();
  const asked = readResponses(json, ignored);
  const items = asked.input.flatMap((item, i) =>
    item.type === "item_reference" ? [] : [{ item, place: `input[${i}]` }]
  );
  return responsesChat(asked, items, ignored);
}

/** Whether the model's thoughts are to stand in the answer. */
export function wantsSummary({ reasoning }: Pick<ResponsesBody, "reasoning">): boolean {
  return (reasoning?.summary ?? reasoning?.generate_summary) !== undefined;
}

/**
 * A body of the Responses API as that of a chat completion.
 * @param items all that is said, what it goes on from included
 * @throws GatewayError `invalid_request`, in the names of the Responses API
 */
export function responsesChat(
  asked: ResponsesBody,
  items: readonly PlacedItem[],
  ignored: IgnoredFields | null,
): DecodedResponses {
  const places: Place[] = [];
  const messages = messagesOf(items, places);
  if (asked.instructions !== undefined) {
    messages.unshift({ role: "system", content: asked.instructions });
    places.unshift({ name: "instructions", content: "content" });
  }
  const rename = (thrown: unknown) => renamed(thrown, places);
  const tools = asked.tools?.filter(({ type }) => !WEB_SEARCH.test(type));
  const verbosity = asked.text?.verbosity;
  const dropsVerbosity = ignored !== null && verbosity !== undefined && verbosity !== "medium";
  if (dropsVerbosity) ignored.add("text.verbosity");
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
      prompt_cache_retention: asked.prompt_cache_retention,
      service_tier: asked.service_tier,
      top_logprobs: asked.top_logprobs,
      verbosity: dropsVerbosity ? undefined : verbosity,
      reasoning_effort: asked.reasoning?.effort,
      extra_body: wantsSummary(asked) ? SUMMARY : undefined,
      response_format: formatOf(asked.text?.format),
      tools: tools?.map(({ type, ...declared }) => ({ type, [type]: declared })),
      web_search_options: tools?.length === asked.tools?.length ? undefined : {},
      tool_choice: choiceOf(asked.tool_choice),
    }, ignored);
    return { chat, rename };
  } catch (thrown) {
    throw rename(thrown);
  }
}

const SUMMARY = { google: { thinking_config: { include_thoughts: true } } };

/** Null: the caller waits for the answer. */
export function backgroundOf(
  { background, store, stream, ...asked }: ResponsesBody,
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

/** What a message of the chat completion is in the body: the item, and its field with the content. */
interface Place {
  name: string;
  content: "content" | "output";
}

function messagesOf(items: readonly PlacedItem[], places: Place[]): Json[] {
  const messages: Json[] = [];
  const add = (message: Json, name: string, content: Place["content"] = "content") => {
    places.push({ name, content });
    messages.push(message);
  };
  for (const { item: one, place } of items) {
    switch (one.type) {
      case "message":
        add({ role: one.role, content: contentOf(one.content, one.role) }, place);
        break;
      case "function_call_output":
      case "custom_tool_call_output":
        add({ role: "tool", tool_call_id: one.call_id, content: contentOf(one.output) }, place, "output");
        break;
      case "function_call":
      case "custom_tool_call": {
        const call = callOf(one);
        // What the model said and called in one turn stands one after the other.
        const last = messages.at(-1);
        if (last?.role !== "assistant") add({ role: "assistant", tool_calls: [call] }, place);
        else last.tool_calls = [...(Array.isArray(last.tool_calls) ? last.tool_calls : []), call];
      }
    }
  }
  return messages;
}

function callOf(one: Extract<SaidItem, { type: "function_call" | "custom_tool_call" }>): Json {
  return one.type === "function_call"
    ? { id: one.call_id, type: "function", function: { name: one.name, arguments: one.arguments } }
    : { id: one.call_id, type: "custom", custom: { name: one.name, input: one.input } };
}

type Content = Extract<SaidItem, { type: "message" }>["content"];

function contentOf(content: Content, role?: string): unknown {
  return content.map((part) => {
    switch (part.type) {
      case "input_image":
        return { type: "image_url", image_url: { url: part.image_url, detail: part.detail } };
      case "input_file":
        return {
          type: "file",
          file: { file_data: part.file_data ?? part.file_url, filename: part.filename },
        };
      case "input_audio":
        return part;
      case "refusal":
        return role === "assistant" ? part : { type: "text", text: part.refusal };
      default:
        return { type: "text", text: part.text };
    }
  });
}

function formatOf(format: Json | undefined): unknown {
  if (format?.type !== "json_schema") return format;
  const { type, ...json_schema } = format;
  return { type, json_schema };
}

function choiceOf(choice: unknown): unknown {
  if (!isObject(choice)) return choice;
  const { type, name } = choice;
  if (type === "function" || type === "custom") return { type, [type]: { name } };
  // Nobody can be made to search; who has the search may use it.
  return typeof type === "string" && WEB_SEARCH.test(type) ? "auto" : choice;
}

function renamed(thrown: unknown, places: readonly Place[]): unknown {
  if (!(thrown instanceof GatewayError) || thrown.code !== "invalid_request") return thrown;
  return invalidRequest(
    (thrown.details as Fault[]).map(({ field, problem }) => ({ field: nameOf(field, places), problem })),
  );
}

/** The place in the body of a field of the chat completion that was made of it. */
function nameOf(field: string, places: readonly Place[]): string {
  const place = /^messages\[(\d+)\](\.content)?/.exec(field);
  if (place !== null) {
    const { name, content } = places[Number(place[1])] ?? { name: "input", content: "content" };
    const rest = field.slice(place[0].length)
      .replace(/\.image_url\.url$/, ".image_url").replace(/\.file\.file_data$/, ".file_data");
    return name + (place[2] === undefined ? "" : `.${content}`) + rest;
  }
  for (const [theirs, ours] of RENAMED) if (theirs.test(field)) return field.replace(theirs, ours);
  return field === "messages" ? "input" : field;
}
