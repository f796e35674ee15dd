import * as z from "zod";
import type { Actor } from "../contract/actor.ts";
import type { VisionEstimate } from "../contract/request.ts";
import { visionArguments } from "./admission/reserve.ts";
import { mediaObject } from "./media/media.ts";
import { callUnlessRefused } from "./refused.ts";
import { storable } from "./storable.ts";
import type { Transport } from "./transport/transport.ts";

/** A picture of a post that a job is to look at. */
export interface PictureJob {
  jobId: string;
  tenantId: string;
  postId: string;
  sha256: string;
  /** 32 hexadecimal digits. */
  traceId: string | null;
}

const begun = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("begun"),
    object: mediaObject,
    post: z.object({ source: z.string(), published_at: z.string().nullable(), created_at: z.string() }),
    /** The database's time. */
    now: z.string(),
    picture: z.object({
      width: z.number().nullable(),
      height: z.number().nullable(),
      orientation: z.number(),
      fault: z.string().nullable(),
      dhash: z.string().nullable(),
      no_dhash: z.string().nullable(),
    }),
    policy: z.unknown(),
    policy_version: z.number(),
  }),
  z.object({ status: z.literal("busy"), retry_after_ms: z.number() }),
  z.object({ status: z.literal("ended") }),
]);
export type Begun = z.output<typeof begun>;

const similar = z.object({ file_sha256: z.string(), distance: z.number() }).nullable().transform((found) =>
  found === null ? null : { sha256: found.file_sha256, distance: found.distance }
);

/** A picture of the same tenant that looks the same, and in how many bits they differ. */
export interface SimilarPicture {
  sha256: string;
  distance: number;
}

/** What the picture's own bytes say. */
export interface PictureSaid {
  mimeType: string;
  width: number | null;
  height: number | null;
  orientation: number;
  /** 64 bits as a decimal number with its sign; null: there is none. */
  dhash: string | null;
  /** Why there is none: a word. */
  no_dhash: string | null;
  /** Why it cannot be looked at: a word. */
  fault: string | null;
}

export interface DecisionToKeep {
  action: "analyse" | "copy" | "skip" | "wait";
  reason: string;
  detail: Record<string, unknown>;
  policy_version: number;
}

/** How looking at a picture ended; the names are those of the SQL function's JSON. */
export interface AnalysisToKeep {
  status: "done" | "skipped" | "invalid" | "failed" | "waiting";
  reason?: string;
  analyst?: string;
  provider?: string;
  model?: string;
  schema_version?: number;
  prompt_version?: number;
  resolution?: string;
  result?: unknown;
  input_tokens?: number;
  output_tokens?: number;
  raw_text?: string;
  from_cache?: boolean;
  duration_ms?: number;
  same_as?: string;
}

const reserved = z.discriminatedUnion("status", [
  z.object({ status: z.enum(["reserved", "settled"]) }),
  z.object({
    status: z.literal("used_up"),
    /** Which budget stands in the way, in words. */
    detail: z.string(),
  }),
]);
export type BudgetAnswer = z.output<typeof reserved>;

/** What the worker asks and says of pictures. All of it may be repeated. */
export interface VisionBooks {
  /** `busy`: another job looks at the same picture; `ended`: there is nothing to do (any more). */
  begin(job: PictureJob, leaseSeconds: number): Promise<Begun>;
  /** The nearest of the tenant's that looks the same and has a result, at most `atMost` (0 to 3) of 64 bits away. */
  savePicture(
    job: PictureJob,
    said: PictureSaid,
    atMost: number | null,
  ): Promise<{ similar: SimilarPicture | null; underWay: SimilarPicture | null }>;
  /** `ended`: it was written down already; `gone`: the result that was to be taken over is not there. */
  finish(
    job: PictureJob,
    decision: DecisionToKeep,
    outcome: AnalysisToKeep,
  ): Promise<"saved" | "ended" | "gone">;
  /**
   * Takes an estimate out of all budgets that concern it, or out of none. `settled`: an earlier run has paid.
   * That of a call which has a lane is taken with its slot: `Asked.visionEstimate`.
   */
  reserve(estimate: VisionEstimate): Promise<BudgetAnswer>;
  /** @param tokens null: nothing was sent, and all goes back */
  settle(id: string, tokens: number | null): Promise<void>;
}

const TIMEOUT_MS = 15_000;

