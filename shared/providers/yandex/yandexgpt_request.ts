import type { Content, Part, Prompt } from "../../contract/content.ts";
import { plainSchema } from "../../contract/plain_schema.ts";
import { callersFault } from "../diagnoses.ts";
import { present, textsOf, toolsIn } from "../openai/request.ts";
import { ProviderFailure } from "../provider.ts";
import { isObject } from "../../contract/is_object.ts";

type Message = Record<string, unknown>;

/** The API takes a temperature of at most 1; the contract's scale goes to 2. */
const MAX_TEMPERATURE = 1;

/** `gpt://<folder>/yandexgpt-lite/latest`; a model with a version of its own keeps it, and a whole URI stays as it is. */
export function modelUri(model: string, folder: string): string {
  if (/^[a-z]+:\/\//.test(model)) return model;
  return `gpt://${folder}/${model.includes("/") ? model : `${model}/latest`}`;
}

/**
 * A prompt as the body of `foundationModels/v1/completion`. It takes texts alone.
 * @throws ProviderFailure `unsupported_feature`
 */
export function completionBody(prompt: Prompt, uri: string, stream: boolean): Record<string, unknown> {
  const config = prompt.generationConfig ?? {};
  const system = textsOf(prompt.systemInstruction);
  const tools = (prompt.tools ?? []).flatMap(toolsIn).map((tool) => ({ function: tool.function }));
  const schema = config.responseJsonSchema ?? config.responseSchema;
  return {
    modelUri: uri,
    completionOptions: present({
      stream,
      temperature: typeof config.temperature === "number"
        ? Math.min(config.temperature, MAX_TEMPERATURE)
        : undefined,
      // An int64, which JSON of gRPC writes as a text.
      maxTokens: config.maxOutputTokens === undefined ? undefined : String(config.maxOutputTokens),
    }),
    messages: [
      ...(system === "" ? [] : [{ role: "system", text: system }]),
      ...prompt.contents.flatMap(messagesOf),
    ],
    ...present({
      tools: tools.length > 0 ? tools : undefined,
      toolChoice: tools.length > 0 ? toolChoice(prompt.toolConfig) : undefined,
      jsonSchema: isObject(schema) ? { schema: plainSchema(schema) } : undefined,
      jsonObject: !isObject(schema) && config.responseMimeType === "application/json" ? true : undefined,
    }),
  };
}

function messagesOf({ role, parts = [] }: Content): Message[] {
  const spoken = parts.filter((part) => part.thought !== true);
  const turn = role === "model" ? "assistant" : "user";
  const calls = spoken.filter((part) => isObject(part.functionCall)).map((part) => {
    const { name, args } = part.functionCall as Record<string, unknown>;
    return { functionCall: { name, arguments: args ?? {} } };
  });
  const results = spoken.filter((part) => isObject(part.functionResponse)).map((part) => {
    const { name, response } = part.functionResponse as Record<string, unknown>;
    return { functionResult: { name, content: JSON.stringify(response ?? {}) } };
  });
  const text = spoken.map(textOnly).join("");
  return [
    ...(results.length > 0 ? [{ role: turn, toolResultList: { toolResults: results } }] : []),
    ...(text !== "" ? [{ role: turn, text }] : []),
    ...(calls.length > 0 ? [{ role: turn, toolCallList: { toolCalls: calls } }] : []),
  ];
}

function textOnly(part: Part): string {
  if (typeof part.text === "string") return part.text;
  if (isObject(part.functionCall) || isObject(part.functionResponse)) return "";
  throw new ProviderFailure(
    callersFault("unsupported_feature"),
    `this provider takes text alone, and no ${Object.keys(part).join(", ")}`,
    null,
  );
}

function toolChoice(toolConfig: Prompt["toolConfig"]): unknown {
  const config = toolConfig?.functionCallingConfig;
  if (!isObject(config)) return undefined;
  const allowed = Array.isArray(config.allowedFunctionNames) ? config.allowedFunctionNames : [];
  if (config.mode === "NONE") return { mode: "NONE" };
  if (config.mode !== "ANY") return { mode: "AUTO" };
  return allowed.length === 1 ? { functionName: allowed[0] } : { mode: "REQUIRED" };
}
