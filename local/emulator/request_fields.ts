/**
 * Reads a request body the way Google's JSON transcoder does: fields by their camelCase or snake_case name, a single
 * value where a list is expected, numbers in strings; and every unknown field or wrong value reported by its path.
 */

import { badRequest } from "./errors.ts";
import { isObject } from "../../shared/contract/is_object.ts";

/** `openEnum`: a name, whichever, or its number, as older Python clients send all enums. */
type Scalar = "string" | "bytes" | "bool" | "int32" | "float" | "json" | "openEnum";
interface EnumType {
  enum: string;
  values: readonly string[];
}
interface MessageType {
  message: () => Fields;
}
interface ListType {
  list: FieldType;
}
interface MapType {
  map: FieldType;
}
type FieldType = Scalar | EnumType | MessageType | ListType | MapType;
/** Fields of one message by camelCase name. */
export type Fields = Record<string, FieldType>;

const list = (of: FieldType): ListType => ({ list: of });
const message = (fields: () => Fields): MessageType => ({ message: fields });

const PACKAGE = "type.googleapis.com/google.ai.generativelanguage.v1beta";

const SCHEMA_TYPE: EnumType = {
  enum: `${PACKAGE}.Type`,
  values: ["TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"],
};

const SCHEMA: Fields = {
  type: SCHEMA_TYPE,
  format: "string",
  title: "string",
  description: "string",
  nullable: "bool",
  enum: list("string"),
  items: message(() => SCHEMA),
  maxItems: "int32",
  minItems: "int32",
  properties: { map: message(() => SCHEMA) },
  required: list("string"),
  minProperties: "int32",
  maxProperties: "int32",
  minLength: "int32",
  maxLength: "int32",
  pattern: "string",
  example: "json",
  anyOf: list(message(() => SCHEMA)),
  propertyOrdering: list("string"),
  default: "json",
  minimum: "float",
  maximum: "float",
};

const BLOB: Fields = { mimeType: "string", data: "bytes", displayName: "string" };

const PART: Fields = {
  text: "string",
  inlineData: message(() => BLOB),
  fileData: message(() => ({ mimeType: "string", fileUri: "string", displayName: "string" })),
  functionCall: message(() => ({ id: "string", name: "string", args: "json" })),
  functionResponse: message(() => ({
    id: "string",
    name: "string",
    response: "json",
    parts: list(message(() => ({ inlineData: message(() => BLOB) }))),
    willContinue: "bool",
    scheduling: "string",
  })),
  executableCode: message(() => ({ id: "string", language: "string", code: "string" })),
  codeExecutionResult: message(() => ({ id: "string", outcome: "string", output: "string" })),
  toolCall: "json",
  toolResponse: "json",
  thought: "bool",
  thoughtSignature: "bytes",
  partMetadata: "json",
  videoMetadata: "json",
  mediaResolution: "json",
};

const CONTENT: Fields = { role: "string", parts: list(message(() => PART)) };

const TOOL: Fields = {
  functionDeclarations: list(message(() => ({
    name: "string",
    description: "string",
    parameters: message(() => SCHEMA),
    parametersJsonSchema: "json",
    response: message(() => SCHEMA),
    responseJsonSchema: "json",
    behavior: "string",
  }))),
  googleSearch: "json",
  googleSearchRetrieval: "json",
  codeExecution: "json",
  urlContext: "json",
  googleMaps: "json",
  fileSearch: "json",
  computerUse: "json",
  mcpServers: "json",
};

