import * as z from "zod";
import type { Actor } from "../../contract/actor.ts";
import type { Caller } from "../../contract/caller.ts";
import type { GatewayEvent } from "../../contract/events.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { GatewayRequest } from "../../contract/request.ts";
import type { GatewayResult } from "../../contract/result.ts";
import type { Answering } from "../../chats/answering.ts";
import type { Message } from "../../database/chats.ts";
import type { RequestContext } from "../endpoint.ts";
import { invalidRequest } from "../validated.ts";
import { encodeNative } from "./answer.ts";
import type { NativeChat } from "./request.ts";
import { streamNative } from "./stream.ts";

/** A call that is a question in a chat: answered like any other, with the chat's history, and stored there. */
export async function answeredInChat(
  answering: Answering | undefined,
  context: RequestContext,
  request: GatewayRequest,
  { chat_id, owner, history_tokens, ...message }: NativeChat,
  { stream, now, facts }: { stream: boolean; now: () => number; facts: Record<string, unknown> },
): Promise<Response> {
  if (answering === undefined) {
    throw new GatewayError("chat_not_found", { message: "This gateway keeps no chats." });
  }
  const actor = actorOf(context.caller, owner);
  // A call that its client may make again asks once.
  const client_id = message.client_id ?? (request.idIsClients ? request.id : undefined);
  const question = {
    actor,
    chatId: chat_id,
    message: { ...message, client_id },
    historyTokens: history_tokens,
  };
  const begun = await answering.begin(question, request.prompt, request.id);
  const chat = { chat_id, question_id: begun.question.id, answer_id: begun.answer.id };
  if (begun.status === "present") {
    const result = storedResult(begun.answer, request.id);
    return stream
      ? await streamNative(replayed(result), { requestId: result.requestId, now, chat })
      : encodeNative(result, { ...facts, chat });
  }
  const asked = { ...request, prompt: begun.prompt };
  const charged = actor.kind === "user" ? chargedFor(begun.consumerId) : context.caller;
  if (stream) {
    return await streamNative(begun.watched(context.stream(asked, charged)), {
      requestId: request.id,
      now,
      chat,
    });
  }
  let result;
  try {
    result = await context.invoke(asked, charged);
  } catch (thrown) {
    begun.failed();
    throw thrown;
  }
  begun.ended(result);
  return encodeNative(result, { ...facts, chat });
}

function actorOf({ kind, consumerId, tokenId }: Caller, owner: string | undefined): Actor {
  if (owner !== undefined) {
    if (kind === "project") return { kind: "user", user_id: owner };
    throw invalidRequest([{ field: "chat.owner", problem: "only the secret key asks for a signed-in user" }]);
  }
  return consumerId === null
    ? { kind: "project" }
    : { kind: "consumer", consumer_id: consumerId, token_id: tokenId };
}

const chargedFor = (consumerId: string | null): Caller => ({
  kind: "service",
  consumerId,
  tokenId: null,
  name: "chats",
});

/** What was answered before, as far as the chat has kept it. */
function storedResult({ content, parts, usage, request_id }: Message, requestId: string): GatewayResult {
  const { model, ...counts } = storedUsage.parse(usage ?? {});
  return {
    requestId: request_id ?? requestId,
    model,
    requestedModel: model,
    replaced: false,
    answer: {
      candidates: [{ content: { role: "model", parts: Array.isArray(parts) ? parts : [{ text: content }] } }],
    },
    verdict: { ok: true },
    finishReason: null,
    usage: {
      inputTokens: counts.input_tokens,
      outputTokens: counts.output_tokens,
      thoughtsTokens: counts.thoughts_tokens,
      cachedTokens: counts.cached_tokens,
      totalTokens: counts.total_tokens,
      estimated: counts.estimated,
    },
    keyAlias: "",
    attempts: 0,
    waitMs: 0,
    limits: null,
    replayed: true,
  };
}

/** As answering.ts writes it; a message that somebody else made has what they gave it. */
const tokens = z.number().catch(0);
const maybeTokens = z.number().nullable().catch(null);
const storedUsage = z.object({
  model: z.string().catch(""),
  input_tokens: tokens,
  output_tokens: tokens,
  thoughts_tokens: maybeTokens,
  cached_tokens: maybeTokens,
  total_tokens: tokens,
  estimated: z.boolean().catch(true),
});

async function* replayed(result: GatewayResult): AsyncGenerator<GatewayEvent, void, void> {
  yield { type: "delta", chunk: result.answer };
  yield { type: "done", result };
}
