import type { Answer } from "../../contract/content.ts";
import { finishReasonOf, judgeAnswer, usageOf } from "../../contract/answer_verdict.ts";
import { countAtGoogle } from "./count.ts";
import { embedAtGoogle } from "./embedding.ts";
import { answerIn } from "./answer_shape.ts";
import { GOOGLE_ORIGIN, jsonFromGoogle } from "./fetch.ts";
import { streamFromGoogle } from "./stream.ts";
import type { Provider, ProviderAnswer, ProviderCall } from "../provider.ts";
import { connectionFailed } from "../upstream.ts";

export interface GoogleOptions {
  /** Origin of the Gemini API; absent: Google's own. */
  baseUrl?: string;
}

/**
 * The Gemini API, over the wire like every other upstream. Google's library `@google/generative-ai` is not used: it follows
 * redirects with the key in a header, takes no `fetch` that would not, and its makers have stopped.
 */
export function googleProvider(options: GoogleOptions = {}): Provider {
  const baseUrl = options.baseUrl ?? GOOGLE_ORIGIN;
  return {
    async generate({ prompt, ...call }: ProviderCall): Promise<ProviderAnswer> {
      const body = await jsonFromGoogle({ ...call, baseUrl, method: "generateContent", body: prompt });
      let answer: Answer;
      try {
        answer = answerIn(body);
      } catch (thrown) {
        throw connectionFailed(thrown, call.secret);
      }
      return {
        answer,
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
