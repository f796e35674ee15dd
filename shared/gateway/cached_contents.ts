import { type SecretSource, secretSourceOf } from "../contract/secret_source.ts";
import type { CachedContent, CachedContents } from "../contract/cached_content.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { GatewayRequest } from "../contract/request.ts";
import {
  cachedContentId,
  type CachedContentRows,
  type FoundCachedContent,
} from "../database/cached_contents.ts";
import { type CacheProvider, ProviderFailure } from "../providers/provider.ts";
import { poolSecret } from "../stages/pool_secret.ts";
import { errorOf } from "./attempts/outcome_error.ts";
import type { GatewayDependencies } from "./dependencies.ts";
import { estimateTokens } from "./estimate/estimate.ts";
import { requireKind } from "./model_kind.ts";
import { serve } from "./serve.ts";
import { capabilityOf } from "./tasks/capability.ts";
import type { Task } from "./tasks/task.ts";

/** The only provider whose contents prompts can name. */
const PROVIDER = "google";
/** A person or a program waits for it. */
const UPSTREAM_TIMEOUT_MS = 15_000;

export function createCachedContents(
  { gateway, rows }: { gateway: GatewayDependencies; rows: CachedContentRows },
): CachedContents {
  return {
    async create(request, context) {
      requireKind(request, "answers");
      if (request.stage !== null) {
        throw new GatewayError("unsupported_feature", {
          message: "A stage keeps no contents: what serves it may change with every call. Name a model.",
        });
      }
      const { left } = await rows.list(context.caller, { limit: 1, after: null });
      if (left === 0) {
        throw new GatewayError("unsupported_feature", {
          message:
            "This caller has as many cached contents as it may have (cached_contents_max in eve.settings; 0: none are made). " +
            "Delete one, or wait until one expires.",
        });
      }
      const ended = await serve(gateway, creation(request), context);
      if ("status" in ended) {
        const { state, attempts } = ended;
        throw new GatewayError(state === "running" ? "request_running" : "request_finished", {
          details: { state, attempts },
        });
      }
      const { grant: { key, quotaProject }, served: { value: content } } = ended;
      try {
        await rows.store({ models: request.models, keyId: key.id, quotaProject, content }, context.caller);
      } catch (thrown) {
        // Nobody could use it, and it costs money.
        gateway.background(
          atGoogle(key, (caches, to) => caches.remove({ ...to, name: content.name })).catch(() => {}),
        );
        throw thrown;
      }
      return content;
    },
    list: (caller, page) => rows.list(caller, page),
    find: async (id, caller) => (await rows.find(id, caller)).resource,
    async update(id, expiration, caller) {
      const { key } = await rows.find(id, caller);
      const name = `cachedContents/${id}`;
      const now = await atGoogle(keyOf(key), (caches, to) => caches.update({ ...to, name, expiration }));
      await rows.change(id, now, caller);
      return now;
    },
    async remove(id, caller) {
      const { key } = await rows.find(id, caller);
      await atGoogle(keyOf(key), (caches, to) => caches.remove({ ...to, name: `cachedContents/${id}` }));
      await rows.change(id, null, caller);
    },
    async pin(name, caller, servedBy) {
      const { exclude_keys, tokens } = await rows.find(cachedContentId(name), caller);
      return {
        ...servedBy,
        excludeKeys: [...new Set([...servedBy.excludeKeys, ...exclude_keys])],
        cachedContentTokens: tokens,
      };
    },
  };

  async function atGoogle<Value>(
    { alias, source }: { alias: string; source: SecretSource },
    call: (caches: CacheProvider, to: { secret: string; signal: AbortSignal }) => Promise<Value>,
  ): Promise<Value> {
    const secret = await poolSecret(source, PROVIDER, gateway);
    if (secret === null) throw new GatewayError("secret_missing", { detail: `key ${alias} has no secret` });
    try {
      const caches = capabilityOf(gateway.providers[PROVIDER]!, "caches");
      return await call(caches, { secret, signal: AbortSignal.timeout(UPSTREAM_TIMEOUT_MS) });
    } catch (thrown) {
      if (thrown instanceof ProviderFailure) {
        const outcome = { kind: "failed" as const, failure: thrown, latencyMs: 0, used: null };
        throw errorOf(outcome, { model: "", attempt: 1 });
      }
      throw new GatewayError("upstream_timeout", { cause: thrown });
    }
  }
}

function keyOf(key: FoundCachedContent["key"]): { alias: string; source: SecretSource } {
  if (key !== null) return { alias: key.alias, source: secretSourceOf(key.env_var_name) };
  throw new GatewayError("no_active_key", {
    message: "No key of the Google project that has this cached content is switched on.",
  });
}

function creation(request: GatewayRequest): Task<CachedContent> {
  return {
    asked: request,
    operation: "generate_content",
    // What was made once is found in the list.
    hash: null,
    tokens: estimateTokens(request.prompt),
    question: request.prompt,
    prepare: (grant) => async (provider, to) => {
      const value = await capabilityOf(provider, "caches").create({
        ...to,
        model: grant.model,
        content: request.prompt,
      });
      const inputTokens = value.usageMetadata.totalTokenCount;
      return {
        value,
        verdict: { ok: true },
        finishReason: null,
        usage: {
          inputTokens,
          outputTokens: 0,
          thoughtsTokens: null,
          cachedTokens: null,
          totalTokens: inputTokens,
          estimated: false,
        },
      };
    },
  };
}
