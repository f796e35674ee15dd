import * as z from "zod";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

export interface CacheQuestion {
  /** SHA-256 over all that is asked, 64 hexadecimal digits. */
  keyHash: string;
  /** As they are asked for, in order of preference. */
  models: string[];
  endpoint: string;
  consumerId: string | null;
  tokenId: string | null;
  /** Seconds, 1 to 2,592,000; null: as the consumer's row says. */
  ttlS: number | null;
  /** The client's own id, which a repetition has too; null: ours. */
  requestId: string | null;
  /** It has been told to wait before. */
  waited: boolean;
}

const found = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("hit"),
    id: z.string(),
    /** JSON; null: it is in `media`. */
    answer: z.string().nullable(),
    media: z.string().nullable(),
    model: z.string(),
    requested_model: z.string(),
    age_s: z.number(),
    left_s: z.number(),
  }),
  /** The caller is to make it, and to say so again within the lease. */
  z.object({ status: z.literal("make"), id: z.string(), lease_ms: z.number() }),
  /** Another call is making it. */
  z.object({ status: z.literal("wait") }),
  /** `off`, `refused` (a reservation says how), `repeated` (a request id that is known). */
  z.object({ status: z.literal("pass"), reason: z.enum(["off", "refused", "repeated"]) }),
]);
export type CacheLookup = z.output<typeof found>;

export interface AnswerToKeep {
  model: string;
  requestedModel: string;
  bytes: number;
  /** JSON, or where it is among the media. */
  stored: { answer: string } | { media: string };
  inputTokens: number;
  /** Thoughts included. */
  outputTokens: number;
}

const figures = {
  hits: z.number(),
  misses: z.number(),
  saved_input_tokens: z.number(),
  saved_output_tokens: z.number(),
};
const stats = z.object({
  totals: z.object(figures),
  /** By consumer and model, most hits first; 200 at most. */
  rows: z.array(z.object({ consumer: z.string(), model: z.string(), ...figures })),
  stored: z.object({
    answers: z.number(),
    bytes: z.number(),
    media_bytes: z.number(),
    max_bytes: z.number(),
    oldest_at: z.string().nullable(),
  }),
  consumers: z.array(z.object({ consumer: z.string(), ttl_s: z.number(), by_tenant: z.boolean() })),
});
export type CacheStats = z.output<typeof stats>;

/** ISO 8601; absent: all that is known of. */
export interface CachePeriod {
  since?: string | undefined;
  until?: string | undefined;
  consumer?: string | undefined;
  model?: string | undefined;
}

const consumerCache = z.object({
  consumer: z.string(),
  ttl_s: z.number().nullable(),
  by_tenant: z.boolean(),
});
export type ConsumerCache = z.output<typeof consumerCache>;

/** Answers that are kept, as a call uses them. */
export interface CachedAnswers {
  /** What serves the question: see eve_cache_begin. */
  begin(question: CacheQuestion): Promise<CacheLookup>;
  /** False: it is not wanted any more. */
  renew(id: string): Promise<boolean>;
  /** False likewise. */
  keep(id: string, answer: AnswerToKeep): Promise<boolean>;
  release(id: string): Promise<void>;
  /** Seconds that a consumer's answers are kept for, by its id, for those that have said so; 0: never. */
  consumers(): Promise<Record<string, number>>;
}

/** Answers that are kept, as their owner sees them. */
export interface CacheAdmin {
  stats(period: CachePeriod): Promise<CacheStats>;
  /** At least one of them, or `everything`. Answers how many went. */
  flush(which: { model?: string; consumer?: string; key?: string; everything?: boolean }): Promise<number>;
  /** @param ttlS null: the consumer has no cache of its own; 0: nothing of it is kept, whatever its calls ask */
  setConsumer(
    name: string,
    ttlS: number | null,
    byTenant: boolean,
    /** Then only if its cache is as it was: of none, nulls. @throws GatewayError `changed_meanwhile` */
    seen?: Record<string, unknown>,
  ): Promise<ConsumerCache>;
  /** Answers how many went. */
  limit(maxBytes: number): Promise<number>;
}

export function createCachedAnswers(transport: Transport, timeoutMs: number): CachedAnswers {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    call(transport, name, args, shape, timeoutMs);
  return {
    begin: (question) =>
      ask("eve_cache_begin", {
        key_hash: question.keyHash,
        models: question.models,
        endpoint: question.endpoint,
        consumer_id: question.consumerId,
        token_id: question.tokenId,
        ttl_s: question.ttlS,
        request_id: question.requestId,
        waited: question.waited,
      }, found),
    renew: (id) => ask("eve_cache_renew", { id }, z.boolean()),
    keep: async (id, { stored, ...kept }) => {
      const { kept: isKept } = await ask("eve_cache_keep", {
        id,
        model: kept.model,
        requested_model: kept.requestedModel,
        bytes: kept.bytes,
        answer: "answer" in stored ? stored.answer : null,
        media: "media" in stored ? stored.media : null,
        input_tokens: kept.inputTokens,
        output_tokens: kept.outputTokens,
      }, z.object({ kept: z.boolean() }));
      return isKept;
    },
    release: async (id) => {
      await ask("eve_cache_release", { id }, z.boolean());
    },
    consumers: () => ask("eve_cache_consumers", {}, z.record(z.string(), z.number())),
  };
}

/** A person waits for it. */
const ADMIN_TIMEOUT_MS = 15_000;

export function createCacheAdmin(transport: Transport, timeoutMs = ADMIN_TIMEOUT_MS): CacheAdmin {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    call(transport, name, args, shape, timeoutMs);
  const deleted = z.object({ deleted: z.number() });
  return {
    stats: (
      { since = null, until = null, consumer = null, model = null }: Partial<
        Record<keyof CachePeriod, string | null>
      >,
    ) => ask("eve_cache_stats", { since, until, consumer, model }, stats),
    flush: async ({ model = null, consumer = null, key = null, everything = false }: {
      model?: string | null;
      consumer?: string | null;
      key?: string | null;
      everything?: boolean;
    }) => (await ask("eve_cache_flush", { model, consumer, key, everything }, deleted)).deleted,
    setConsumer: (name, ttlS, byTenant, seen) => {
      const args = { name, ttl_s: ttlS, by_tenant: byTenant };
      return seen === undefined
        ? ask("eve_cache_set", args, consumerCache)
        : ask("eve_cache_set_seen", { ...args, seen }, consumerCache);
    },
    limit: async (maxBytes) => (await ask("eve_cache_limit", { max_bytes: maxBytes }, deleted)).deleted,
  };
}
