/**
 * What a well-formed generateContent request may still be refused for, in Google's words.
 */

import { errorNamed, invalidArgument } from "./errors.ts";
import type { ErrorContext } from "./errors.ts";
import type { ModelRow } from "./models.ts";
import { callContent, signatureIsValid } from "./thought_signature.ts";
import type { Content, GenerateRequest, Part } from "./wire.ts";

/** Roles that are accepted; `function` is how the first SDKs sent function responses. */
const ROLES = ["user", "model", "function"];

const MIME_TYPES = ["text/plain", "application/json", "text/x.enum"];

/** Fields of a part that say something about it and are not its content. */
const PART_ATTRIBUTES = ["thought", "thoughtSignature", "partMetadata", "videoMetadata", "mediaResolution"];

/** @throws GoogleError 400. @returns the request; nothing in it is changed but missing lists are made empty. */
export function checkGenerate(
  read: Record<string, unknown>,
  model: ModelRow,
  at: ErrorContext,
): GenerateRequest {
  const request = { ...read, contents: read.contents ?? [] } as GenerateRequest;
  for (const content of request.contents) content.parts ??= [];
  if (request.systemInstruction) request.systemInstruction.parts ??= [];
  checkContents(request.contents, "GenerateContentRequest");
  if (!model.system && request.systemInstruction) throw errorNamed("system_disabled", at);
  if (!model.tools && request.tools?.length) throw errorNamed("tools_disabled", at);
  checkGenerationConfig(request, model, at);
  if (!model.search && (request.tools ?? []).some((tool) => tool.googleSearch !== undefined)) {
    throw invalidArgument(`Search as tool is not enabled for models/${model.name}`);
  }
  const modalities = request.generationConfig?.responseModalities ?? [];
  if (!model.images && modalities.includes("IMAGE")) {
    throw invalidArgument(
      `The requested combination of response modalities (${
        modalities.join(", ")
      }) is not supported by the model. ` +
        `models/${model.name} accepts the following combination of response modalities:\n* TEXT\n`,
    );
  }
  checkTools(request);
  checkFunctionTurns(request.contents, model);
  return request;
}

/** The rules every method shares: there is content, each part has some, and a role is one of two. */
export function checkContents(contents: Content[], message: string): void {
  if (contents.length === 0) {
    throw invalidArgument(`* ${message}.contents: contents is not specified\n`);
  }
  const complaints: string[] = [];
  contents.forEach((content, i) => {
    if (content.role !== undefined && content.role !== "" && !ROLES.includes(content.role)) {
      const system = content.role === "system" ? "Content with system role is not supported. " : "";
      throw invalidArgument(`${system}Please use a valid role: user, model.`);
    }
    if (content.parts.length === 0) {
      complaints.push(`* ${message}.contents[${i}].parts: contents.parts must not be empty.`);
    }
    content.parts.forEach((part, j) => {
      if (hasData(part)) return;
      complaints.push(
        `* ${message}.contents[${i}].parts[${j}].data: required oneof field 'data' must have one initialized field`,
      );
    });
  });
  if (complaints.length > 0) throw invalidArgument(complaints.map((line) => `${line}\n`).join(""));
}

/** An empty text is content, too. */
function hasData(part: Part): boolean {
  return Object.keys(part).some((field) => !PART_ATTRIBUTES.includes(field));
}

