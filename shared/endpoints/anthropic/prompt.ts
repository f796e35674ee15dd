import type { GenerationConfig, Prompt } from "../../contract/content.ts";
import type { LinkedMedia } from "../linked_media.ts";
import { declaration } from "../openai/chat/tools.ts";
import { withoutDialect } from "../openai/chat/response_format.ts";
import { schemaSettings } from "../response_schema.ts";
import { type Effort, effortSettings, leastThinking } from "../thinking_effort.ts";
import { invalidRequest } from "../validated.ts";
import { promptTurns } from "./messages.ts";
import { type AnthropicQuestion, type AnthropicRequest, isWebSearch } from "./request.ts";

/** Thoughts as they are handed out: not at all, unless a client asks for them. */
export function showsThoughts({ thinking }: Pick<AnthropicQuestion, "thinking">): boolean {
  return thinking !== undefined && thinking.type !== "disabled" && thinking.display !== "omitted";
}

/** A schema that the answer is held to; undefined: it is text. */
export function formatOf({ output_config, output_format }: AnthropicQuestion) {
  return output_config?.format ?? output_format;
}

/** What `count_tokens` counts. @throws GatewayError `invalid_request`, `empty_prompt` */
export function countedPrompt(body: AnthropicQuestion, linked: LinkedMedia): Prompt {
  return { ...promptTurns(body, { model: body.model, linked }), ...toolFields(body) };
}

/** A body of `/v1/messages` as a prompt. @throws GatewayError `invalid_request`, `empty_prompt` */
export function promptOf(body: AnthropicRequest, linked: LinkedMedia): Prompt {
  return { ...countedPrompt(body, linked), generationConfig: generationSettings(body) };
}

function generationSettings(body: AnthropicRequest): GenerationConfig {
  const format = formatOf(body);
  const settings: GenerationConfig = {
    maxOutputTokens: body.max_tokens,
    temperature: body.temperature,
    topP: body.top_p,
    // 0 is none there.
    topK: body.top_k || undefined,
    stopSequences: body.stop_sequences?.length ? body.stop_sequences : undefined,
    ...(format !== undefined && schemaSettings(withoutDialect(format.schema), "output_config.format.schema")),
    thinkingConfig: thinkingSettings(body),
  };
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}

/** Up to these budgets, in tokens, a model that knows levels instead thinks so hard. */
const EFFORT_OF_BUDGET: readonly [number, Effort][] = [[4_096, "low"], [12_288, "medium"]];

/**
 * A client that says nothing of thoughts wants none, and counts on all of `max_tokens` for the answer. Undefined: the model thinks as it does
 * by itself.
 */
function thinkingSettings(body: AnthropicRequest): Record<string, unknown> | undefined {
  const { thinking, output_config, model } = body;
  const effort = output_config?.effort;
  if ((thinking === undefined && effort === undefined) || thinking?.type === "disabled") {
    return leastThinking(model);
  }
  const settings = {
    ...(effort !== undefined && effortSettings(effort, model)),
    ...(thinking?.type === "enabled" && effort === undefined &&
      budgetSettings(thinking.budget_tokens, model)),
    ...(showsThoughts(body) && { includeThoughts: true }),
  };
  return Object.keys(settings).length > 0 ? settings : undefined;
}

function budgetSettings(budget: number, model: string): Record<string, unknown> {
  const effort = EFFORT_OF_BUDGET.find(([most]) => budget <= most)?.[1] ?? "high";
  const settings = effortSettings(effort, model);
  const most = effortSettings("max", model).thinkingBudget;
  return typeof most === "number" ? { thinkingBudget: Math.min(budget, most) } : settings;
}

/**
 * `tools` and `tool_choice` as function declarations and the mode of calling them. A tool with `strict` makes upstream hold to the schemas.
 * @throws GatewayError `invalid_request` for a choice that names no tool
 */
function toolFields({ tools, tool_choice: choice }: AnthropicQuestion): Pick<Prompt, "tools" | "toolConfig"> {
  if (tools === undefined || tools.length === 0) {
    if (choice === undefined || choice.type === "none" || choice.type === "auto") return {};
    throw invalidRequest([{ field: "tool_choice", problem: "there are no tools to choose from" }]);
  }
  const functions = tools.filter((tool) => !isWebSearch(tool));
  const functionDeclarations = functions.map(({ name, description, input_schema: parameters = {} }) =>
    declaration({ name, parameters, ...(description !== undefined && { description }) })
  );
  const mode = modeOf(
    choice,
    functions.map(({ name }) => name),
    functions.some(({ strict }) => strict === true),
  );
  return {
    tools: [
      ...(functions.length > 0 ? [{ functionDeclarations }] : []),
      ...(functions.length < tools.length ? [{ googleSearch: {} }] : []),
    ],
    ...(mode !== null && { toolConfig: { functionCallingConfig: mode } }),
  };
}

function modeOf(choice: AnthropicQuestion["tool_choice"], names: string[], strict: boolean) {
  switch (choice?.type) {
    case undefined:
    case "auto":
      return strict ? { mode: "VALIDATED" } : null;
    case "none":
      return { mode: "NONE" };
    case "any":
      return { mode: "ANY" };
    case "tool":
      if (!names.includes(choice.name)) {
        const problem = `there is no tool named ${JSON.stringify(choice.name)}`;
        throw invalidRequest([{ field: "tool_choice.name", problem }]);
      }
      return { mode: "ANY", allowedFunctionNames: [choice.name] };
  }
}
