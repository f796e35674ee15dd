import * as z from "zod";
import type { Media } from "../media/storage.ts";
import { AnalysisFailure } from "../vision/analyst.ts";
import { tesseractAnalyst, type TesseractProgram } from "../vision/analysts/tesseract.ts";
import { asAnalysisFailure } from "../vision/analysts/failures.ts";
import { storedPicture } from "../vision/stored_picture.ts";
import { callerOf } from "./job_caller.ts";
import type { JobRunner, RunOutcome } from "./job_runner.ts";

/** Where the machine has no room now. */
const LATER_MS = 30_000;

/** Body of a job of the kind `ocr`: a picture among the media, as its header was read. */
export const ocrJob = z.object({
  tenant_id: z.string().min(1).max(100),
  file_sha256: z.string().regex(/^[0-9a-f]{64}$/),
  mime_type: z.string().min(1).max(127),
  size_bytes: z.number().int().min(1),
  width: z.number().int().min(1),
  height: z.number().int().min(1),
});

export interface OcrRunnerOptions {
  program: TesseractProgram;
  media: () => Promise<Media>;
}

/** Reads the text of a picture with the program of this machine. The job's result is the analysis. */
export function ocrRunner({ program, media }: OcrRunnerOptions): JobRunner {
  const analyst = tesseractAnalyst(program);
  return async (job, { signal }) => {
    const body = ocrJob.parse(job.body);
    const { tenant_id: tenantId, file_sha256: sha256, mime_type: mimeType, size_bytes: sizeBytes } = body;
    const { width, height } = body;
    try {
      const result = await analyst.analyse({
        picture: storedPicture(media, { tenantId, sha256, mimeType, sizeBytes, width, height }),
        resolution: "high",
        requestId: job.id,
        traceId: null,
        tenantId,
        caller: callerOf(job),
        // By the job that waits for this one.
        estimate: null,
        signal,
      });
      return { kind: "done", result };
    } catch (thrown) {
      return signal.aborted ? { kind: "unspent" } : outcomeOf(asAnalysisFailure(thrown));
    }
  };
}

function outcomeOf({ kind, code, message, retryAfterMs }: AnalysisFailure): RunOutcome {
  if (kind === "no_capacity") return { kind: "unspent", delayMs: retryAfterMs ?? LATER_MS };
  return { kind: "failed", failure: { code, message, retryable: kind === "retryable", retryAfterMs } };
}
