import { GatewayError } from "../../contract/gateway_error.ts";
import type { MediaObject, Multipart } from "../../database/media/media.ts";
import type { MultipartUpload, MultipartUploads, PresignedRequest } from "../object_store.ts";
import type { Media } from "../storage.ts";

/** One part of a large file, and where to send it. */
export interface PartToSend extends PresignedRequest {
  /** From 1. */
  partNumber: number;
  /** Where it begins in the file. */
  offset: number;
  sizeBytes: number;
}

/** A part's address: as long as a file's of the largest size takes over a slow line. Later the file is announced again. */
const PART_ADDRESS_SECONDS = 6 * 3_600;
/** Of parts that are missing so many are named. */
const NAMED = 20;

/**
 * The parts of a reserved object that have not arrived yet, each with its address. It begins an upload in parts, or goes on with the one
 * that is under way.
 * @throws GatewayError `storage_unavailable` and what else the store throws; room that was taken for nothing is given back
 */
export async function partsToSend(
  media: Media,
  object: MediaObject,
  underWay: Multipart | null,
): Promise<PartToSend[]> {
  const multipart = multipartOf(media);
  const arrived = underWay === null ? null : await arrivedOf(multipart, object, underWay);
  let held = underWay;
  if (held === null || arrived === null) {
    try {
      held = await begin(media, multipart, object, underWay?.upload_id ?? null);
    } catch (thrown) {
      // The mark alone: what may be in the store is deleted once it answers.
      if (underWay === null) await media.registry.failed(object.tenant_id, object.sha256).catch(() => {});
      throw thrown;
    }
  }
  const upload = uploadOf(object, held);
  return await Promise.all(
    partsOf(object, held).filter(({ partNumber, sizeBytes }) =>
      arrived?.get(partNumber)?.sizeBytes !== sizeBytes
    )
      .map(async (part) => ({
        ...part,
        ...await multipart.presignPart(upload, { ...part, expiresIn: PART_ADDRESS_SECONDS }),
      })),
  );
}

/**
 * Makes the object of its parts. One whose upload the store does not know any more is left to anyone who looks for the object: it may have
 * been completed before.
 * @throws GatewayError `object_not_found`: parts have not arrived, its details naming them
 */
export async function completeParts(media: Media, object: MediaObject, held: Multipart): Promise<void> {
  const multipart = multipartOf(media);
  const arrived = await arrivedOf(multipart, object, held);
  if (arrived === null) return;
  const parts = partsOf(object, held);
  const missing = parts.filter(({ partNumber, sizeBytes }) =>
    arrived.get(partNumber)?.sizeBytes !== sizeBytes
  )
    .map(({ partNumber }) => partNumber);
  if (missing.length > 0) {
    throw new GatewayError("object_not_found", {
      message:
        `${missing.length} of ${parts.length} parts have not arrived. Send them, then verify; announce the file again for their addresses.`,
      details: { missing_parts: missing.slice(0, NAMED), parts: parts.length },
    });
  }
  await multipart.complete(
    uploadOf(object, held),
    parts.map(({ partNumber }) => ({ partNumber, etag: arrived.get(partNumber)!.etag })),
  );
}

/** Of two that begin at once the second one's is ended again. */
async function begin(
  media: Media,
  multipart: MultipartUploads,
  object: MediaObject,
  ended: string | null,
): Promise<Multipart> {
  const begun = await multipart.create(keyOf(object), {
    contentType: object.mime_type ?? "application/octet-stream",
  });
  const held = await media.registry.sentInParts(
    { tenantId: object.tenant_id, sha256: object.sha256 },
    { upload_id: begun.uploadId, part_bytes: media.partBytes },
    ended,
  );
  if (held?.upload_id !== begun.uploadId) await multipart.abort(begun);
  if (held === null) throw new GatewayError("upload_busy", { retryAfterMs: 1_000 });
  return held;
}

/** Parts by their numbers. Null: the store does not know the upload any more. */
async function arrivedOf(multipart: MultipartUploads, object: MediaObject, held: Multipart) {
  try {
    const parts = await multipart.parts(uploadOf(object, held));
    return new Map(parts.map((part) => [part.partNumber, part]));
  } catch (thrown) {
    if (thrown instanceof GatewayError && thrown.code === "object_not_found") return null;
    throw thrown;
  }
}

function partsOf(
  object: MediaObject,
  { part_bytes: partBytes }: Multipart,
): { partNumber: number; offset: number; sizeBytes: number }[] {
  const size = object.size_bytes ?? object.stored_bytes;
  return Array.from({ length: Math.ceil(size / partBytes) }, (_, at) => ({
    partNumber: at + 1,
    offset: at * partBytes,
    sizeBytes: Math.min(partBytes, size - at * partBytes),
  }));
}

function multipartOf({ s3 }: Media): MultipartUploads {
  if (s3?.multipart) return s3.multipart;
  throw new GatewayError("storage_misconfigured", {
    detail: "a file is being sent to S3 in parts, and no S3 is set up: set S3_BUCKET_NAME and its keys again",
  });
}

const uploadOf = (object: MediaObject, { upload_id: uploadId }: Multipart): MultipartUpload => ({
  key: keyOf(object),
  uploadId,
});

function keyOf({ s3_key }: MediaObject): string {
  if (s3_key !== null) return s3_key;
  throw new GatewayError("internal", { detail: "an object without a key" });
}
