import * as z from "zod";
import { analysePicture, type AnalysisDependencies } from "../vision/analyse_picture.ts";
import { callerOf } from "./job_caller.ts";
import type { JobRunner } from "./job_runner.ts";

const visionJob = z.object({
  tenant_id: z.string(),
  post_id: z.string(),
  file_sha256: z.string(),
  trace_id: z.string().nullish(),
});

/** Looks at pictures of posts (eve.vision_queue hands them in). */
export function visionRunner(dependencies: AnalysisDependencies): JobRunner {
  return async (job, { signal }) => {
    const body = visionJob.parse(job.body);
    try {
      const outcome = await analysePicture(
        {
          jobId: job.id,
          tenantId: body.tenant_id,
          postId: body.post_id,
          sha256: body.file_sha256,
          traceId: body.trace_id ?? null,
        },
        callerOf(job),
        dependencies,
        signal,
      );
      switch (outcome.kind) {
        case "ended":
          return { kind: "done", result: { status: outcome.status } };
        case "later":
          return { kind: "unspent", delayMs: outcome.delayMs };
        case "failed":
          return {
            kind: "failed",
            failure: { code: outcome.code, message: outcome.message, retryable: true },
          };
      }
    } catch (thrown) {
      if (signal.aborted) return { kind: "unspent" };
      throw thrown;
    }
  };
}
