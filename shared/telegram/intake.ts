import type { Actor } from "../contract/actor.ts";
import { asGatewayError, GatewayError } from "../contract/gateway_error.ts";
import type { AppliedUpdate, BegunUpdate, TelegramRows, UpdateJob } from "../database/posts/telegram.ts";
import { checkedType } from "../media/file_type.ts";
import type { Media } from "../media/storage.ts";
import { uploadFile } from "../media/upload/upload.ts";
import type { Log } from "../runtime/log.ts";
import { type Attachment, attachmentOf, type FileToFetch } from "./attachment.ts";
import { type BotApi, MAX_FILE_BYTES } from "./bot_api.ts";
import { byteGate } from "./byte_gate.ts";
import { readDeleted, readMessage } from "./message.ts";

export interface IntakeDependencies {
  rows: TelegramRows;
  /** Of the bot that a job names. @throws GatewayError `telegram_not_set_up` */
  bot: (botId: number) => BotApi;
  media: () => Promise<Media>;
  log: Log;
}

export type IntakeOutcome =
  | { kind: "ended"; applied: AppliedUpdate }
  /** Its file could not be fetched or stored: the post is there and says so, and the update waits. */
  | { kind: "later"; error: GatewayError };

/** Of a function's 256 MB; a file is there twice while it is sent on. */
const MAX_BYTES_AT_ONCE = 40_000_000;
/** Of a photo whose size nobody says. */
const UNKNOWN_BYTES = 5_000_000;
const PROJECT: Actor = { kind: "project" };
const MAX_REASON_CHARS = 200;

/** What a file is not taken for, for good: another try would end as this one. */
const FINAL: Readonly<Partial<Record<GatewayError["code"], Attachment["status"]>>> = {
  file_too_large: "too_large",
  media_type_mismatch: "refused",
  invalid_request: "refused",
};

/**
 * Does one update: reads its message, fetches its file, stores it within the tenant's quota, and has its post made, changed or deleted. It may be
 * done again at any place; what an earlier run has stored is not fetched twice.
 */
export function createIntake({ rows, bot, media, log }: IntakeDependencies) {
  const gate = byteGate(MAX_BYTES_AT_ONCE);

  return async function take(job: UpdateJob, signal: AbortSignal): Promise<IntakeOutcome> {
    const begun = await rows.begin(job);
    if (begun.status === "ended") return { kind: "ended", applied: { status: "ended" } };
    const { kind, update } = begun;
    const ended = async (
      said: Record<string, unknown> | null,
      reason: string | null,
    ): Promise<IntakeOutcome> => ({
      kind: "ended",
      applied: await rows.apply(job, said, { reason, ends: true }),
    });
    if (kind === "deleted_business_messages") {
      const deleted = readDeleted(update[kind]);
      return await ended(deleted === null ? null : { ...deleted }, deleted === null ? "not_readable" : null);
    }
    const message = readMessage(update[kind], kind.includes("business"));
    if (message === null) return await ended(null, "not_readable");
    const found = attachmentOf(update[kind] as Record<string, unknown>, begun.wanted);
    // Somebody has joined, a chat has a new title, ...
    if (message.text === "" && found === null) return await ended(null, "nothing_to_keep");
    if (found === null || found.file === null) {
      return await ended({ ...message, attachment: found?.attachment ?? null }, null);
    }
    const { attachment, file } = found;
    try {
      const stored = await fetched(job.botId, begun, attachment, file, signal);
      return await ended({ ...message, attachment: stored }, null);
    } catch (thrown) {
      signal.throwIfAborted();
      const error = asGatewayError(thrown);
      if (error.code === "jobs_full" || error.code === "database_unavailable") throw error;
      const reason = error.publicMessage.slice(0, MAX_REASON_CHARS).toWellFormed();
      const final = FINAL[error.code];
      if (final !== undefined) {
        return await ended({ ...message, attachment: { ...attachment, status: final, reason } }, error.code);
      }
      log("warn", "telegram_file_waits", {
        trace_id: begun.trace_id,
        update_id: job.updateId,
        code: error.code,
        detail: error.detail,
      });
      await rows.apply(job, { ...message, attachment: { ...attachment, reason } }, {
        reason: error.code,
        ends: false,
      });
      return { kind: "later", error };
    }
  };

  async function fetched(
    botId: number,
    { tenant_id: tenantId, files }: Extract<BegunUpdate, { status: "begun" }>,
    attachment: Attachment,
    file: FileToFetch,
    signal: AbortSignal,
  ): Promise<Attachment> {
    const known = attachment.file_unique_id === undefined ? undefined : files[attachment.file_unique_id];
    if (known !== undefined) return { ...attachment, status: "stored", sha256: known };
    // A document's size is known; a video's is that of the video.
    const bytesAhead = attachment.kind === "document" || attachment.kind === "photo"
      ? attachment.size_bytes ?? MAX_FILE_BYTES
      : UNKNOWN_BYTES;
    return await gate(bytesAhead, async () => {
      signal.throwIfAborted();
      const body = await bot(botId).download(file.fileId, signal);
      const mimeType = await typeOf(body, file);
      const { object } = await uploadFile(await media(), PROJECT, {
        tenantId,
        kind: "media",
        mimeType,
        body,
        metadata: {},
        links: {},
        vision: null,
      });
      return { ...attachment, status: "stored", sha256: object.sha256 };
    });
  }
}

/** What the file is, where that is among what is accepted; otherwise what it was called, which the store checks. */
async function typeOf(body: Uint8Array<ArrayBuffer>, { mimeType, accepts }: FileToFetch): Promise<string> {
  const declared = await checkedType(body, "application/octet-stream").catch(() => null);
  if (declared !== null && accepts(declared)) return declared;
  if (mimeType === null) {
    throw new GatewayError("media_type_mismatch", {
      message: "The file is no picture, though Telegram calls it one.",
    });
  }
  return mimeType;
}
