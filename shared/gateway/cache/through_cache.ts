import type { Emit } from "../../contract/events.ts";
import { asGatewayError, GatewayError } from "../../contract/gateway_error.ts";
import type { Asked, CacheOutcome, InvokeContext } from "../../contract/request.ts";
import type { GatewayResult } from "../../contract/result.ts";
import type { CacheLookup } from "../../database/answer_cache.ts";
import { bytesInTable, MAX_RESULT_IN_TABLE_BYTES } from "../../media/job_media.ts";
import { LEAST_TIME_MS } from "../attempts/retry.ts";
import type { GatewayDependencies } from "../dependencies.ts";
import type { AnswerCache } from "./answer_cache.ts";
import type { Answer } from "../../contract/content.ts";
import { type Counted, type Keepable, MAX_KEPT_CHARS } from "./keepable.ts";

/** Of the key, what answers name it by: enough to tell any two apart, and to flush by. */
const KEY_CHARS = 16;
/** A call that waits for another's answer asks this often at first, and less and less often up to the longest pause. */
const FIRST_PAUSE_MS = 150;
const LONGEST_PAUSE_MS = 1_000;
const PAUSE_GROWTH = 1.5;

/**
 * Serves a call. @param accumulated characters of a stream that are put together; undefined: as many as ever
 */
type Serve<Request, Result> = (
  request: Request,
  context: InvokeContext,
  accumulated?: number,
) => Promise<Result>;

/** Plays a kept answer as a stream. */
export interface Playing {
  emit: Emit;
  piecesOf(answer: Answer): Iterable<Answer>;
}

type Wish = { ttlS: number | null } | { bypass: Extract<CacheOutcome, { status: "bypass" }>["reason"] };
type Hit = Extract<CacheLookup, { status: "hit" }>;

/**
 * A call's answer: the kept one, or the one that is made now, by this call or by another that asks the same and has come before; what can
 * be kept of it is. Where nobody wants it kept the call is served as it is.
 *
 * A call waits for another's answer no longer than for a start, and then asks by itself. Whatever is wrong with the cache, the call is
 * served without it.
 * @param playing where the answer is wanted in pieces
 * @throws GatewayError as `serve` does
 */
export async function throughCache<Request extends Asked, Result extends Counted, Kept>(
  dependencies: GatewayDependencies,
  kind: Keepable<Request, Result, Kept>,
  request: Request,
  context: InvokeContext,
  serve: Serve<Request, Result>,
  playing?: Result extends GatewayResult ? Playing : never,
): Promise<Result> {
  const { cache } = dependencies;
  const wish = await wishOf(cache, kind, request, context);
  if (cache === undefined || wish === null) return await serve(request, context);
  if ("bypass" in wish) return await bypassed(wish.bypass);

  const keyHash = await kind.keyOf(request);
  const key = keyHash.slice(0, KEY_CHARS);
  const since = dependencies.clock.now();
  const lookup = await findAnswer(dependencies, cache, request, context, keyHash, wish.ttlS);
  const waitedMs = Math.round(dependencies.clock.now() - since);
  const asked = { ...request, maxWaitMs: Math.max(0, request.maxWaitMs - waitedMs) };
  switch (lookup?.status) {
    case "hit": {
      const kept = await loaded(dependencies, cache, kind, lookup);
      if (kept === null) break;
      const outcome: CacheOutcome = { status: "hit", ageS: lookup.age_s, leftS: lookup.left_s, key };
      context.noteCache?.(outcome);
      const { model, requested_model: requestedModel } = lookup;
      const result = kind.resultOf(kept, request, { model, requestedModel, waitMs: waitedMs });
      await playedBack(kind.operation, request, context, lookup, { result, waitMs: waitedMs, playing });
      return result;
    }
    case "make":
      return await made(dependencies, cache, kind, lookup, {
        key,
        request: asked,
        context,
        serve,
        streams: playing !== undefined,
      });
    case "pass":
      return await bypassed(lookup.reason);
  }
  context.noteCache?.({ status: "miss", stored: false, key });
  return await serve(asked, { ...context, ...logged(context, "miss") });

  function bypassed(reason: Extract<CacheOutcome, { status: "bypass" }>["reason"]): Promise<Result> {
    context.noteCache?.({ status: "bypass", reason });
    return serve(request, context);
  }
}

