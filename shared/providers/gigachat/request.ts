import type { Content, Part, Prompt } from "../../contract/content.ts";
import type { Attachments } from "./files.ts";
import { callersFault } from "../diagnoses.ts";
import { present, textsOf, toolsIn } from "../openai/request.ts";
import { ProviderFailure } from "../provider.ts";
import { isObject } from "../../contract/is_object.ts";

type Message = Record<string, unknown>;

/**
 * A prompt as the body of GigaChat's `chat/completions`: OpenAI's format from before tools, with `functions` and one
 * `function_call` a turn. A picture is named by the file that it was uploaded as, one in a message.
 * @throws ProviderFailure `unsupported_feature`
 */
export function gigachatBody(
  prompt: Prompt,
  model: string,
  attachments: Attachments = new Map(),
): Record<string, unknown> {
  const config = prompt.generationConfig ?? {};
  const system = textsOf(prompt.systemInstruction);
  const functions = (prompt.tools ?? []).flatMap(toolsIn).map((tool) => tool.function);
  return {
    model,
    messages: [
      // The system message comes first, or GigaChat refuses the request.
      ...(system === "" ? [] : [{ role: "system", content: system }]),
      ...prompt.contents.flatMap((content) => messagesOf(content, attachments)),
    ],
    ...present({
      temperature: config.temperature,
      top_p: config.topP,
      max_tokens: config.maxOutputTokens,
      functions: functions.length > 0 ? functions : undefined,
      function_call: functions.length > 0 ? functionCall(prompt.toolConfig) : undefined,
    }),
  };
}

function messagesOf({ role, parts = [] }: Content, attachments: Attachments): Message[] {
  const spoken = parts.filter((part) => part.thought !== true);
  return role === "model" ? [assistantMessage(spoken)] : userMessages(spoken, attachments);
}

function assistantMessage(parts: Part[]): Message {
  const called = parts.find((part) => isObject(part.functionCall));
  const { name, args } = (called?.functionCall ?? {}) as Record<string, unknown>;
  return {
    role: "assistant",
    content: parts.map((part) => part.text ?? "").join(""),
    ...(called !== undefined && { function_call: { name, arguments: args ?? {} } }),
    ...(called?.thoughtSignature !== undefined && { functions_state_id: called.thoughtSignature }),
  };
}

function userMessages(parts: Part[], attachments: Attachments): Message[] {
  const messages: Message[] = [];
  const files: string[] = [];
  let text = "";
  for (const part of parts) {
    if (isObject(part.functionResponse)) {
      const { name, response } = part.functionResponse;
      messages.push({ role: "function", name, content: JSON.stringify(response ?? {}) });
    } else if (typeof part.text === "string") text += part.text;
    else if (attachments.has(part)) files.push(attachments.get(part)!);
    else {
      throw new ProviderFailure(
        callersFault("unsupported_feature"),
        `this provider takes text and pictures, and no ${Object.keys(part).join(", ")}`,
        null,
      );
    }
  }
  // A message has one picture: the text stands with the last.
  const last = files.pop();
  for (const file of files) messages.push({ role: "user", content: "", attachments: [file] });
  if (last !== undefined) messages.push({ role: "user", content: text, attachments: [last] });
  else if (text !== "") messages.push({ role: "user", content: text });
  return messages;
}

function functionCall(toolConfig: Prompt["toolConfig"]): unknown {
  const config = toolConfig?.functionCallingConfig;
  if (!isObject(config)) return "auto";
  const allowed = Array.isArray(config.allowedFunctionNames) ? config.allowedFunctionNames : [];
  if (config.mode === "NONE") return "none";
  return config.mode === "ANY" && allowed.length === 1 ? { name: allowed[0] } : "auto";
}
