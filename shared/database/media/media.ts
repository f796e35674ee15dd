import * as z from "zod";
import type { Actor } from "../../contract/actor.ts";
import { callUnlessRefused } from "../refused.ts";
import type { Transport } from "../transport/transport.ts";

export const MEDIA_KINDS = ["media", "vision", "crawl"] as const;
/** What limits and lifecycle go by. */
export type MediaKind = (typeof MEDIA_KINDS)[number];

const kind = z.enum(MEDIA_KINDS);
const place = z.enum(["s3", "postgres"]);

/** A row of public.media_objects; the names are those of its columns. */
export const mediaObject = z.object({
  tenant_id: z.string(),
  /** Of the file as it came. */
  sha256: z.string(),
  kind,
  mime_type: z.string().nullable(),
  size_bytes: z.number().nullable(),
  /** As stored, packed or not: what limits count. */
  stored_bytes: z.number(),
  content_encoding: z.string().nullable(),
  s3_key: z.string().nullable(),
  stored_in: place,
  state: z.enum(["reserved", "stored", "verified", "deleting"]),
  refs_count: z.number(),
  metadata: z.record(z.string(), z.unknown()),
  first_seen_at: z.string().nullable(),
  last_seen_at: z.string().nullable(),
  expires_at: z.string().nullable(),
  /** When it was found not to be in the bucket; null: it is there as far as is known. */
  missing_since: z.string().nullable(),
});
export type MediaObject = z.output<typeof mediaObject>;

const alias = z.object({
  key: z.string(),
  metadata: z.record(z.string(), z.unknown()),
  created_at: z.string(),
});
export type MediaAlias = z.output<typeof alias>;

export const objectToDelete = z.object({
  tenant_id: z.string(),
  sha256: z.string(),
  s3_key: z.string().nullable(),
  stored_in: place,
  bytes: z.number(),
  /** Of the upload in parts that is to be ended before. */
  upload_id: z.string().nullable().default(null),
});
/** An object that is marked as deleting: to be deleted where it is stored, then reported by `deleted`. */
export type ObjectToDelete = z.output<typeof objectToDelete>;

const unproven = objectToDelete.extend({
  mime_type: z.string().nullable(),
  content_encoding: z.string().nullable(),
  /** Of the first bytes, hashed by earlier runs: the library's own state, in base64. */
  proof: z.object({ hashed_bytes: z.number(), state: z.string() }).nullish(),
});
export type UnprovenObject = z.output<typeof unproven>;

const multipart = z.object({ upload_id: z.string(), part_bytes: z.number() });
/** An upload in parts that is under way; all parts but the last have `part_bytes`. */
export type Multipart = z.output<typeof multipart>;

/** A key that a program chose, what it says of the file there, and what uses the file. */
export interface MediaLinks {
  key?: string;
  metadata?: Record<string, unknown>;
  ref_kind?: string;
  ref_id?: string;
}

export interface FileToReserve {
  tenantId: string | null;
  sha256: string;
  sizeBytes: number;
  storedBytes: number;
  mimeType: string;
  contentEncoding: "gzip" | null;
  kind: MediaKind;
  /** The storage key's part behind kind and tenant. */
  name: string;
  metadata: Record<string, unknown>;
  links: MediaLinks;
  /** It will be kept in the database, whose limit counts as well. */
  inSpool: boolean;
  /** How long the room is held; null: as the setting upload_keep_s says. */
  ttlSeconds: number | null;
  /** The caller gets an address to send it to that is valid for so long; null: none. */
  addressSeconds: number | null;
}

export interface StoredFact {
  tenantId: string;
  sha256: string;
  /** `verified`: its content is known to have its hash. */
  state: "stored" | "verified";
  storedBytes: number;
  storedIn: "s3" | "postgres";
  links?: MediaLinks;
}

