import { namedTypes } from "./schema.ts";
import { isObject } from "../../contract/is_object.ts";

/**
 * The API reads its fields in camelCase and in snake_case, and a single message where a list is expected (scripts over
 * REST use all of it). Inside the gateway there is one spelling, so that a field is found under one name. Nothing is
 * lost: fields that nobody here knows keep their values, and where both spellings are present both go on, for upstream
 * to refuse.
 */
/**
 * The fields of one message in camelCase, those that are null left out: to the API, null is a field that is not set.
 * What is no object stays as it is, and so do messages inside.
 */
export function camelFields(value: unknown): unknown {
  if (!isObject(value)) return value;
  const given = new Set(Object.keys(value));
  return Object.fromEntries(
    Object.entries(value).filter(([, inner]) => inner !== null).map(([field, inner]) => {
      const name = camel(field);
      return [given.has(name) ? field : name, inner];
    }),
  );
}

/** `max_output_tokens` -> `maxOutputTokens`; a leading underscore is part of the name. */
function camel(field: string): string {
  return field.replace(/(?<=[a-zA-Z0-9])_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** The body of `generateContent`: its own fields, contents, parts, tools and settings. Schemas and arguments are the user's. */
export function camelPrompt(value: unknown): unknown {
  return changed(camelFields(value), {
    contents: (contents) => each(contents, camelContent),
    systemInstruction: camelContent,
    tools: (tools) => each(tools, camelTool),
    safetySettings: (settings) => each(settings, camelFields),
    toolConfig: (config) =>
      changed(camelFields(config), { functionCallingConfig: camelFields, retrievalConfig: camelFields }),
    generationConfig: (config) =>
      changed(camelFields(config), { thinkingConfig: camelFields, responseSchema: namedTypes }),
  });
}

function camelTool(tool: unknown): unknown {
  return changed(camelFields(tool), {
    functionDeclarations: (declared) =>
      each(declared, (one) => changed(camelFields(one), { parameters: namedTypes, response: namedTypes })),
  });
}

export function camelContent(value: unknown): unknown {
  return changed(camelFields(value), { parts: (parts) => each(parts, camelPart) });
}

function camelPart(value: unknown): unknown {
  return changed(camelFields(value), { inlineData: camelFields, fileData: camelFields });
}

/** `value` with some of its fields changed, those that it has. */
export function changed(value: unknown, changes: Record<string, (inner: unknown) => unknown>): unknown {
  if (!isObject(value)) return value;
  const result = { ...value };
  for (const [field, change] of Object.entries(changes)) {
    if (result[field] !== undefined) result[field] = change(result[field]);
  }
  return result;
}

/** A list, or the one message that stands for it. */
export function each(value: unknown, change: (item: unknown) => unknown): unknown {
  if (Array.isArray(value)) return value.map(change);
  return isObject(value) ? [change(value)] : value;
}
