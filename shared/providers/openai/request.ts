import type { Content, Part, Prompt, Tool } from "../../contract/content.ts";
import { plainSchema } from "../../contract/plain_schema.ts";
import { callersFault } from "../diagnoses.ts";
import { ProviderFailure } from "../provider.ts";
import { recordsIn } from "../upstream.ts";
import { isObject } from "../../contract/is_object.ts";

type Message = Record<string, unknown>;

export interface ChatDialect {
  /** The field that bounds the answer: OpenAI's own API has renamed it, others have not. */
  maxTokensField: "max_tokens" | "max_completion_tokens";
}

/**
 * A prompt as the body of `chat/completions`. What the format cannot express is left out (`topK`, safety settings); parts that
 * it cannot carry are refused.
 * @throws ProviderFailure `unsupported_feature`
 */
export function chatBody(prompt: Prompt, model: string, dialect: ChatDialect): Record<string, unknown> {
  const config = prompt.generationConfig ?? {};
  const tools = (prompt.tools ?? []).flatMap(toolsIn);
  return {
    model,
    messages: messagesOf(prompt),
    ...present({
      temperature: config.temperature,
      top_p: config.topP,
      [dialect.maxTokensField]: config.maxOutputTokens,
      stop: config.stopSequences,
      seed: config.seed,
      presence_penalty: config.presencePenalty,
      frequency_penalty: config.frequencyPenalty,
      n: config.candidateCount,
      response_format: responseFormat(config),
      reasoning_effort: effort(config.thinkingConfig),
      tools: tools.length > 0 ? tools : undefined,
      tool_choice: tools.length > 0 ? toolChoice(prompt.toolConfig) : undefined,
    }),
  };
}

export function messagesOf(prompt: Prompt): Message[] {
  const system = textsOf(prompt.systemInstruction);
  const names = new CallNames();
  return [
    ...(system === "" ? [] : [{ role: "system", content: system }]),
    ...prompt.contents.flatMap((content) => turnMessages(content, names)),
  ];
}

/** Gives calls that came without an id one, and finds it again for their results, in the order of the calls. */
class CallNames {
  #made = 0;
  #open: { name: string; id: string }[] = [];

  ofCall(name: string, id: unknown): string {
    const given = typeof id === "string" && id !== "" ? id : `call_${++this.#made}`;
    this.#open.push({ name, id: given });
    return given;
  }

  ofResult(name: string, id: unknown): string {
    const place = this.#open.findIndex((call) =>
      typeof id === "string" ? call.id === id : call.name === name
    );
    const [found] = place < 0 ? [] : this.#open.splice(place, 1);
    return found?.id ?? (typeof id === "string" ? id : `call_${++this.#made}`);
  }
}

function turnMessages({ role, parts = [] }: Content, names: CallNames): Message[] {
  const spoken = parts.filter((part) => part.thought !== true);
  if (role === "model") return [assistantMessage(spoken, names)];
  const results = spoken.filter((part) => isObject(part.functionResponse));
  const rest = spoken.filter((part) => !isObject(part.functionResponse));
  return [
    ...results.map((part) => {
      const { name, id, response } = part.functionResponse as Record<string, unknown>;
      return {
        role: "tool",
        tool_call_id: names.ofResult(String(name), id),
        content: JSON.stringify(response ?? {}),
      };
    }),
    ...(rest.length > 0 ? [{ role: "user", content: userContent(rest) }] : []),
  ];
}

function assistantMessage(parts: Part[], names: CallNames): Message {
  const calls = parts.filter((part) => isObject(part.functionCall)).map((part) => {
    const { name, args, id } = part.functionCall as Record<string, unknown>;
    return {
      id: names.ofCall(String(name), id),
      type: "function",
      function: { name, arguments: JSON.stringify(args ?? {}) },
    };
  });
  const text = parts.map((part) => part.text ?? "").join("");
  return {
    role: "assistant",
    content: text === "" && calls.length > 0 ? null : text,
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}

/** A text as it is; anything more as a list of parts. */
function userContent(parts: Part[]): unknown {
  if (parts.every((part) => typeof part.text === "string")) return parts.map((part) => part.text).join("");
  return parts.map((part) => {
    if (typeof part.text === "string") return { type: "text", text: part.text };
    const { mimeType = "", data = "" } = part.inlineData ?? {};
    if (mimeType.startsWith("image/")) {
      return { type: "image_url", image_url: { url: `data:${mimeType};base64,${data}` } };
    }
    const audio = /^audio\/(?:x-)?(wav|mp3|mpeg)$/.exec(mimeType)?.[1];
    if (audio !== undefined) {
      return { type: "input_audio", input_audio: { data, format: audio === "mpeg" ? "mp3" : audio } };
    }
    throw new ProviderFailure(
      callersFault("unsupported_feature"),
      `this provider takes no part of the kind ${mimeType || Object.keys(part).join(", ")}`,
      null,
    );
  });
}

export function textsOf(content: Content | undefined): string {
  return (content?.parts ?? []).map((part) => part.text ?? "").join("\n");
}

/** Declarations of functions; tools that run at Google (search, code execution) exist nowhere else. */
export function toolsIn(tool: Tool): Record<string, unknown>[] {
  const others = Object.keys(tool).filter((field) => !/^function_?declarations$/i.test(field));
  if (others.length > 0) {
    throw new ProviderFailure(
      callersFault("unsupported_feature"),
      `this provider has no tool ${others.join(", ")}`,
      null,
    );
  }
  return recordsIn(tool.functionDeclarations ?? tool.function_declarations).map((declared) => ({
    type: "function",
    function: present({
      name: declared.name,
      description: declared.description,
      parameters: schemaOf(declared.parametersJsonSchema ?? declared.parameters),
    }),
  }));
}

function schemaOf(schema: unknown): unknown {
  return isObject(schema) ? plainSchema(schema) : undefined;
}

function toolChoice(toolConfig: Prompt["toolConfig"]): unknown {
  const config = toolConfig?.functionCallingConfig;
  if (!isObject(config)) return undefined;
  const allowed = Array.isArray(config.allowedFunctionNames) ? config.allowedFunctionNames : [];
  switch (config.mode) {
    case "ANY":
      return allowed.length === 1 ? { type: "function", function: { name: allowed[0] } } : "required";
    case "NONE":
      return "none";
    default:
      return "auto";
  }
}

function responseFormat(config: Record<string, unknown>): unknown {
  const schema = config.responseJsonSchema ?? config.responseSchema;
  if (isObject(schema)) {
    return { type: "json_schema", json_schema: { name: "answer", schema: plainSchema(schema) } };
  }
  return config.responseMimeType === "application/json" ? { type: "json_object" } : undefined;
}

/** MINIMAL, LOW, MEDIUM and HIGH mean the same on both sides; a budget of tokens has no counterpart. */
function effort(thinking: unknown): string | undefined {
  const level = isObject(thinking) ? thinking.thinkingLevel : undefined;
  return typeof level === "string" ? level.toLowerCase() : undefined;
}

export function present(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
