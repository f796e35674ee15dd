import type { ObjectToDelete } from "../database/media.ts";
import type { Media } from "./storage.ts";

/** How long a mark `deleting` is its maker's alone, in seconds: what deletes from the store has to be over by then. */
export const DELETE_LEASE_SECONDS = 120;
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
  const { objects, bytes } = gone.length === 0
    ? { objects: 0, bytes: 0 }
    : await media.registry.deleted(gone);
  return { objects, bytes, failed };
}
