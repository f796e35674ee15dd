import * as z from "zod";
import { type ScopeName, SCOPES } from "../contract/actor.ts";
import type { TrafficClass } from "../contract/request.ts";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

/** A consumer's secret as the database takes it: the secret itself is not sent. */
export interface Proof {
  keyId: string;
  proof: string;
}

export type Authentication =
  | { status: "known"; consumerId: string; name: string; kind: "service" | "notebook" }
  | { status: "refused"; code: "credential_invalid" | "consumer_disabled" }
  /** Wrong, and one of too many wrong ones from the same network. */
  | { status: "refused"; code: "rate_limited"; retryAfterMs: number | null };

export interface IssueInput {
  /** Null: the project's own key asks, for `consumer`. */
  proof: Proof | null;
  /** The consumer's name; beside a proof it must be the holder's name. */
  consumer: string | null;
  address: string | null;
  models: string[] | null;
  class: TrafficClass | null;
  requests: number | null;
  tokens: number | null;
  /** Null: all of the consumer's. */
  scopes: ScopeName[] | null;
  ttlSeconds: number | null;
}

export type Issue =
  | {
    status: "issued";
    tokenId: string;
    consumerId: string;
    models: string[] | null;
    scopes: ScopeName[];
    class: TrafficClass;
    requests: number | null;
    tokens: number | null;
    /** Seconds since 1970, by the database's clock. */
    issuedAt: number;
    expiresAt: number;
  }
  | {
    status: "refused";
    code: "invalid_client" | "unauthorized_client" | "invalid_scope" | "rate_limited";
    detail: string | null;
    retryAfterMs: number | null;
  };

/** Who may call, and with what. Every refusal is counted in the audit by the same call. */
export interface Access {
  authenticate(proof: Proof, address: string | null): Promise<Authentication>;
  issueToken(input: IssueInput): Promise<Issue>;
  /**
   * Counts a credential that was refused without asking the database. Answers null, or milliseconds to come back after where
   * too many wrong ones came from the same network.
   */
  noteRefusal(code: string, address: string | null, place: string): Promise<number | null>;
}

const authentication = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("known"),
    consumer_id: z.string(),
    name: z.string(),
    kind: z.enum(["service", "notebook"]),
  }).transform(({ consumer_id, ...row }) => ({ ...row, consumerId: consumer_id })),
  z.discriminatedUnion("code", [
    z.object({ status: z.literal("refused"), code: z.enum(["credential_invalid", "consumer_disabled"]) }),
    z.object({
      status: z.literal("refused"),
      code: z.literal("rate_limited"),
      retry_after_ms: z.number().nullable(),
    }).transform(({ retry_after_ms, ...row }) => ({ ...row, retryAfterMs: retry_after_ms })),
  ]),
]);

const noted = z.object({ code: z.string(), retry_after_ms: z.number().nullable() });

const issue = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("issued"),
    token_id: z.string(),
    consumer_id: z.string(),
    models: z.array(z.string()).nullable(),
    scopes: z.array(z.enum(SCOPES)),
    class: z.enum(["interactive", "batch"]),
    requests_budget: z.number().nullable(),
    tokens_budget: z.number().nullable(),
    issued_at_s: z.number().int(),
    expires_at_s: z.number().int(),
  }).transform((row) => ({
    status: row.status,
    tokenId: row.token_id,
    consumerId: row.consumer_id,
    models: row.models,
    scopes: row.scopes,
    class: row.class,
    requests: row.requests_budget,
    tokens: row.tokens_budget,
    issuedAt: row.issued_at_s,
    expiresAt: row.expires_at_s,
  })),
  z.object({
    status: z.literal("refused"),
    code: z.enum(["invalid_client", "unauthorized_client", "invalid_scope", "rate_limited"]),
    detail: z.string().nullable(),
    retry_after_ms: z.number().nullable(),
  }).transform(({ retry_after_ms, ...row }) => ({ ...row, retryAfterMs: retry_after_ms })),
]);

/** @param timeoutMs for each question, since a request waits for it: `EVE_RPC_TIMEOUT_MS` */
export function createAccess(transport: Transport, timeoutMs: number): Access {
  return {
    authenticate: ({ keyId, proof }, address) =>
      call(
        transport,
        "eve_authenticate_consumer",
        { key_id: keyId, proof, address },
        authentication,
        timeoutMs,
      ),
    issueToken: (input) =>
      call(
        transport,
        "eve_issue_token",
        {
          key_id: input.proof?.keyId ?? null,
          proof: input.proof?.proof ?? null,
          consumer: input.consumer,
          address: input.address,
          models: input.models,
          class: input.class,
          requests_budget: input.requests,
          tokens_budget: input.tokens,
          ttl_s: input.ttlSeconds,
          scopes: input.scopes,
        },
        issue,
        timeoutMs,
      ),
    noteRefusal: async (code, address, place) => {
      const refusal = await call(
        transport,
        "eve_log_refused_token",
        { code, address, place },
        noted,
        timeoutMs,
      );
      return refusal.code === "rate_limited" ? refusal.retry_after_ms : null;
    },
  };
}
