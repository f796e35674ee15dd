import type { Capability } from "../../contract/block.ts";
import type { Answer, Prompt } from "../../contract/content.ts";
import type { GatewayRequest } from "../../contract/request.ts";
import type { GatewayResult } from "../../contract/result.ts";
import type { Grant } from "../../database/admission/reserve.ts";
import { checkJson, type JsonRequirement, jsonRequirement } from "../answers/answer_check.ts";
import { estimateTokens } from "../estimate/estimate.ts";
import { adaptPrompt, unfenced } from "../answers/prompt_adaptation.ts";
import { StreamAccumulator } from "../streams/stream_accumulator.ts";
import { outputLoweredTo, withOutputLimit } from "../answers/output_limit.ts";
import { resultToStore } from "../answers/recorded_result.ts";
import { capabilityOf } from "./capability.ts";
import { type Call, type Ended, type Served, type Task } from "./task.ts";
import { UsageMeter } from "../estimate/usage_meter.ts";

/** A request for an answer, whole or as a stream. */
export class ChatTask implements Task<Answer> {
  readonly asked: GatewayRequest;
  readonly operation = "chat";
  readonly hash: string | null;
  readonly #streams: boolean;
  readonly #accumulated: number | undefined;
  readonly #requirement: JsonRequirement | null;
  prompt: Prompt;
  models: string[];
  tokens: number;
  /** One repair is made; a model that breaks its schema twice would do so a third time. */
  #repaired = false;
  /** Features that models have refused while this request ran; the database learns of them at the same time. */
  #lacking = new Map<string, Set<Capability>>();

  /** @param options.accumulated characters of a stream that are put together; absent: as many as are stored for repetitions */
  constructor(
    request: GatewayRequest,
    options: { streams: boolean; hash: string | null; accumulated?: number | undefined },
  ) {
    this.asked = request;
    this.#accumulated = options.accumulated;
    this.hash = options.hash;
    this.#streams = options.streams;
    this.prompt = request.prompt;
    this.models = request.models;
    this.tokens = this.#estimate();
    this.#requirement = jsonRequirement(request.prompt);
  }

  get question(): Prompt {
    return this.prompt;
  }

  prepare(grant: Grant): Call<Answer> {
    const lacking = this.#lacking.get(grant.model);
    const capabilities = { ...grant.capabilities };
    for (const capability of lacking ?? []) capabilities[capability] = false;
    const limited = withOutputLimit(this.prompt, grant.maxOutputTokens);
    const prompt = adaptPrompt(limited, capabilities, grant.model);
    const check = (served: Served<Answer>, whole = true) =>
      whole ? checkJson(this.#requirement, served) : served;
    if (this.#streams) return streamed(prompt, grant, check, this.#accumulated);
    return async (provider, to) => {
      const { answer: value, usage, ...rest } = await capabilityOf(provider, "text").generate({
        ...to,
        prompt,
      });
      const answer = capabilities.json ? value : unfenced(value);
      return check({ ...rest, value: answer, usage: usage ?? estimateOf(grant, answer) });
    };
  }

  /** System text and JSON mode can be put into words; tools cannot, but another of the client's models may have them. */
  without(capability: Capability, model: string): boolean {
    const lacking = this.#lacking.get(model) ?? new Set();
    if (lacking.has(capability)) return false;
    this.#lacking.set(model, lacking.add(capability));
    if (capability !== "tools") return true;
    const others = this.models.filter((other) => other !== model);
    if (others.length === 0 || others.length === this.models.length) return false;
    this.models = others;
    return true;
  }

  repair({ value, verdict }: Served<Answer>): boolean {
    if (verdict.ok || verdict.code !== "schema_mismatch" || this.asked.schemaRepair !== true) return false;
    if (this.#repaired) return false;
    const given = value.candidates?.[0]?.content;
    if (given === undefined) return false;
    const instruction =
      `That answer does not match the JSON schema: ${verdict.reason}. Answer again with the whole JSON, corrected, and nothing else.`;
    this.prompt = {
      ...this.prompt,
      contents: [...this.asked.prompt.contents, given, { role: "user", parts: [{ text: instruction }] }],
    };
    this.tokens = this.#estimate();
    this.#repaired = true;
    return true;
  }

  #estimate(): number {
    return estimateTokens(this.prompt) + (this.asked.cachedContentTokens ?? 0);
  }

  resultToStore = (ended: Ended<Answer>) => resultToStore(this.asked, resultOf(this.asked, ended));
}

export function resultOf(request: GatewayRequest, { grant, served, waitMs }: Ended<Answer>): GatewayResult {
  return {
    requestId: request.id,
    model: grant.model,
    requestedModel: grant.requestedModel,
    replaced: grant.replaced,
    answer: served.value,
    verdict: served.verdict,
    finishReason: served.finishReason,
    usage: served.usage,
    outputLoweredTo: outputLoweredTo(request.prompt, grant),
    keyAlias: grant.key.alias,
    attempts: grant.attempt,
    waitMs,
    limits: grant.limits,
    replayed: false,
  };
}

function streamed(
  prompt: Prompt,
  grant: Grant,
  check: (served: Served<Answer>, whole: boolean) => Served<Answer>,
  accumulated: number | undefined,
): Call<Answer> {
  return async (provider, to, emit) => {
    const meter = new UsageMeter(grant.tokens);
    const accumulator = new StreamAccumulator(accumulated);
    const usageSoFar = () => meter.estimate();
    const chunks = capabilityOf(provider, "text").stream({ ...to, prompt });
    try {
      for (;;) {
        const step = await chunks.next();
        if (step.done) {
          const { usage, ...rest } = step.value;
          const value = accumulator.answer();
          return check({ ...rest, value, usage: usage ?? usageSoFar() }, accumulator.whole);
        }
        const { answer, usage } = step.value;
        meter.add(answer, usage);
        accumulator.add(answer);
        await emit({ chunk: answer, usageSoFar });
      }
    } finally {
      // Where it has not come to its end, this ends the connection.
      await chunks.return(undefined as never).catch(() => {});
    }
  };
}

/** Usage where upstream reported none: what was booked, and an estimate of what it wrote. */
function estimateOf(grant: Grant, answer: Answer) {
  const meter = new UsageMeter(grant.tokens);
  meter.add(answer, null);
  return meter.estimate();
}
