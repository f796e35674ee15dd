import type { Prompt } from "../../contract/content.ts";
import type { EmbedItem } from "../../contract/embedding.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { Asked, Unresolved } from "../../contract/request.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { targetOf } from "../../stages/stage_name.ts";
import type { Endpoint, EndpointRoute, RequestContext } from "../endpoint.ts";
import { askedIn } from "../eve_options.ts";
import { encodeGemini } from "./answer.ts";
import { type CachedContents, cacheNamed, createCache, listCaches, oneCache } from "./cached_contents.ts";
import { cancel, createBatch, listBatches, oneBatch } from "./batches.ts";
import { encodeEmbeddings, geminiEmbedBatch, geminiEmbedItem } from "./embedding.ts";
import { geminiEncoding } from "./encoding.ts";
import { geminiErrorResponse } from "./error.ts";
import { withFiles } from "./files/file_data.ts";
import { download, type GeminiFiles, listFiles, oneFile } from "./files/files.ts";
import { geminiModel, geminiModels, knownModel } from "./models.ts";
import { geminiCountedPrompt, geminiPrompt } from "./request.ts";
import { type GeminiRoute, geminiRoute } from "./route.ts";
import { streamGemini } from "./stream.ts";
import { upload } from "./files/upload.ts";
import { geminiWaitMs } from "./wait.ts";

const METHODS: Readonly<Record<GeminiRoute["kind"], readonly string[]>> = {
  call: ["POST"],
  model: ["GET"],
  models: ["GET"],
  upload: ["POST", "PUT"],
  files: ["GET"],
  file: ["GET", "DELETE"],
  download: ["GET"],
  batches: ["GET"],
  batch: ["GET", "DELETE"],
  cancel: ["POST"],
  caches: ["GET", "POST"],
  cache: ["GET", "PATCH", "DELETE"],
  // Every one of them is answered by `not_found`, which says more than `method_not_allowed`.
  unknown: ["GET", "POST", "PATCH", "PUT", "DELETE"],
};

export interface GeminiEndpointOptions {
  /** The most that a caller may ask to wait. */
  maxWaitMs: number;
  /** Files and batches. Absent: there are none. */
  files?: GeminiFiles | undefined;
  /** Contents that Google keeps. Absent: none are. */
  caches?: CachedContents | undefined;
}

/** The Gemini API, on `/v1beta` and `/v1`. */
export function geminiEndpoint({ maxWaitMs, files, caches }: GeminiEndpointOptions): Endpoint {
  const methods = (path: string) => METHODS[geminiRoute(path)?.kind ?? "unknown"];
  async function serve(context: RequestContext): Promise<Response> {
    const route = geminiRoute(context.path);
    if (files !== undefined) {
      switch (route?.kind) {
        case "upload":
          return await upload(context, files);
        case "files":
          return await listFiles(context, files);
        case "file":
          return await oneFile(context, route.id, files);
        case "download":
          return await download(context, route.id, files);
        case "batches":
          return await listBatches(context, files);
        case "batch":
          return await oneBatch(context, route.id, files);
        case "cancel":
          return await cancel(context, route.id, files);
        case "call":
          if (route.method === "batchGenerateContent") return await createBatch(context, route.model, files);
      }
    }
    if (caches !== undefined) {
      switch (route?.kind) {
        case "caches":
          if (context.request.method === "GET") return await listCaches(context, caches);
          return await createCache(context, askedOf(context, maxWaitMs), { caches, files });
        case "cache":
          return await oneCache(context, route.id, caches);
      }
    }
    switch (route?.kind) {
      case "call":
        return await call(context, route, { maxWaitMs, files, caches });
      case "model":
        return await describe(context, route.model);
      case "models":
        return jsonResponse(
          200,
          geminiModels(await context.models(), context.request.url),
          context.requestId,
        );
      default:
        throw notServed(context);
    }
  }
  const uploads: EndpointRoute = {
    path: "/upload/*",
    methods,
    serve,
    callerOfAddress: async ({ url }) => (await files?.addresses.verify(url))?.caller ?? null,
  };
  return {
    name: "gemini",
    // Clients differ in the version they put before their paths; the gateway answers all of them alike.
    routes: [...["/v1beta/*", "/v1/*", "/ws/*"].map((path) => ({ path, methods, serve })), uploads],
    errorResponse: geminiErrorResponse,
  };
}

/** What the Gemini API has and the gateway has not, by its address, and why. */
const NOT_HERE: readonly (readonly [RegExp, string])[] = [
  [
    /\/interactions(?:\/|$|:)|\/agents(?:\/|$)/,
    "Interactions are not offered here: Google keeps them by project, and the gateway's calls go to whichever of its keys is free. " +
    "Use generateContent, or previous_response_id of the Responses API at /openai/v1.",
  ],
  [
    /BidiGenerateContent|BidiGenerateMusic|\/auth_?[tT]okens(?:\/|$|:)/,
    "Live is not offered here: the gateway answers calls, and keeps no sessions open. Use streamGenerateContent.",
  ],
];

function notServed({ path }: RequestContext): GatewayError {
  const known = NOT_HERE.find(([address]) => address.test(path));
  if (known !== undefined) return new GatewayError("not_found", { message: known[1] });
  return new GatewayError("not_found", {
    message:
      `The gateway offers nothing at ${path}. Of the Gemini API it has the models, files, cachedContents, batches, generateContent, streamGenerateContent, countTokens, embedContent, batchEmbedContents and batchGenerateContent; OpenAI's API is under /openai/v1.`,
  });
}

async function call(
  context: RequestContext,
  { model, method }: Extract<GeminiRoute, { kind: "call" }>,
  { maxWaitMs, files, caches }: GeminiEndpointOptions,
): Promise<Response> {
  const encoding = geminiEncoding(context.request.url);
  const asked = askedOf(context, maxWaitMs);
  const body = await context.readJson();
  const servedBy = () => context.resolve(targetOf([model]));
  const withPrompt = async (prompt: Prompt) => ({
    ...asked,
    ...await cacheNamed(prompt, context, await servedBy(), caches),
    prompt: await withFiles(prompt, context, files),
  });
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
      const prompt = await withFiles(geminiCountedPrompt(body), context, files);
      const { totalTokens } = await context.countTokens({ prompt });
      return jsonResponse(200, { totalTokens }, asked.id);
    }
    case "embedContent":
      return encodeEmbeddings(await context.embed(await withItems([geminiEmbedItem(body, model)])), false);
    case "batchEmbedContents":
      return encodeEmbeddings(await context.embed(await withItems(geminiEmbedBatch(body, model))), true);
    case "batchGenerateContent":
      throw notServed(context);
  }
}

/** What the address and the `x-eve-*` options say about a call. From here on it goes by the client's id, if it has one. */
function askedOf(context: RequestContext, maxWaitMs: number): Unresolved<Asked> {
  const terms = { maxWaitMs, defaultWaitMs: geminiWaitMs(context.request) };
  return { ...askedIn(context, "gemini", terms), metadata: {} };
}

async function describe(context: RequestContext, model: string): Promise<Response> {
  return jsonResponse(200, geminiModel(await knownModel(context, model)), context.requestId);
}
