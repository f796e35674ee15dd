import type { Prompt } from "../../contract/content.ts";
import { connectionFailed } from "../upstream.ts";
import { type GoogleDestination, jsonFromGoogle, methodPath } from "./fetch.ts";

/** `countTokens` for a whole prompt: system text, tools and pictures too. Google counts it against no limit of `generateContent`. */
export async function countAtGoogle(
  { model, prompt, ...to }: GoogleDestination & { model: string; prompt: Prompt },
): Promise<number> {
  const body = await jsonFromGoogle({
    ...to,
    path: methodPath(model, "countTokens"),
    body: { generateContentRequest: { ...prompt, model: `models/${model}` } },
  });
  const { totalTokens } = body;
  if (typeof totalTokens !== "number" || !Number.isInteger(totalTokens) || totalTokens < 0) {
    throw connectionFailed("a count without totalTokens", to.secret);
  }
  return totalTokens;
}