const GENERATION_CONFIG: Fields = {
  stopSequences: list("string"),
  responseMimeType: "string",
  responseSchema: message(() => SCHEMA),
  responseJsonSchema: "json",
  _responseJsonSchema: "json",
  responseModalities: list("openEnum"),
  candidateCount: "int32",
  maxOutputTokens: "int32",
  temperature: "float",
  topP: "float",
  topK: "int32",
  seed: "int32",
  presencePenalty: "float",
  frequencyPenalty: "float",
  responseLogprobs: "bool",
  logprobs: "int32",
  enableEnhancedCivicAnswers: "bool",
  speechConfig: "json",
  imageConfig: "json",
  mediaResolution: "openEnum",
  thinkingConfig: message(() => ({
    includeThoughts: "bool",
    thinkingBudget: "int32",
    thinkingLevel: {
      enum: `${PACKAGE}.ThinkingConfig.ThinkingLevel`,
      values: ["THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH"],
    },
  })),
};

export const GENERATE_CONTENT: Fields = {
  model: "string",
  contents: list(message(() => CONTENT)),
  systemInstruction: message(() => CONTENT),
  tools: list(message(() => TOOL)),
  toolConfig: message(() => ({
    functionCallingConfig: message(() => ({
      mode: {
        enum: `${PACKAGE}.FunctionCallingConfig.Mode`,
        values: ["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"],
      },
      allowedFunctionNames: list("string"),
    })),
    retrievalConfig: "json",
    includeServerSideToolInvocations: "bool",
  })),
  safetySettings: list(message(() => ({
    category: "openEnum",
    threshold: "openEnum",
    method: "openEnum",
  }))),
  generationConfig: message(() => GENERATION_CONFIG),
  cachedContent: "string",
  serviceTier: "string",
  store: "bool",
};

export const CACHED_CONTENT: Fields = {
  name: "string",
  model: "string",
  displayName: "string",
  contents: list(message(() => CONTENT)),
  systemInstruction: message(() => CONTENT),
  tools: list(message(() => TOOL)),
  toolConfig: GENERATE_CONTENT.toolConfig!,
  ttl: "string",
  expireTime: "string",
};

export const COUNT_TOKENS: Fields = {
  model: "string",
  contents: list(message(() => CONTENT)),
  generateContentRequest: message(() => GENERATE_CONTENT),
};

export const EMBED_CONTENT: Fields = {
  model: "string",
  content: message(() => CONTENT),
  taskType: {
    enum: `${PACKAGE}.TaskType`,
    values: [
      "TASK_TYPE_UNSPECIFIED",
      "RETRIEVAL_QUERY",
      "RETRIEVAL_DOCUMENT",
      "SEMANTIC_SIMILARITY",
      "CLASSIFICATION",
      "CLUSTERING",
      "QUESTION_ANSWERING",
      "FACT_VERIFICATION",
      "CODE_RETRIEVAL_QUERY",
    ],
  },
  title: "string",
  outputDimensionality: "int32",
  embedContentConfig: "json",
};

export const BATCH_EMBED_CONTENTS: Fields = {
  model: "string",
  requests: list(message(() => EMBED_CONTENT)),
};