/** Null: nobody has asked for it. */
async function wishOf<Request extends Asked>(
  cache: AnswerCache | undefined,
  { wantsChance }: Pick<Keepable<Request, never, never>, "wantsChance">,
  request: Request,
  { caller }: InvokeContext,
): Promise<Wish | null> {
  const { cacheTtlS: asked = null, stage, capture } = request;
  if (asked === 0) return { bypass: "asked" };
  const ofConsumer = await cache?.ttlOf(caller.consumerId);
  if (asked === null && !ofConsumer) return null;
  if (cache === undefined || ofConsumer === 0) return { bypass: "off" };
  // What a stage is served by may change with every call.
  if (stage !== null) return { bypass: "stage" };
  if (asked !== null) return { ttlS: asked };
  if (capture === false) return { bypass: "capture" };
  // Who wants chance wants another answer each time, unless the call itself says otherwise.
  if (wantsChance(request)) return { bypass: "temperature" };
  return { ttlS: null };
}

/** Null: it could not be looked up, or took too long. Throws GatewayError `client_closed`. */
async function findAnswer(
  { clock, log, random, times }: GatewayDependencies,
  { answers }: AnswerCache,
  request: Asked,
  { caller, signal, receivedAt }: InvokeContext,
  keyHash: string,
  ttlS: number | null,
): Promise<CacheLookup | null> {
  const since = clock.now();
  const until = Math.min(since + request.maxWaitMs, receivedAt + times.requestTimeoutMs - LEAST_TIME_MS);
  let pauseMs = FIRST_PAUSE_MS;
  for (let waited = false;; waited = true) {
    try {
      const lookup = await answers.begin({
        keyHash,
        models: request.models,
        endpoint: request.endpoint,
        consumerId: caller.consumerId,
        tokenId: caller.tokenId,
        ttlS,
        requestId: request.idIsClients ? request.id : null,
        waited,
      });
      if (lookup.status !== "wait") return lookup;
    } catch (thrown) {
      const { code, detail } = asGatewayError(thrown);
      log("warn", "cache_unavailable", { request_id: request.id, code, detail });
      return null;
    }
    const ms = Math.round(pauseMs * (0.75 + random() / 2));
    if (clock.now() + ms > until) return null;
    await clock.sleep(ms, signal).catch(() => {});
    if (signal.aborted) throw new GatewayError("client_closed");
    pauseMs = Math.min(pauseMs * PAUSE_GROWTH, LONGEST_PAUSE_MS);
  }
}

/** Null: it is lost, and is not looked for again. */
async function loaded<Kept>(
  { background, log }: GatewayDependencies,
  { answers, media }: AnswerCache,
  { keptIn }: { keptIn(json: unknown): Kept | null },
  hit: Hit,
): Promise<Kept | null> {
  try {
    const answer = keptIn(
      hit.media === null ? JSON.parse(hit.answer ?? "null") : await media.read(hit.media),
    );
    if (answer !== null) return answer;
  } catch (thrown) {
    const { code, detail } = asGatewayError(thrown);
    log("warn", "cached_answer_lost", { code, detail });
    // The store is away, and comes back.
    if (code === "storage_unavailable") return null;
  }
  background(answers.release(hit.id).catch(() => {}));
  return null;
}

async function playedBack(
  operation: string,
  request: Asked,
  { caller, logLine }: InvokeContext,
  hit: Hit,
  { result, waitMs, playing }: { result: unknown; waitMs: number; playing: Playing | undefined },
): Promise<void> {
  logLine?.begin();
  let outcome = "cancelled";
  const { finishReason = null } = result as Partial<GatewayResult>;
  try {
    if (playing !== undefined) {
      const { emit, piecesOf } = playing;
      const whole = result as GatewayResult;
      await emit({ type: "started", attempt: 0, model: hit.model, keyAlias: "", limits: null });
      for (const chunk of piecesOf(whole.answer)) await emit({ type: "delta", chunk });
      await emit({ type: "done", result: whole });
    }
    outcome = "succeeded";
  } finally {
    // Nothing was spent, so there is no usage.
    logLine?.end({
      request_id: request.id,
      "gen_ai.operation.name": operation,
      "gen_ai.request.model": hit.requested_model,
      "gen_ai.response.model": hit.model,
      "gen_ai.response.finish_reasons": finishReason === null ? undefined : [finishReason],
      "eve.endpoint": request.endpoint,
      "eve.class": request.class,
      "eve.consumer": caller.name,
      "eve.outcome": outcome,
      "eve.cache": "hit",
      "eve.cache_age_s": hit.age_s,
      "eve.wait_ms": waitMs,
    });
  }
}