const counter = z.object({
  limit_bytes: z.number(),
  used_bytes: z.number(),
  reserved_bytes: z.number(),
  free_bytes: z.number(),
  objects: z.number(),
});
const kinds = z.object({ media: counter, vision: counter, crawl: counter });
export const storageQuota = z.object({
  tenant_id: z.string(),
  total: counter,
  tenant: counter,
  kinds,
  spool: counter,
  emergency_threshold_bytes: z.number(),
});
const kindUsage = z.object({
  objects: z.number(),
  used_bytes: z.number(),
  without_references_bytes: z.number(),
});
export const storageUsage = counter.extend({
  tenant_id: z.string(),
  kinds: z.object({ media: kindUsage, vision: kindUsage, crawl: kindUsage }),
});
export const storageCheck = z.object({
  tenant_id: z.string(),
  content_type: kind,
  size_bytes: z.number(),
  allowed: z.boolean(),
  refused_by: z.object({
    limit: z.enum(["total", "tenant", "kind", "spool"]),
    limit_bytes: z.number(),
    used_bytes: z.number(),
    asked_bytes: z.number(),
  }).optional(),
});
export const storageStats = z.object({
  total: counter,
  kinds,
  spool: counter,
  emergency_threshold_bytes: z.number(),
  tenants: z.array(counter.extend({ tenant_id: z.string() })),
  limits: z.array(z.object({
    name: z.string(),
    limit_bytes: z.number(),
    variable: z.string().nullable(),
    env_bytes: z.number().nullable(),
  })),
  /**
   * The tenant that S3_DEFAULT_TENANT_ID names and that is not the default one; null: it is, or none is named. held_by: tables in which
   * something belongs to the tenant `default`; none: somebody chose another default.
   */
  default_tenant_held: z.object({ named: z.string(), default: z.string(), held_by: z.array(z.string()) })
    .nullable(),
  unfinished: z.number(),
  unproven: z.number(),
  deleting: z.number(),
  spooled: z.object({ objects: z.number(), oldest_at: z.string().nullable(), tries: z.number() }),
});
export const storageGrowth = z.object({
  /** Of files that are there, by the UTC day on which they came; days on which none came are absent. */
  days: z.array(z.object({ day: z.string(), kind, objects: z.number(), bytes: z.number() })),
});
export type StorageGrowth = z.output<typeof storageGrowth>;
export type StorageQuota = z.output<typeof storageQuota>;
export type StorageUsage = z.output<typeof storageUsage>;
export type StorageCheck = z.output<typeof storageCheck>;
export type StorageStats = z.output<typeof storageStats>;

const claimable = z.object({ objects: z.number(), bytes: z.number(), oldest_at: z.string().nullable() });
export type Claimable = z.output<typeof claimable>;

const released = z.object({ pages: z.number(), objects: z.number(), bytes: z.number() });

const comparison = z.object({
  unknown: z.array(z.object({ key: z.string(), size_bytes: z.number() })),
  missing: z.array(
    z.object({ key: z.string(), tenant_id: z.string(), sha256: z.string(), size_bytes: z.number() }),
  ),
  resized: z.array(z.object({ key: z.string(), size_bytes: z.number(), listed_bytes: z.number() })),
});
export type Comparison = z.output<typeof comparison>;

const bucketComparison = z.object({
  /** The database's time at its beginning. */
  seen_before: z.string(),
  /** Of the folder that is being listed. */
  prefix: z.string(),
  /** The last key that was compared; the next run lists what is behind it. */
  after: z.string(),
  listed: z.number(),
  unknown: z.number(),
  missing: z.number(),
  resized: z.number(),
  /** Some of each. */
  named: z.object({
    unknown: z.array(z.string()),
    missing: z.array(z.string()),
    resized: z.array(z.string()),
  }),
});
/** How far the listing of a bucket is, and what was found so far. */
export type BucketComparison = z.output<typeof bucketComparison>;

const recounted = z.array(
  z.object({ scope: z.string(), subject: z.string(), was: z.unknown(), is: z.unknown() }),
);
const listed = z.object({
  tenant_id: z.string(),
  entries: z.array(
    z.object({
      key: z.string(),
      metadata: z.record(z.string(), z.unknown()).optional(),
      object: mediaObject,
    }),
  ),
  next: z.string().nullable(),
});
export type MediaPage = z.output<typeof listed>;

/** What an alert is about; which is open is the database's business. */
export type StorageAlert = "storage_emergency_cleanup" | "storage_full" | "media_missing";

