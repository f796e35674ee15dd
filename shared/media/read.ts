import type { Actor } from "../contract/actor.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { MediaObject } from "../database/media/media.ts";
import { dispositionOf } from "./file_type.ts";
import type { PresignedRequest } from "./object_store.ts";
import { type Media, storeOf } from "./storage.ts";

/** A redirect is followed at once. */
export const REDIRECT_SECONDS = 300;

/**
 * An address at which anybody may read an object for `expiresIn` seconds. What could run in a browser is downloaded, never shown.
 * @throws GatewayError `invalid_request`, `storage_misconfigured`
 */
export async function addressOf(
  media: Media,
  object: MediaObject,
  expiresIn: number,
): Promise<PresignedRequest> {
  if (object.s3_key === null) {
    throw new GatewayError("object_not_found", {
      message: "This file has no storage key: it was never stored here.",
    });
  }
  const contentDisposition = dispositionOf(object.mime_type, object.sha256);
  return await storeOf(media, object.stored_in).presignGet(object.s3_key, {
    expiresIn,
    ...(contentDisposition !== undefined && { contentDisposition }),
    ...(object.mime_type !== null && { contentType: object.mime_type }),
    ...(object.content_encoding === "gzip" && { contentEncoding: "gzip" as const }),
  });
}

/**
 * What an object holds, unpacked; null: there is none.
 * @throws GatewayError `storage_unavailable`, `storage_misconfigured` and what refuses the actor
 */
export async function openObject(
  media: Media,
  actor: Actor,
  tenantId: string,
  sha256: string,
): Promise<ReadableStream<Uint8Array<ArrayBuffer>> | null> {
  for (let isAgain = false;; isAgain = true) {
    const found = await media.registry.find(actor, tenantId, sha256);
    if (found === null || found.object.s3_key === null) return null;
    try {
      return (await storeOf(media, found.object.stored_in).get(found.object.s3_key)).body;
    } catch (thrown) {
      // It has moved from the database to S3 meanwhile.
      if (isAgain || !(thrown instanceof GatewayError && thrown.code === "object_not_found")) throw thrown;
    }
  }
}
