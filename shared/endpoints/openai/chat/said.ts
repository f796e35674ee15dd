import type { Part } from "../../../contract/content.ts";
import { toolCallId } from "../../tool_call_id.ts";

/** The field in which Google's own OpenAI endpoint returns signatures. */
export interface ExtraContent {
  google: { thought_signature: string };
}

export interface OpenaiToolCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
  extra_content?: ExtraContent;
}

/** A call of a tool that takes any text. */
export type CustomToolCall = Omit<OpenaiToolCall, "type" | "function"> & {
  type: "custom";
  custom: { name: string; input: string };
};

/** A call as its client declared the tool. @param customTools those that take any text */
export function asDeclared(
  call: OpenaiToolCall,
  customTools: ReadonlySet<string>,
): OpenaiToolCall | CustomToolCall {
  const { function: { name, arguments: args }, ...rest } = call;
  if (!customTools.has(name)) return call;
  const { input } = JSON.parse(args) as { input?: unknown };
  return { ...rest, type: "custom", custom: { name, input: typeof input === "string" ? input : args } };
}

/** What some parts of an answer say, sorted as OpenAI's messages are. */
export interface Said {
  text: string;
  /** The model's thoughts, which are not part of the text. */
  reasoning: string;
  calls: OpenaiToolCall[];
  /** The signature of the text; those of calls are with the calls. */
  signature: string | null;
}

/** @param newId a fresh id of letters, digits and `-`, for a call that upstream gave none */
export function saidIn(parts: readonly Part[], newId: () => string): Said {
  const said: Said = { text: "", reasoning: "", calls: [], signature: null };
  for (const part of parts) {
    const signature = part.thoughtSignature ?? null;
    if (part.functionCall !== undefined) {
      said.calls.push(callOf(part.functionCall, signature, newId));
    } else if (part.thought === true) {
      said.reasoning += part.text ?? "";
    } else {
      said.text += part.text ?? "";
      said.signature = signature ?? said.signature;
    }
  }
  return said;
}

function callOf(functionCall: unknown, signature: string | null, newId: () => string): OpenaiToolCall {
  const { id, name, args } = Object(functionCall) as { id?: unknown; name?: unknown; args?: unknown };
  const upstreamId = typeof id === "string" ? id : null;
  return {
    id: toolCallId({ upstreamId, signature }, newId()),
    type: "function",
    function: { name: String(name ?? ""), arguments: JSON.stringify(args ?? {}) },
    ...(signature !== null && { extra_content: extraContent(signature) }),
  };
}

export function extraContent(signature: string): ExtraContent {
  return { google: { thought_signature: signature } };
}
