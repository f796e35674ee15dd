import { GatewayError } from "../../contract/gateway_error.ts";
import type { GatewayRequest } from "../../contract/request.ts";
import type { ServedStage } from "../../contract/target.ts";
import type { Jobs } from "../../database/jobs.ts";
import type { Grant } from "../../database/admission/reserve.ts";
import type { JobProgress } from "../../providers/provider.ts";
import { estimateTokens } from "../estimate/estimate.ts";
import { capabilityOf } from "./capability.ts";
import { type Call, type Ended, type Task } from "./task.ts";

export interface JobTerms {
  id: string;
  stage: ServedStage;
  consumerId: string | null;
  hash: string | null;
  jobs: Pick<Jobs, "begin">;
  callbackUrl: string;
}

/** The submission of a job: admitted, booked and settled like a call, and over when upstream has taken it. */
export class JobTask implements Task<JobProgress> {
  readonly asked: GatewayRequest;
  readonly operation = "generate_content";
  readonly hash: string | null;
  readonly #terms: JobTerms;
  readonly #text: string;
  readonly #tokens: number;

  constructor(request: GatewayRequest, terms: JobTerms) {
    this.asked = request;
    this.hash = terms.hash;
    this.#terms = terms;
    this.#text = textOf(request);
    this.#tokens = estimateTokens(request.prompt);
  }

  models = () => this.asked.models;
  tokens = () => this.#tokens;
  maxOutput = () => 0;
  outputLoweredTo = () => null;
  countable = () => null;
  question = () => this.asked.prompt;
  without = () => false;
  repair = () => false;
  /** A client that asks again with the same id gets the same job. */
  resultToStore = (_ended: Ended<JobProgress>) =>
    this.asked.idIsClients ? { version: 1, job_id: this.#terms.id } : null;

  prepare(grant: Grant): Call<JobProgress> {
    const { id, stage, consumerId, jobs, callbackUrl } = this.#terms;
    return async (provider, to) => {
      const { submit } = capabilityOf(provider, "jobs");
      // Written down first: what upstream has taken, and wants to be paid for, must not be lost.
      await jobs.begin({
        id,
        stageType: stage.stageType,
        providerKind: stage.providerKind,
        model: grant.model,
        keyName: grant.key.envVarName,
        settings: { ...to.settings },
        requestId: this.asked.id,
        requestNo: grant.requestNo,
        consumerId,
      });
      const options = this.asked.prompt.generationConfig ?? {};
      const value = await submit({ ...to, text: this.#text, options, callbackUrl });
      return {
        value,
        verdict: value.state === "failed"
          ? { ok: false, code: value.code, reason: value.reason }
          : { ok: true },
        finishReason: null,
        usage: {
          inputTokens: grant.tokens,
          outputTokens: 0,
          thoughtsTokens: null,
          cachedTokens: null,
          totalTokens: grant.tokens,
          estimated: true,
        },
      };
    };
  }
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