interface Violation {
  field?: string;
  description: string;
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Fields of a message by either of their names, worked out once. */
const namesOf = new WeakMap<Fields, Map<string, string>>();

function names(fields: Fields): Map<string, string> {
  let known = namesOf.get(fields);
  if (!known) {
    known = new Map();
    for (const field of Object.keys(fields)) known.set(field, field).set(snake(field), field);
    namesOf.set(fields, known);
  }
  return known;
}

function unknownName(path: string, name: string, reason: string): Violation {
  const description = `Invalid JSON payload received. Unknown name "${name}"${
    path === "" ? "" : ` at '${path}'`
  }: ${reason}`;
  return path === "" ? { description } : { field: path, description };
}

function invalidValue(path: string, type: string, value: unknown): Violation {
  const shown = typeof value === "object"
    ? `Starting an object on a scalar field`
    : typeof value === "string"
    ? `"${value}"`
    : String(value);
  return { field: path, description: `Invalid value at '${path}' (${type}), ${shown}` };
}

const TYPE_NAMES: Record<Scalar, string> = {
  string: "TYPE_STRING",
  bytes: "TYPE_BYTES",
  bool: "TYPE_BOOL",
  int32: "TYPE_INT32",
  float: "TYPE_FLOAT",
  json: "TYPE_MESSAGE",
  openEnum: "TYPE_ENUM",
};

function readScalar(type: Scalar, value: unknown, path: string, violations: Violation[]): unknown {
  switch (type) {
    case "json":
      return value;
    case "string":
    case "bytes":
      if (typeof value === "string") return value;
      break;
    case "openEnum":
      if (typeof value === "string" || Number.isInteger(value)) return value;
      break;
    case "bool":
      if (typeof value === "boolean") return value;
      if (value === "true" || value === "false") return value === "true";
      break;
    case "int32":
    case "float": {
      const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
      if (typeof number === "number" && Number.isFinite(number)) {
        if (type === "float" || Number.isInteger(number)) return number;
      }
      break;
    }
  }
  violations.push(invalidValue(path, TYPE_NAMES[type], value));
  return undefined;
}

function readEnum(type: EnumType, value: unknown, path: string, violations: Violation[]): unknown {
  if (typeof value === "number" && type.values[value] !== undefined) return type.values[value];
  // Type names are accepted in lower case, as JSON Schema writes them; "null" is not one of them.
  if (typeof value === "string") {
    const name = value.toUpperCase();
    if (type.values.includes(name) && !(type === SCHEMA_TYPE && name === "NULL")) return name;
  }
  violations.push(invalidValue(path, type.enum, value));
  return undefined;
}

function readField(type: FieldType, value: unknown, path: string, violations: Violation[]): unknown {
  if (typeof type === "string") return readScalar(type, value, path, violations);
  if ("enum" in type) return readEnum(type, value, path, violations);
  if ("list" in type) {
    const items = Array.isArray(value) ? value : [value];
    return items.map((item, i) => readField(type.list, item, `${path}[${i}]`, violations));
  }
  if (typeof value !== "object" || value === null) {
    violations.push(invalidValue(path, "TYPE_MESSAGE", value));
    return undefined;
  }
  if ("map" in type) {
    const entries = Object.entries(value).map(([key, item], i) =>
      [key, readField(type.map, item, `${path}[${i}].value`, violations)] as const
    );
    return Object.fromEntries(entries);
  }
  return readMessage(type.message(), value as Record<string, unknown>, path, violations);
}

function readMessage(
  fields: Fields,
  value: Record<string, unknown>,
  path: string,
  violations: Violation[],
): Record<string, unknown> {
  const known = names(fields);
  const read: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value)) {
    const field = known.get(name);
    if (field === undefined) {
      violations.push(unknownName(path, name, "Cannot find field."));
      continue;
    }
    if (item === null) continue;
    const type = fields[field]!;
    const takesList = type === "json" || (typeof type === "object" && "list" in type);
    if (Array.isArray(item) && !takesList) {
      violations.push(unknownName(path, name, "Proto field is not repeating, cannot start list."));
      continue;
    }
    const result = readField(type, item, path === "" ? snake(field) : `${path}.${snake(field)}`, violations);
    if (result !== undefined) read[field] = result;
  }
  return read;
}

/**
 * @param text the request body as it came.
 * @returns the message with camelCase names.
 * @throws GoogleError 400 for what is not JSON, not an object, or does not fit the message.
 */
export function readRequest(fields: Fields, text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text === "" ? "{}" : text);
  } catch {
    const description = `Invalid JSON payload received. Unexpected token.\n${text.slice(0, 40)}\n^`;
    throw badRequest([{ description }]);
  }
  if (!isObject(value)) {
    throw badRequest([{
      description: 'Invalid JSON payload received. Unknown name "": Root element must be a message.',
    }]);
  }
  const violations: Violation[] = [];
  const read = readMessage(fields, value, "", violations);
  if (violations.length > 0) throw badRequest(violations);
  return read;
}
