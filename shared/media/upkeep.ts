import { GatewayError } from "../contract/gateway_error.ts";
import { claimObjects, deleteObjects } from "./delete.ts";
import { abortUnfinished, cleanUp, type CleanupReport, clear } from "./cleanup.ts";
import { type BucketComparison, MEDIA_KINDS } from "../database/media/media.ts";
import type { ListPage, ObjectStore } from "./object_store.ts";
import { moveSpooled } from "./move.ts";
import { PROOF_BYTES, proveObject, sizeOf } from "./upload/prove.ts";
import { PROBE_PREFIX } from "./s3/probe.ts";
import type { Media } from "./storage.ts";

export interface RunTime {
  signal: AbortSignal;
  leftMs(): number;
}

export interface UpkeepReport {
  count: number;
  details: Record<string, unknown>;
  more: boolean;
}

const DAY_SECONDS = 86_400;
const BATCH = 500;
/** Objects that are read in one run: each may be large. */
const UNPROVEN_AT_ONCE = 20;
/** Of what differs so many are named, the rest is counted. */
const NAMED = 20;
const PAGE = 1_000;
/** With less time left no other page is begun: one is listed and compared in a second or two. */
const LEAST_PAGE_MS = 5_000;
/** A probe is over in less. */
const PROBE_MS = 3_600_000;
/** Our own folders of the bucket: what else is in it is somebody else's. */
const PREFIXES = MEDIA_KINDS.map((kind) => `${kind}/`);

/**
 * What is due: unfinished uploads and deletions left behind, objects whose time without use is over, what waits for S3, what is not
 * proven yet, and an emergency. Bounded in time; what is left, the next run does.
 */
export async function keepUp(media: Media, time: RunTime): Promise<UpkeepReport> {
  const details: Record<string, unknown> = {};
  const endsAt = media.clock.now() + time.leftMs();
  let count = 0;
  let more = false;
  const note = (name: string, objects: number, facts: unknown = objects) => {
    count += objects;
    if (objects > 0) details[name] = facts;
  };

  const moved = await moveSpooled(media, time);
  note("moved_to_s3", moved.moved);
  if (moved.error !== null) details.s3 = moved.error;
  more ||= moved.more && moved.error === null;

  // While S3 is away nothing can be deleted there.
  if (moved.error !== "storage_unavailable") {
    const left = await finishDeletions(media, time);
    note("unfinished", left.objects);
    more ||= left.more;
    const keep = await media.registry.keepDays();
    for (const kind of MEDIA_KINDS) {
      const gone = await clear(media, kind, keep[kind] * DAY_SECONDS, null, { signal: time.signal, endsAt });
      note(`unused_${kind}`, gone.objects);
      more ||= gone.more;
    }
    const proven = await prove(media, time);
    note("proven", proven.verified);
    more ||= proven.more;
    if (proven.others.length > 0) details.unproven = proven.others.slice(0, NAMED);
    const emergency = await inEmergency(media, time, endsAt);
    if (emergency !== null) {
      note("emergency", emergency.deleted_objects, emergency);
      details.emergency = emergency;
      more ||= emergency.status === "more";
    }
  }
  return { count, details, more };
}

async function finishDeletions(
  media: Media,
  { signal, leftMs }: RunTime,
): Promise<{ objects: number; more: boolean }> {
  let objects = 0;
  for (;;) {
    if (signal.aborted || leftMs() === 0) return { objects, more: true };
    const marked = await claimObjects(media, { kind: null, minAgeSeconds: 0, limit: BATCH, needBytes: null });
    if (marked.length === 0) return { objects, more: false };
    objects += (await deleteObjects(media, marked)).objects;
  }
}

async function prove(
  media: Media,
  { signal, leftMs }: RunTime,
): Promise<{ verified: number; others: unknown[]; more: boolean }> {
  let verified = 0;
  const others: unknown[] = [];
  let bytes = PROOF_BYTES;
  for (let read = 0; read < UNPROVEN_AT_ONCE; read++) {
    if (signal.aborted || leftMs() === 0 || bytes <= 0) return { verified, others, more: true };
    // One at a time: what is handed out and not read would wait for its next try as if it had failed.
    const [object] = await media.registry.unproven(1);
    if (object === undefined) break;
    // Adopted rows may be of a bucket that is not ours.
    const outcome = await proveObject(media, object, true, bytes).catch((thrown: unknown) => String(thrown));
    bytes -= sizeOf(object) - (object.proof?.hashed_bytes ?? 0);
    if (outcome === "verified") verified++;
    else if (outcome === "unfinished") return { verified, others, more: true };
    else others.push({ key: object.s3_key, outcome });
  }
  return { verified, others, more: false };
}

/** Cleans up beyond the threshold; null: there is none, and the alerts that the clean-up opened are over. */
async function inEmergency(media: Media, { signal }: RunTime, endsAt: number): Promise<CleanupReport | null> {
  const { total, emergency_threshold_bytes: emergencyBytes } = await media.registry.stats({
    kind: "project",
  });
  const usedBytes = total.used_bytes + total.reserved_bytes;
  if (usedBytes < emergencyBytes) {
    await media.registry.alert("storage_emergency_cleanup", null);
    await media.registry.alert("storage_full", null);
    return null;
  }
  return await cleanUp(media, {
    what: "auto",
    force: false,
    targetFreeGb: null,
    targetGb: null,
    maxAgeDays: null,
    dryRun: false,
    totalBytes: total.limit_bytes,
    emergencyBytes,
    usedBytes,
    signal,
    endsAt,
  });
}

