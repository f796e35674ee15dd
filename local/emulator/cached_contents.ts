/**
 * Cached contents as the real API keeps them: each belongs to the project of the key that made it, and to one model.
 */

import { type GoogleError, invalidArgument, rpcError } from "./errors.ts";
import { opaqueId } from "./fingerprint.ts";
import type { PromptTokens } from "./tokens.ts";
import type { GenerateRequest } from "./wire.ts";

/** The real API keeps nothing shorter: 1,024 tokens for its smaller models. */
const MIN_TOKENS = 1_024;
const DEFAULT_TTL_S = 3_600;

export type CachedRequest = Pick<GenerateRequest, "contents" | "systemInstruction" | "tools" | "toolConfig">;

interface CachedContent {
  project: string;
  /** Without `models/`. */
  model: string;
  request: CachedRequest;
  tokens: PromptTokens;
  displayName: string;
  createdAt: number;
  updatedAt: number;
  expiresAt: number;
}

/** When something is to expire, as requests say it. */
export interface Expiration {
  ttl?: string;
  expireTime?: string;
}

export class CachedContents {
  #kept = new Map<string, CachedContent>();
  #serial = 0;

  constructor(private readonly now: () => number) {}

  clear(): void {
    this.#kept.clear();
  }

  /** @throws GoogleError 400 for what is too short, or expires before now */
  create(
    { expiration, ...asked }:
      & Pick<CachedContent, "project" | "model" | "request" | "tokens" | "displayName">
      & { expiration: Expiration },
  ): Record<string, unknown> {
    if (asked.tokens.total < MIN_TOKENS) {
      throw invalidArgument(
        `Cached content is too small. total_token_count=${asked.tokens.total}, min_total_token_count=${MIN_TOKENS}`,
      );
    }
    const now = this.now();
    const expiresAt = this.#expiry(expiration) ?? now + DEFAULT_TTL_S * 1000;
    const id = opaqueId(`${asked.project}\n${++this.#serial}`, 40).toLowerCase();
    this.#kept.set(id, { ...asked, createdAt: now, updatedAt: now, expiresAt });
    return this.get(asked.project, id);
  }

  /** @throws GoogleError 403 for what is not there, as for what is another project's */
  get(project: string, id: string): Record<string, unknown> {
    return resource(id, this.find(project, id));
  }

  list(project: string): Record<string, unknown>[] {
    return [...this.#kept].filter(([, one]) => one.project === project && one.expiresAt > this.now())
      .map(([id, one]) => resource(id, one));
  }

  /** @throws GoogleError as get; 400 without a new time */
  update(project: string, id: string, expiration: Expiration): Record<string, unknown> {
    const kept = this.find(project, id);
    const expiresAt = this.#expiry(expiration);
    if (expiresAt === null) {
      throw invalidArgument(
        "* UpdateCachedContentRequest.cached_content: only the expiration can be updated\n",
      );
    }
    Object.assign(kept, { expiresAt, updatedAt: this.now() });
    return resource(id, kept);
  }

  /** @throws GoogleError as get */
  remove(project: string, id: string): void {
    this.find(project, id);
    this.#kept.delete(id);
  }

  /** @throws GoogleError as get */
  find(project: string, id: string): CachedContent {
    const kept = this.#kept.get(id);
    if (kept === undefined || kept.project !== project || kept.expiresAt <= this.now()) throw notFound();
    return kept;
  }

  /**
   * The request with what it names in it, and the tokens of that.
   * @throws GoogleError 403 for a name that is not there, 400 for another model and for what belongs into the cache
   */
  resolve(
    project: string,
    model: string,
    read: Record<string, unknown>,
  ): { read: Record<string, unknown>; cached: PromptTokens | null } {
    if (typeof read.cachedContent !== "string") return { read, cached: null };
    const kept = this.find(project, read.cachedContent.replace(/^cachedContents\//, ""));
    if (kept.model !== model) {
      throw invalidArgument(
        `Model used by GenerateContent request (models/${model}) and CachedContent (models/${kept.model}) has to be the same.`,
      );
    }
    if (["systemInstruction", "tools", "toolConfig"].some((field) => read[field] !== undefined)) {
      throw invalidArgument(
        "CachedContent can not be used with GenerateContent request setting system_instruction, tools or tool_config.\n\n" +
          "Proposed fix: move those values to CachedContent from GenerateContent request.",
      );
    }
    const contents = [...kept.request.contents, ...(read.contents as GenerateRequest["contents"] ?? [])];
    return { read: { ...read, ...structuredClone({ ...kept.request, contents }) }, cached: kept.tokens };
  }

  #expiry({ ttl, expireTime }: Expiration): number | null {
    const now = this.now();
    const at = ttl !== undefined ? now + Number(ttl.replace(/s$/, "")) * 1000 : Date.parse(expireTime ?? "");
    if (ttl === undefined && expireTime === undefined) return null;
    if (!(at > now)) throw invalidArgument("* expiration: must be in the future\n");
    return at;
  }
}

function notFound(): GoogleError {
  return rpcError(403, "CachedContent not found (or permission denied)");
}

function resource(id: string, kept: CachedContent): Record<string, unknown> {
  return {
    name: `cachedContents/${id}`,
    model: `models/${kept.model}`,
    ...(kept.displayName !== "" && { displayName: kept.displayName }),
    createTime: new Date(kept.createdAt).toISOString(),
    updateTime: new Date(kept.updatedAt).toISOString(),
    expireTime: new Date(kept.expiresAt).toISOString(),
    usageMetadata: { totalTokenCount: kept.tokens.total },
  };
}