interface Making<Request, Result> {
  key: string;
  request: Request;
  context: InvokeContext;
  serve: Serve<Request, Result>;
  streams: boolean;
}

/** The call makes the answer that others may be waiting for. */
async function made<Request extends Asked, Result extends Counted>(
  dependencies: GatewayDependencies,
  cache: AnswerCache,
  { jsonOf }: { jsonOf(result: Result): string | null },
  { id, lease_ms: leaseMs }: Extract<CacheLookup, { status: "make" }>,
  { key, request, context, serve, streams }: Making<Request, Result>,
): Promise<Result> {
  const over = new AbortController();
  void renewed(dependencies, cache, id, leaseMs / 3, over.signal);
  // Of a stream no more is known when it begins.
  context.noteCache?.({ status: "miss", stored: null, key });
  let json: string | null = null;
  let result: Result | null = null;
  try {
    result = await serve(
      request,
      { ...context, ...logged(context, "miss") },
      streams ? MAX_KEPT_CHARS : undefined,
    );
    json = jsonOf(result);
    context.noteCache?.({ status: "miss", stored: json !== null, key });
    return result;
  } finally {
    dependencies.background(
      stored(dependencies, cache, id, context, result, json).finally(() => over.abort()),
    );
  }
}

/** Says every so often that the answer is being made, so that those who wait for it know when nobody is. */
async function renewed(
  { clock }: GatewayDependencies,
  { answers }: AnswerCache,
  id: string,
  everyMs: number,
  over: AbortSignal,
): Promise<void> {
  for (;;) {
    await clock.sleep(everyMs, over).catch(() => {});
    if (over.aborted) return;
    // A question that is lost is asked again in time.
    if (!await answers.renew(id).catch(() => true)) return;
  }
}

async function stored(
  { log }: GatewayDependencies,
  { answers, media }: AnswerCache,
  id: string,
  { caller }: InvokeContext,
  result: Counted | null,
  json: string | null,
): Promise<void> {
  let inMedia: string | null = null;
  try {
    if (result === null || json === null) return await answers.release(id);
    const { model, requestedModel, usage } = result;
    const bytes = bytesInTable(json);
    const { consumerId, tokenId } = caller;
    if (bytes > MAX_RESULT_IN_TABLE_BYTES) inMedia = await media.keep(id, json, { consumerId, tokenId });
    const isKept = await answers.keep(id, {
      model,
      requestedModel,
      bytes,
      stored: inMedia === null ? { answer: json } : { media: inMedia },
      inputTokens: usage.inputTokens,
      outputTokens: (usage.outputTokens ?? 0) + (usage.thoughtsTokens ?? 0),
    });
    if (!isKept && inMedia !== null) await media.release(id, inMedia);
  } catch (thrown) {
    const { code, detail } = asGatewayError(thrown);
    log("warn", "answer_not_kept", { code, detail });
    // Those who wait for it are not kept waiting until the lease ends.
    await answers.release(id).catch(() => {});
    if (inMedia !== null) await media.release(id, inMedia).catch(() => {});
  }
}

/** The log of a call, with what the cache had to do with it. */
function logged({ logLine }: InvokeContext, cache: "miss"): Pick<InvokeContext, "logLine"> {
  if (logLine === undefined) return {};
  return {
    logLine: {
      trace: logLine.trace,
      begin: () => logLine.begin(),
      end: (attributes) => logLine.end({ ...attributes, "eve.cache": cache }),
    },
  };
}
