import { GatewayError } from "../contract/gateway_error.ts";
import type { JobCaller } from "../database/jobs/jobs.ts";
import { deleteObjects } from "./delete.ts";
import { sha256Of } from "./hash.ts";
import { openObject } from "./read.ts";
import type { Media } from "./storage.ts";
import { uploadFile } from "./upload/upload.ts";

/**
 * What uses such a media object: a job its body or result, or a kept answer. `eve.jobs_media_went` and `eve.cached_answers_went` release it
 * when that is deleted.
 */
export type MediaUser = "job" | "cache";
/** One line of JSON. No packer knows it: a function has 2 s of computing, and pictures in base64 take most of that to pack. */
const MIME_TYPE = "application/x-ndjson";
/** The tenant was looked up for the caller: whether it may keep other media is another question. */
const ACTOR = { kind: "project" } as const;

/** Longer bodies are kept with the media, and not in the table of jobs. Bytes of their JSON. */
export const MAX_BODY_IN_TABLE_BYTES = 64 * 1024;
/** Longer results likewise; `max_result_bytes` in eve.job_kinds says the same. Bytes of their JSON. */
export const MAX_RESULT_IN_TABLE_BYTES = 256 * 1024;

/** Bytes of JSON as the table counts them, at most: its text has a space behind each comma and colon. */
export function bytesInTable(json: string): number {
  return new TextEncoder().encode(json).byteLength + (json.match(/[,:]/g)?.length ?? 0);
}

/**
 * Bodies and results of jobs that are too long for their table: media objects of their callers' tenants, which count towards their quotas.
 * Each is used by its job, so that nothing deletes it before the job is.
 */
export interface JobMedia {
  /** Whether they are kept outside of the database, where there is S3. */
  isOutside(): Promise<boolean>;
  /**
   * @param json what is kept, as JSON
   * @returns `TENANT/SHA256`, as eve.jobs has it in `body_media` and `result_media`
   * @throws GatewayError `storage_quota_exceeded`, `file_too_large`, `storage_unavailable`, and what refuses the caller
   */
  keep(jobId: string, json: string, caller: JobCaller): Promise<string>;
  /** @throws GatewayError `storage_unavailable`; `internal`: it is not there any more */
  read(kept: string): Promise<unknown>;
  /** The job does not use it: it was not handed in. */
  release(jobId: string, kept: string): Promise<void>;
}

export interface JobMediaDependencies {
  /** The tenant that a caller's files are kept for. */
  tenantOf: (caller: JobCaller) => Promise<string>;
  media: () => Promise<Media>;
  /** What uses what is kept; absent: jobs. */
  user?: MediaUser;
}

export function createJobMedia({ tenantOf, media, user = "job" }: JobMediaDependencies): JobMedia {
  return {
    isOutside: async () => (await media()).s3 !== null,
    async keep(jobId, json, caller) {
      const [tenantId, opened] = await Promise.all([tenantOf(caller), media()]);
      const body = new TextEncoder().encode(json);
      await uploadFile(opened, ACTOR, {
        tenantId,
        kind: "media",
        mimeType: MIME_TYPE,
        body,
        metadata: {},
        links: { ref_kind: user, ref_id: jobId },
        vision: null,
      });
      return `${tenantId}/${await sha256Of(body)}`;
    },
    async read(kept) {
      const opened = await media();
      const body = await openObject(opened, ACTOR, ...partsOf(kept));
      if (body === null) throw new GatewayError("internal", { detail: `the media object ${kept} is gone` });
      try {
        return await new Response(body).json();
      } catch {
        throw new GatewayError("storage_unavailable", { detail: `${kept} could not be read to its end` });
      }
    },
    async release(jobId, kept) {
      const opened = await media();
      const removed = await opened.registry.remove(ACTOR, ...partsOf(kept), { kind: user, id: jobId });
      if (removed.status === "deleting") await deleteObjects(opened, [removed.delete]);
    },
  };
}

function partsOf(kept: string): [tenantId: string, sha256: string] {
  const at = kept.lastIndexOf("/");
  return [kept.slice(0, at), kept.slice(at + 1)];
}
