import { GatewayError } from "../../contract/gateway_error.ts";
import type { Asked, Unresolved } from "../../contract/request.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { targetOf } from "../../stages/stage_name.ts";
import type { Endpoint, EndpointRoute, RequestContext } from "../endpoint.ts";
import { askedIn } from "../eve_options.ts";
import { IgnoredFields } from "../ignored_fields.ts";
import { fetchLinked, FILE_TYPES, type Links } from "../linked_media.ts";
import { type AnthropicBatches, batchRoutes } from "./batches.ts";
import { encodeMessage } from "./answer.ts";
import { anthropicErrorResponse } from "./error.ts";
import { idHeaders } from "./headers.ts";
import { linksIn } from "./messages.ts";
import { modelPage, shownModel } from "./models.ts";
import { countedPrompt, formatOf, promptOf, showsThoughts } from "./prompt.ts";
import { type AnthropicQuestion, decodeCounted, decodeMessages } from "./request.ts";
import { streamMessage } from "./stream.ts";

export interface AnthropicEndpointOptions extends Links {
  /**
   * The most that a caller may ask to wait, in ms, and what they wait unless they say otherwise: Anthropic's clients
   * wait for ten minutes, and retry by themselves after an error.
   */
  maxWaitMs: number;
  /** True: fields that an answer does without are refused, too. Absent: they are named in `x-eve-ignored`. */
  strictFields?: boolean | undefined;
  /** Milliseconds since the epoch. */
  now: () => number;
  /** A fresh id of letters, digits and `-`, for tool calls. */
  newId: () => string;
  /** Message batches. Absent: there are none. */
  batches?: AnthropicBatches | undefined;
}

const BASE = "/anthropic/v1";
/** Of addresses that do not exist, which are answered like any others: credentials first. */
const ANY = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

/** Anthropic's API at `/anthropic/v1`. */
export function anthropicEndpoint(options: AnthropicEndpointOptions): Endpoint {
  const served: EndpointRoute[] = [
    { path: "/messages", methods: ["POST"], serve: (context) => answer(context, options) },
    { path: "/messages/count_tokens", methods: ["POST"], serve: (context) => count(context, options) },
    ...(options.batches === undefined ? [] : batchRoutes(options.batches)),
    { path: "/models", methods: ["GET"], serve: listModels },
    { path: "/models/:id{.+}", methods: ["GET"], serve: showModel },
  ];
  const notFound: EndpointRoute = {
    path: "/anthropic/*",
    methods: ANY,
    serve({ path }) {
      throw new GatewayError("not_found", {
        message: `There is nothing at this address. The base URL ends in /anthropic; served are ${
          served.map((route) => `/v1${route.path.replace(/:id(\{\.\+\})?/, "{id}")}`).join(", ")
        }.`,
        details: { path },
      });
    },
  };
  return {
    name: "anthropic",
    routes: [...served.map((route) => ({ ...route, path: `${BASE}${route.path}` })), notFound],
    errorResponse: (error, requestId) => anthropicErrorResponse(error, requestId, options.now()),
  };
}

async function answer(context: RequestContext, options: AnthropicEndpointOptions): Promise<Response> {
  const asked = askedOf(context, options);
  const ignored = ignoredBy(options);
  const body = decodeMessages(await context.readJson(), ignored);
  const prompt = promptOf(body, await linkedIn(body, context, options));
  const strictSchema = formatOf(body) !== undefined;
  const request = {
    ...asked,
    ...await context.resolve(targetOf([body.model])),
    prompt,
    metadata: body.metadata?.user_id === undefined ? {} : { user: body.metadata.user_id },
    schemaRepair: strictSchema,
  };
  const { tool_choice: choice } = body;
  const terms = {
    requestId: request.id,
    model: request.models[0] ?? body.model,
    showsThoughts: showsThoughts(body),
    parallelCalls: choice === undefined || choice.type === "none" ||
      choice.disable_parallel_tool_use !== true,
    strictSchema,
    newId: options.newId,
    now: options.now,
  };
  const response = body.stream === true
    ? await streamMessage(context.stream(request), terms)
    : encodeMessage(await context.invoke(request), terms);
  return ignored?.namedIn(response) ?? response;
}

async function count(context: RequestContext, options: AnthropicEndpointOptions): Promise<Response> {
  const { id } = askedOf(context, options);
  const ignored = ignoredBy(options);
  const body = decodeCounted(await context.readJson(), ignored);
  const prompt = countedPrompt(body, await linkedIn(body, context, options));
  const { totalTokens } = await context.countTokens({ prompt });
  const response = jsonResponse(200, { input_tokens: totalTokens }, id, idHeaders(id));
  return ignored?.namedIn(response) ?? response;
}

/** Null: fields that an answer does without are refused. */
function ignoredBy({ strictFields }: AnthropicEndpointOptions): IgnoredFields | null {
  return strictFields === true ? null : new IgnoredFields();
}

function linkedIn(body: AnthropicQuestion, context: RequestContext, options: AnthropicEndpointOptions) {
  return fetchLinked(linksIn(body), options, context, FILE_TYPES);
}

async function listModels(context: RequestContext): Promise<Response> {
  const { request, requestId } = context;
  return jsonResponse(200, modelPage(await context.models(), request.url), requestId, idHeaders(requestId));
}

async function showModel(context: RequestContext): Promise<Response> {
  const { requestId } = context;
  return jsonResponse(
    200,
    shownModel(await context.models(), context.param("id")),
    requestId,
    idHeaders(requestId),
  );
}

/** What a request asks of the gateway itself. From here on it has the client's id, if it brings one. */
function askedOf(
  context: RequestContext,
  { maxWaitMs }: AnthropicEndpointOptions,
): Omit<Unresolved<Asked>, "metadata"> {
  return askedIn(context, "anthropic", { maxWaitMs, defaultWaitMs: maxWaitMs });
}