/**
 * Which objects there are, whose they are and what room they take. An operation with an actor refuses anyone who may not act for the
 * tenant: GatewayError `tenant_not_allowed`, `unknown_tenant`, `credential_insufficient`, `consumer_disabled`, `token_revoked`.
 */
export interface MediaRegistry {
  /** `multipart`: it is being sent in parts already. @throws GatewayError also `storage_quota_exceeded`, `upload_busy` */
  reserve(
    actor: Actor,
    file: FileToReserve,
  ): Promise<{ status: "reserved" | "present"; object: MediaObject; multipart: Multipart | null }>;
  /**
   * Notes the upload in parts by which a reserved object is sent. Of two begun at once the first holds, and is answered; `ended` names
   * one that the store does not know any more, in whose place it comes. Null: nothing is reserved any more.
   */
  sentInParts(
    file: { tenantId: string; sha256: string },
    multipart: Multipart,
    ended: string | null,
  ): Promise<Multipart | null>;
  /**
   * `gone`: there is no reservation any more. Twice is the same as once. `isFinal`: nobody holds an address any more at which the
   * object could become another.
   */
  stored(
    fact: StoredFact,
  ): Promise<{ status: "stored"; object: MediaObject; isFinal: boolean } | { status: "gone" }>;
  /** Null: there is none. `uses`: it is being read. `unfinished`: an upload too. */
  find(
    actor: Actor,
    tenantId: string | null,
    name: string,
    options?: { uses?: boolean; unfinished?: boolean },
  ): Promise<{ object: MediaObject; alias: MediaAlias | null; multipart: Multipart | null } | null>;
  list(actor: Actor, options: {
    tenantId: string | null;
    prefix: string;
    kind: MediaKind | null;
    aliases: boolean;
    after: string | null;
    limit: number;
  }): Promise<MediaPage>;
  /** `deleting`: nothing uses it, and it is to be deleted where it is stored. `kept`: something does. */
  remove(
    actor: Actor,
    tenantId: string | null,
    name: string,
    reference: { kind: string; id: string } | null,
  ): Promise<
    { status: "deleting"; delete: ObjectToDelete; object: MediaObject } | {
      status: "kept";
      object: MediaObject;
    } | {
      status: "none";
    }
  >;
  quota(actor: Actor, tenantId: string | null): Promise<StorageQuota>;
  usage(actor: Actor, tenantId: string): Promise<StorageUsage>;
  check(
    actor: Actor,
    file: { tenantId: string | null; sizeBytes: number; kind: MediaKind; inSpool: boolean },
  ): Promise<StorageCheck>;
  /** For the project and administrators alone. */
  stats(actor: Actor): Promise<StorageStats>;
  /** Of the last so many days, 366 at most; for the project and administrators alone. */
  growth(actor: Actor, days: number): Promise<StorageGrowth>;
  /** Sets limits that nobody has set out of the environment, in bytes by their names. Answers the default tenant. */
  seed(limits: Record<string, number>, defaultTenantId: string | null): Promise<string>;

  /** Marks objects as deleting, for `leaseSeconds`. kind null: unfinished uploads whose time is over, and deletions left behind. */
  claim(options: {
    kind: MediaKind | null;
    minAgeSeconds: number;
    limit: number;
    needBytes: number | null;
    leaseSeconds: number;
  }): Promise<ObjectToDelete[]>;
  claimable(kind: MediaKind, minAgeSeconds: number, needBytes: number | null): Promise<Claimable>;
  /** Releases the files of crawled pages that nobody has asked for in so long; `limit` pages at most, the oldest first. */
  releasePages(minAgeSeconds: number, limit: number): Promise<{ pages: number }>;
  /** Files that only such pages use, as many as are needed for so many bytes; nothing is changed. */
  releasable(minAgeSeconds: number, needBytes: number | null): Promise<{ objects: number; bytes: number }>;
  /** Gives up an upload. Null: it is stored, used, or gone. */
  failed(tenantId: string, sha256: string): Promise<ObjectToDelete | null>;
  /** Objects that are deleted where they were stored. */
  deleted(
    items: readonly Pick<ObjectToDelete, "tenant_id" | "sha256">[],
  ): Promise<{ objects: number; bytes: number }>;
  /** Each is given again after ten minutes, then twice as long each time, up to a day. */
  unproven(limit: number): Promise<UnprovenObject[]>;
  /** Keeps how far one has been hashed, and gives it again at once; null forgets it. */
  keepProof(
    object: { tenantId: string; sha256: string },
    proof: { hashedBytes: number; state: string } | null,
  ): Promise<void>;
  compare(
    page: {
      listed: { key: string; size_bytes: number }[];
      after: string | null;
      until: string | null;
      seenBefore: string;
    },
  ): Promise<Comparison>;
  /** How far a comparison with the bucket is that has not come to its end; null: none is under way. */
  comparison(): Promise<BucketComparison | null>;
  /** Null: it has come to its end. */
  saveComparison(state: BucketComparison | null): Promise<void>;
  recount(): Promise<z.output<typeof recounted>>;
  /** The database's time, as ISO 8601. */
  now(): Promise<string>;
  /** Days that objects of each kind are kept without use. */
  keepDays(): Promise<Record<MediaKind, number>>;
  alert(alert: StorageAlert, message: string | null): Promise<void>;
}

