import type { Prompt } from "../../contract/content.ts";
import type { EmbedItem } from "../../contract/embedding.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { Asked, Unresolved } from "../../contract/request.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { traceIdOf } from "../../http/trace.ts";
import { targetOf } from "../../stages/stage_name.ts";
import type { Endpoint, RequestContext } from "../endpoint.ts";
import { eveOptions } from "../eve_options.ts";
import { encodeGemini } from "./answer.ts";
import { encodeEmbeddings, geminiEmbedBatch, geminiEmbedItem } from "./embedding.ts";
import { geminiEncoding } from "./encoding.ts";
import { geminiErrorResponse } from "./error.ts";
import { geminiModel, geminiModels } from "./models.ts";
import { geminiCountedPrompt, geminiPrompt } from "./request.ts";
import { type GeminiRoute, geminiRoute } from "./route.ts";
import { streamGemini } from "./stream.ts";
import { geminiWaitMs } from "./wait.ts";

const METHODS: Readonly<Record<GeminiRoute["kind"], readonly string[]>> = {
  call: ["POST"],
  model: ["GET"],
  models: ["GET"],
  // Every one of them is answered by `not_found`, which says more than `method_not_allowed`.
  unknown: ["GET", "POST", "PATCH", "PUT", "DELETE"],
};

/** The Gemini API, on `/v1beta` and `/v1`. @param maxWaitMs the most that a caller may ask to wait */
export function geminiEndpoint({ maxWaitMs }: { maxWaitMs: number }): Endpoint {
  const methods = (path: string) => METHODS[geminiRoute(path)?.kind ?? "unknown"];
  async function serve(context: RequestContext): Promise<Response> {
    const route = geminiRoute(context.path);
    switch (route?.kind) {
      case "call":
        return await call(context, route, maxWaitMs);
      case "model":
        return await describe(context, route.model);
      case "models":
        return jsonResponse(
          200,
          geminiModels(await context.models(), context.request.url),
          context.requestId,
        );
      default:
        throw new GatewayError("not_found", {
          message:
            `The gateway offers nothing at ${context.path}. Of the Gemini API it has the models, generateContent, streamGenerateContent, countTokens, embedContent and batchEmbedContents; OpenAI's API is under /openai/v1.`,
        });
    }
  }
  return {
    name: "gemini",
    // Clients differ in the version they put before their paths; the gateway answers all of them alike.
    routes: ["/v1beta/*", "/v1/*"].map((path) => ({ path, methods, serve })),
    errorResponse: geminiErrorResponse,
  };
}

async function call(
  context: RequestContext,
  { model, method }: Extract<GeminiRoute, { kind: "call" }>,
  maxWaitMs: number,
): Promise<Response> {
  const encoding = geminiEncoding(context.request.url);
  const asked = askedOf(context, maxWaitMs);
  const body = await context.readJson();
  const servedBy = () => context.resolve(targetOf([model]));
  const withPrompt = async (prompt: Prompt) => ({ ...asked, ...await servedBy(), prompt });
  const withItems = async (items: EmbedItem[]) => ({ ...asked, ...await servedBy(), items });
  switch (method) {
    case "generateContent":
      return encodeGemini(await context.invoke(await withPrompt(geminiPrompt(body))), encoding);
    case "streamGenerateContent":
      return await streamGemini(context.stream(await withPrompt(geminiPrompt(body))), {
        model,
        requestId: asked.id,
        encoding,
      });
    case "countTokens": {
      const { totalTokens } = await context.countTokens({ prompt: geminiCountedPrompt(body) });
      return jsonResponse(200, { totalTokens }, asked.id);
    }
    case "embedContent":
      return encodeEmbeddings(await context.embed(await withItems([geminiEmbedItem(body, model)])), false);
    case "batchEmbedContents":
      return encodeEmbeddings(await context.embed(await withItems(geminiEmbedBatch(body, model))), true);
  }
}

/** What the address and the `x-eve-*` options say about a call. From here on it goes by the client's id, if it has one. */
function askedOf(context: RequestContext, maxWaitMs: number): Unresolved<Asked> {
  const { request } = context;
  const options = eveOptions(request, { maxWaitMs, defaultWaitMs: geminiWaitMs(request) });
  const id = options.requestId ?? context.requestId;
  context.adoptRequestId(id);
  return {
    id,
    idIsClients: options.requestId !== null,
    endpoint: "gemini",
    class: options.class,
    maxWaitMs: options.maxWaitMs,
    metadata: {},
    traceId: traceIdOf(request),
    capture: options.capture,
  };
}

async function describe(context: RequestContext, model: string): Promise<Response> {
  const info = (await context.models()).find((one) => one.model === model);
  if (info === undefined) {
    throw new GatewayError("unknown_model", {
      message:
        `models/${model} is not found, or not for this caller. List the models to see which there are.`,
      model,
    });
  }
  return jsonResponse(200, geminiModel(info), context.requestId);
}