function checkGenerationConfig(request: GenerateRequest, model: ModelRow, at: ErrorContext): void {
  const config = request.generationConfig;
  if (!config) return;
  const range = (value: number | undefined, field: string, low: number, high: number) => {
    if (value === undefined || (value >= low && value <= high)) return;
    throw invalidArgument(
      `* GenerateContentRequest.generation_config.${field}: ${field} must be in the range [${
        low.toFixed(1)
      }, ${high.toFixed(1)}].\n`,
    );
  };
  range(config.temperature, "temperature", 0, 2);
  range(config.topP, "top_p", 0, 1);
  for (
    const [field, value] of [["max_output_tokens", config.maxOutputTokens], ["top_k", config.topK]] as const
  ) {
    if (value === undefined || value > 0) continue;
    throw invalidArgument(
      `* GenerateContentRequest.generation_config.${field}: ${field} must be positive.\n`,
    );
  }
  if (config.maxOutputTokens !== undefined && config.maxOutputTokens > model.outputTokenLimit) {
    throw invalidArgument(
      `Unable to submit request because it has a maxOutputTokens value of ${config.maxOutputTokens} but the ` +
        `supported range is from 1 (inclusive) to ${
          model.outputTokenLimit + 1
        } (exclusive). Update the value and try again.`,
    );
  }
  if (config.candidateCount !== undefined && config.candidateCount > 1) {
    throw invalidArgument("Multiple candidates is not enabled for this model");
  }
  if (config.stopSequences && config.stopSequences.length > 5) {
    throw invalidArgument(
      `* GenerateContentRequest.generation_config.stop_sequences: stop_sequences can not be more than 5.\n`,
    );
  }
  checkResponseFormat(request, model, at);
  checkThinking(config.thinkingConfig, model, at);
}

function checkResponseFormat(request: GenerateRequest, model: ModelRow, at: ErrorContext): void {
  const config = request.generationConfig!;
  const mime = config.responseMimeType;
  if (mime !== undefined && mime !== "" && !MIME_TYPES.includes(mime)) {
    throw invalidArgument(
      "* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are `text/plain`, " +
        "`application/json`, `application/xml`, `application/yaml` and `text/x.enum`.\n",
    );
  }
  const schema = config.responseSchema ?? config.responseJsonSchema;
  const structured = schema !== undefined || mime === "application/json" || mime === "text/x.enum";
  if (!structured) return;
  if (!model.json) throw errorNamed("json_disabled", at);
  if (config.responseSchema !== undefined && config.responseJsonSchema !== undefined) {
    throw invalidArgument("Only one of response_schema and response_json_schema can be set.");
  }
  if (schema !== undefined && mime !== "application/json" && mime !== "text/x.enum") {
    throw invalidArgument(
      "* GenerateContentRequest.generation_config.response_mime_type: must be `application/json` or " +
        "`text/x.enum` when a response schema is set.\n",
    );
  }
  if (request.tools?.length && !model.toolsWithJson) {
    throw invalidArgument("Function calling with a response mime type: 'application/json' is unsupported");
  }
  if (config.responseSchema) {
    const complaints: string[] = [];
    checkSchema(
      config.responseSchema,
      "GenerateContentRequest.generation_config.response_schema",
      complaints,
    );
    if (complaints.length > 0) throw invalidArgument(complaints.map((line) => `* ${line}\n`).join(""));
  }
}

interface Schema {
  type?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  anyOf?: Schema[];
}

function checkSchema(schema: Schema, path: string, complaints: string[]): void {
  if (schema.type === "OBJECT") {
    const properties = schema.properties ?? {};
    if (Object.keys(properties).length === 0) {
      complaints.push(`${path}.properties: should be non-empty for OBJECT type`);
    }
    (schema.required ?? []).forEach((name, i) => {
      if (!(name in properties)) complaints.push(`${path}.required[${i}]: property is not defined`);
    });
  }
  if (schema.type === "ARRAY" && !schema.items) complaints.push(`${path}.items: missing field.`);
  if (schema.type === undefined && schema.anyOf === undefined) {
    complaints.push(`${path}.type: must be specified`);
  }
  if (schema.items) checkSchema(schema.items, `${path}.items`, complaints);
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    checkSchema(property, `${path}.properties[${name}]`, complaints);
  }
  (schema.anyOf ?? []).forEach((option, i) => checkSchema(option, `${path}.any_of[${i}]`, complaints));
}

