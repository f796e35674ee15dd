import type { GenerationConfig } from "../../../contract/content.ts";
import type { Chat } from "./chat_request.ts";
import { effortSettings } from "../../thinking_effort.ts";
import { formatSettings } from "./response_format.ts";

/** Everything of a chat completion that says how to write, in upstream's words. */
export function generationSettings(chat: Chat): GenerationConfig {
  const thinkingConfig = thinkingSettings(chat);
  return defined({
    temperature: chat.temperature,
    topP: chat.top_p,
    topK: chat.top_k,
    candidateCount: chat.n === 1 ? undefined : chat.n,
    stopSequences: chat.stop,
    maxOutputTokens: chat.max_completion_tokens ?? chat.max_tokens,
    seed: chat.seed,
    presencePenalty: chat.presence_penalty,
    frequencyPenalty: chat.frequency_penalty,
    mediaResolution: mediaResolution(chat),
    ...formatSettings(chat.response_format),
    thinkingConfig: Object.keys(thinkingConfig).length > 0 ? thinkingConfig : undefined,
  });
}

/** What `extra_body` says goes before what `reasoning_effort` means for the model. */
function thinkingSettings({ model, reasoning_effort: effort, extra_body }: Chat): Record<string, unknown> {
  const said = extra_body?.google?.thinking_config ?? {};
  const explicit = defined({
    thinkingLevel: said.thinking_level?.toUpperCase(),
    thinkingBudget: said.thinking_budget,
  });
  return {
    ...(Object.keys(explicit).length > 0
      ? explicit
      : effort === undefined
      ? {}
      : effortSettings(effort, model)),
    ...defined({ includeThoughts: said.include_thoughts }),
  };
}

/** Upstream has one resolution for all images of a request: the finest that is asked for. */
function mediaResolution({ messages }: Chat): string | undefined {
  const details = messages.flatMap((message) =>
    message.role === "user"
      ? message.content.flatMap((part) => part.type === "image_url" ? [part.image_url.detail ?? "auto"] : [])
      : []
  );
  if (details.includes("high") || details.includes("original")) return "MEDIA_RESOLUTION_HIGH";
  return details.length > 0 && details.every((detail) => detail === "low")
    ? "MEDIA_RESOLUTION_LOW"
    : undefined;
}

function defined(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
