import { GatewayError } from "../contract/gateway_error.ts";
import type { Batches, BatchFile } from "../database/jobs/batches.ts";
import type { JobCaller } from "../database/jobs/jobs.ts";
import type { Upload, UploadPart, UploadRows } from "../database/jobs/uploads.ts";
import { md5Stream } from "../media/hash.ts";
import { checkedType } from "../media/file_type.ts";
import type { Media } from "../media/storage.ts";
import { LINES_TYPE, purposeOf } from "./batch_files.ts";
import { readParts, release, storeBytes } from "./stored_bytes.ts";

/** As OpenAI bounds the file of a batch; Google's clients may send no more here either. */
export const MAX_UPLOAD_BYTES = 200_000_000;

/** Files that are sent in parts: each part is stored as it comes, and the whole is never held. */
export interface Uploads {
  /**
   * @param asked `id`: of the file; absent: a fresh one. `mimeType`: absent: it is a file of lines
   * @throws GatewayError `storage_quota_exceeded`: the whole would find no room
   */
  create(
    asked: { id?: string; filename: string; mimeType?: string; bytes: number },
    caller: JobCaller,
  ): Promise<Upload>;
  /** @throws GatewayError `not_found` */
  find(uploadId: string, caller: JobCaller): Promise<{ upload: Upload; parts: UploadPart[] }>;
  /**
   * @param atByte where it begins, of parts that come one behind the other: the same once more is the same part
   * @throws GatewayError `not_found`, `invalid_request`, `media_type_mismatch`, `storage_quota_exceeded`, `storage_unavailable`
   */
  addPart(
    uploadId: string,
    bytes: Uint8Array<ArrayBuffer>,
    caller: JobCaller,
    atByte?: number,
  ): Promise<{ id: string; createdAt: string }>;
  /**
   * @param md5 of the whole, in hex; null: it is not looked at
   * @throws GatewayError `not_found`, `invalid_request`, `content_mismatch`, `storage_unavailable`
   */
  complete(
    uploadId: string,
    asked: { partIds: string[]; md5: string | null },
    caller: JobCaller,
  ): Promise<{ upload: Upload; file: BatchFile }>;
  /** @throws GatewayError `not_found`, `invalid_request`, `storage_unavailable` */
  cancel(uploadId: string, caller: JobCaller): Promise<Upload>;
}

export interface UploadDependencies {
  rows: UploadRows;
  batches: Pick<Batches, "tenantOf">;
  media: () => Promise<Media>;
  newId: () => string;
}

export function createUploads({ rows, batches, media, newId }: UploadDependencies): Uploads {
  return {
    async create({ id = newId(), filename, mimeType = LINES_TYPE, bytes }, caller) {
      const [tenantId, opened] = await Promise.all([batches.tenantOf(caller), media()]);
      const inSpool = opened.s3 === null;
      const { refused_by: refused } = await opened.registry.check(
        { kind: "project" },
        { tenantId, sizeBytes: bytes, kind: "media", inSpool },
      );
      if (refused !== undefined) {
        throw new GatewayError("storage_quota_exceeded", {
          message:
            `${bytes} bytes find no room: of the limit "${refused.limit}", ${refused.limit_bytes} bytes, ` +
            `${refused.used_bytes} are in use or reserved.` +
            (inSpool ? " This gateway keeps files in its database; large ones need S3." : ""),
          details: refused,
        });
      }
      const file = { filename, mime_type: mimeType, purpose: purposeOf(mimeType), bytes };
      return await rows.create({ id, tenantId, ...file }, caller);
    },

    find: (uploadId, caller) => rows.find(uploadId, caller),

    async addPart(uploadId, bytes, caller, atByte) {
      const { upload } = await rows.find(uploadId, caller);
      // Before anything of it is stored.
      if (upload.state !== "pending") throw over(upload);
      // Its beginning tells what a file is.
      if (atByte === 0 && upload.purpose !== "batch") await checkedType(bytes, upload.mime_type);
      const id = newId();
      const sha256 = await storeBytes(await media(), { tenantId: upload.tenant_id, fileId: uploadId, bytes });
      const part = { id, sha256, bytes: bytes.byteLength };
      return { id, createdAt: await rows.addPart(uploadId, part, atByte ?? null, caller) };
    },

    async complete(uploadId, { partIds, md5 }, caller) {
      const { upload, parts } = await rows.find(uploadId, caller);
      const opened = await media();
      const hashOf = new Map(parts.map(({ id, sha256 }) => [id, sha256]));
      const used = partIds.map((id) => hashOf.get(id));
      if (md5 !== null && upload.state === "pending" && used.every((sha256) => sha256 !== undefined)) {
        const hash = await md5Stream();
        for await (const piece of readParts(opened, upload.tenant_id, used)) hash.update(piece);
        const found = hash.digest();
        if (found !== md5) {
          throw new GatewayError("content_mismatch", {
            message: `The parts make a file with the MD5 ${found}, and ${md5} was said.`,
          });
        }
      }
      const file = await rows.complete(uploadId, partIds, caller);
      const needless = parts.filter(({ sha256 }) => !used.includes(sha256)).map(({ sha256 }) => sha256);
      await release(opened, { tenantId: upload.tenant_id, fileId: uploadId, hashes: needless }).catch(() => {
        // They go with the file.
      });
      return { upload: { ...upload, state: "completed" }, file };
    },

    async cancel(uploadId, caller) {
      const { upload, parts } = await rows.find(uploadId, caller);
      await rows.cancel(uploadId, caller);
      const hashes = parts.map(({ sha256 }) => sha256);
      await release(await media(), { tenantId: upload.tenant_id, fileId: uploadId, hashes });
      return { ...upload, state: "cancelled" };
    },
  };
}

function over({ state }: Upload): GatewayError {
  return new GatewayError("invalid_request", { message: `The upload is ${state}: begin another one.` });
}
