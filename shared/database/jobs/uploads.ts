import * as z from "zod";
import { type BatchFile, file } from "./batches.ts";
import { asCaller, type JobCaller } from "./jobs.ts";
import { callUnlessRefused } from "../refused.ts";
import type { Transport } from "../transport/transport.ts";

const upload = z.object({
  /** The file's, too, once it is complete. */
  id: z.string(),
  tenant_id: z.string(),
  filename: z.string(),
  mime_type: z.string(),
  purpose: z.enum(["batch", "user_data"]),
  /** Of the whole, as it was announced. */
  bytes: z.number(),
  state: z.enum(["pending", "completed", "cancelled", "expired"]),
  created_at: z.string(),
  expires_at: z.string(),
});
/** A row of eve.uploads; the names are those of its columns. */
export type Upload = z.output<typeof upload>;

const part = z.object({ id: z.string(), sha256: z.string(), bytes: z.number() });
export type UploadPart = z.output<typeof part>;

/** Files that are sent in parts. Throws GatewayErrors: `not_found`, `invalid_request`, and what refuses the caller. */
export interface UploadRows {
  create(
    asked: { id: string; tenantId: string } & Pick<Upload, "filename" | "mime_type" | "purpose" | "bytes">,
    caller: JobCaller,
  ): Promise<Upload>;
  find(id: string, caller: JobCaller): Promise<{ upload: Upload; parts: UploadPart[] }>;
  /**
   * When it came.
   * @param atByte where it begins, of parts that come one behind the other; null: `complete` says it
   */
  addPart(uploadId: string, part: UploadPart, atByte: number | null, caller: JobCaller): Promise<string>;
  complete(id: string, partIds: readonly string[], caller: JobCaller): Promise<BatchFile>;
  cancel(id: string, caller: JobCaller): Promise<void>;
}

const TIMEOUT_MS = 15_000;

export function createUploadRows(transport: Transport, timeoutMs = TIMEOUT_MS): UploadRows {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    callUnlessRefused(transport, name, args, shape, timeoutMs);
  return {
    create: async ({ tenantId, ...file }, caller) =>
      (await ask(
        "eve_upload_create",
        { ...file, tenant_id: tenantId, ...asCaller(caller) },
        z.object({ upload }),
      )).upload,
    find: (id, caller) =>
      ask("eve_upload", { id, ...asCaller(caller) }, z.object({ upload, parts: z.array(part) })),
    addPart: async (uploadId, { id, sha256, bytes }, atByte, caller) =>
      (await ask(
        "eve_upload_part",
        { id, upload_id: uploadId, sha256, bytes, at_byte: atByte, ...asCaller(caller) },
        z.object({ created_at: z.string() }),
      )).created_at,
    complete: async (id, partIds, caller) =>
      (await ask(
        "eve_upload_complete",
        { id, part_ids: partIds, ...asCaller(caller) },
        z.object({ file }),
      )).file,
    async cancel(id, caller) {
      await ask("eve_upload_cancel", { id, ...asCaller(caller) }, z.unknown());
    },
  };
}
