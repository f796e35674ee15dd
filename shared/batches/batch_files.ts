import type { Batches, BatchFile, BatchInput } from "../database/batches.ts";
import type { JobCaller } from "../database/jobs.ts";
import type { Media } from "../media/storage.ts";
import { letGo, readParts, storeBytes } from "./stored_bytes.ts";

/** Where a file that a caller brought is: one media object, or several, one behind the other. */
export type StoredFile = Pick<BatchInput, "tenant_id" | "sha256" | "parts">;

/** The files that callers bring, as media objects of their tenants. */
export interface BatchFiles {
  /** @throws GatewayError `storage_quota_exceeded`, `file_too_large`, `storage_unavailable` and what refuses the caller */
  keep(given: { filename: string; bytes: Uint8Array<ArrayBuffer> }, caller: JobCaller): Promise<BatchFile>;
  /**
   * Its content, from the beginning.
   * @throws GatewayError `not_found`, `storage_unavailable`: what is known at the beginning at once, the rest as it is read
   */
  open(stored: StoredFile): Promise<ReadableStream<Uint8Array<ArrayBuffer>>>;
  /** @throws GatewayError `not_found`, `storage_unavailable` */
  remove(id: string, caller: JobCaller): Promise<void>;
}

export interface BatchFileDependencies {
  batches: Batches;
  /** Opened when the first file comes: most instances never see one. */
  media: () => Promise<Media>;
  newId: () => string;
}

export function createBatchFiles({ batches, media, newId }: BatchFileDependencies): BatchFiles {
  return {
    async keep({ filename, bytes }, caller) {
      const [tenantId, opened] = await Promise.all([batches.tenantOf(caller), media()]);
      const id = newId();
      const sha256 = await storeBytes(opened, { tenantId, fileId: id, bytes });
      return await batches.saveFile({ id, filename, bytes: bytes.byteLength, tenantId, sha256 }, caller);
    },
    async open(stored) {
      const pieces = readParts(await media(), stored.tenant_id, hashesOf(stored));
      let next = await pieces.next();
      return new ReadableStream({
        async pull(controller) {
          if (next.done) return controller.close();
          controller.enqueue(next.value);
          next = await pieces.next();
          if (next.done) controller.close();
        },
        async cancel() {
          await pieces.return(undefined);
        },
      }, { highWaterMark: 0 });
    },
    async remove(id, caller) {
      const { tenant_id: tenantId, sha256, parts } = await batches.file(id, caller);
      if (tenantId !== null) {
        await letGo(await media(), { tenantId, fileId: id, hashes: hashesOf({ sha256, parts }) });
      }
      await batches.deleteFile(id, caller);
    },
  };
}

function hashesOf({ sha256, parts }: Pick<BatchFile, "sha256" | "parts">): string[] {
  return parts ?? (sha256 === null ? [] : [sha256]);
}
