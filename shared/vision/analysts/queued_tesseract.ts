import * as z from "zod";
import type { JobQueue } from "../../database/jobs/job_queue.ts";
import {
  type Analysis,
  AnalysisFailure,
  type AnalysisRequest,
  type Analyst,
  unsuitable,
} from "../analyst.ts";
import { MAX_RAW_CHARS, visionResult } from "../result.ts";
import { asAnalysisFailure } from "./failures.ts";
import { TESSERACT_CAPABILITIES, TESSERACT_MISSING } from "./tesseract.ts";

/** It costs no tokens, and no consumer's models have it among them. */
const PROJECT = { consumerId: null, tokenId: null } as const;

/** A job's result, as the runner of the kind `ocr` wrote it. */
const analysis = z.object({
  provider: z.string(),
  model: z.string(),
  result: visionResult,
  rawText: z.string().max(MAX_RAW_CHARS),
});

export interface OcrQueue extends Pick<JobQueue, "submit" | "find"> {
  newId: () => string;
}

/**
 * Tesseract where this process cannot run it, as in a hosted function: the picture becomes a job of the kind `ocr`, which a worker on a
 * machine that has it claims. Until it has ended the picture waits, and says for what.
 */
export function queuedTesseractAnalyst({ submit, find, newId }: OcrQueue): Analyst {
  async function analysed({ picture, tenantId, requestId }: AnalysisRequest): Promise<Analysis> {
    const { sha256, mimeType, sizeBytes, width, height } = picture;
    const { jobs } = await submit([{
      id: newId(),
      kind: "ocr",
      // A step that is repeated is the same job.
      requestId: `ocr.${requestId}`,
      body: {
        tenant_id: tenantId,
        file_sha256: sha256,
        mime_type: mimeType,
        size_bytes: sizeBytes,
        width,
        height,
      },
      class: "batch",
      models: ["tesseract"],
    }], PROJECT);
    const job = await find(jobs[0]!.id, PROJECT);
    if (job?.state === "succeeded") {
      return { ...analysis.parse(job.result), fault: null, inputTokens: 0, outputTokens: 0, replayed: true };
    }
    if (job === null || job.state === "queued" || job.state === "running") {
      // Nobody knows when: others who read may be asked meanwhile.
      const message = `a worker is waited for; here ${TESSERACT_MISSING}`;
      throw new AnalysisFailure("no_capacity", "tesseract_missing", message);
    }
    const { state, error_code: code, error_detail: detail } = job;
    throw new AnalysisFailure("refused", code ?? state, detail ?? `the job is ${state}`);
  }

  return {
    name: "tesseract",
    capabilities: TESSERACT_CAPABILITIES,
    estimatedTokens: () => 0,
    async analyse(request) {
      request.signal.throwIfAborted();
      const why = unsuitable(TESSERACT_CAPABILITIES, request.picture);
      if (why !== null) throw new AnalysisFailure("refused", "unsupported_feature", why);
      try {
        return await analysed(request);
      } catch (thrown) {
        request.signal.throwIfAborted();
        throw asAnalysisFailure(thrown);
      }
    },
  };
}