const TIMEOUT_MS = 15_000;
/** All rows are read. */
const RECOUNT_TIMEOUT_MS = 60_000;

/** @throws GatewayError as database_error.ts classifies what goes wrong */
export function createMedia(transport: Transport, timeoutMs = TIMEOUT_MS): MediaRegistry {
  const ask = <Shape extends z.ZodType>(
    name: string,
    args: Record<string, unknown>,
    shape: Shape,
    within = timeoutMs,
  ) => callUnlessRefused(transport, name, args, shape, within);
  return {
    reserve: (actor, file) =>
      ask(
        "eve_media_reserve",
        {
          actor,
          tenant_id: file.tenantId,
          file_sha256: file.sha256,
          size_bytes: file.sizeBytes,
          stored_bytes: file.storedBytes,
          mime_type: file.mimeType,
          kind: file.kind,
          name: file.name,
          content_encoding: file.contentEncoding,
          metadata: file.metadata,
          links: file.links,
          in_spool: file.inSpool,
          ttl_s: file.ttlSeconds,
          address_s: file.addressSeconds,
        },
        z.object({
          status: z.enum(["reserved", "present"]),
          object: mediaObject,
          multipart: multipart.nullable().default(null),
        }),
      ),
    sentInParts: async ({ tenantId, sha256 }, { upload_id, part_bytes }, ended) =>
      (await ask(
        "eve_media_multipart",
        { tenant_id: tenantId, file_sha256: sha256, upload_id, part_bytes, ended },
        z.object({ multipart: multipart.optional() }),
      )).multipart ?? null,
    stored: async ({ tenantId, sha256, state, storedBytes, storedIn, links }) => {
      const answer = await ask(
        "eve_media_stored",
        {
          tenant_id: tenantId,
          file_sha256: sha256,
          state,
          stored_bytes: storedBytes,
          stored_in: storedIn,
          links: links ?? {},
        },
        z.discriminatedUnion("status", [
          z.object({ status: z.literal("stored"), object: mediaObject, is_final: z.boolean() }),
          z.object({ status: z.literal("gone") }),
        ]),
      );
      return answer.status === "gone" ? answer : {
        status: "stored",
        object: answer.object,
        isFinal: answer.is_final,
      };
    },
    async find(actor, tenantId, name, { uses = false, unfinished = false } = {}) {
      const found = await ask(
        "eve_media_find",
        { actor, tenant_id: tenantId, name, uses, unfinished },
        z.discriminatedUnion("status", [
          z.object({
            status: z.literal("found"),
            object: mediaObject,
            alias: alias.optional(),
            multipart: multipart.nullable(),
          }),
          z.object({ status: z.literal("none") }),
        ]),
      );
      return found.status === "none" ? null : {
        object: found.object,
        alias: found.alias ?? null,
        multipart: found.multipart,
      };
    },
    list: (actor, { tenantId, prefix, kind, aliases, after, limit }) =>
      ask(
        "eve_media_list",
        { actor, tenant_id: tenantId, prefix, kind, aliases, after, at_most: limit },
        listed,
      ),
    remove: (actor, tenantId, name, reference) =>
      ask(
        "eve_media_delete",
        {
          actor,
          tenant_id: tenantId,
          name,
          ref_kind: reference?.kind ?? null,
          ref_id: reference?.id ?? null,
        },
        z.discriminatedUnion("status", [
          z.object({ status: z.literal("deleting"), delete: objectToDelete, object: mediaObject }),
          z.object({ status: z.literal("kept"), object: mediaObject }),
          z.object({ status: z.literal("none") }),
        ]),
      ),
    quota: (actor, tenantId) => ask("eve_storage_quota", { actor, tenant_id: tenantId }, storageQuota),
    usage: (actor, tenantId) => ask("eve_storage_usage", { actor, tenant_id: tenantId }, storageUsage),
    check: (actor, { tenantId, sizeBytes, kind, inSpool }) =>
      ask(
        "eve_storage_check",
        { actor, tenant_id: tenantId, size_bytes: sizeBytes, kind, in_spool: inSpool },
        storageCheck,
      ),
    stats: (actor) => ask("eve_storage_stats", { actor }, storageStats),
    growth: (actor, days) => ask("eve_storage_growth", { actor, days }, storageGrowth),
    seed: async (limits, defaultTenantId) =>
      (await ask(
        "eve_media_seed",
        { limits, default_tenant: defaultTenantId },
        z.object({ default_tenant: z.string() }),
      )).default_tenant,
    claim: ({ kind, minAgeSeconds, limit, needBytes, leaseSeconds }) =>
      ask("eve_media_claim", {
        kind,
        min_age_s: minAgeSeconds,
        at_most: limit,
        need_bytes: needBytes,
        lease_s: leaseSeconds,
      }, z.array(objectToDelete)),
    claimable: (kind, minAgeSeconds, needBytes) =>
      ask("eve_media_claimable", { kind, min_age_s: minAgeSeconds, need_bytes: needBytes }, claimable),
    releasePages: (minAgeSeconds, limit) =>
      ask("eve_crawl_release", { min_age_s: minAgeSeconds, at_most: limit }, released),
    releasable: (minAgeSeconds, needBytes) =>
      ask(
        "eve_crawl_release",
        { min_age_s: minAgeSeconds, need_bytes: needBytes, dry_run: true },
        released,
      ),
    failed: async (tenantId, sha256) =>
      (await ask(
        "eve_media_failed",
        { tenant_id: tenantId, file_sha256: sha256 },
        z.object({ delete: objectToDelete.nullish() }),
      )).delete ?? null,
    deleted: (items) =>
      ask(
        "eve_media_deleted",
        { items: items.map(({ tenant_id, sha256 }) => ({ tenant_id, sha256 })) },
        z.object({ objects: z.number(), bytes: z.number() }),
      ),
    unproven: (limit) => ask("eve_media_unproven", { at_most: limit }, z.array(unproven)),
    async keepProof({ tenantId, sha256 }, proof) {
      await ask("eve_media_proof_keep", {
        tenant_id: tenantId,
        file_sha256: sha256,
        hashed_bytes: proof?.hashedBytes ?? 0,
        state: proof?.state ?? null,
      }, z.unknown());
    },
    compare: ({ listed, after, until, seenBefore }) =>
      ask(
        "eve_media_compare",
        { listed: { objects: listed }, after, until, seen_before: seenBefore },
        comparison,
      ),
    comparison: async () => {
      // What an earlier version has left is begun again.
      const state = await ask("eve_media_comparison", {}, z.unknown());
      return bucketComparison.safeParse(state).data ?? null;
    },
    async saveComparison(state) {
      await ask("eve_media_comparison_save", { state }, z.unknown());
    },
    recount: () => ask("eve_media_recount", {}, recounted, RECOUNT_TIMEOUT_MS),
    now: async () => (await ask("eve_media_keep_days", {}, z.object({ now: z.string() }))).now,
    keepDays: () =>
      ask("eve_media_keep_days", {}, z.object({ media: z.number(), vision: z.number(), crawl: z.number() })),
    alert: async (alert, message) => {
      await ask("eve_media_alert", { kind: alert, message }, z.unknown());
    },
  };
}
