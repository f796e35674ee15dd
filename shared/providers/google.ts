import {
  type GenerateContentRequest,
  GoogleGenerativeAI,
  GoogleGenerativeAIFetchError,
} from "@google/generative-ai";
import type { Answer } from "../contract/content.ts";
import { finishReasonOf, judgeAnswer, usageOf } from "./google_answer.ts";
import { countAtGoogle } from "./google_count.ts";
import { embedAtGoogle } from "./google_embedding.ts";
import type { GoogleError } from "./google_errors.ts";
import { brokenOff, diagnosed, errorIn } from "./google_failure.ts";
import { GOOGLE_ORIGIN } from "./google_fetch.ts";
import { streamFromGoogle } from "./google_stream.ts";
import type { Provider, ProviderAnswer, ProviderCall, ProviderFailure } from "./provider.ts";

export interface GoogleOptions {
  /** Origin of the Gemini API; absent: Google's own. */
  baseUrl?: string;
}

/**
 * The Gemini API. Whole answers come through `@google/generative-ai`, which sends the key in a header and calls the
 * runtime's `fetch`; guarded against what that library does not do: it ignores a signal that has already aborted, and it
 * takes an `error` in a body with status 200 for an answer. Streams and embeddings come over the wire itself.
 */
export function googleProvider(options: GoogleOptions = {}): Provider {
  const baseUrl = options.baseUrl ?? GOOGLE_ORIGIN;
  const requestOptions = { apiVersion: "v1beta", baseUrl };
  return {
    async generate({ model, secret, prompt, signal }: ProviderCall): Promise<ProviderAnswer> {
      signal.throwIfAborted();
      const upstream = new GoogleGenerativeAI(secret).getGenerativeModel({ model }, requestOptions);
      let answer: Answer;
      try {
        // A copy: the library rewrites the system instruction in place. Its types are narrower than the API.
        const request = { ...prompt } as unknown as GenerateContentRequest;
        answer = (await upstream.generateContent(request, { signal })).response as unknown as Answer;
      } catch (thrown) {
        signal.throwIfAborted();
        throw failureOf(thrown, secret);
      }
      const error = errorIn(answer);
      if (error !== null) throw diagnosed(error, secret);
      return {
        answer: plain(answer),
        verdict: judgeAnswer(answer),
        finishReason: finishReasonOf(answer),
        usage: usageOf(answer),
      };
    },
    stream: (call) => streamFromGoogle({ ...call, baseUrl }),
    countTokens: (call) => countAtGoogle({ ...call, baseUrl }),
    embed: (call) => embedAtGoogle({ ...call, baseUrl }),
  };
}

/** The answer without the functions (`text()`, `functionCalls()`) that the library hangs on it. */
function plain(answer: Answer): Answer {
  return Object.fromEntries(Object.entries(answer).filter(([, value]) => typeof value !== "function"));
}

function failureOf(thrown: unknown, secret: string): ProviderFailure {
  if (thrown instanceof GoogleGenerativeAIFetchError) return diagnosed(googleErrorOf(thrown), secret);
  // Everything else is a connection that failed, or a body that broke off and no longer parses.
  return brokenOff(thrown, secret);
}

/**
 * Google's own words out of the library's error, whose message reads
 * `[GoogleGenerativeAI Error]: Error fetching from <url>: [<status> <text>] <message> <details as JSON>`.
 */
function googleErrorOf(thrown: GoogleGenerativeAIFetchError): GoogleError {
  const details = Array.isArray(thrown.errorDetails) ? thrown.errorDetails : [];
  const head = `[${thrown.status} ${thrown.statusText}] `;
  const from = thrown.message.indexOf(head);
  let message = from < 0 ? thrown.message : thrown.message.slice(from + head.length);
  const tail = ` ${JSON.stringify(thrown.errorDetails)}`;
  if (message.endsWith(tail)) message = message.slice(0, -tail.length);
  return { status: thrown.status ?? 500, message, details };
}
