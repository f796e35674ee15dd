import * as z from "zod";
import type { ErrorCode } from "../../contract/errors.ts";
import { secretSourceOf } from "../../contract/secret_source.ts";
import type { Gauge, Limits } from "../../contract/limits.ts";
import type { EndpointName, TrafficClass, VisionEstimate } from "../../contract/request.ts";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

export interface ReserveInput {
  requestId: string;
  /** In order of preference; the first that can start in time is booked. */
  models: string[];
  /** Input tokens: an estimate, before the model's learned factor, or a count. */
  tokens: number;
  /**
   * What `tokens` are. True: counted by upstream. False: an estimate, which upstream can be asked to count; the answer may
   * be `count` then. Null: an estimate, and nobody can count.
   */
  counted: boolean | null;
  /** The most that the model may write, in tokens, thoughts included; null or absent: the model's own limit; 0: it writes nothing. */
  maxOutputTokens?: number | null;
  consumerId: string | null;
  tokenId: string | null;
  class: TrafficClass;
  /** 0: start now or be refused. */
  maxWaitMs: number;
  /** 1 to 3; above 1 after a settlement with `final: false`. */
  attempt: number;
  /** Keys that are of no use for this request any more. */
  excludeKeys: string[];
  /** Keys to take only if there is no other: their calls failed and no key was at fault. */
  avoidKeys: string[];
  /** From the granted start; after it the reservation counts as abandoned. */
  leaseMs: number;
  endpoint: EndpointName;
  traceId: string | null;
  metadata: Record<string, unknown>;
  /** Tells a repetition of a request from another request with the same id. */
  requestHash: string | null;
  /**
   * Continues this attempt: batch that was told `waiting` asks again at its time, and a start that came too late is given back
   * and booked again. Left out: a new attempt.
   */
  requestNo?: number;
  /** Taken in the transaction that books the start, or neither is. */
  visionEstimate?: VisionEstimate | undefined;
}

const gauge = z.object({
  limit: z.number().nullable(),
  remaining: z.number().nullable(),
  reset_ms: z.number().nullable().default(null),
}).transform((row): Gauge => ({ limit: row.limit, remaining: row.remaining, resetMs: row.reset_ms }));

const limits = z.object({ requests: gauge, tokens: gauge, requests_day: gauge })
  .transform((row): Limits => ({
    requests: row.requests,
    tokens: row.tokens,
    requestsDay: row.requests_day,
  }));

/** What the model behind a lane can do. Absent flags mean yes: most models can. */
const capabilities = z.object({
  system: z.boolean().default(true),
  json: z.boolean().default(true),
  tools: z.boolean().default(true),
  thinking: z.boolean().default(true),
  max_output_tokens: z.number().int().nullable().default(null),
}).transform(({ max_output_tokens, ...flags }) => ({ ...flags, maxOutputTokens: max_output_tokens }));

const granted = z.object({
  status: z.literal("granted"),
  request_no: z.number().int(),
  attempt: z.number().int(),
  model: z.string(),
  requested_model: z.string(),
  replaced: z.boolean(),
  key: z.object({
    id: z.string(),
    alias: z.string(),
    env_var_name: z.string().nullable(),
    provider: z.string(),
  }),
  quota_project: z.string(),
  wait_ms: z.number(),
  tokens: z.number().int(),
  max_output_tokens: z.number().int().positive().nullish(),
  limits,
  capabilities: capabilities.prefault({}),
  capture: z.boolean().nullish(),
}).transform((row) => ({
  status: row.status,
  requestNo: row.request_no,
  attempt: row.attempt,
  model: row.model,
  requestedModel: row.requested_model,
  replaced: row.replaced,
  key: {
    id: row.key.id,
    alias: row.key.alias,
    source: secretSourceOf(row.key.env_var_name ?? ""),
    provider: row.key.provider,
  },
  quotaProject: row.quota_project,
  /** From the moment of the answer until the booked start. Below 0: a lock held the booking up, and its start has passed. */
  waitMs: row.wait_ms,
  /** Booked input tokens: the estimate after the model's factor. */
  tokens: row.tokens,
  /** What the caller's budgets leave for the answer, in tokens, thoughts included; null: no budget bounds it. */
  maxOutputTokens: row.max_output_tokens ?? null,
  limits: row.limits,
  capabilities: row.capabilities,
  /** Whether the consumer's row wants prompt and answer kept. */
  capture: row.capture ?? false,
}));

/** Why a reservation can be refused: codes of the error table. */
export const REFUSAL_CODES = [
  "unknown_model",
  "prompt_too_large",
  "no_active_key",
  "rate_limited",
  "daily_limit",
  "lane_blocked",
  "too_many_waiting",
  "budget_exhausted",
  "consumer_disabled",
  "token_revoked",
  "model_not_allowed",
] as const satisfies readonly ErrorCode[];

const count = z.object({
  status: z.literal("count"),
  model: z.string(),
  key: z.object({
    alias: z.string(),
    env_var_name: z.string().nullable(),
    provider: z.string(),
  }),
  tokens_if_not_counted: z.number().int(),
}).transform((row) => ({
  status: row.status,
  model: row.model,
  /** A key of the lane that would be booked: its model counts as that lane's does. */
  key: {
    alias: row.key.alias,
    source: secretSourceOf(row.key.env_var_name ?? ""),
    provider: row.key.provider,
  },
  /** What to reserve if nobody can count: the most that the estimate may turn out to be. */
  tokensIfNotCounted: row.tokens_if_not_counted,
}));

