import { GatewayError } from "../contract/gateway_error.ts";
import type { Batches, BatchFile } from "../database/batches.ts";
import type { JobCaller } from "../database/jobs.ts";
import { deleteObjects } from "../media/delete.ts";
import { sha256Of } from "../media/hash.ts";
import { type Media, storeOf } from "../media/storage.ts";
import { uploadFile } from "../media/upload.ts";

/** What uses the media object of a file. */
const REFERENCE = "batch_file";
/** No packer knows it, and what it holds is looked at line by line. */
const MIME_TYPE = "application/x-ndjson";
/** The tenant was looked up for the caller: whether it may keep other media is another question. */
const ACTOR = { kind: "project" } as const;

/** The files that callers bring, as media objects of their tenants. */
export interface BatchFiles {
  /** @throws GatewayError `storage_quota_exceeded`, `file_too_large`, `storage_unavailable` and what refuses the caller */
  keep(given: { filename: string; bytes: Uint8Array<ArrayBuffer> }, caller: JobCaller): Promise<BatchFile>;
  /** @throws GatewayError `not_found`, `storage_unavailable` */
  open(stored: { tenant_id: string; sha256: string }): Promise<ReadableStream<Uint8Array<ArrayBuffer>>>;
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
      await uploadFile(opened, ACTOR, {
        tenantId,
        kind: "media",
        mimeType: MIME_TYPE,
        body: bytes,
        metadata: {},
        links: { ref_kind: REFERENCE, ref_id: id },
        vision: null,
      });
      const sha256 = await sha256Of(bytes);
      return await batches.saveFile({ id, filename, bytes: bytes.byteLength, tenantId, sha256 }, caller);
    },
    async open({ tenant_id, sha256 }) {
      const opened = await media();
      const found = await opened.registry.find(ACTOR, tenant_id, sha256);
      if (found === null || found.object.s3_key === null) throw gone();
      const { body } = await storeOf(opened, found.object.stored_in).get(found.object.s3_key);
      return body;
    },
    async remove(id, caller) {
      const { tenant_id: tenantId, sha256 } = await batches.file(id, caller);
      if (tenantId !== null && sha256 !== null) {
        const opened = await media();
        const removed = await opened.registry.remove(ACTOR, tenantId, sha256, { kind: REFERENCE, id });
        if (removed.status === "deleting") await deleteObjects(opened, [removed.delete]);
      }
      await batches.deleteFile(id, caller);
    },
  };
}

function gone(): GatewayError {
  return new GatewayError("not_found", { message: "The file's content is not there any more." });
}