/**
 * Compares the registry with the bucket page by page. What is in one and not in the other is reported and left alone. A bucket that is
 * too large for one run is gone through by several, each from where the last one ended. At the end of it everything is counted again and
 * the counters are repaired; then unfinished uploads in parts are ended, and the bucket is told to do that by itself. A store that refuses
 * one of these is noted, and nothing else waits for it.
 */
export async function reconcile(media: Media, time: RunTime): Promise<UpkeepReport> {
  const { s3, registry } = media;
  const details: Record<string, unknown> = {};
  if (s3 !== null) {
    // Where S3 was set up later: what the database holds goes there from now on.
    await media.rows.allMove();
    const { named, listed, unknown, missing, resized, isOver } = await compareBucket(media, s3, time);
    Object.assign(details, { listed, unknown, missing, resized, named });
    if (!isOver) return { count: 0, details, more: true };
    await registry.alert(
      "media_missing",
      missing > 0
        ? `${missing} files are in the registry and not in the bucket, such as ${named.missing[0]}.`
        : null,
    );
  }
  const wrong = await registry.recount();
  details.counters_repaired = wrong;
  await registry.saveComparison(null);
  if (s3 !== null) {
    details.parts_aborted = await unlessRefused(media, abortUnfinished(media, time.signal));
    details.probes_deleted = await unlessRefused(media, deleteProbes(s3, time.signal));
    details.lifecycle = await unlessRefused(media, setLifecycle(media, time.signal));
  }
  return { count: wrong.length, details, more: false };
}

/** Answers what was done, or which error kept it from being done. */
async function unlessRefused<Value>(media: Media, work: Promise<Value>): Promise<Value | string> {
  try {
    return await work;
  } catch (thrown) {
    if (!(thrown instanceof GatewayError)) throw thrown;
    media.log("warn", "media_store_refuses", { code: thrown.code, detail: thrown.detail });
    return `failed: ${thrown.code}`;
  }
}

const FINDINGS = ["unknown", "missing", "resized"] as const;

/** From where the last run ended, as far as this one's time goes. After each page it is noted how far that is. */
async function compareBucket(
  { registry }: Media,
  s3: ObjectStore,
  { signal, leftMs }: RunTime,
): Promise<BucketComparison & { isOver: boolean }> {
  const state = await registry.comparison() ?? {
    seen_before: await registry.now(),
    prefix: PREFIXES[0]!,
    after: PREFIXES[0]!,
    listed: 0,
    unknown: 0,
    missing: 0,
    resized: 0,
    named: { unknown: [], missing: [], resized: [] },
  };
  const prefixes = PREFIXES.slice(Math.max(0, PREFIXES.indexOf(state.prefix)));
  for (const prefix of prefixes) {
    if (prefix !== state.prefix) Object.assign(state, { prefix, after: prefix });
    let cursor: string | null = null;
    do {
      if (signal.aborted || leftMs() < LEAST_PAGE_MS) return { ...state, isOver: false };
      const page: ListPage = await s3.list({ prefix, limit: PAGE, after: state.after, cursor }, { signal });
      cursor = page.cursor;
      const last = page.objects.at(-1)?.key;
      // A page may be empty and not be the last.
      if (cursor !== null && last === undefined) continue;
      // Behind everything that begins with the prefix: "0" stands behind "/".
      const until = cursor === null ? `${prefix.slice(0, -1)}0` : last!;
      const listed = page.objects.map(({ key, sizeBytes }) => ({ key, size_bytes: sizeBytes }));
      const differs = await registry.compare({
        listed,
        after: state.after,
        until,
        seenBefore: state.seen_before,
      });
      state.listed += listed.length;
      state.after = until;
      for (const finding of FINDINGS) {
        state[finding] += differs[finding].length;
        const named = state.named[finding];
        named.push(...differs[finding].slice(0, NAMED - named.length).map(({ key }) => key));
      }
      await registry.saveComparison(state);
    } while (cursor !== null);
  }
  return { ...state, isOver: true };
}

/** What a probe has written and, since it died, not deleted. A younger one may still be at work. */
async function deleteProbes(s3: ObjectStore, signal: AbortSignal): Promise<number> {
  const { objects } = await s3.list({ prefix: PROBE_PREFIX, limit: PAGE }, { signal });
  const old = objects.filter(({ lastModified }) =>
    lastModified !== null && Date.now() - lastModified.getTime() >= PROBE_MS
  );
  await s3.deleteMany(old.map(({ key }) => key), { signal });
  return old.length;
}

/** Days after which the bucket itself ends an upload in parts: it knows age, which is all that this needs. */
const ABORT_DAYS = 1;

async function setLifecycle({ s3 }: Media, signal: AbortSignal): Promise<string> {
  if (s3?.lifecycle == null || !(await s3.abilities({ signal })).lifecycle) return "not supported";
  if (await s3.lifecycle.abortUnfinishedAfterDays({ signal }) === ABORT_DAYS) return "set";
  await s3.lifecycle.setAbortUnfinishedAfterDays(ABORT_DAYS, { signal });
  return "set now";
}
