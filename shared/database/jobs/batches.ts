import * as z from "zod";
import { asCaller, type JobCaller } from "./jobs.ts";
import { callUnlessRefused } from "../refused.ts";
import type { Transport } from "../transport/transport.ts";

export const BATCH_STATES = [
  "validating",
  "failed",
  "in_progress",
  "finalizing",
  "completed",
  "expired",
  "cancelling",
  "cancelled",
] as const;

/** Whose clients a batch is handed in by: they alone see it. */
export type BatchApi = "openai" | "gemini" | "anthropic";
const api = z.enum(["openai", "gemini", "anthropic"]);

const batchError = z.object({
  code: z.string(),
  message: z.string(),
  /** The field that is wrong. */
  param: z.string().nullable(),
  /** Of the file, from 1 on; null: it is about the whole file. */
  line: z.number().nullable(),
});
/** What is wrong with a batch's file. */
export type BatchError = z.output<typeof batchError>;

const batch = z.object({
  id: z.string(),
  endpoint: z.string(),
  is_inline: z.boolean(),
  input_file_id: z.string(),
  metadata: z.record(z.string(), z.string()).nullable(),
  state: z.enum(BATCH_STATES),
  errors: z.array(batchError).nullable(),
  total: z.number(),
  completed: z.number(),
  failed: z.number(),
  /** Of those that were handed in; the rest of an expired batch never was. */
  expired: z.number(),
  output_file_id: z.string().nullable(),
  error_file_id: z.string().nullable(),
  created_at: z.string(),
  in_progress_at: z.string().nullable(),
  finalizing_at: z.string().nullable(),
  ended_at: z.string().nullable(),
  cancelling_at: z.string().nullable(),
  expires_at: z.string(),
});
/** A row of eve.batches; the names are those of its columns. */
export type Batch = z.output<typeof batch>;

export const file = z.object({
  id: z.string(),
  purpose: z.enum(["batch", "user_data", "batch_output"]),
  filename: z.string(),
  mime_type: z.string(),
  bytes: z.number(),
  /** Of the media objects; null: it is read out of the batch's jobs. */
  tenant_id: z.string().nullable(),
  sha256: z.string().nullable(),
  /** Of several, one behind the other; null: it is one. Lists leave it out. */
  parts: z.array(z.string()).nullable().default(null),
  created_at: z.string(),
  expires_at: z.string(),
});
/** A row of eve.batch_files; the names are those of its columns. */
export type BatchFile = z.output<typeof file>;

const input = z.object({
  state: z.enum(BATCH_STATES),
  /** Lines of a file that has been checked; 0 before. */
  total: z.number(),
  /** Of these the first so many have been handed in. */
  added: z.number(),
  api,
  endpoint: z.string(),
  tenant_id: z.string(),
  sha256: z.string().nullable(),
  /** Of several media objects, one behind the other; null: it is one. */
  parts: z.array(z.string()).nullable(),
  /** Those that its caller may use; null: all. */
  models: z.array(z.string()).nullable(),
});
export type BatchInput = z.output<typeof input>;

export interface BatchToCreate {
  id: string;
  inputFileId: string;
  api: BatchApi;
  /** What its lines ask for, as the API names it. */
  endpoint: string;
  /** The file is the batch's own. */
  isInline: boolean;
  metadata: Record<string, string> | null;
}

export interface BatchLine {
  /** From 0 on. */
  place: number;
  custom_id: string | null;
  models: string[];
  /** `metadata`: told with the response. */
  body?: { path: string; body: Record<string, unknown>; metadata?: Record<string, unknown> };
  /** Instead of the body: it is kept with the media, for the job with this id. */
  id?: string;
  body_media?: string;
}

export interface NewBatchFile {
  id: string;
  filename: string;
  bytes: number;
  tenantId: string;
  sha256: string;
  purpose: "batch" | "user_data";
  mimeType: string;
  /** False: it is a batch's own. */
  isListed: boolean;
}

/** Batches and their files. Throws GatewayErrors: `not_found`, `batch_ended`, `jobs_full`, and what refuses the caller. */
export interface Batches {
  /** The tenant that a caller's files are kept for. */
  tenantOf(caller: JobCaller): Promise<string>;
  /** Of two with the same id the second is the first. */
  saveFile(file: NewBatchFile, caller: JobCaller): Promise<BatchFile>;
  file(id: string, caller: JobCaller): Promise<BatchFile>;
  files(
    caller: JobCaller,
    page: { purpose: string | null; after: string | null; limit: number; oldestFirst: boolean },
  ): Promise<{ files: BatchFile[]; hasMore: boolean }>;
  /** Whole lines of an output or an error file. @param from 0 at first, then `next`, until it is null */
  piece(id: string, from: number, caller: JobCaller): Promise<{ text: string; next: number | null }>;
  deleteFile(id: string, caller: JobCaller): Promise<void>;

