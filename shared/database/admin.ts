import * as z from "zod";
import { type ScopeName, SCOPES } from "../contract/actor.ts";
import type { TrafficClass } from "../contract/request.ts";
import type { Proof } from "./access.ts";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

const consumer = z.object({
  id: z.string(),
  name: z.string(),
  kind: z.enum(["service", "notebook"]),
  key_id: z.string().nullable(),
  models: z.array(z.string()).nullable(),
  scopes: z.array(z.enum(SCOPES)),
  tenant_id: z.string(),
  max_class: z.enum(["interactive", "batch"]),
  rpm: z.number().nullable(),
  requests_per_day: z.number().nullable(),
  tokens_per_day: z.number().nullable(),
  token_ttl_s: z.number(),
  is_active: z.boolean(),
  created_at: z.string(),
  secret_changed_at: z.string().nullable(),
  previous_secret_until: z.string().nullable(),
  /** Of Google's day: what has ended, by the sums; tokens are input, answer and thinking. */
  requests_today: z.number(),
  tokens_today: z.number(),
  /** What today's budget counts; null: there is none. */
  requests_of_budget: z.number().nullable(),
  tokens_of_budget: z.number().nullable(),
  live_tokens: z.number(),
});

const consumerPage = z.object({
  consumers: z.array(consumer),
  /** That match, on all pages. */
  total: z.number(),
  /** The `after` of the next page; null: this is the last. */
  next_after: z.string().nullable(),
});

/** A consumer as the database returns it; the names are those of its columns. */
export type ConsumerRow = z.output<typeof consumer>;

const scopedToken = z.object({
  id: z.string(),
  consumer: z.string(),
  state: z.enum(["live", "expired", "revoked"]),
  models: z.array(z.string()).nullable(),
  scopes: z.array(z.enum(SCOPES)),
  class: z.enum(["interactive", "batch"]),
  requests_used: z.number(),
  requests_budget: z.number().nullable(),
  tokens_used: z.number(),
  tokens_budget: z.number().nullable(),
  issued_at: z.string(),
  expires_at: z.string(),
  revoked_at: z.string().nullable(),
  address: z.string().nullable(),
});

/** A token that was issued, never the token itself. */
export type TokenRow = z.output<typeof scopedToken>;

export interface NewConsumer extends Proof {
  name: string;
  kind: "service" | "notebook";
  /** Null: all. */
  models?: string[] | null;
  maxClass?: TrafficClass;
  rpm?: number | null;
  requestsPerDay?: number | null;
  tokensPerDay?: number | null;
  /** 60 to 86,400; by default two hours. */
  tokenTtlSeconds?: number;
  /** `llm` alone by default. */
  scopes?: ScopeName[];
  /** The default tenant's by default. */
  tenantId?: string;
}

/** What a consumer may use, and whose it is; what is absent stays. */
export interface AccessChanges {
  scopes?: ScopeName[];
  tenant_id?: string;
}

/** By the names of the columns. */
export interface ScopeChanges {
  models?: string[] | null;
  max_class?: TrafficClass;
  rpm?: number | null;
  requests_per_day?: number | null;
  tokens_per_day?: number | null;
  token_ttl_s?: number;
}

/**
 * What the owner does to consumers and tokens. Every change is in the audit.
 * @throws GatewayError `invalid_argument` for a name that is unknown or taken, and for values out of bounds
 */
