import * as z from "zod";
import { MEDIA_KINDS, type MediaKind } from "../database/media/media.ts";
import { claimObjects, deleteObjects } from "./delete.ts";
import { BYTES_PER_GB, type Media } from "./storage.ts";

/** `auto`: all of it in its order. */
export const CLEANUPS = ["auto", "crawl", "vision", "media", "multipart"] as const;
export type Cleanup = (typeof CLEANUPS)[number];

export interface CleanupTerms {
  what: Cleanup;
  /** Also below the emergency threshold. */
  force: boolean;
  /** So much is to be free of the total; null: targetGb says. */
  targetFreeGb: number | null;
  /** At most so much is to be used; null: targetFreeGb says. */
  targetGb: number | null;
  /** Younger ones stay; null: each step's own age. */
  maxAgeDays: number | null;
  dryRun: boolean;
  totalBytes: number;
  emergencyBytes: number;
  /** What is reserved counts as used. */
  usedBytes: number;
  signal: AbortSignal;
  /** By the clock. */
  endsAt: number;
}

const step = z.object({
  what: z.enum(["crawl", "vision", "media", "multipart"]),
  min_age_days: z.number(),
  objects: z.number(),
  bytes: z.number(),
});
export const cleanupReport = z.object({
  status: z.enum(["not_needed", "done", "more", "not_enough"]),
  dry_run: z.boolean(),
  used_bytes_before: z.number(),
  used_bytes_after: z.number(),
  target_bytes: z.number(),
  freed_bytes: z.number(),
  deleted_objects: z.number(),
  steps: z.array(step),
});
export type CleanupReport = z.output<typeof cleanupReport>;

/** In this order: what can be made again, then what is not in use. */
const STEPS: readonly { kind: MediaKind; minAgeDays: number }[] = [
  { kind: "crawl", minAgeDays: 3 },
  { kind: "vision", minAgeDays: 7 },
  { kind: "media", minAgeDays: 0 },
];
const DAY_SECONDS = 86_400;
/** Released at once: what is released and not needed leaves after its days. */
const PAGES_AT_ONCE = 100;
/** Deleted at once in the store. */
const BATCH = 500;
/** Uploads in parts that nobody has gone on with for so long are over. */
const UNFINISHED_PARTS_MS = DAY_SECONDS * 1_000;

/**
 * How much may be used afterwards: what was asked for, else as much below the threshold as that is below the total, so that the next
 * upload does not call for another clean-up.
 */
export function targetOf(
  terms: Pick<CleanupTerms, "targetFreeGb" | "targetGb" | "totalBytes" | "emergencyBytes">,
): number {
  const { targetFreeGb, targetGb, totalBytes, emergencyBytes } = terms;
  if (targetGb !== null) return Math.round(targetGb * BYTES_PER_GB);
  if (targetFreeGb !== null) return Math.max(0, totalBytes - Math.round(targetFreeGb * BYTES_PER_GB));
  return Math.max(0, emergencyBytes - Math.max(0, totalBytes - emergencyBytes));
}

/**
 * Deletes objects that nothing refers to, without use for the longest time first, until no more than the target is used. One kind alone
 * (`what`) with an age is cleared of all that is older, whatever the target. All of it beyond the threshold is the emergency clean-up,
 * its caller: an alert, and another one where it could not free enough.
 * @throws GatewayError where the store does not answer; what is done stays done
 */
export async function cleanUp(media: Media, terms: CleanupTerms): Promise<CleanupReport> {
  const { registry } = media;
  const { usedBytes, emergencyBytes } = terms;
  const isBeyond = usedBytes >= emergencyBytes;
  if (!terms.force && terms.what === "auto" && !isBeyond) {
    return { ...nothingDone(terms), status: "not_needed" };
  }
  if (terms.what !== "auto" || terms.dryRun || !isBeyond) return await clearInOrder(media, terms);
  await registry.alert(
    "storage_emergency_cleanup",
    `Files take ${usedBytes} bytes, of which ${emergencyBytes} are the threshold: what is in use least is deleted.`,
  );
  const report = await clearInOrder(media, terms);
  const { status, freed_bytes: freed, used_bytes_after: after, target_bytes: target } = report;
  media.log("warn", "media_emergency_cleanup", { status, freed_bytes: freed });
  await registry.alert(
    "storage_full",
    // Somebody may have wanted more free than the emergency needs.
    status === "not_enough" && after > targetOf({ ...terms, targetFreeGb: null, targetGb: null })
      ? `The emergency clean-up freed ${freed} bytes, and ${after} are still used, of which ${target} were the target.`
      : null,
  );
  return report;
}

function nothingDone(terms: CleanupTerms): CleanupReport {
  return {
    status: "done",
    dry_run: terms.dryRun,
    used_bytes_before: terms.usedBytes,
    used_bytes_after: terms.usedBytes,
    target_bytes: targetOf(terms),
    freed_bytes: 0,
    deleted_objects: 0,
    steps: [],
  };
}

