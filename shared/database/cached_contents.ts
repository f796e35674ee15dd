import * as z from "zod";
import type { CachedContent, CachedContentPage } from "../contract/cached_content.ts";
import { asCaller, type JobCaller } from "./jobs/jobs.ts";
import { callUnlessRefused } from "./refused.ts";
import type { Transport } from "./transport/transport.ts";

/** As Google described it when it was last heard of. */
const resource = z.record(z.string(), z.unknown());

const found = z.object({
  resource,
  tokens: z.number(),
  /** Those of other projects, where it is not. */
  exclude_keys: z.array(z.string()),
  /** Of its project, switched on; null: there is none. */
  key: z.object({ alias: z.string(), env_var_name: z.string() }).nullable(),
});
export type FoundCachedContent = z.output<typeof found>;

const page = z.object({ contents: z.array(resource), next: z.string().nullable(), left: z.number() });

export interface CachedContentToStore {
  /** That it was asked for with, 1 to 10. */
  models: string[];
  keyId: string;
  /** The project that has it. */
  quotaProject: string;
  content: CachedContent;
}

/** Cached contents of the Gemini API, by their ids at Google. Throws GatewayErrors: `not_found`, and what refuses the caller. */
export interface CachedContentRows {
  /** The newest first. */
  list(caller: JobCaller, page: { limit: number; after: string | null }): Promise<CachedContentPage>;
  find(id: string, caller: JobCaller): Promise<FoundCachedContent>;
  store(made: CachedContentToStore, caller: JobCaller): Promise<void>;
  /** @param now null: it is gone */
  change(id: string, now: CachedContent | null, caller: JobCaller): Promise<void>;
}

/** `cachedContents/{id}` without its beginning. */
export function cachedContentId(name: string): string {
  return name.replace(/^cachedContents\//, "");
}

export function createCachedContentRows(transport: Transport, timeoutMs: number): CachedContentRows {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    callUnlessRefused(transport, name, args, shape, timeoutMs);
  return {
    list: (caller, { limit, after }) =>
      ask("eve_cached_contents", { ...asCaller(caller), page_size: limit, page_after: after }, page),
    find: (id, caller) => ask("eve_cached_content", { id, ...asCaller(caller) }, found),
    async store({ models, keyId, quotaProject, content }, { consumerId }) {
      await ask("eve_cached_content_store", {
        content: {
          id: cachedContentId(content.name),
          models,
          key_id: keyId,
          quota_key: quotaProject,
          tokens: content.usageMetadata.totalTokenCount,
          resource: content,
          expires_at: content.expireTime,
        },
        consumer_id: consumerId,
      }, z.unknown());
    },
    async change(id, now, caller) {
      await ask("eve_cached_content_change", {
        id,
        resource: now,
        expires_at: now?.expireTime ?? null,
        ...asCaller(caller),
      }, z.unknown());
    },
  };
}
