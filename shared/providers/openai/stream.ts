import type { Answer, Candidate } from "../../contract/content.ts";
import { readEvents } from "../event_stream.ts";
import { judgedStream } from "../judged_answer.ts";
import { callPart, finishReasonIn, functionCallPart, usageMetadata } from "./answer.ts";
import { type ProviderChunk, type ProviderEnd, ProviderFailure } from "../provider.ts";
import { callUpstream, clean, recordsIn, type UpstreamCall } from "../upstream.ts";
import { isObject } from "../../contract/is_object.ts";

/** A call of a tool, arriving letter by letter. */
interface PendingCall {
  id: unknown;
  name: string;
  arguments: string;
}

/** `chat/completions` with `stream`: chunks until `[DONE]`. A call of a tool is passed on when it is complete. */
export function readCompletionStream(call: UpstreamCall): AsyncGenerator<ProviderChunk, ProviderEnd, void> {
  const calls = new Map<number, Map<number, PendingCall>>();
  return judgedStream(call, {
    open: async () => readEvents((await callUpstream(call)).body ?? new Blob().stream()),
    answerIn(piece) {
      if (piece.text.trim() === "[DONE]") return null;
      const body: unknown = JSON.parse(piece.text);
      if (!isObject(body)) throw new Error("a chunk that is no object");
      if (body.error !== undefined) throw errorInStream(body, call);
      if (piece.kind === "stray") throw new Error("the stream lost its framing");
      return chunkOf(body, calls);
    },
    says,
  });
}

function errorInStream(
  body: Record<string, unknown>,
  { errorMapping, secret }: UpstreamCall,
): ProviderFailure {
  const message = errorMapping.messageIn(body) ?? "an error without a message";
  const diagnosis = errorMapping.diagnose({ status: 500, body, message, headers: new Headers() });
  return new ProviderFailure(diagnosis, clean(message, secret), null);
}

function chunkOf(body: Record<string, unknown>, calls: Map<number, Map<number, PendingCall>>): Answer {
  const candidates = recordsIn(body.choices).map((choice): Candidate => {
    const index = typeof choice.index === "number" ? choice.index : 0;
    const delta = isObject(choice.delta) ? choice.delta : {};
    const pending = calls.get(index) ?? new Map<number, PendingCall>();
    calls.set(index, pending);
    accumulate(pending, delta.tool_calls);
    const finishReason = finishReasonIn(choice.finish_reason);
    const thought = delta.reasoning_content ?? delta.reasoning;
    const finished = finishReason === undefined ? [] : [...pending.values()];
    if (finishReason !== undefined) pending.clear();
    return {
      index,
      content: {
        role: "model",
        parts: [
          ...(typeof thought === "string" && thought !== "" ? [{ text: thought, thought: true }] : []),
          ...(typeof delta.content === "string" && delta.content !== "" ? [{ text: delta.content }] : []),
          ...finished.map(({ id, ...called }) => callPart(id, called)),
          ...functionCallPart(delta),
        ],
      },
      ...(finishReason !== undefined && { finishReason }),
    };
  });
  return { candidates, ...usageMetadata(body.usage) };
}

function accumulate(pending: Map<number, PendingCall>, deltas: unknown): void {
  for (const [place, delta] of recordsIn(deltas).entries()) {
    const at = typeof delta.index === "number" ? delta.index : place;
    const called = isObject(delta.function) ? delta.function : {};
    const known = pending.get(at) ?? { id: undefined, name: "", arguments: "" };
    pending.set(at, {
      id: delta.id ?? known.id,
      name: known.name + String(called.name ?? ""),
      arguments: known.arguments + String(called.arguments ?? ""),
    });
  }
}

/** Chunks that only name the role, and those that keep the connection alive, say nothing. */
function says({ candidates = [], usageMetadata }: Answer): boolean {
  return usageMetadata !== undefined ||
    candidates.some(({ content, finishReason }) =>
      finishReason !== undefined || (content?.parts ?? []).length > 0
    );
}
