import { asGatewayError } from "../contract/gateway_error.ts";
import type { NextSpooled } from "../database/media/media_spool.ts";
import { sha256Of } from "./hash.ts";
import type { ObjectStore } from "./object_store.ts";
import type { Media } from "./storage.ts";

/** One object is put and reported in less. */
const LEASE_SECONDS = 120;
const PUT_TIMEOUT_MS = 60_000;
const PIECE_BYTES = 1_000_000;
/** Until the next try: twice as long after each, and an hour at most. */
const FIRST_WAIT_SECONDS = 30;
const MAX_WAIT_SECONDS = 3_600;

/**
 * Moves what waits in the database to S3, in the order in which it came, each once and checked by its hash. Ends with the first that
 * does not go: S3 is away, and the others wait behind it.
 */
export async function moveSpooled(
  media: Media,
  { signal, leftMs }: { signal: AbortSignal; leftMs: () => number },
): Promise<{ moved: number; bytes: number; more: boolean; error: string | null }> {
  const { s3, rows } = media;
  const sum = { moved: 0, bytes: 0 };
  if (s3 === null) return { ...sum, more: false, error: null };
  for (;;) {
    if (signal.aborted || leftMs() < PUT_TIMEOUT_MS / 10) return { ...sum, more: true, error: null };
    const next = await rows.next(LEASE_SECONDS);
    if (next === null) return { ...sum, more: false, error: null };
    try {
      const body = await bodyOf(media, next);
      // Deleted meanwhile.
      if (body === null) continue;
      const put = () =>
        s3.put(next.key, {
          body,
          sha256: next.sha256,
          contentType: next.content_type,
          ...(next.content_encoding === "gzip" && { contentEncoding: "gzip" as const }),
        }, { signal, timeoutMs: PUT_TIMEOUT_MS });
      const { created } = await put();
      if (!await isThere(s3, next, created, signal)) {
        // Left by an upload that died, packed otherwise or another content: what we have is what the registry counts.
        await s3.delete(next.key, { signal });
        await put();
      }
      const outcome = await rows.moved(next.key);
      if (outcome === "gone") await s3.delete(next.key, { signal });
      if (outcome === "moved") {
        sum.moved++;
        sum.bytes += next.size_bytes;
      }
    } catch (thrown) {
      const { code, detail } = asGatewayError(thrown);
      const wait = Math.min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** Math.min(next.tries - 1, 10));
      await rows.moveFailed(next.key, `${code}: ${detail ?? ""}`, wait);
      return { ...sum, more: true, error: code };
    }
  }
}

/** Whether the object is the one that waits here: of its size, and, if it was there before, of its content. */
async function isThere(
  s3: ObjectStore,
  { key, size_bytes: size, sha256 }: NextSpooled,
  created: boolean,
  signal: AbortSignal,
): Promise<boolean> {
  const facts = await s3.head(key, { signal });
  if (facts?.sizeBytes !== size) return false;
  if (created || size === 0) return true;
  // As it is stored, packed or not.
  const { body } = await s3.get(key, { range: { from: 0 } }, { signal, timeoutMs: PUT_TIMEOUT_MS });
  return await sha256Of(new Uint8Array(await new Response(body).arrayBuffer())) === sha256;
}

async function bodyOf(
  { rows }: Media,
  { key, size_bytes: size }: NextSpooled,
): Promise<Uint8Array<ArrayBuffer> | null> {
  const body = new Uint8Array(size);
  for (let at = 0; at < size; at += PIECE_BYTES) {
    const piece = await rows.piece(key, at, Math.min(PIECE_BYTES, size - at));
    if (piece === null) return null;
    body.set(piece, at);
  }
  return body;
}
