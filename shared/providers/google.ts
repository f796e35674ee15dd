import {
  type GenerateContentRequest,
  GoogleGenerativeAI,
  GoogleGenerativeAIFetchError,
} from "@google/generative-ai";
import type { Answer } from "../contract/content.ts";
import { finishReasonOf, judgeAnswer, usageOf } from "./google_answer.ts";
import { CONNECTION_FAILED, diagnoseGoogleError, type GoogleError } from "./google_errors.ts";
import { type Provider, type ProviderAnswer, type ProviderCall, ProviderFailure } from "./provider.ts";
import { redact } from "./redact.ts";

export interface GoogleOptions {
  /** Origin of the Gemini API; absent: Google's own. */
  baseUrl?: string;
}

/** The longest text of an upstream error that is kept or shown. */
const MAX_MESSAGE_CHARS = 1_000;

/**
 * The Gemini API through `@google/generative-ai`, which sends the key in a header and calls the runtime's `fetch`.
 * Guarded against what that library does not do: it ignores a signal that has already aborted, and it takes an `error`
 * in a body with status 200 for an answer.
 */
export function googleProvider(options: GoogleOptions = {}): Provider {
  const requestOptions = { apiVersion: "v1beta", ...(options.baseUrl && { baseUrl: options.baseUrl }) };
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
  };
}

/** The answer without the functions (`text()`, `functionCalls()`) that the library hangs on it. */
function plain(answer: Answer): Answer {
  return Object.fromEntries(Object.entries(answer).filter(([, value]) => typeof value !== "function"));
}

/** An error inside a body that came with status 200. */
function errorIn(answer: Answer): GoogleError | null {
  const error = answer.error;
  if (typeof error !== "object" || error === null) return null;
  const { code, message, details } = error as { code?: unknown; message?: unknown; details?: unknown };
  return {
    status: typeof code === "number" ? code : 500,
    message: String(message ?? ""),
    details: Array.isArray(details) ? details : [],
  };
}

function failureOf(thrown: unknown, secret: string): ProviderFailure {
  if (thrown instanceof GoogleGenerativeAIFetchError) return diagnosed(googleErrorOf(thrown), secret);
  // Everything else is a connection that failed, or a body that broke off and no longer parses.
  const said = thrown instanceof Error ? thrown.message : String(thrown);
  return new ProviderFailure(CONNECTION_FAILED, shorten(redact(said, secret)), null);
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

function diagnosed(error: GoogleError, secret: string): ProviderFailure {
  const message = shorten(redact(error.message, secret)) || `status ${error.status} without a message`;
  return new ProviderFailure(diagnoseGoogleError(error), message, error.status);
}

function shorten(text: string): string {
  return text.length <= MAX_MESSAGE_CHARS ? text : `${text.slice(0, MAX_MESSAGE_CHARS)}…`;
}
