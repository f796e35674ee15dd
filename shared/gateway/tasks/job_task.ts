import { GatewayError } from "../../contract/gateway_error.ts";
import type { GatewayRequest } from "../../contract/request.ts";
import type { ServedStage } from "../../contract/target.ts";
import type { Jobs } from "../../database/jobs/jobs.ts";
import type { JobProgress } from "../../providers/provider.ts";
import { estimateTokens } from "../estimate/estimate.ts";
import { capabilityOf } from "./capability.ts";
import { bookedUsage, type Task } from "./task.ts";

export interface JobTerms {
  id: string;
  stage: ServedStage;
  consumerId: string | null;
  hash: string | null;
  jobs: Pick<Jobs, "begin">;
  callbackUrl: string;
}

/** The submission of a job: admitted, booked and settled like a call, and over when upstream has taken it. */
export function jobTask(request: GatewayRequest, terms: JobTerms): Task<JobProgress> {
  const { id, stage, consumerId, hash, jobs, callbackUrl } = terms;
  const text = textOf(request);
  return {
    asked: request,
    operation: "generate_content",
    hash,
    tokens: estimateTokens(request.prompt),
    question: request.prompt,
    prepare: (grant) => async (provider, to) => {
      const { submit } = capabilityOf(provider, "jobs");
      // Written down first: what upstream has taken, and wants to be paid for, must not be lost.
      await jobs.begin({
        id,
        stageType: stage.stageType,
        providerKind: stage.providerKind,
        model: grant.model,
        keyName: grant.key.source.name,
        settings: { ...to.settings },
        requestId: request.id,
        requestNo: grant.requestNo,
        consumerId,
      });
      const options = request.prompt.generationConfig ?? {};
      const value = await submit({ ...to, text, options, callbackUrl });
      return {
        value,
        verdict: value.state === "failed"
          ? { ok: false, code: value.code, reason: value.reason }
          : { ok: true },
        finishReason: null,
        usage: bookedUsage(grant),
      };
    },
    // A client that asks again with the same id gets the same job.
    resultToStore: () => request.idIsClients ? { version: 1, job_id: id } : null,
  };
}

/** What is to be said, sung or shown: every text of the prompt. Anything else these providers do not take. */
function textOf({ prompt }: GatewayRequest): string {
  const parts = prompt.contents.flatMap(({ parts = [] }) => parts);
  const other = parts.find((part) => typeof part.text !== "string");
  if (other !== undefined || prompt.systemInstruction !== undefined || prompt.tools !== undefined) {
    throw new GatewayError("unsupported_feature", {
      message: "This stage takes text alone: leave instructions, tools and other parts out.",
    });
  }
  return parts.map(({ text }) => text).join("\n");
}