export function createVisionBooks(transport: Transport, timeoutMs = TIMEOUT_MS): VisionBooks {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    callUnlessRefused(transport, name, args, shape, timeoutMs);
  const named = ({ jobId, tenantId, postId, sha256 }: PictureJob) => ({
    job_id: jobId,
    tenant_id: tenantId,
    post_id: postId,
    file_sha256: sha256,
  });
  return {
    begin: (job, leaseSeconds) => ask("eve_vision_begin", { ...named(job), lease_s: leaseSeconds }, begun),
    async savePicture({ tenantId, sha256 }, said, atMost) {
      const answer = await ask("eve_vision_picture", {
        tenant_id: tenantId,
        file_sha256: sha256,
        mime_type: said.mimeType,
        width: said.width,
        height: said.height,
        orientation: said.orientation,
        dhash: said.dhash,
        no_dhash: said.no_dhash,
        fault: said.fault,
        at_most: atMost,
      }, z.object({ similar, under_way: similar }));
      return { similar: answer.similar, underWay: answer.under_way };
    },
    async finish(job, decision, outcome) {
      const { status } = await ask("eve_vision_finish", {
        ...named(job),
        decision: storable(decision),
        outcome: storable(outcome),
        trace_id: job.traceId,
      }, z.object({ status: z.enum(["saved", "ended", "gone"]) }));
      return status;
    },
    reserve: (estimate) => ask("eve_vision_reserve", visionArguments(estimate), reserved),
    async settle(id, tokens) {
      await ask("eve_vision_settle", { id, tokens }, z.object({ status: z.string() }));
    },
  };
}

const json = z.record(z.string(), z.unknown());
export const post = z.object({
  id: z.string(),
  tenant_id: z.string(),
  source: z.string(),
  external_id: z.string().nullable(),
  text: z.string(),
  published_at: z.string().nullable(),
  metadata: json,
  trace_id: z.string().nullable(),
  created_at: z.string(),
  updated_at: z.string(),
  /** Hashes of its files, in their order. */
  media: z.array(z.string()),
});

/** A row of public.post_enrichment with its decision. */
export const enrichment = z.object({
  id: z.string(),
  tenant_id: z.string(),
  post_id: z.string(),
  file_sha256: z.string().nullable(),
  kind: z.string(),
  status: z.enum(["waiting", "done", "skipped", "invalid", "failed"]),
  reason: z.string().nullable(),
  run_no: z.number(),
  job_id: z.string().nullable(),
  analyst: z.string().nullable(),
  provider: z.string().nullable(),
  model: z.string().nullable(),
  schema_version: z.number().nullable(),
  resolution: z.string().nullable(),
  vision_description: z.string().nullable(),
  labels: z.array(z.string()),
  objects: z.unknown(),
  ocr_text: z.string().nullable(),
  is_meme: z.boolean().nullable(),
  nsfw: z.boolean().nullable(),
  scene: z.string().nullable(),
  confidence: z.number().nullable(),
  tokens: z.number(),
  from_cache: z.boolean(),
  same_as: z.string().nullable(),
  trace_id: z.string().nullable(),
  created_at: z.string(),
  updated_at: z.string(),
  analyzed_at: z.string().nullable(),
  decision: z.object({
    action: z.string(),
    reason: z.string(),
    detail: json,
    policy_version: z.number(),
    decided_at: z.string(),
  }).nullable(),
});
export const enrichedPost = z.object({ post, enrichment: z.array(enrichment) });

export const budgets = z.object({
  tenant_id: z.string(),
  budgets: z.array(z.object({
    provider: z.string(),
    period: z.string(),
    unit: z.string(),
    most: z.number(),
    used: z.number(),
    reserved: z.number(),
    ends_at: z.string(),
  })),
  spending: z.array(z.object({
    provider: z.string(),
    period: z.string(),
    began_on: z.string(),
    tokens: z.number(),
    tokens_reserved: z.number(),
    pictures: z.number(),
    pictures_reserved: z.number(),
  })),
});
export const savedPolicy = z.object({
  tenant_id: z.string(),
  /** Null: the usual one. */
  policy: json.nullable(),
  version: z.number(),
  updated_at: z.string().nullable(),
});
export const visionStats = z.object({
  tenant_id: z.string(),
  since: z.string(),
  pictures: z.record(z.string(), z.number()),
  tokens: z.number(),
  from_cache: z.number(),
  copied: z.number(),
  oldest_waiting_at: z.string().nullable(),
  decisions: z.array(z.object({ action: z.string(), reason: z.string(), times: z.number() })),
  waits_for: z.array(z.object({ reason: z.string(), pictures: z.number() })),
});
export const foundPicture = z.object({ enrichment, excerpt: z.string(), rank: z.number() });
const added = z.object({ status: z.enum(["created", "present"]), post, wake: z.boolean() });
const requeued = z.object({ queued: z.number(), wake: z.boolean() });

