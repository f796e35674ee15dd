import type { Prompt } from "../../contract/content.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { isObject } from "../../contract/is_object.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { targetOf } from "../../stages/stage_name.ts";
import type { Endpoint, EndpointRoute, RequestContext } from "../endpoint.ts";
import type { Links } from "../linked_media.ts";
import { encodeCompletion } from "./chat/answer.ts";
import { askedOf, type CallOptions, createdAt, ignoredBy } from "./asked.ts";
import { beginResponse, type KeptResponses, responseRoutes } from "./responses/background.ts";
import { batchRoutes } from "./files/batches.ts";
import { type Chat, decodeChat } from "./chat/chat_request.ts";
import {
  decodeCompletion,
  encodeTextCompletion,
  encodeTextCompletions,
  streamTextCompletion,
} from "./chat/completions.ts";
import { decodeEmbeddings, embedItems, encodeEmbeddings } from "./embeddings.ts";
import { openaiErrorResponse } from "./error.ts";
import { answer, fileRoutes, type OpenaiBatches } from "./files/files.ts";
import { idHeaders } from "./headers.ts";
import type { IgnoredFields } from "../ignored_fields.ts";
import { asksForFunctions, inLegacyWords } from "./chat/legacy_functions.ts";
import { invalidRequest } from "../validated.ts";
import { generateImage } from "./images.ts";
import { fetchLinks } from "./media.ts";
import { modelList, shownModel } from "./models.ts";
import { moderate } from "./moderations.ts";
import { promptOf } from "./chat/prompt.ts";
import { encodeResponse, streamResponse } from "./responses/responses.ts";
import {
  backgroundOf,
  type DecodedResponses,
  readResponses,
  type ResponsesBody,
  responsesChat,
  wantsSummary,
} from "./responses/responses_request.ts";
import { conversationOf, keeping, responseIdOf } from "./responses/stored.ts";
import { encodeCompletionStream } from "./chat/stream.ts";
import { customTools } from "./chat/tools.ts";
import { transcribe } from "./transcriptions.ts";
import { uploadRoutes } from "./files/uploads.ts";

/**
 * `maxWaitMs` is what callers wait unless they say otherwise, too: OpenAI's clients wait for ten minutes, and retry by
 * themselves after an error.
 */
export interface OpenaiEndpointOptions extends CallOptions, Links {
  /** Who judges what clients ask OpenAI's own models for moderation about; absent: nobody is set. */
  moderationModel?: string | undefined;
  /** A fresh id of letters, digits and `-`, for tool calls. */
  newId: () => string;
  /** Files and batches. Absent: there are none. */
  batches?: OpenaiBatches | undefined;
  /** Responses that are kept, and made in the background. Absent: there are none. */
  kept?: KeptResponses | undefined;
}

const BASE = "/openai/v1";
/** Of a request's id, where each of its prompts has one with a number behind it. */
const MAX_ITEM_ID_CHARS = 190;
const POST = ["POST"] as const;
const GET = ["GET"] as const;
/** Of addresses that do not exist, which are answered like any others: credentials first. */
const ANY = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

/** OpenAI's API at `/openai/v1`. */
export function openaiEndpoint(options: OpenaiEndpointOptions): Endpoint {
  const served: EndpointRoute[] = [
    { path: "/chat/completions", methods: POST, serve: (context) => completeChat(context, options) },
    { path: "/completions", methods: POST, serve: (context) => completeText(context, options) },
    { path: "/responses", methods: POST, serve: (context) => respond(context, options) },
    { path: "/responses/input_tokens", methods: POST, serve: (context) => countInput(context, options) },
    { path: "/embeddings", methods: POST, serve: (context) => embed(context, options) },
    { path: "/moderations", methods: POST, serve: (context) => moderate(context, options) },
    { path: "/audio/transcriptions", methods: POST, serve: (context) => transcribe(context, options) },
    { path: "/images/generations", methods: POST, serve: (context) => generateImage(context, options) },
    { path: "/models", methods: GET, serve: listModels },
    { path: "/models/:id{.+}", methods: GET, serve: showModel },
    ...(options.batches === undefined ? [] : [
      ...fileRoutes(options.batches),
      ...uploadRoutes(options.batches.uploads),
      ...batchRoutes(options.batches),
    ]),
    ...(options.kept === undefined ? [] : responseRoutes(options.kept)),
  ];
  const notFound: EndpointRoute = {
    path: "/openai/*",
    methods: ANY,
    serve({ path }) {
      const known = NOT_HERE.find(([address]) => address.test(path));
      if (known !== undefined) throw new GatewayError("not_found", { message: known[1], details: { path } });
      throw new GatewayError("not_found", {
        message: `There is nothing at this address. The base URL ends in ${BASE}; served are ${
          served.map((route) => route.path.replace(/:id(\{\.\+\})?/, "{id}")).join(", ")
        }.`,
        details: { path },
      });
    },
  };
  return {
    name: "openai",
    routes: [...served.map((route) => ({ ...route, path: `${BASE}${route.path}` })), notFound],
    errorResponse: openaiErrorResponse,
  };
}

