import type { Prompt } from "../../contract/content.ts";
import { type GoogleCall, jsonFromGoogle } from "./fetch.ts";
import { connectionFailed } from "../upstream.ts";

/** `countTokens` for a whole prompt: system text, tools and pictures too. Google counts it against no limit of `generateContent`. */
export async function countAtGoogle(
  call: Omit<GoogleCall, "method" | "body"> & { prompt: Prompt },
): Promise<number> {
  const { prompt, ...to } = call;
  const body = await jsonFromGoogle({
    ...to,
    method: "countTokens",
    body: { generateContentRequest: { ...prompt, model: `models/${call.model}` } },
  });
  const { totalTokens } = body;
  if (typeof totalTokens !== "number" || !Number.isInteger(totalTokens) || totalTokens < 0) {
    throw connectionFailed("a count without totalTokens", call.secret);
  }
  return totalTokens;
}
