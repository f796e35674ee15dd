import type { Prompt } from "../../../contract/content.ts";
import type { Chat } from "./chat_request.ts";
import { generationSettings } from "./generation.ts";
import type { LinkedMedia } from "../../linked_media.ts";
import { promptTurns } from "./messages.ts";
import { toolFields } from "./tools.ts";

/**
 * A chat completion's body as a prompt.
 * @throws GatewayError `invalid_request`, `empty_prompt`
 */
export function promptOf(chat: Chat, linked: LinkedMedia): Prompt {
  const generationConfig = generationSettings(chat);
  return {
    ...promptTurns(chat.messages, { model: chat.model, linked }),
    ...toolFields(chat),
    ...(Object.keys(generationConfig).length > 0 && { generationConfig }),
  };
}