/** What OpenAI's API has and the gateway has not, by its address, and what to do instead. */
const NOT_HERE: readonly (readonly [RegExp, string])[] = [
  [
    /\/conversations(?:\/|$)/,
    "Conversations are not kept here: responses are, so go on from one by previous_response_id, or send the items yourself.",
  ],
  [
    /\/(?:assistants|threads)(?:\/|$)/,
    "Assistants are not offered here: use /responses with tools, which goes on by previous_response_id.",
  ],
  [
    /\/realtime(?:\/|$)/,
    "Realtime is not offered here: the gateway answers calls, and keeps no sessions open. Use stream: true.",
  ],
];

async function completeChat(context: RequestContext, options: OpenaiEndpointOptions): Promise<Response> {
  const { chat, request, terms: answerTerms, legacyFunctions, named } = await chatRequest(
    context,
    options,
    (json, ignored) => {
      const legacyFunctions = asksForFunctions(json);
      const rename = (thrown: unknown) => legacyFunctions ? inLegacyWords(thrown) : thrown;
      return { chat: decodeChat(json, ignored), legacyFunctions, rename };
    },
  );
  const terms = { ...answerTerms, legacyFunctions };
  if (!chat.stream) return named(encodeCompletion(await context.invoke(request), terms));
  return named(
    await encodeCompletionStream(context.stream(request), {
      ...terms,
      includeUsage: chat.stream_options?.include_usage === true,
      searches: chat.web_search_options !== undefined,
    }),
  );
}

async function completeText(context: RequestContext, options: OpenaiEndpointOptions): Promise<Response> {
  const { chat, prompts, echo, request, terms: answerTerms, named } = await chatRequest(
    context,
    options,
    decodeCompletion,
  );
  const terms = { ...answerTerms, echo, includeUsage: chat.stream_options?.include_usage === true };
  if (prompts.length > 1) {
    const links = await fetchLinks(chat.messages, options, context);
    // Each is a call of its own: upstream counts each as one.
    const results = await Promise.allSettled(prompts.map((prompt, n) => {
      const messages =
        decodeChat({ model: chat.model, messages: [{ role: "user", content: prompt }] }).messages;
      return context.invoke({
        ...request,
        id: `${request.id.slice(0, MAX_ITEM_ID_CHARS)}.${n + 1}`,
        prompt: promptOf({ ...chat, messages }, links),
      });
    }));
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    const answers = results.flatMap((result) => result.status === "fulfilled" ? [result.value] : []);
    return named(encodeTextCompletions(answers, { ...terms, prompts }));
  }
  if (!chat.stream) return named(encodeTextCompletion(await context.invoke(request), terms));
  return named(await streamTextCompletion(context.stream(request), terms));
}

async function respond(context: RequestContext, options: OpenaiEndpointOptions): Promise<Response> {
  const { kept } = options;
  const { asked, conversation, chat, request, terms: answerTerms, named } = await chatRequest(
    context,
    options,
    (json, ignored) => decodeConversation(json, ignored, context, options),
  );
  const background = backgroundOf(asked);
  if (background !== null) {
    if (kept === undefined) {
      throw invalidRequest([{ field: "background", problem: "this gateway has no queue: must be false" }]);
    }
    const { model } = chat;
    return named(await beginResponse(kept, context, background, { model, request, own: conversation.own }));
  }
  const id = await responseIdOf(request, context);
  const isKept = context.jobId === null && asked.store !== false && request.capture !== false;
  const terms = {
    ...answerTerms,
    responseId: id,
    summary: wantsSummary(asked),
    echo: echoOf(asked, chat),
    keep: kept !== undefined && isKept ? keeping(kept, context, { id, request, asked, conversation }) : null,
  };
  if (!chat.stream) return named(await encodeResponse(await context.invoke(request), terms));
  return named(await streamResponse(context.stream(request), terms));
}

