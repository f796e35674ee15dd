import type { Content, Part, Prompt } from "../../contract/content.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { type JsonAllowance, MAX_JSON_VALUES, parseInnerJson } from "../../http/json.ts";
import type { Message, ToolCall } from "./chat_request.ts";
import type { LinkedMedia } from "../linked_media.ts";
import { inlineData } from "./media.ts";
import { toolResponse } from "../tool_response.ts";
import { marksOf, UNSIGNED_CALL, WANTS_SIGNATURES } from "../tool_call_id.ts";
import { invalidRequest } from "../validated.ts";
import { isObject } from "../../contract/is_object.ts";

export interface TurnTerms {
  model: string;
  linked: LinkedMedia;
}

type Assistant = Extract<Message, { role: "assistant" }>;
type ToolMessage = Extract<Message, { role: "tool" }>;

/**
 * Messages as turns. System and developer messages become the system instruction, wherever they stand; the results of
 * calls made together become one turn, in the order of the calls.
 * @throws GatewayError `invalid_request` for calls without results and results without calls, `empty_prompt`,
 * `body_too_large` for arguments and results of too many values
 */
export function promptTurns(
  messages: Message[],
  terms: TurnTerms,
): Pick<Prompt, "contents" | "systemInstruction"> {
  const contents: Content[] = [];
  const system: Part[] = [];
  // Arguments and results are JSON inside of texts; all of them together may hold what a body may.
  const allowance: JsonAllowance = { values: MAX_JSON_VALUES };
  for (let i = 0; i < messages.length; i++) {
    const message = messages[i]!;
    const place = `messages[${i}]`;
    switch (message.role) {
      case "system":
      case "developer":
        system.push(...textParts(message));
        break;
      case "user":
        push(contents, "user", userParts(message, terms.linked, place));
        break;
      case "assistant": {
        push(contents, "model", assistantParts(message, terms.model, place, allowance));
        const calls = message.tool_calls ?? [];
        if (calls.length === 0) break;
        const results = toolMessagesAfter(messages, i);
        push(contents, "user", resultParts(calls, results, i, allowance));
        i += results.length;
        break;
      }
      case "tool":
        throw fault(`${place}.tool_call_id`, "answers no tool call of the message before it");
    }
  }
  if (contents.length === 0) throw new GatewayError("empty_prompt");
  return { contents, ...(system.length > 0 && { systemInstruction: { parts: system } }) };
}

/** An empty turn is left out: upstream refuses it. */
function push(contents: Content[], role: "user" | "model", parts: Part[]): void {
  if (parts.length > 0) contents.push({ role, parts });
}

function userParts(message: Extract<Message, { role: "user" }>, linked: LinkedMedia, place: string): Part[] {
  const parts = message.content.flatMap((part, j): Part[] => {
    if (part.type === "text") return part.text === "" ? [] : [{ text: part.text }];
    return [{ inlineData: inlineData(part, linked, `${place}.content[${j}]`) }];
  });
  return named(parts, message.name);
}

function textParts(message: { content: { text: string }[]; name?: string | undefined }): Part[] {
  return named(message.content.filter(({ text }) => text !== "").map(({ text }) => ({ text })), message.name);
}

/**
 * Upstream knows no names of speakers; in front of what they say, models understand them. What a model said carries none:
 * an agent's framework names its own answers ("model"), and a model that reads its name there writes it in the next turn.
 */
function named(parts: Part[], name: string | undefined): Part[] {
  return name === undefined || parts.length === 0 ? parts : [{ text: `${name}:` }, ...parts];
}

function assistantParts(message: Assistant, model: string, place: string, allowance: JsonAllowance): Part[] {
  const said = (message.content ?? []).map((part) => part.type === "text" ? part.text : part.refusal);
  if (message.refusal !== undefined) said.push(message.refusal);
  const parts: Part[] = said.filter((text) => text !== "").map((text) => ({ text }));
  const calls = (message.tool_calls ?? []).map((call, j) =>
    callPart(call, `${place}.tool_calls[${j}]`, allowance)
  );
  const signed = calls.some((call) => call.thoughtSignature !== undefined);
  // Of several calls made together, upstream signs the first.
  if (calls[0] !== undefined && !signed && WANTS_SIGNATURES.test(model)) {
    calls[0].thoughtSignature = UNSIGNED_CALL;
  }
  const signature = message.extra_content?.google?.thought_signature;
  const last = parts.at(-1);
  if (signature !== undefined && last !== undefined) last.thoughtSignature = signature;
  return [...parts, ...calls];
}

function callPart(call: ToolCall, place: string, allowance: JsonAllowance): Part {
  const marks = marksOf(call.id);
  const signature = call.extra_content?.google?.thought_signature ?? marks.signature;
  return {
    functionCall: {
      ...(marks.upstreamId !== null && { id: marks.upstreamId }),
      name: call.function.name,
      args: argumentsOf(call, place, allowance),
    },
    ...(signature !== null && { thoughtSignature: signature }),
  };
}

function argumentsOf(call: ToolCall, place: string, allowance: JsonAllowance): Record<string, unknown> {
  // Some clients write an empty text for no arguments.
  if (call.function.arguments.trim() === "") return {};
  const value = parseInnerJson(call.function.arguments, allowance);
  if (!isObject(value)) throw fault(`${place}.function.arguments`, "must be a JSON object, as text");
  return value;
}

function toolMessagesAfter(messages: Message[], index: number): { message: ToolMessage; index: number }[] {
  const found: { message: ToolMessage; index: number }[] = [];
  for (let i = index + 1; i < messages.length; i++) {
    const message = messages[i]!;
    if (message.role !== "tool") break;
    found.push({ message, index: i });
  }
  return found;
}

function resultParts(
  calls: ToolCall[],
  results: { message: ToolMessage; index: number }[],
  callsAt: number,
  allowance: JsonAllowance,
): Part[] {
  const byId = new Map<string, ToolMessage>();
  for (const { message, index } of results) {
    const field = `messages[${index}].tool_call_id`;
    if (!calls.some((call) => call.id === message.tool_call_id)) {
      throw fault(field, "answers no tool call of the message before it");
    }
    if (byId.has(message.tool_call_id)) throw fault(field, "answers a tool call that is answered already");
    byId.set(message.tool_call_id, message);
  }
  return calls.map((call, j) => {
    const result = byId.get(call.id);
    if (result === undefined) {
      throw fault(`messages[${callsAt}].tool_calls[${j}]`, "is not answered by a tool message after it");
    }
    const { upstreamId } = marksOf(call.id);
    const response = toolResponse(result.content.map(({ text }) => text).join(""), allowance);
    return {
      functionResponse: {
        ...(upstreamId !== null && { id: upstreamId }),
        name: call.function.name,
        response,
      },
    };
  });
}

function fault(field: string, problem: string): GatewayError {
  return invalidRequest([{ field, problem }]);
}
