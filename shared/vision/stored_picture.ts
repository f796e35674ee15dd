import { GatewayError } from "../contract/gateway_error.ts";
import type { MediaObject } from "../database/media/media.ts";
import { openObject } from "../media/read.ts";
import type { Media } from "../media/storage.ts";
import { joinBytes } from "../runtime/join_bytes.ts";
import { AnalysisFailure, type Picture } from "./analyst.ts";
import { NotStripped, withoutMetadata } from "./strip.ts";

/** Anyone who asked for the analysis may see the picture; that was looked at when they asked. */
const ACTOR = { kind: "project" } as const;

export interface StoredPicture extends Omit<Picture, "bytes"> {
  tenantId: string;
}

/**
 * A picture among the media: read when it is needed, and no more of it than it was said to have. Who looks at it is told nothing of who
 * took it, where and when: its metadata is taken out.
 * @param whole its bytes, where they have been read already
 */
export function storedPicture(
  media: () => Promise<Media>,
  { tenantId, ...picture }: StoredPicture,
  whole: Uint8Array<ArrayBuffer> | null = null,
): Picture {
  return {
    ...picture,
    async bytes(signal) {
      signal.throwIfAborted();
      try {
        return withoutMetadata(whole ?? await readWhole(signal));
      } catch (thrown) {
        if (!(thrown instanceof NotStripped)) throw thrown;
        throw new AnalysisFailure("refused", "metadata_not_removed", thrown.message);
      }
    },
  };

  async function readWhole(signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const body = await openObject(await media(), ACTOR, tenantId, picture.sha256);
    if (body === null) throw new GatewayError("object_not_found");
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let length = 0;
    for await (const chunk of body) {
      signal.throwIfAborted();
      length += chunk.length;
      if (length > picture.sizeBytes) throw new GatewayError("content_mismatch");
      chunks.push(chunk);
    }
    if (length < picture.sizeBytes) throw new GatewayError("storage_unavailable");
    return joinBytes(chunks);
  }
}

/**
 * So many bytes of an object from its beginning, or all there are: what follows is not read.
 * @throws GatewayError `object_not_found`, `storage_unavailable`
 */
export async function beginningOf(
  media: Media,
  { tenant_id: tenantId, sha256 }: Pick<MediaObject, "tenant_id" | "sha256">,
  atMost: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const body = await openObject(media, ACTOR, tenantId, sha256);
  if (body === null) throw new GatewayError("object_not_found");
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  // To leave the loop ends the stream.
  for await (const chunk of body) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= atMost) break;
  }
  return joinBytes(chunks).subarray(0, atMost);
}
