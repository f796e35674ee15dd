import * as z from "zod";
import type { Caller } from "../../contract/caller.ts";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";
import { fromBase64, toBase64 } from "../../runtime/base64.ts";

const file = z.object({
  /** Null: the gateway keeps the file itself. */
  url: z.string().nullable(),
  mime_type: z.string(),
  title: z.string().nullish(),
  duration_s: z.number().nullish(),
});

export const JOB_STATES = ["queued", "running", "succeeded", "failed", "cancelled", "expired"] as const;
export type JobState = typeof JOB_STATES[number];

export const jobRow = z.object({
  id: z.string(),
  /** The order in which jobs came. */
  no: z.number(),
  kind: z.string(),
  request_id: z.string(),
  state: z.enum(JOB_STATES),
  class: z.enum(["interactive", "batch"]).nullable(),
  models: z.array(z.string()).nullable(),
  run_at: z.string().nullable(),
  /** Lists leave it out. */
  result: z.unknown().optional(),
  /** Where it is kept with the media; null: it is here. */
  result_media: z.string().nullable(),
  progress: z.unknown(),
  tries: z.number(),
  losses: z.number(),
  batch_id: z.string().nullable(),
  place: z.number().nullable(),
  custom_id: z.string().nullable(),
  error_code: z.string().nullable(),
  error_detail: z.string().nullable(),
  submitted_at: z.string(),
  started_at: z.string().nullable(),
  finished_at: z.string().nullable(),
  expires_at: z.string().nullable(),
  /** What follows is of a job that a provider makes, from the moment that it is handed to it. */
  stage_type: z.string().nullable(),
  provider_kind: z.string().nullable(),
  model: z.string().nullable(),
  key_name: z.string().nullable(),
  settings: z.record(z.string(), z.string()).catch({}),
  upstream_id: z.string().nullable(),
  checked_at: z.string().nullable(),
});

/** A job as the database keeps it; the names are those of its columns. */
export type JobRow = z.output<typeof jobRow>;
export type JobFile = z.output<typeof file>;

const files = z.object({ files: z.array(file) });

/** The files of a job that a provider has made; null: it has none, or none yet. */
export function filesOf({ result }: JobRow): JobFile[] | null {
  const parsed = files.safeParse(result);
  return parsed.success ? parsed.data.files : null;
}

export interface JobToBegin {
  id: string;
  stageType: string;
  providerKind: string;
  model: string;
  /** The `env_var_name` of the key: the job is asked about with the same one. */
  keyName: string;
  settings: Record<string, string>;
  requestId: string;
  requestNo: number;
  consumerId: string | null;
}

export interface JobNote {
  id: string;
  state: "running" | "succeeded" | "failed";
  upstreamId?: string | null;
  files?: JobFile[];
  errorCode?: string;
  errorDetail?: string;
  expiresAt?: string | null;
  content?: { mimeType: string; bytes: Uint8Array };
}

/** The caller who asks about a job. */
export type JobCaller = Pick<Caller, "consumerId" | "tokenId">;

/** What providers make that takes longer than a call. */
export interface Jobs {
  begin(job: JobToBegin): Promise<void>;
  /** One that has ended stays as it ended; answers how it stands. */
  note(note: JobNote): Promise<JobRow>;
  /**
   * Of any kind. Null: there is none, it is another consumer's, or asks for what the consumer or its token may not use.
   * @throws GatewayError `consumer_disabled`, `token_revoked`
   */
  find(id: string, caller: JobCaller): Promise<JobRow | null>;
  /** The file of one that `find` finds, where the gateway keeps it. */
  content(id: string, caller: JobCaller): Promise<{ mimeType: string; bytes: Uint8Array } | null>;
  tidy(): Promise<{ lost: number; files: number; jobs: number }>;
}

/** A file of some megabytes takes a while. */
const JOBS_TIMEOUT_MS = 15_000;

export function createJobs(transport: Transport, timeoutMs = JOBS_TIMEOUT_MS): Jobs {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    call(transport, name, args, shape, timeoutMs);
  return {
    async begin(job) {
      await ask("eve_job_begin", {
        id: job.id,
        stage_type: job.stageType,
        provider_kind: job.providerKind,
        model: job.model,
        key_name: job.keyName,
        settings: job.settings,
        request_id: job.requestId,
        request_no: job.requestNo,
        consumer_id: job.consumerId,
      }, z.unknown());
    },
    note: ({ id, state, upstreamId, files, errorCode, errorDetail, expiresAt, content }) =>
      ask("eve_job_note", {
        id,
        state,
        upstream_id: upstreamId ?? null,
        result: files === undefined ? null : { files },
        error_code: errorCode ?? null,
        error_detail: errorDetail ?? null,
        expires_at: expiresAt ?? null,
        mime_type: content?.mimeType ?? null,
        content_base64: content === undefined ? null : toBase64(content.bytes),
      }, jobRow),
    find: (id, caller) => ask("eve_job", { id, ...asCaller(caller) }, jobRow.nullable()),
    async content(id, caller) {
      const found = await ask(
        "eve_job_content",
        { id, ...asCaller(caller) },
        z.object({ mime_type: z.string(), content_base64: z.string() }).nullable(),
      );
      if (found === null) return null;
      return { mimeType: found.mime_type, bytes: fromBase64(found.content_base64) };
    },
    tidy: () => ask("eve_jobs_tidy", {}, z.object({ lost: z.number(), files: z.number(), jobs: z.number() })),
  };
}

export function asCaller({ consumerId, tokenId }: JobCaller) {
  return { consumer_id: consumerId, token_id: tokenId };
}
