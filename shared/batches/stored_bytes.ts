import { GatewayError } from "../contract/gateway_error.ts";
import { deleteObjects } from "../media/delete.ts";
import { sha256Of } from "../media/hash.ts";
import { openObject } from "../media/read.ts";
import type { Media } from "../media/storage.ts";
import { uploadFile } from "../media/upload/upload.ts";

/** What uses the media objects of a file, the parts of one that is being sent as well. */
const REFERENCE = "batch_file";
/** No packer knows it, and what it holds is looked at line by line. A part may begin anywhere in a file. */
const MIME_TYPE = "application/octet-stream";
/** The tenant was looked up for the caller: whether it may keep other media is another question. */
const ACTOR = { kind: "project" } as const;

/**
 * Keeps a file, or a part of it, as a media object that the file uses. Answers its SHA-256.
 * @throws GatewayError as `uploadFile`
 */
export async function storeBytes(
  media: Media,
  { tenantId, fileId, bytes }: { tenantId: string; fileId: string; bytes: Uint8Array<ArrayBuffer> },
): Promise<string> {
  await uploadFile(media, ACTOR, {
    tenantId,
    kind: "media",
    mimeType: MIME_TYPE,
    body: bytes,
    metadata: {},
    links: { ref_kind: REFERENCE, ref_id: fileId },
    vision: null,
  });
  return await sha256Of(bytes);
}

/** The media objects one behind the other, each opened when it is its turn. @throws GatewayError `not_found`, `storage_unavailable` */
export async function* readParts(
  media: Media,
  tenantId: string,
  hashes: readonly string[],
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for (const sha256 of hashes) {
    const body = await openObject(media, ACTOR, tenantId, sha256);
    if (body === null) {
      throw new GatewayError("not_found", { message: "The file's content is not there any more." });
    }
    yield* body;
  }
}

/** The file uses these no more: what nothing else uses is deleted. @throws GatewayError `storage_unavailable` */
export async function release(
  media: Media,
  { tenantId, fileId, hashes }: { tenantId: string; fileId: string; hashes: readonly string[] },
): Promise<void> {
  for (const sha256 of new Set(hashes)) {
    const removed = await media.registry.remove(ACTOR, tenantId, sha256, { kind: REFERENCE, id: fileId });
    if (removed.status === "deleting") await deleteObjects(media, [removed.delete]);
  }
}
