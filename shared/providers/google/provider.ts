import type { Answer } from "../../contract/content.ts";
import { judgedAnswer } from "../judged_answer.ts";
import type { ProviderAnswer, ProviderCall, ProviderOf } from "../provider.ts";
import { connectionFailed } from "../upstream.ts";
import { answerIn } from "./answer_shape.ts";
import { createAtGoogle, removeAtGoogle, updateAtGoogle } from "./cached_contents.ts";
import { countAtGoogle } from "./count.ts";
import { embedAtGoogle, embedManyAtGoogle } from "./embedding.ts";
import { type GoogleDestination, jsonFromGoogle, methodPath } from "./fetch.ts";
import { streamFromGoogle } from "./stream.ts";

/**
 * The Gemini API, over the wire like every other upstream. Google's library `@google/generative-ai` is not used: it follows
 * redirects with the key in a header and lets nobody hand it a `fetch` that would not. docs/architecture.md has the list of
 * what would have to be guarded, and what it would cost.
 */
export function googleProvider(
  { baseUrl }: Pick<GoogleDestination, "baseUrl"> = {},
): ProviderOf<"text" | "embeddings" | "caches"> {
  async function generate({ model, prompt, secret, signal }: ProviderCall): Promise<ProviderAnswer> {
    const path = methodPath(model, "generateContent");
    const body = await jsonFromGoogle({ baseUrl, path, body: prompt, secret, signal });
    let answer: Answer;
    try {
      answer = answerIn(body);
    } catch (thrown) {
      throw connectionFailed(thrown, secret);
    }
    return judgedAnswer(answer);
  }

  return {
    name: "Google",
    text: {
      generate,
      stream: (call) => streamFromGoogle({ ...call, baseUrl }),
      countTokens: (call) => countAtGoogle({ ...call, baseUrl }),
    },
    embeddings: {
      embed: (call) => embedAtGoogle({ ...call, baseUrl }),
      embedMany: (call) => embedManyAtGoogle({ ...call, baseUrl }),
    },
    caches: {
      create: (call) => createAtGoogle({ ...call, baseUrl }),
      update: (call) => updateAtGoogle({ ...call, baseUrl }),
      remove: (call) => removeAtGoogle({ ...call, baseUrl }),
    },
  };
}