  /** `wake`: whether the function worker is to be called. */
  create(batch: BatchToCreate, caller: JobCaller): Promise<{ batch: Batch; wake: boolean }>;
  find(id: string, caller: JobCaller, api: BatchApi): Promise<Batch>;
  /** The newest first. */
  list(
    caller: JobCaller,
    page: { after: string | null; limit: number },
    api: BatchApi,
  ): Promise<{ batches: Batch[]; hasMore: boolean }>;
  /** One step; `more`: call again. */
  cancel(id: string, caller: JobCaller, api: BatchApi): Promise<{ batch: Batch; more: boolean }>;
  /** Nobody sees it any more, nor what came of it. It is to be cancelled before, or its lines are run. */
  delete(id: string, caller: JobCaller, api: BatchApi): Promise<void>;

  input(id: string): Promise<BatchInput>;
  reject(id: string, errors: readonly BatchError[]): Promise<void>;
  /** Hands 1 to 1000 lines in, in the file's order, each with its body or where that is kept. Total and models are those of the whole file, looked at the first time. False: the batch takes none any more. */
  add(id: string, total: number, models: readonly string[], lines: readonly BatchLine[]): Promise<boolean>;
}

const TIMEOUT_MS = 15_000;

export function createBatches(transport: Transport, timeoutMs = TIMEOUT_MS): Batches {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    callUnlessRefused(transport, name, args, shape, timeoutMs);
  return {
    tenantOf: async (caller) =>
      (await ask("eve_batch_file_tenant", asCaller(caller), z.object({ tenant_id: z.string() }))).tenant_id,
    saveFile: async ({ tenantId, mimeType, isListed, ...facts }, caller) =>
      (await ask(
        "eve_batch_file_save",
        { ...facts, tenant_id: tenantId, mime_type: mimeType, is_listed: isListed, ...asCaller(caller) },
        z.object({ file }),
      )).file,
    file: async (id, caller) =>
      (await ask("eve_batch_file", { id, ...asCaller(caller) }, z.object({ file }))).file,
    async files(caller, { purpose, after, limit, oldestFirst }) {
      const { files, has_more } = await ask("eve_batch_files", {
        ...asCaller(caller),
        purpose,
        after,
        at_most: limit,
        oldest_first: oldestFirst,
      }, z.object({ files: z.array(file), has_more: z.boolean() }));
      return { files, hasMore: has_more };
    },
    piece: (id, from, caller) =>
      ask(
        "eve_batch_file_piece",
        { id, from_place: from, ...asCaller(caller) },
        z.object({ text: z.string(), next: z.number().nullable() }),
      ),
    async deleteFile(id, caller) {
      await ask("eve_batch_file_delete", { id, ...asCaller(caller) }, z.unknown());
    },
    create: ({ inputFileId, isInline, ...facts }, caller) =>
      ask(
        "eve_batch_create",
        { ...facts, input_file_id: inputFileId, is_inline: isInline, ...asCaller(caller) },
        z.object({ batch, wake: z.boolean() }),
      ),
    find: async (id, caller, api) =>
      (await ask("eve_batch", { id, api, ...asCaller(caller) }, z.object({ batch }))).batch,
    async list(caller, { after, limit }, api) {
      const { batches, has_more } = await ask(
        "eve_batches",
        { ...asCaller(caller), after, at_most: limit, api },
        z.object({ batches: z.array(batch), has_more: z.boolean() }),
      );
      return { batches, hasMore: has_more };
    },
    cancel: (id, caller, api) =>
      ask("eve_batch_cancel", { id, api, ...asCaller(caller) }, z.object({ batch, more: z.boolean() })),
    async delete(id, caller, api) {
      await ask("eve_batch_delete", { id, api, ...asCaller(caller) }, z.unknown());
    },
    input: (id) => ask("eve_batch_input", { id }, input),
    async reject(id, errors) {
      await ask("eve_batch_reject", { id, errors }, z.unknown());
    },
    add: async (id, total, models, lines) =>
      (await ask(
        "eve_batch_add",
        { id, total, models, lines },
        z.object({ status: z.enum(["added", "ended"]) }),
      )).status === "added",
  };
}
