import { judgedAnswer } from "../judged_answer.ts";
import type { KeyInquiry, KeyInspector } from "../key_inspector.ts";
import {
  baseUrlOf,
  connectionFailed,
  jsonFromUpstream,
  recordsIn,
  type UpstreamCall,
  upstreamModel,
} from "../upstream.ts";
import { answerOfCompletion } from "./answer.ts";
import { OPENAI_ERROR_MAPPING } from "./errors.ts";
import { chatBody, textsOf } from "./request.ts";
import { modelsIn } from "./models.ts";
import { readCompletionStream } from "./stream.ts";
import type { EmbeddingProvider, ProviderCall, ProviderOf, ProviderSettings } from "../provider.ts";
import { isObject } from "../../contract/is_object.ts";

export const OPENAI_BASE_URL = "https://api.openai.com/v1";

export interface OpenAiOptions {
  /** Base of the API, its version included. A setting `base_url` goes before it. */
  baseUrl?: string;
  fetch?: typeof fetch;
}

/** OpenAI's API, or any server that speaks it: chat completions, embeddings, the list of models. */
export function openaiProvider(
  options: OpenAiOptions = {},
): ProviderOf<"text" | "embeddings"> & KeyInspector {
  const baseOf = (settings: ProviderSettings | undefined) =>
    baseUrlOf(settings, options.baseUrl, OPENAI_BASE_URL);

  function callOf(
    path: string,
    { secret, settings, signal }: KeyInquiry,
    body?: unknown,
  ): UpstreamCall {
    return {
      url: `${baseOf(settings)}${path}`,
      headers: { authorization: `Bearer ${secret}` },
      body,
      secret,
      signal,
      fetch: options.fetch ?? fetch,
      errorMapping: OPENAI_ERROR_MAPPING,
    };
  }

  function completion(call: ProviderCall, more: Record<string, unknown> = {}): UpstreamCall {
    const isOpenAis = new URL(baseOf(call.settings)).host === new URL(OPENAI_BASE_URL).host;
    const body = chatBody(call.prompt, upstreamModel(call.model, "openai"), {
      maxTokensField: isOpenAis ? "max_completion_tokens" : "max_tokens",
    });
    return callOf("/chat/completions", call, { ...body, ...more });
  }

  async function listModels(inquiry: KeyInquiry): Promise<string[]> {
    const body = await jsonFromUpstream(callOf("/models", inquiry));
    return modelsIn(body, inquiry);
  }

  async function embedMany(
    call: Parameters<NonNullable<EmbeddingProvider["embedMany"]>>[0],
  ): ReturnType<NonNullable<EmbeddingProvider["embedMany"]>> {
    const { model, items, secret } = call;
    const dimensions = items[0]?.outputDimensionality;
    const body = await jsonFromUpstream(callOf("/embeddings", call, {
      model: upstreamModel(model, "openai"),
      input: items.length === 1 ? textsOf(items[0]!.content) : items.map((item) => textsOf(item.content)),
      ...(dimensions !== undefined && { dimensions }),
    }));
    const embeddings = recordsIn(body.data).flatMap(({ embedding: values }) =>
      Array.isArray(values) ? [{ values }] : []
    );
    if (embeddings.length !== items.length) {
      throw connectionFailed("an answer without an embedding for each text", secret);
    }
    const used = isObject(body.usage) ? body.usage.prompt_tokens : undefined;
    return {
      embeddings,
      usage: typeof used === "number"
        ? {
          inputTokens: used,
          outputTokens: null,
          thoughtsTokens: null,
          cachedTokens: null,
          totalTokens: used,
          estimated: false,
        }
        : null,
    };
  }

  return {
    name: "OpenAI",
    text: {
      async generate(call) {
        const body = await jsonFromUpstream(completion(call));
        const answer = answerOfCompletion(body);
        return judgedAnswer(answer);
      },
      stream: (call) =>
        readCompletionStream(completion(call, { stream: true, stream_options: { include_usage: true } })),
    },
    embeddings: {
      async embed(call) {
        const { embeddings, usage } = await embedMany({ ...call, items: [call.item] });
        return { embedding: embeddings[0]!, usage };
      },
      embedMany,
    },
    listModels,
    checkKey: async (inquiry) => {
      await listModels(inquiry);
    },
  };
}
