import { GatewayError } from "../contract/gateway_error.ts";
import { openObject } from "../media/read.ts";
import type { Media } from "../media/storage.ts";
import { joinBytes } from "../runtime/join_bytes.ts";
import type { Picture } from "./analyst.ts";

/** Whoever asked for the analysis may see the picture; that was looked at when they asked. */
const ACTOR = { kind: "project" } as const;

export interface StoredPicture extends Omit<Picture, "bytes"> {
  tenantId: string;
}

/** A picture among the media: read when it is needed, and no more of it than it was said to have. */
export function storedPicture(media: () => Promise<Media>, { tenantId, ...picture }: StoredPicture): Picture {
  return {
    ...picture,
    async bytes(signal) {
      signal.throwIfAborted();
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
    },
  };
}
