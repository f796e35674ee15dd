import { pMapSettled } from "p-map";
import type { Embedding, EmbedItem, EmbedRequest, EmbedResult } from "../contract/embedding.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { InvokeContext } from "../contract/request.ts";
import { embeddingTask } from "./tasks/embedding_task.ts";
import { itemId } from "./admission/request_identity.ts";
import type { GatewayDependencies } from "./dependencies.ts";
import { serve } from "./serve.ts";
import type { Ended } from "./tasks/task.ts";

/** What Google takes in one batch as well. */
export const MAX_EMBED_ITEMS = 100;

/** Texts of one request that are under way at once: a batch must not crowd out other callers of the lane. */
const SIDE_BY_SIDE = 4;

/**
 * Embeds every text, each as a call with a reservation of its own, since upstream charges each as a request of its own.
 * All or nothing: the first that fails ends the others.
 * @throws GatewayError
 */
export async function embedAll(
  dependencies: GatewayDependencies,
  request: EmbedRequest,
  context: InvokeContext,
): Promise<EmbedResult> {
  const { items } = request;
  if (items.length === 0 || items.length > MAX_EMBED_ITEMS) {
    const problem = `must hold 1 to ${MAX_EMBED_ITEMS} texts`;
    throw new GatewayError("invalid_request", {
      message: `The texts to embed are ${items.length}: a request ${problem}.`,
      details: [{ field: "input", problem }],
    });
  }
  const failed = new AbortController();
  const each = { ...context, signal: AbortSignal.any([context.signal, failed.signal]) };
  const thrown: unknown[] = [];
  // Settled, so that nothing of the request is under way any more when it fails.
  const ended = await pMapSettled(items, async (item, index) => {
    failed.signal.throwIfAborted();
    try {
      const id = items.length === 1 ? request.id : await itemId(request.id, index + 1);
      return await embedOne(dependencies, { ...request, id }, item, each);
    } catch (error) {
      thrown.push(error);
      failed.abort();
      throw error;
    }
  }, { concurrency: SIDE_BY_SIDE });
  if (thrown.length > 0) throw thrown[0];
  return resultOf(request, ended.flatMap((one) => one.status === "fulfilled" ? [one.value] : []));
}

async function embedOne(
  dependencies: GatewayDependencies,
  request: EmbedRequest,
  item: EmbedItem,
  context: InvokeContext,
): Promise<Ended<Embedding>> {
  const ended = await serve(dependencies, embeddingTask(request, item), context);
  if (!("status" in ended)) return ended;
  const { state, attempts } = ended;
  throw new GatewayError(state === "running" ? "request_running" : "request_finished", {
    details: { state, attempts },
  });
}

function resultOf(request: EmbedRequest, done: Ended<Embedding>[]): EmbedResult {
  const last = done.at(-1) as Ended<Embedding>;
  const { grant } = last;
  return {
    requestId: request.id,
    model: grant.model,
    requestedModel: grant.requestedModel,
    replaced: grant.replaced,
    embeddings: done.map(({ served }) => served.value),
    usage: {
      inputTokens: done.reduce((sum, { served }) => sum + served.usage.inputTokens, 0),
      estimated: done.some(({ served }) => served.usage.estimated),
    },
    keyAlias: grant.key.alias,
    attempts: Math.max(...done.map((one) => one.grant.attempt)),
    waitMs: Math.max(...done.map(({ waitMs }) => waitMs)),
    limits: grant.limits,
  };
}
