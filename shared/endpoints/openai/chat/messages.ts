import type { Content, Part, Prompt } from "../../../contract/content.ts";
import { GatewayError } from "../../../contract/gateway_error.ts";
import { type JsonAllowance, MAX_JSON_VALUES, parseInnerJson } from "../../../http/json.ts";
import type { Message, ToolCall } from "./chat_request.ts";
import type { LinkedMedia } from "../../linked_media.ts";
import { inlineData } from "../media.ts";
import { toolResponse } from "../../tool_response.ts";
import { marksOf, UNSIGNED_CALL, wantsSignatures } from "../../tool_call_id.ts";
import { isObject } from "../../../contract/is_object.ts";

/** Stands in the place of a result that never came. */
const NOT_ANSWERED = "This call was not answered.";

export interface TurnTerms {
  model: string;
  linked: LinkedMedia;
}

type Assistant = Extract<Message, { role: "assistant" }>;
type ToolMessage = Extract<Message, { role: "tool" }>;

/**
 * Messages as turns. System and developer messages become the system instruction, wherever they stand; the results of
 * calls made together become one turn, in the order of the calls.
 *
 * A history that no model would have written is told as well as it can be, since an agent that is refused for its own past
 * is refused for ever: a result that comes late goes to its call, a call without one is said to have none, and a result
 * without a call is told in words.
 * @throws GatewayError `invalid_request`, `empty_prompt`, `body_too_large` for arguments and results of too many values
 */
export function promptTurns(
  messages: Message[],
  terms: TurnTerms,
): Pick<Prompt, "contents" | "systemInstruction"> {
  const contents: Content[] = [];
  const system: Part[] = [];
  // Arguments and results are JSON inside of texts; all of them together may hold what a body may.
  const allowance: JsonAllowance = { values: MAX_JSON_VALUES };
  const resultOf = resultsOf(messages);
  const withResult = new Set<number>();
  messages.forEach((message, i) => {
    const place = `messages[${i}]`;
    switch (message.role) {
      case "system":
      case "developer":
        system.push(...textParts(message));
        break;
      case "user":
        push(contents, "user", spokenParts(message, terms.linked, place));
        break;
      case "assistant": {
        push(contents, "model", assistantParts(message, terms.model, allowance));
        const results: Part[] = [];
        const beside: Part[] = [];
        for (const call of message.tool_calls ?? []) {
          const at = resultOf(call.id, i);
          if (at !== null) withResult.add(at);
          const result = at === null ? null : messages[at] as ToolMessage;
          results.push(resultPart(call, result, allowance));
          const pictures = mediaParts(result?.content, terms.linked, `messages[${at}]`);
          if (pictures.length > 0) beside.push({ text: `${call.function.name}:` }, ...pictures);
        }
        push(contents, "user", results);
        push(contents, "user", beside);
        break;
      }
      case "tool": {
        if (withResult.has(i)) break;
        const name = message.name ?? message.tool_call_id;
        push(contents, "user", [
          { text: `Result of the tool call ${name}: ${textOf(message)}` },
          ...mediaParts(message.content, terms.linked, place),
        ]);
      }
    }
  });
  // A system message alone is a prompt to OpenAI's models; upstream wants somebody to say something.
  if (contents.length === 0) push(contents, "user", system.splice(0));
  if (contents.length === 0) throw new GatewayError("empty_prompt");
  return { contents, ...(system.length > 0 && { systemInstruction: { parts: system } }) };
}

/** Finds the place of the result of a call that is made in a message: the first after it, before another call has the same id. */
function resultsOf(messages: Message[]): (id: string, madeIn: number) => number | null {
  const known = new Map<string, number[]>();
  const note = (id: string, at: number) => {
    const places = known.get(id);
    if (places === undefined) known.set(id, [at]);
    else places.push(at);
  };
  messages.forEach((message, i) => {
    if (message.role === "tool") note(message.tool_call_id, i);
    if (message.role === "assistant") message.tool_calls?.forEach(({ id }) => note(id, i));
  });
  return (id, madeIn) => {
    const next = known.get(id)?.find((at) => at > madeIn);
    return next !== undefined && messages[next]?.role === "tool" ? next : null;
  };
}

/** An empty turn is left out: upstream refuses it. */
function push(contents: Content[], role: "user" | "model", parts: Part[]): void {
  if (parts.length > 0) contents.push({ role, parts });
}

function spokenParts(
  message: Extract<Message, { role: "user" }>,
  linked: LinkedMedia,
  place: string,
): Part[] {
  const parts = message.content.flatMap((part, j): Part[] => {
    if (part.type === "text") return part.text === "" ? [] : [{ text: part.text }];
    return [{ inlineData: inlineData(part, linked, `${place}.content[${j}]`) }];
  });
  return named(parts, message.name);
}

/** What a tool answered that is not text. */
function mediaParts(content: ToolMessage["content"], linked: LinkedMedia, place: string): Part[] {
  return (content ?? []).flatMap((part, j) =>
    part.type === "text" ? [] : [{ inlineData: inlineData(part, linked, `${place}.content[${j}]`) }]
  );
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

function assistantParts(message: Assistant, model: string, allowance: JsonAllowance): Part[] {
  const said = (message.content ?? []).map((part) => part.type === "text" ? part.text : part.refusal);
  if (message.refusal !== undefined) said.push(message.refusal);
  const parts: Part[] = said.filter((text) => text !== "").map((text) => ({ text }));
  const calls = (message.tool_calls ?? []).map((call) => callPart(call, allowance));
  const signed = calls.some((call) => call.thoughtSignature !== undefined);
  // Of several calls made together, upstream signs the first.
  if (calls[0] !== undefined && !signed && wantsSignatures(model)) {
    calls[0].thoughtSignature = UNSIGNED_CALL;
  }
  const signature = message.extra_content?.google?.thought_signature;
  const last = parts.at(-1);
  if (signature !== undefined && last !== undefined) last.thoughtSignature = signature;
  return [...parts, ...calls];
}

function callPart(call: ToolCall, allowance: JsonAllowance): Part {
  const marks = marksOf(call.id);
  const signature = call.extra_content?.google?.thought_signature ?? marks.signature;
  return {
    functionCall: {
      ...(marks.upstreamId !== null && { id: marks.upstreamId }),
      name: call.function.name,
      args: argumentsOf(call, allowance),
    },
    ...(signature !== null && { thoughtSignature: signature }),
  };
}

/** Arguments are an object upstream; what a model broke off or wrote wrongly is told as the text that it is. */
function argumentsOf(
  { function: { arguments: text } }: ToolCall,
  allowance: JsonAllowance,
): Record<string, unknown> {
  // Some clients write an empty text for no arguments.
  if (text.trim() === "") return {};
  const value = parseInnerJson(text, allowance);
  return isObject(value) ? value : { arguments: text };
}

/** @param result null: it has none */
function resultPart(call: ToolCall, result: ToolMessage | null, allowance: JsonAllowance): Part {
  const { upstreamId } = marksOf(call.id);
  return {
    functionResponse: {
      ...(upstreamId !== null && { id: upstreamId }),
      name: call.function.name,
      response: result === null ? { error: NOT_ANSWERED } : toolResponse(textOf(result), allowance),
    },
  };
}

const textOf = ({ content = [] }: ToolMessage) =>
  content.map((part) => part.type === "text" ? part.text : "").join("");