export interface PostToAdd {
  tenant_id?: string | undefined;
  source: string;
  external_id?: string | undefined;
  text?: string | undefined;
  published_at?: string | undefined;
  metadata?: Record<string, unknown> | undefined;
  /** Hashes of files that are stored. */
  media: string[];
  class: "interactive" | "batch";
  /** A post that is there says what is given now, and no more. */
  replace?: boolean | undefined;
}

/** Posts and vision for those who ask. All of it throws what refuses the actor. */
export interface Vision {
  /** `wake`: the worker is to be called. @throws GatewayError `object_not_found`, `jobs_full` */
  add(
    actor: Actor,
    post: PostToAdd,
    options: { traceId: string | null; scope: "intake" | "vision" },
  ): Promise<z.output<typeof added>>;
  /** @throws GatewayError `post_not_found` */
  find(actor: Actor, postId: string): Promise<z.output<typeof enrichedPost>>;
  search(
    actor: Actor,
    terms: { tenantId: string | null; query: string | null; label: string | null; limit: number },
  ): Promise<z.output<typeof foundPicture>[]>;
  /** Those that changed last first. */
  list(
    actor: Actor,
    terms: { tenantId: string | null; status: string | null; limit: number },
  ): Promise<z.output<typeof enrichment>[]>;
  /** With what was found in its pictures. @throws GatewayError `post_not_found` */
  remove(actor: Actor, postId: string): Promise<void>;
  /** One post's pictures, or those of a tenant with a status. */
  requeue(
    actor: Actor,
    which: {
      postId: string | null;
      sha256: string | null;
      tenantId: string | null;
      status: string | null;
      traceId: string | null;
      class: "interactive" | "batch";
    },
  ): Promise<z.output<typeof requeued>>;
  stats(actor: Actor, tenantId: string | null, days: number): Promise<z.output<typeof visionStats>>;
  budgets(actor: Actor, tenantId: string | null): Promise<z.output<typeof budgets>>;
  saveBudgets(actor: Actor, tenantId: string | null, list: unknown[]): Promise<z.output<typeof budgets>>;
  policy(actor: Actor, tenantId: string | null): Promise<z.output<typeof savedPolicy>>;
  /** @param policy what `visionPolicy` has checked; null: the usual one */
  savePolicy(
    actor: Actor,
    tenantId: string | null,
    policy: Record<string, unknown> | null,
  ): Promise<z.output<typeof savedPolicy>>;
}

export function createVision(transport: Transport, timeoutMs = TIMEOUT_MS): Vision {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    callUnlessRefused(transport, name, args, shape, timeoutMs);
  return {
    add: (actor, post, { traceId, scope }) =>
      ask("eve_post_add", { actor, post, trace_id: traceId, scope }, added),
    find: (actor, postId) => ask("eve_vision_post", { actor, post_id: postId }, enrichedPost),
    async remove(actor, postId) {
      await ask("eve_post_delete", { actor, post_id: postId }, z.object({ status: z.literal("deleted") }));
    },
    search: async (actor, { tenantId, query, label, limit }) =>
      (await ask(
        "eve_vision_search",
        { actor, tenant_id: tenantId, query, label, at_most: limit },
        z.object({ found: z.array(foundPicture) }),
      )).found,
    list: async (actor, { tenantId, status, limit }) =>
      (await ask(
        "eve_vision_list",
        { actor, tenant_id: tenantId, which: status, at_most: limit },
        z.object({ pictures: z.array(enrichment) }),
      )).pictures,
    requeue: (actor, { postId, sha256, tenantId, status, traceId, class: trafficClass }) =>
      ask("eve_vision_requeue", {
        actor,
        post_id: postId,
        file_sha256: sha256,
        tenant_id: tenantId,
        which: status,
        trace_id: traceId,
        class: trafficClass,
      }, requeued),
    stats: (actor, tenantId, days) =>
      ask("eve_vision_stats", { actor, tenant_id: tenantId, days }, visionStats),
    budgets: (actor, tenantId) => ask("eve_vision_budgets", { actor, tenant_id: tenantId }, budgets),
    saveBudgets: (actor, tenantId, list) =>
      ask("eve_vision_budgets_save", { actor, budgets: { list }, tenant_id: tenantId }, budgets),
    policy: (actor, tenantId) => ask("eve_vision_policy", { actor, tenant_id: tenantId }, savedPolicy),
    savePolicy: (actor, tenantId, policy) =>
      ask("eve_vision_policy_save", { actor, policy, tenant_id: tenantId }, savedPolicy),
  };
}