const refused = z.object({
  status: z.literal("refused"),
  code: z.enum(REFUSAL_CODES),
  limit: z.string().nullish(),
  retry_after_ms: z.number().nullish(),
  model: z.string().nullish(),
  limits: limits.nullish(),
  detail: z.string().nullish(),
}).transform((row) => ({
  status: row.status,
  code: row.code,
  /** Which limit was in the way: `rpm`, `tpm`, `rpd`, ... */
  limit: row.limit ?? null,
  /** Null: coming back does not help. */
  retryAfterMs: row.retry_after_ms ?? null,
  model: row.model ?? null,
  limits: row.limits ?? null,
  detail: row.detail ?? null,
}));

const waiting = z.object({
  status: z.literal("waiting"),
  request_no: z.number().int(),
  attempt: z.number().int(),
  model: z.string(),
  wait_ms: z.number().nonnegative(),
}).transform((row) => ({
  status: row.status,
  requestNo: row.request_no,
  attempt: row.attempt,
  model: row.model,
  /** From the moment of the answer until the caller is to ask again, with `requestNo`. */
  waitMs: row.wait_ms,
}));

const duplicate = z.object({
  status: z.literal("duplicate"),
  state: z.enum(["running", "succeeded", "failed", "cancelled", "expired"]),
  result: z.unknown(),
  attempts: z.number().int().nullish(),
  error_code: z.string().nullish(),
  same_request: z.boolean(),
}).transform((row) => ({
  status: row.status,
  state: row.state,
  /** The stored answer, as it was given to `settle`; null if none was stored. */
  result: row.result ?? null,
  attempts: row.attempts ?? null,
  errorCode: row.error_code ?? null,
  /** False: the request that has this id asks for something else. */
  sameRequest: row.same_request,
}));

export const reservation = z.discriminatedUnion("status", [granted, waiting, refused, duplicate, count]);

/** What the database answers to a booking. */
const EXAMPLE = {
  status: "granted",
  request_no: 1,
  attempt: 1,
  model: "m",
  requested_model: "m",
  replaced: false,
  key: { id: "k", alias: "k", env_var_name: "K", provider: "google" },
  quota_project: "p",
  wait_ms: 0,
  tokens: 1,
  limits: {
    requests: { limit: 1, remaining: 1, reset_ms: 1 },
    tokens: { limit: 1, remaining: 1, reset_ms: 1 },
    requests_day: { limit: 1, remaining: 1, reset_ms: 1 },
  },
};

/**
 * A schema is compiled when it is first used. That of a grant is better compiled before there is one: between the booking of a
 * start and the start nothing should be done that can be done before.
 * @returns whether it took the example
 */
export function compileReservation(): boolean {
  return reservation.safeParse(EXAMPLE).success;
}

export type Grant = z.output<typeof granted>;
export type Refusal = z.output<typeof refused>;
export type Duplicate = z.output<typeof duplicate>;
/** Nothing has been booked or written: the prompt is to be counted upstream first. */
export type CountWanted = z.output<typeof count>;
/** A batch call in the queue: nothing is booked yet, and it keeps its place as long as it asks again in time. */
export type InLine = z.output<typeof waiting>;
export type Reservation = Grant | InLine | Refusal | Duplicate | CountWanted;
export type Capabilities = Grant["capabilities"];

/** A reservation as it is asked for. */
export interface ReserveCall extends ReserveInput {
  /** Names this call, so that what it books can be given back without an answer. */
  callId: string;
  /** ISO 8601, by the database's clock: nothing is booked after it. */
  deadline: string;
  /** It may have reached the database. */
  sent?: boolean;
  /** No caller waits for it any more. */
  over?: boolean;
}

/** Books a start for one attempt, or says why not. A refusal leaves nothing to settle. */
export function reserve(transport: Transport, input: ReserveCall, timeoutMs: number): Promise<Reservation> {
  const args = reserveArguments(input);
  const { visionEstimate } = input;
  if (visionEstimate === undefined) return call(transport, "eve_reserve", args, reservation, timeoutMs);
  return call(
    transport,
    "eve_vision_reserve",
    { ...visionArguments(visionEstimate), call: args },
    reservation,
    timeoutMs,
  );
}

/** An estimate of vision as the arguments of its SQL function. */
export function visionArguments(
  { id, tenantId, provider, tokens, spendsTokens }: VisionEstimate,
): Record<string, unknown> {
  return { id, tenant_id: tenantId, provider, tokens, spends_tokens: spendsTokens };
}

/** A reservation as the SQL function's arguments, to be sent now. */
export function reserveArguments(input: ReserveCall): Record<string, unknown> {
  input.sent = true;
  return {
    request_id: input.requestId,
    models: input.models,
    tokens: input.tokens,
    max_output_tokens: input.maxOutputTokens ?? null,
    consumer_id: input.consumerId,
    class: input.class,
    max_wait_ms: input.maxWaitMs,
    attempt: input.attempt,
    exclude_keys: input.excludeKeys,
    avoid_keys: input.avoidKeys,
    lease_ms: input.leaseMs,
    token_id: input.tokenId,
    endpoint: input.endpoint,
    trace_id: input.traceId,
    metadata: input.metadata,
    request_hash: input.requestHash,
    counted: input.counted,
    deadline: input.deadline,
    call_id: input.callId,
    ...(input.requestNo !== undefined && { request_no: input.requestNo }),
  };
}