function checkThinking(
  config: NonNullable<GenerateRequest["generationConfig"]>["thinkingConfig"],
  model: ModelRow,
  at: ErrorContext,
): void {
  if (!config) return;
  const { thinkingLevel: level, thinkingBudget: budget } = config;
  const asksLevel = level !== undefined && level !== "THINKING_LEVEL_UNSPECIFIED";
  const thinking = model.thinking;
  if (asksLevel && budget !== undefined) {
    throw invalidArgument("You can only set only one of thinking budget and thinking level.");
  }
  if (asksLevel && !thinking?.levels.length) {
    throw invalidArgument("Thinking level is not supported for this model.");
  }
  if (asksLevel && !thinking!.levels.some((known) => known === level)) {
    throw invalidArgument(
      `Thinking level ${level} is not supported for this model. Please retry with other thinking level.`,
    );
  }
  if (budget !== undefined && !thinking?.budget) {
    throw invalidArgument("Thinking budget is not supported for this model.");
  }
  if (budget !== undefined && (budget < -1 || budget > MAX_THINKING_BUDGET)) {
    throw invalidArgument(
      `The thinking budget ${budget} is invalid. Please choose a value between 0 and ${MAX_THINKING_BUDGET}.`,
    );
  }
  if (config.includeThoughts && !thinking) {
    throw invalidArgument(`Thinking is not enabled for models/${at.model}`);
  }
}

/** Gemini 2.5 Flash's; the other models that take a budget have one of the same order. */
const MAX_THINKING_BUDGET = 24_576;

const FUNCTION_NAME = /^[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}$/;

function checkTools(request: GenerateRequest): void {
  const seen = new Set<string>();
  (request.tools ?? []).forEach((tool, i) => {
    (tool.functionDeclarations ?? []).forEach((declaration, j) => {
      const path = `GenerateContentRequest.tools[${i}].function_declarations[${j}]`;
      if (!FUNCTION_NAME.test(declaration.name ?? "")) {
        throw invalidArgument(
          `* ${path}.name: Invalid function name. Must start with a letter or an underscore. Must be alphanumeric ` +
            "(a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 128.\n",
        );
      }
      if (seen.has(declaration.name)) {
        throw invalidArgument(`Duplicate function declaration found: ${declaration.name}`);
      }
      seen.add(declaration.name);
    });
  });
}

/**
 * Function calls are answered all together where they are answered by functions, in the turn that follows or in their
 * own, and come back with their signature where one is due. They may be answered by words instead.
 */
function checkFunctionTurns(contents: Content[], model: ModelRow): void {
  const lastQuestion = contents.findLastIndex((content) =>
    content.role !== "model" && content.parts.some((part) => part.functionResponse === undefined)
  );
  contents.forEach((content, i) => {
    if (content.role !== "model") return;
    const calls = content.parts.filter((part) => part.functionCall !== undefined);
    if (calls.length === 0) return;
    const answersIn = (turn: Content | undefined) =>
      (turn?.parts ?? []).filter((part) => part.functionResponse !== undefined).length;
    const following = contents[i + 1];
    const answers = answersIn(content) + answersIn(following);
    if (answers !== calls.length && (answers > 0 || following === undefined)) {
      throw invalidArgument(
        "Please ensure that the number of function response parts is equal to the number of function call parts " +
          "of the function call turn.",
      );
    }
    // Only the first of several calls made together is signed, and only the current turn is looked at.
    const first = calls[0]!;
    if (!model.thoughtSignatures || i < lastQuestion) return;
    if (first.thoughtSignature === undefined) {
      throw invalidArgument(
        "Function call is missing a thought_signature in functionCall parts. This is required for tools to work " +
          "correctly, and missing thought_signature may lead to degraded model performance. Additional data, " +
          `function call \`default_api:${first.functionCall!.name}\` , position ${i + 1}. Please refer to ` +
          "https://ai.google.dev/gemini-api/docs/thought-signatures for more details.",
      );
    }
    if (!signatureIsValid(first.thoughtSignature, callContent(first.functionCall!))) {
      throw invalidArgument("Corrupted thought signature.");
    }
  });
}

/** @throws GoogleError 400 when the prompt is longer than the model's context. */
export function checkPromptLength(tokens: number, model: ModelRow): void {
  if (tokens <= model.inputTokenLimit) return;
  throw invalidArgument(
    `The input token count (${tokens}) exceeds the maximum number of tokens allowed (${model.inputTokenLimit}).`,
  );
}