export interface Admin {
  addConsumer(input: NewConsumer): Promise<ConsumerRow>;
  /** All, or the one of that name, if there is one. */
  consumers(name?: string): Promise<ConsumerRow[]>;
  /** By name; `search`: a part of the name or of the tenant's. 1 to 1,000 a page. */
  consumerPage(
    filter: { search?: string; after?: string; atMost?: number },
  ): Promise<z.output<typeof consumerPage>>;
  /** The previous secret stays valid for `graceSeconds`: 0 to 2,592,000. */
  rotateConsumer(name: string, proof: string, graceSeconds: number): Promise<ConsumerRow>;
  /**
   * @param seen then only if these fields are as they were
   * @throws GatewayError `changed_meanwhile` where one is not
   */
  enableConsumer(name: string, enabled: boolean, seen?: Record<string, unknown>): Promise<ConsumerRow>;
  /** Changes what is named and nothing else; null removes a bound. It holds from the next reservation. */
  scopeConsumer(name: string, changes: ScopeChanges): Promise<ConsumerRow>;
  /** Its tokens lose what it loses, with the next call; what it gains only new ones have. */
  setConsumerAccess(name: string, changes: AccessChanges): Promise<ConsumerRow>;
  /**
   * Both at once, if the fields that were seen are as they were.
   * @throws GatewayError `changed_meanwhile` where one is not
   */
  changeConsumer(
    name: string,
    seen: Record<string, unknown>,
    changes: { changes?: ScopeChanges } & AccessChanges,
  ): Promise<ConsumerRow>;
  removeConsumer(name: string): Promise<void>;
  /** The newest first. */
  tokens(filter: { consumer?: string; includeEnded?: boolean; atMost?: number }): Promise<TokenRow[]>;
  /** The ids of those that were live until now. */
  revokeTokens(
    which: ({ tokenId: string } | { consumer: string }) & { reason?: string },
  ): Promise<string[]>;
  /** Puts where the project is, and its key, into Vault, where the schedule looks. The names of what was changed. */
  connectSchedule(projectUrl: string, secretKey: string): Promise<string[]>;
}

/** A person waits for it. */
const ADMIN_TIMEOUT_MS = 15_000;

export function createAdmin(transport: Transport, timeoutMs = ADMIN_TIMEOUT_MS): Admin {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    call(transport, name, args, shape, timeoutMs);
  return {
    addConsumer: (input) =>
      ask("eve_consumer_add_with_access", {
        name: input.name,
        kind: input.kind,
        key_id: input.keyId,
        proof: input.proof,
        models: input.models ?? null,
        max_class: input.maxClass ?? "interactive",
        rpm: input.rpm ?? null,
        requests_per_day: input.requestsPerDay ?? null,
        tokens_per_day: input.tokensPerDay ?? null,
        ...(input.tokenTtlSeconds !== undefined && { token_ttl_s: input.tokenTtlSeconds }),
        scopes: input.scopes ?? null,
        tenant_id: input.tenantId ?? null,
      }, consumer),
    consumers: (name) => ask("eve_consumers", { name: name ?? null }, z.array(consumer)),
    consumerPage: ({ search, after, atMost = 50 }) =>
      ask(
        "eve_consumer_page",
        { search: search ?? null, after: after ?? null, at_most: atMost },
        consumerPage,
      ),
    rotateConsumer: (name, proof, graceSeconds) =>
      ask("eve_consumer_rotate", { name, proof, grace_s: graceSeconds }, consumer),
    enableConsumer: (name, enabled, seen) =>
      seen === undefined
        ? ask("eve_consumer_enable", { name, enabled }, consumer)
        : ask("eve_consumer_enable_seen", { name, enabled, seen }, consumer),
    scopeConsumer: (name, changes) => ask("eve_consumer_scope", { name, changes }, consumer),
    setConsumerAccess: (name, changes) => ask("eve_consumer_access", { name, ...changes }, consumer),
    changeConsumer: (name, seen, { changes, scopes, tenant_id }) =>
      ask("eve_consumer_change", {
        name,
        seen,
        changes: changes ?? null,
        scopes: scopes ?? null,
        tenant_id: tenant_id ?? null,
      }, consumer),
    removeConsumer: async (name) => {
      await ask("eve_consumer_remove", { name }, z.unknown());
    },
    tokens: ({ consumer, includeEnded = false, atMost = 200 }) =>
      ask(
        "eve_tokens",
        { consumer: consumer ?? null, include_ended: includeEnded, at_most: atMost },
        z.array(scopedToken),
      ),
    revokeTokens: async (which) => {
      const args = "tokenId" in which ? { token_id: which.tokenId } : { consumer: which.consumer };
      const answer = await ask(
        "eve_token_revoke",
        { ...args, reason: which.reason ?? null },
        z.object({ revoked: z.array(z.string()) }),
      );
      return answer.revoked;
    },
    connectSchedule: async (projectUrl, secretKey) => {
      const { changed } = await ask(
        "eve_connect",
        { project_url: projectUrl, secret_key: secretKey },
        z.object({ changed: z.array(z.string()) }),
      );
      return changed;
    },
  };
}
