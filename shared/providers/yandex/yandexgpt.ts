import type { Answer, Part } from "../../contract/content.ts";
import { readJsonLines } from "../json_lines.ts";
import { judgedAnswer, judgedStream } from "../judged_answer.ts";
import { type KeyInquiry, type KeyInspector, MAX_LISTED_MODELS } from "../key_inspector.ts";
import {
  baseUrlOf,
  callUpstream,
  clean,
  connectionFailed,
  jsonFromUpstream,
  recordsIn,
  type UpstreamCall,
  upstreamModel,
} from "../upstream.ts";
import {
  type ProviderCall,
  type ProviderChunk,
  type ProviderEnd,
  ProviderFailure,
  type ProviderOf,
} from "../provider.ts";
import { YANDEX_ERROR_MAPPING } from "./errors.ts";
import { answerOfResult } from "./yandexgpt_answer.ts";
import { completionBody, modelUri } from "./yandexgpt_request.ts";
import { isObject } from "../../contract/is_object.ts";

export const YANDEX_BASE_URL = "https://llm.api.cloud.yandex.net";

/** Where the list cannot be had: the models of the documentation. */
const KNOWN_MODELS = ["yandexgpt-lite", "yandexgpt", "yandexgpt/rc", "yandexgpt-lite/rc"];
/** Counting tokens is free of charge, and refuses a bad key as every call does. */
const CHECKED_WITH = "yandexgpt-lite";

export interface YandexGptOptions {
  baseUrl?: string;
  folderId?: string;
  fetch?: typeof fetch;
}

/** YandexGPT by its own API (Foundation Models, text generation), with the API key of a service account. */
export function yandexGptProvider(options: YandexGptOptions = {}): ProviderOf<"text"> & KeyInspector {
  function callOf(path: string, { secret, settings, signal }: KeyInquiry, body?: unknown): UpstreamCall {
    const base = baseUrlOf(settings, options.baseUrl, YANDEX_BASE_URL);
    return {
      url: `${base}${path}`,
      headers: { authorization: `Api-Key ${secret}`, "x-folder-id": folderOf(settings) },
      body,
      secret,
      signal,
      fetch: options.fetch ?? fetch,
      errorMapping: YANDEX_ERROR_MAPPING,
    };
  }

  /** @throws ProviderFailure with no key at fault: our own set-up lacks it */
  function folderOf(settings: KeyInquiry["settings"]): string {
    const folder = settings?.folder_id ?? options.folderId;
    if (folder) return folder;
    throw new ProviderFailure(
      { fault: "nobody", retryable: false, block: null, code: "gateway_misconfigured" },
      "YandexGPT needs a folder: the setting folder_id, or YANDEX_FOLDER_ID",
      null,
    );
  }

  const uriOf = (model: string, inquiry: KeyInquiry) =>
    modelUri(upstreamModel(model, "yandexgpt"), folderOf(inquiry.settings));

  const completion = (call: ProviderCall, stream: boolean) =>
    callOf(
      "/foundationModels/v1/completion",
      call,
      completionBody(call.prompt, uriOf(call.model, call), stream),
    );

  async function checkKey(inquiry: KeyInquiry): Promise<void> {
    await jsonFromUpstream(callOf("/foundationModels/v1/tokenizeCompletion", inquiry, {
      modelUri: uriOf(CHECKED_WITH, inquiry),
      messages: [{ role: "user", text: "?" }],
    }));
  }

  return {
    name: "YandexGPT",
    text: {
      async generate(call) {
        const answer = answerOfResult(resultIn(await jsonFromUpstream(completion(call, false)), call));
        return judgedAnswer(answer);
      },
      stream: (call) => streamed(completion(call, true)),
    },
    checkKey,
    async listModels(inquiry) {
      let body: Record<string, unknown>;
      try {
        body = await jsonFromUpstream(callOf("/v1/models", inquiry));
      } catch (thrown) {
        // Not every folder has the list; whether the key is good has been asked separately.
        if (thrown instanceof ProviderFailure && thrown.upstreamStatus === 404) return KNOWN_MODELS;
        throw thrown;
      }
      const names = recordsIn(body.data).map(({ id }) => nameIn(id)).filter((name) => name !== null);
      return names.length === 0 ? KNOWN_MODELS : [...new Set(names)].slice(0, MAX_LISTED_MODELS);
    },
  };
}

/** `gpt://b1g.../yandexgpt-lite/latest` is `yandexgpt-lite`; another version keeps its name. Others than texts' are left out. */
function nameIn(id: unknown): string | null {
  const name = typeof id === "string" ? /^gpt:\/\/[^/]+\/(.+)$/.exec(id)?.[1] : undefined;
  return name === undefined ? null : name.replace(/\/latest$/, "");
}

function resultIn(body: unknown, { secret }: { secret: string }): Record<string, unknown> {
  if (isObject(body) && isObject(body.result)) return body.result;
  throw connectionFailed("an answer without a result", secret);
}

/** Lines of JSON, each with the whole text so far: what is new in each is passed on. */
function streamed(call: UpstreamCall): AsyncGenerator<ProviderChunk, ProviderEnd, void> {
  let sent = "";
  return judgedStream(call, {
    open: async () => readJsonLines((await callUpstream(call)).body ?? new Blob().stream()),
    answerIn(line) {
      if (isObject(line) && line.error !== undefined) throw errorInStream(line, call);
      const { answer, text } = newIn(answerOfResult(resultIn(line, call)), sent);
      sent = text;
      return answer;
    },
  });
}

function newIn(whole: Answer, sent: string): { answer: Answer; text: string } {
  const [first, ...others] = whole.candidates ?? [];
  const parts = first?.content?.parts ?? [];
  const text = parts.map((part) => part.text ?? "").join("");
  // What was sent cannot be taken back: a filter that empties the text at the end is reported by its finish reason.
  const fresh = text.startsWith(sent) ? text.slice(sent.length) : "";
  const rest = parts.filter((part: Part) => part.text === undefined);
  const content = { role: "model", parts: [...(fresh === "" ? [] : [{ text: fresh }]), ...rest] };
  return {
    answer: { ...whole, candidates: first === undefined ? [] : [{ ...first, content }, ...others] },
    text: text.startsWith(sent) ? text : sent,
  };
}

function errorInStream(
  body: Record<string, unknown>,
  { errorMapping, secret }: UpstreamCall,
): ProviderFailure {
  const message = errorMapping.messageIn(body) ?? "an error without a message";
  const status = isObject(body.error) && typeof body.error.httpCode === "number" ? body.error.httpCode : 500;
  return new ProviderFailure(
    errorMapping.diagnose({ status, body, message, headers: new Headers() }),
    clean(message, secret),
    status,
  );
}
