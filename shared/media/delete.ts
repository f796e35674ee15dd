import type { ObjectToDelete } from "../database/media/media.ts";
import type { Media } from "./storage.ts";

type Claim = Parameters<Media["registry"]["claim"]>[0];

/** Marks objects as deleting for `DELETE_LEASE_SECONDS`, up to `limit` of them. See `MediaRegistry.claim`. */
export async function claimObjects(
  { registry }: Media,
  { limit, needBytes, ...claim }: Omit<Claim, "leaseSeconds">,
): Promise<ObjectToDelete[]> {
  const marked: ObjectToDelete[] = [];
  let left = needBytes;
  while (marked.length < limit && (left === null || left > 0)) {
    const atOnce = Math.min(REGISTRY_BATCH, limit - marked.length);
    const some = await registry.claim({
      ...claim,
      limit: atOnce,
      needBytes: left,
      leaseSeconds: DELETE_LEASE_SECONDS,
    });
    marked.push(...some);
    if (some.length < atOnce) break;
    if (left !== null) left -= some.reduce((sum, { bytes }) => sum + bytes, 0);
  }
  return marked;
}

/** How long a mark `deleting` is its maker's alone, in seconds: what deletes from the store has to be over by then. */
export const DELETE_LEASE_SECONDS = 120;
/** In one transaction: anyone who uploads meanwhile waits for it at the counters, and for its part of the log to be on the disk. */
export const REGISTRY_BATCH = 100;
/** For the store's part; the rest of the lease is for the way there and back. */
const STORE_TIMEOUT_MS = 60_000;

export interface Deletion {
  objects: number;
  bytes: number;
  /** Keys that the store did not delete: the mark stays, and the next run tries again. */
  failed: { key: string; code: string }[];
}

/**
 * Deletes objects that were marked as deleting a moment ago: in the bucket, then in the registry and the database, then their bytes are
 * free. Safe to repeat.
 * @throws GatewayError where the store does not answer; nothing is lost then, and another run goes on
 */
export async function deleteObjects(media: Media, marked: readonly ObjectToDelete[]): Promise<Deletion> {
  if (marked.length === 0) return { objects: 0, bytes: 0, failed: [] };
  // First: an upload in parts that is completed now leaves an object, which is deleted after that.
  for (const { s3_key: key, upload_id: uploadId } of marked) {
    if (key === null || uploadId === null) continue;
    await media.s3?.multipart?.abort({ key, uploadId }, { timeoutMs: STORE_TIMEOUT_MS });
  }
  const keys = marked.flatMap(({ s3_key }) => s3_key === null ? [] : [s3_key]);
  // Those in the database too: one may have moved to S3 since it was marked.
  const { failed } = media.s3 === null || keys.length === 0
    ? { failed: [] }
    : await media.s3.deleteMany(keys, { timeoutMs: STORE_TIMEOUT_MS });
  const stay = new Set(failed.map(({ key }) => key));
  const gone = marked.filter(({ s3_key }) => s3_key === null || !stay.has(s3_key));
  const sum = { objects: 0, bytes: 0 };
  for (let from = 0; from < gone.length; from += REGISTRY_BATCH) {
    const { objects, bytes } = await media.registry.deleted(gone.slice(from, from + REGISTRY_BATCH));
    sum.objects += objects;
    sum.bytes += bytes;
  }
  return { ...sum, failed };
}
