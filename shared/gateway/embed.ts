import type { Embedding, EmbedItem, EmbedRequest, EmbedResult } from "../contract/embedding.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { InvokeContext } from "../contract/request.ts";
import { EmbeddingGroups, MAX_GROUP } from "./tasks/embedding_group.ts";
import { embeddingTask } from "./tasks/embedding_task.ts";
import { itemId } from "./admission/request_identity.ts";
import type { GatewayDependencies } from "./dependencies.ts";
import { serve } from "./serve.ts";
import type { Ended } from "./tasks/task.ts";

/** As many as OpenAI takes. */
export const MAX_EMBED_ITEMS = 2_048;

/**
 * Embeds every text. Each has a reservation of its own, since upstream counts each as a request, in a batch too; those that start together go
 * upstream in one call. A lane lets nobody book more than a share of its future: what finds no place there is booked when the others have begun.
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
  const groups = new EmbeddingGroups(dependencies.clock);
  const done: Ended<Embedding>[] = [];
  let waiting = items.map((_, index) => index);
  while (waiting.length > 0) {
    const thrown: unknown[] = [];
    const crowded: { index: number; error: unknown }[] = [];
    const now = waiting.slice(0, MAX_GROUP);
    groups.begin(now.length);
    // Settled, so that nothing of the request is under way any more when it fails.
    await Promise.allSettled(now.map(async (index) => {
      try {
        const id = items.length === 1 ? request.id : await itemId(request.id, index + 1);
        done[index] = await embedOne(dependencies, { ...request, id }, items[index]!, each, groups);
      } catch (error) {
        groups.leave();
        if (hasNoPlaceYet(error) && !failed.signal.aborted) return void crowded.push({ index, error });
        thrown.push(error);
        failed.abort();
      }
    }));
    if (thrown.length > 0) throw thrown[0];
    // Where not one of them has found a place, another consumer's are in the way.
    if (crowded.length === now.length) throw crowded[0]!.error;
    waiting = [...crowded.map(({ index }) => index), ...waiting.slice(now.length)];
  }
  return resultOf(request, done);
}

function hasNoPlaceYet(error: unknown): boolean {
  return error instanceof GatewayError && error.code === "too_many_waiting";
}

async function embedOne(
  dependencies: GatewayDependencies,
  request: EmbedRequest,
  item: EmbedItem,
  context: InvokeContext,
  groups: EmbeddingGroups,
): Promise<Ended<Embedding>> {
  const ended = await serve(dependencies, embeddingTask(request, item, groups), context);
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
