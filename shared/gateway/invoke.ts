import type { Emit } from "../contract/events.ts";
import { chargedName } from "../contract/caller.ts";
import type { Gateway } from "../contract/gateway.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { GatewayRequest, InvokeContext } from "../contract/request.ts";
import type { GatewayResult } from "../contract/result.ts";
import { KEPT_ANSWERS, piecesOf } from "./cache/kept_answer.ts";
import { KEPT_EMBEDDINGS } from "./cache/kept_embeddings.ts";
import { throughCache } from "./cache/through_cache.ts";
import { ChatTask, resultOf } from "./tasks/chat_task.ts";
import { embedAll } from "./embed.ts";
import { estimateTokens } from "./estimate/estimate.ts";
import { eventIteration } from "./streams/event_iteration.ts";
import { requireKind } from "./model_kind.ts";
import type { GatewayDependencies } from "./dependencies.ts";
import { replay } from "./answers/recorded_result.ts";
import { requestHash } from "./admission/request_identity.ts";
import { serve } from "./serve.ts";
import { UnreadStreams } from "./streams/unread_streams.ts";

/** The gateway, put together from its dependencies. */
export function createGateway(dependencies: GatewayDependencies): Gateway {
  const unread = new UnreadStreams();
  return {
    async invoke(request, context) {
      requireKind(request, "answers");
      return await throughCache(dependencies, KEPT_ANSWERS, request, context, (asked, context) => {
        return whole(dependencies, asked, context);
      });
    },
    stream: (request, context) =>
      eventIteration({
        begin: async (signal, emit) => {
          if (unread.isFull(chargedName(context.caller))) throw new GatewayError("streams_unread");
          requireKind(request, "answers");
          await throughCache(
            dependencies,
            KEPT_ANSWERS,
            request,
            { ...context, signal },
            (asked, context, accumulated) => stream(dependencies, asked, context, emit, accumulated),
            { emit, piecesOf },
          );
        },
        client: context.signal,
        clock: dependencies.clock,
        timeoutMs: dependencies.times.requestTimeoutMs,
        unread,
        caller: chargedName(context.caller),
        onEnd: context.onStreamEnd,
      }),
    async embed(request, context) {
      requireKind(request, "embeddings");
      return await throughCache(dependencies, KEPT_EMBEDDINGS, request, context, (asked, context) => {
        return embedAll(dependencies, asked, context);
      });
    },
    async countTokens({ prompt }, { consumerId, tokenId }) {
      // It reserves nothing, so nothing else would notice that a consumer or its token has ended.
      if (consumerId !== null) await dependencies.ledger.models({ consumerId, tokenId });
      return { totalTokens: estimateTokens(prompt), estimated: true };
    },
    models: ({ consumerId, tokenId }) => dependencies.ledger.models({ consumerId, tokenId }),
  };
}

async function whole(
  dependencies: GatewayDependencies,
  request: GatewayRequest,
  context: InvokeContext,
): Promise<GatewayResult> {
  const task = new ChatTask(request, { streams: false, hash: await hashOf(request) });
  const ended = await serve(dependencies, task, context);
  return "status" in ended ? replay(request, ended) : resultOf(request, ended);
}

async function stream(
  dependencies: GatewayDependencies,
  request: GatewayRequest,
  context: InvokeContext,
  emit: Emit,
  accumulated: number | undefined,
): Promise<GatewayResult> {
  const task = new ChatTask(request, { streams: true, hash: await hashOf(request), accumulated });
  const ended = await serve(dependencies, task, context, emit);
  if (!("status" in ended)) {
    const result = resultOf(request, ended);
    await emit({ type: "done", result });
    return result;
  }
  // Seen before: the stored answer, in one piece.
  const result = replay(request, ended);
  await emit({ type: "delta", chunk: result.answer });
  await emit({ type: "done", result });
  return result;
}

/** Only a client that chose the id can ask again with it. */
function hashOf(request: GatewayRequest): Promise<string> | null {
  return request.idIsClients ? requestHash(request) : null;
}
