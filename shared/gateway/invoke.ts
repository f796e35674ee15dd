import type { GatewayEvent } from "../contract/events.ts";
import { chargedName } from "../contract/caller.ts";
import type { Gateway } from "../contract/gateway.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { GatewayRequest, InvokeContext } from "../contract/request.ts";
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
      requireKind(request.models, "answers");
      const task = new ChatTask(request, { streams: false, hash: await hashOf(request) });
      const run = serve(dependencies, task, context);
      let step = await run.next();
      while (!step.done) step = await run.next();
      return "status" in step.value ? replay(request, step.value) : resultOf(request, step.value);
    },
    stream: (request, context) =>
      eventIteration({
        begin: (signal) => {
          if (unread.isFull(chargedName(context.caller))) {
            return refusedAtOnce(new GatewayError("streams_unread"));
          }
          return streamOf(dependencies, request, { ...context, signal });
        },
        client: context.signal,
        clock: dependencies.clock,
        timeoutMs: dependencies.times.requestTimeoutMs,
        unread,
        caller: chargedName(context.caller),
        onEnd: context.onStreamEnd,
      }),
    async embed(request, context) {
      requireKind(request.models, "embeddings");
      return await embedAll(dependencies, request, context);
    },
    async countTokens({ prompt }, { consumerId, tokenId }) {
      // It reserves nothing, so nothing else would notice that a consumer or its token has ended.
      if (consumerId !== null) await dependencies.ledger.models({ consumerId, tokenId });
      return { totalTokens: estimateTokens(prompt), estimated: true };
    },
    models: ({ consumerId, tokenId }) => dependencies.ledger.models({ consumerId, tokenId }),
  };
}

// deno-lint-ignore require-yield -- an iteration that fails at its first step.
async function* refusedAtOnce(error: GatewayError): AsyncGenerator<GatewayEvent, void, void> {
  throw error;
}

async function* streamOf(
  dependencies: GatewayDependencies,
  request: GatewayRequest,
  context: InvokeContext,
): AsyncGenerator<GatewayEvent, void, void> {
  requireKind(request.models, "answers");
  const task = new ChatTask(request, { streams: true, hash: await hashOf(request) });
  const ended = yield* serve(dependencies, task, context);
  if ("status" in ended) {
    // Seen before: the stored answer, in one piece.
    const result = replay(request, ended);
    yield { type: "delta", chunk: result.answer };
    yield { type: "done", result };
  } else yield { type: "done", result: resultOf(request, ended) };
}

/** Only a client that chose the id can ask again with it. */
function hashOf(request: GatewayRequest): Promise<string> | null {
  return request.idIsClients ? requestHash(request) : null;
}