/** How long the prompt of a response would be. */
async function countInput(context: RequestContext, options: OpenaiEndpointOptions): Promise<Response> {
  const ignored = ignoredBy(options);
  const json = await context.readJson();
  // A length is asked for without a model, too.
  const body = isObject(json) && (json.model ?? null) === null ? { ...json, model: "any" } : json;
  const { chat, rename } = await decodeConversation(body, ignored, context, options);
  const prompt = await promptFrom(chat, options, context).catch((thrown) => {
    throw rename(thrown);
  });
  const { totalTokens } = await context.countTokens({ prompt });
  return answer({ object: "response.input_tokens", input_tokens: totalTokens }, context.requestId);
}

async function decodeConversation(
  json: unknown,
  ignored: IgnoredFields | null,
  context: RequestContext,
  { kept }: OpenaiEndpointOptions,
) {
  const asked = readResponses(json, ignored);
  const conversation = await conversationOf(asked, kept?.responses, context);
  const items = [...conversation.before, ...conversation.own];
  return { asked, conversation, ...responsesChat(asked, items, ignored) };
}

/** What a response repeats of what was asked for. */
function echoOf(asked: ResponsesBody, chat: Chat): Record<string, unknown> {
  return {
    instructions: asked.instructions ?? null,
    max_output_tokens: asked.max_output_tokens ?? null,
    metadata: chat.metadata ?? {},
    previous_response_id: asked.previous_response_id ?? null,
    reasoning: { effort: chat.reasoning_effort ?? null, summary: asked.reasoning?.summary ?? null },
    temperature: chat.temperature ?? null,
    text: { format: asked.text?.format ?? { type: "text" } },
    tool_choice: asked.tool_choice ?? "auto",
    tools: asked.tools ?? [],
    top_p: chat.top_p ?? null,
    truncation: "disabled",
  };
}

/** A chat completion's body, or an equivalent one, as a request. */
async function chatRequest<Decoded extends Pick<DecodedResponses, "chat" | "rename">>(
  context: RequestContext,
  options: OpenaiEndpointOptions,
  decode: (json: unknown, ignored: IgnoredFields | null) => Decoded | Promise<Decoded>,
) {
  const asked = askedOf(context, options);
  const ignored = ignoredBy(options);
  const decoded = await decode(await context.readJson(), ignored);
  const { chat, rename } = decoded;
  const prompt = await promptFrom(chat, options, context).catch((thrown) => {
    throw rename(thrown);
  });
  const strictSchema = chat.response_format?.type === "json_schema" &&
    chat.response_format.json_schema.strict === true;
  const request = {
    ...asked,
    ...await context.resolve(targetOf([chat.model])),
    prompt,
    metadata: metadataOf(chat),
    schemaRepair: strictSchema,
  };
  const terms = {
    requestId: request.id,
    model: request.models[0] ?? chat.model,
    created: createdAt(options),
    newId: options.newId,
    parallelCalls: chat.parallel_tool_calls !== false,
    strictSchema,
    customTools: customTools(chat),
  };
  const named = (response: Response) => ignored?.namedIn(response) ?? response;
  return { ...decoded, request, terms, named };
}

async function promptFrom(
  chat: Chat,
  options: OpenaiEndpointOptions,
  context: RequestContext,
): Promise<Prompt> {
  return promptOf(chat, await fetchLinks(chat.messages, options, context));
}

async function embed(context: RequestContext, options: OpenaiEndpointOptions): Promise<Response> {
  const asked = askedOf(context, options);
  const body = decodeEmbeddings(await context.readJson());
  const items = embedItems(body);
  const result = await context.embed({
    ...asked,
    ...await context.resolve(targetOf([body.model])),
    items,
    metadata: typeof body.user === "string" ? { user: body.user } : {},
  });
  return encodeEmbeddings(result, body);
}

async function listModels(context: RequestContext): Promise<Response> {
  return jsonResponse(
    200,
    modelList(await context.models()),
    context.requestId,
    idHeaders(context.requestId),
  );
}

async function showModel(context: RequestContext): Promise<Response> {
  return jsonResponse(
    200,
    shownModel(await context.models(), context.param("id")),
    context.requestId,
    idHeaders(context.requestId),
  );
}

/** Kept with the request's record: who it was for, in the client's own words. */
function metadataOf(
  { user, safety_identifier, metadata }: Chat,
): Record<string, unknown> {
  return {
    ...metadata,
    ...(user !== undefined && { user }),
    ...(safety_identifier !== undefined && { safety_identifier }),
  };
}