async function clearInOrder(media: Media, terms: CleanupTerms): Promise<CleanupReport> {
  const { what, dryRun, maxAgeDays } = terms;
  const hasTarget = terms.targetFreeGb !== null || terms.targetGb !== null;
  const report = nothingDone(terms);
  const { target_bytes: target } = report;
  // A person who names a kind and no target wants all of it gone that is old enough.
  const isBounded = what === "auto" || hasTarget;
  let more = false;
  for (const { kind, minAgeDays } of STEPS) {
    if (what !== "auto" && what !== kind) continue;
    const needBytes = isBounded ? report.used_bytes_after - target : null;
    if (needBytes !== null && needBytes <= 0) break;
    const age = maxAgeDays ?? minAgeDays;
    const work = dryRun ? clearable : clearAll;
    const done = await work(media, kind, age * DAY_SECONDS, needBytes, terms);
    add(report, { what: kind, min_age_days: age, objects: done.objects, bytes: done.bytes });
    if (done.more) {
      more = true;
      break;
    }
  }
  if (what === "auto" || what === "multipart") {
    const objects = await abortUnfinished(media, terms.signal, dryRun);
    add(report, { what: "multipart", min_age_days: 1, objects, bytes: 0 });
  }
  if (more) return { ...report, status: "more" };
  return { ...report, status: isBounded && report.used_bytes_after > target ? "not_enough" : "done" };
}

function add(report: CleanupReport, done: z.output<typeof step>): void {
  report.steps.push(done);
  report.freed_bytes += done.bytes;
  report.used_bytes_after -= done.bytes;
  if (done.what !== "multipart") report.deleted_objects += done.objects;
}

/** What `clearAll` would delete. */
async function clearable(
  { registry }: Media,
  kind: MediaKind,
  minAgeSeconds: number,
  needBytes: number | null,
): Promise<{ objects: number; bytes: number; more: boolean }> {
  const { objects, bytes } = await registry.claimable(kind, minAgeSeconds, needBytes);
  const left = needBytes === null ? null : needBytes - bytes;
  if (kind !== "crawl" || left !== null && left <= 0) return { objects, bytes, more: false };
  const held = await registry.releasable(minAgeSeconds, left);
  return { objects: objects + held.objects, bytes: bytes + held.bytes, more: false };
}

/** As `clear`, and then what only crawled pages use that nobody has asked for in so long: they can be fetched again. */
async function clearAll(
  media: Media,
  kind: MediaKind,
  minAgeSeconds: number,
  needBytes: number | null,
  time: Pick<CleanupTerms, "signal" | "endsAt">,
): Promise<{ objects: number; bytes: number; more: boolean }> {
  const sum = await clear(media, kind, minAgeSeconds, needBytes, time);
  while (kind === "crawl" && !sum.more && (needBytes === null || sum.bytes < needBytes)) {
    const { pages } = await media.registry.releasePages(minAgeSeconds, PAGES_AT_ONCE);
    if (pages === 0) break;
    const left = needBytes === null ? null : needBytes - sum.bytes;
    const { objects, bytes, more } = await clear(media, kind, minAgeSeconds, left, time);
    Object.assign(sum, { objects: sum.objects + objects, bytes: sum.bytes + bytes, more });
  }
  return sum;
}

/** Deletes what is old enough of a kind, batch by batch, until so many bytes are free. */
export async function clear(
  media: Media,
  kind: MediaKind,
  minAgeSeconds: number,
  needBytes: number | null,
  { signal, endsAt }: Pick<CleanupTerms, "signal" | "endsAt">,
): Promise<{ objects: number; bytes: number; more: boolean }> {
  const sum = { objects: 0, bytes: 0 };
  for (;;) {
    const left = needBytes === null ? null : needBytes - sum.bytes;
    if (left !== null && left <= 0) return { ...sum, more: false };
    if (signal.aborted || media.clock.now() >= endsAt) return { ...sum, more: true };
    const marked = await claimObjects(media, { kind, minAgeSeconds, limit: BATCH, needBytes: left });
    if (marked.length === 0) return { ...sum, more: false };
    const { objects, bytes, failed } = await deleteObjects(media, marked);
    sum.objects += objects;
    sum.bytes += bytes;
    // The store refuses some: the next run tries them again, not this one.
    if (failed.length > 0) {
      media.log("warn", "media_not_deleted", { count: failed.length, code: failed[0]!.code });
    }
  }
}

/**
 * Uploads in parts that were begun a day ago or earlier: their parts take room and show in no list. Answers how many there were.
 * @param dryRun they are left as they are
 */
export async function abortUnfinished(media: Media, signal: AbortSignal, dryRun = false): Promise<number> {
  const multipart = media.s3?.multipart ?? null;
  if (multipart === null) return 0;
  let aborted = 0;
  for (const kind of MEDIA_KINDS) {
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof multipart.list>> = await multipart.list(
        { prefix: `${kind}/`, cursor },
        { signal },
      );
      for (const { startedAt, ...upload } of page.uploads) {
        if (startedAt === null || Date.now() - startedAt.getTime() < UNFINISHED_PARTS_MS) continue;
        if (!dryRun) await multipart.abort(upload, { signal });
        aborted++;
      }
      cursor = page.cursor;
    } while (cursor !== null && !signal.aborted);
  }
  return aborted;
}
