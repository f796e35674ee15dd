import type { Part } from "../../contract/content.ts";
import { toolCallId } from "../tool_call_id.ts";
import { thinkingSignature } from "./signature.ts";

/** A piece of an answer, as Anthropic's clients know blocks. */
export type Block =
  | { type: "thinking"; thinking: string; signature: string }
  | { type: "text"; text: string; citations: null }
  | {
    type: "tool_use";
    id: string;
    caller: { type: "direct" };
    name: string;
    input: Record<string, unknown>;
  };

export interface BlockTerms {
  /** Whether the client asked to see thoughts. */
  showsThoughts: boolean;
  /** False: of several calls made together only the first is handed out. */
  parallelCalls: boolean;
  /** A fresh id of letters, digits and `-`. */
  newId: () => string;
}

/** One part of an answer: what it says, and what signs it; null: nothing that a client is told. */
export type Saying = { block: Block; signature: string | null } | null;

export function sayingOf(part: Part, { showsThoughts, newId }: BlockTerms): Saying {
  const signature = part.thoughtSignature ?? null;
  if (part.functionCall !== undefined) {
    const { id, name, args } = Object(part.functionCall) as { id?: unknown; name?: unknown; args?: unknown };
    const upstreamId = typeof id === "string" ? id : null;
    return {
      signature,
      block: {
        type: "tool_use",
        id: toolCallId({ upstreamId, signature }, newId(), "anthropic"),
        caller: { type: "direct" },
        name: String(name ?? ""),
        input: Object(args ?? {}),
      },
    };
  }
  const text = part.text ?? "";
  if (part.thought === true) {
    if (!showsThoughts) return null;
    return { signature, block: { type: "thinking", thinking: text, signature: "" } };
  }
  return { signature, block: { type: "text", text, citations: null } };
}

/** The parts of a whole answer as blocks: thoughts are signed by what follows them. */
export function blocksOf(parts: readonly Part[], terms: BlockTerms): Block[] {
  const blocks: Block[] = [];
  let calls = 0;
  for (const part of parts) {
    const saying = sayingOf(part, terms);
    if (saying === null) continue;
    const { block, signature } = saying;
    const last = blocks.at(-1);
    if (last?.type === "thinking" && block.type !== "thinking") last.signature = thinkingSignature(signature);
    if (last?.type === "thinking" && block.type === "thinking") last.thinking += block.thinking;
    else if (last?.type === "text" && block.type === "text") last.text += block.text;
    else if (block.type === "text" && block.text === "") continue;
    else if (block.type !== "tool_use" || terms.parallelCalls || calls++ === 0) blocks.push(block);
  }
  const last = blocks.at(-1);
  if (last?.type === "thinking") last.signature = thinkingSignature(null);
  return blocks;
}
