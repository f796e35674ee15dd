import type { Batches, BatchFile, BatchInput } from "../database/jobs/batches.ts";
import type { JobCaller } from "../database/jobs/jobs.ts";
import type { Media } from "../media/storage.ts";
import { checkedType } from "../media/file_type.ts";
import { streamOf } from "../http/stream_of.ts";
import { readParts, release, storeBytes } from "./stored_bytes.ts";

/** Where a file that a caller brought is: one media object, or several, one behind the other. */
export type StoredFile = Pick<BatchInput, "tenant_id" | "sha256" | "parts">;

/** What a file of lines is, unless somebody says otherwise. */
export const LINES_TYPE = "application/x-ndjson";

export interface FileToKeep {
  /** Made by us: kept twice, it is one file. Absent: a fresh one. */
  id?: string;
  filename: string;
  bytes: Uint8Array<ArrayBuffer>;
  /** Declared; unless it is a file of lines its beginning must not tell another. Absent: it is a file of lines. */
  mimeType?: string;
  /** False: it is a batch's own. */
  isListed?: boolean;
}

/** The files that callers bring, as media objects of their tenants. */
export interface BatchFiles {
  /**
   * @throws GatewayError `storage_quota_exceeded`, `file_too_large`, `media_type_mismatch`, `invalid_request` (its type),
   * `storage_unavailable` and what refuses the caller
   */
  keep(file: FileToKeep, caller: JobCaller): Promise<BatchFile>;
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
    async keep({ id = newId(), filename, bytes, mimeType = LINES_TYPE, isListed = true }, caller) {
      const [tenantId, opened] = await Promise.all([batches.tenantOf(caller), media()]);
      const purpose = purposeOf(mimeType);
      if (purpose !== "batch") await checkedType(bytes, mimeType);
      const sha256 = await storeBytes(opened, { tenantId, fileId: id, bytes });
      const facts = {
        id,
        filename,
        bytes: bytes.byteLength,
        tenantId,
        sha256,
        purpose,
        mimeType,
        isListed,
      } as const;
      return await batches.saveFile(facts, caller);
    },
    async open(stored) {
      return await streamOf(readParts(await media(), stored.tenant_id, hashesOf(stored)));
    },
    async remove(id, caller) {
      const { tenant_id: tenantId, sha256, parts } = await batches.file(id, caller);
      if (tenantId !== null) {
        await release(await media(), { tenantId, fileId: id, hashes: hashesOf({ sha256, parts }) });
      }
      await batches.deleteFile(id, caller);
    },
  };
}

/** What a file of a type is for. */
export function purposeOf(mimeType: string): "batch" | "user_data" {
  return isFileOfLines(mimeType) ? "batch" : "user_data";
}

/** Names of JSON Lines: there is no official one, and Google's own examples send `jsonl` alone. */
function isFileOfLines(mimeType: string): boolean {
  return /^((application|text)\/(x-)?)?(jsonl|ndjson|jsonlines|json-lines|json-seq)$/i.test(mimeType.trim());
}

function hashesOf({ sha256, parts }: Pick<BatchFile, "sha256" | "parts">): string[] {
  return parts ?? (sha256 === null ? [] : [sha256]);
}
