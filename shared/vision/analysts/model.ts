import type { Caller } from "../../contract/caller.ts";
import { type Part, type Prompt, textOf } from "../../contract/content.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import type { Gateway } from "../../contract/gateway.ts";
import { asGatewayError } from "../../contract/gateway_error.ts";
import type { GatewayResult } from "../../contract/result.ts";
import type { ResolveTarget, Target } from "../../contract/target.ts";
import type { Clock } from "../../runtime/clock.ts";
import { toBase64 } from "../../runtime/base64.ts";
import { GIGACHAT_IMAGE_TYPES, MAX_GIGACHAT_IMAGE_BYTES } from "../../providers/gigachat/files.ts";
import {
  type Analysis,
  AnalysisFailure,
  type AnalysisRequest,
  type Analyst,
  type AnalystCapabilities,
  type Resolution,
  unsuitable,
} from "../analyst.ts";
import { ANALYSIS_PROMPT, OCR_PROMPT, onceMore } from "../prompt.ts";
import { MAX_RAW_CHARS, parsedResult, textResult, VISION_JSON_SCHEMA } from "../result.ts";
import { asAnalysisFailure } from "./failures.ts";

/** A page of dense print in Russian takes some 2,000 tokens; models that think need as many again. */
const MAX_OUTPUT_TOKENS = 8_192;
/** The prompt's text, with the schema in it and beside it. */
const PROMPT_TOKENS = 1_500;
/** What a picture costs at most, on Gemini 3; no other model here takes more. */
const IMAGE_TOKENS: Readonly<Record<Resolution, number>> = {
  low: 280,
  medium: 560,
  high: 1_120,
  ultra_high: 2_240,
};
/** Ids under which runs of one step may have ended without an answer that was kept. */
const MAX_CALL_IDS = 20;
/** What the gateway says of an id that can bring no answer any more. */
const TAKEN: ReadonlySet<ErrorCode> = new Set(["request_finished", "request_id_reused"]);

/** As the documentation of each says. Gemini takes 20 MB a request with all that is inline, in Base64. */
const CAPABILITIES: Readonly<Record<string, Pick<AnalystCapabilities, "mimeTypes" | "maxBytes">>> = {
  google: {
    mimeTypes: new Set(["image/jpeg", "image/png", "image/webp", "image/heic", "image/heif"]),
    maxBytes: 14 * 1_000_000,
  },
  openai: {
    mimeTypes: new Set(["image/jpeg", "image/png", "image/webp", "image/gif"]),
    maxBytes: 14 * 1_000_000,
  },
  gigachat: { mimeTypes: GIGACHAT_IMAGE_TYPES, maxBytes: MAX_GIGACHAT_IMAGE_BYTES },
};

/**
 * How long a call of these models may wait for its start in a lane: of a caller's some wait as long as it takes, and the others ask another
 * analyst soon. `leave` is to be called when it is over.
 */
export type JoinLine = (
  caller: Caller,
  models: readonly string[],
) => Promise<{ waitMs: number; leave: () => void }>;

export interface ModelAnalystOptions {
  gateway: Pick<Gateway, "invoke">;
  resolve: ResolveTarget;
  clock: Pick<Clock, "now">;
  joinLine: JoinLine;
  /** A model by its name in the gateway (`gemini-3.5-flash`, `gigachat/GigaChat-2-Pro`), or a stage (`stage:VISION`). */
  target: Target;
  /** Whose limits hold, as in a key's `provider`. */
  provider: "google" | "openai" | "gigachat";
  /** `ocr`: it reads the text and nothing else. */
  task?: "analysis" | "ocr";
}

/**
 * A model looks at the picture, through the gateway as any other call: in its lane, by its keys, in the class `batch`. What an earlier
 * run of the step was answered is answered again and not paid for twice.
 */
export function modelAnalyst(options: ModelAnalystOptions): Analyst {
  const { gateway, resolve, clock, joinLine, target, provider, task = "analysis" } = options;
  const targetName = target.kind === "stage" ? `stage:${target.stageType}` : target.models.join(",");
  const capabilities: AnalystCapabilities = {
    ...CAPABILITIES[provider]!,
    maxPixels: null,
    spendsTokens: true,
    readsTextOnly: task === "ocr",
  };

  async function asked(request: AnalysisRequest): Promise<GatewayResult> {
    const { caller, signal, requestId, traceId, tenantId, picture, estimate } = request;
    const served = await resolve(target, caller);
    const bytes = await picture.bytes(signal);
    const prompt = promptOf(bytes, request, targetName, task);
    const { waitMs, leave } = await joinLine(caller, served.models);
    try {
      for (let run = 1;; run++) {
        try {
          return await gateway.invoke({
            ...served,
            id: run === 1 ? requestId : `${requestId}.${run}`,
            idIsClients: true,
            endpoint: "native",
            class: "batch",
            maxWaitMs: waitMs,
            metadata: { vision: picture.sha256.slice(0, 16), tenant: tenantId },
            traceId,
            // The picture is kept already, and in the record of calls it would be kept for ever larger tables.
            capture: false,
            ...(estimate !== null && { visionEstimate: estimate }),
            prompt,
          }, { caller, signal, receivedAt: clock.now() });
        } catch (thrown) {
          // An earlier run ended without an answer that was kept, or the step was another model's before: this one is another request.
          if (!TAKEN.has(asGatewayError(thrown).code) || run === MAX_CALL_IDS) throw thrown;
        }
      }
    } finally {
      leave();
    }
  }

  return {
    name: `${task === "ocr" ? "ocr_model" : "model"}:${targetName}`,
    capabilities,
    estimatedTokens: (_, resolution) => PROMPT_TOKENS + IMAGE_TOKENS[resolution] + MAX_OUTPUT_TOKENS,
    async analyse(request) {
      const { signal } = request;
      signal.throwIfAborted();
      const why = unsuitable(capabilities, request.picture);
      if (why !== null) throw new AnalysisFailure("refused", "unsupported_feature", why);
      let result: GatewayResult;
      try {
        result = await asked(request);
      } catch (thrown) {
        signal.throwIfAborted();
        throw asAnalysisFailure(thrown);
      }
      return analysisOf(result, provider, task);
    },
  };
}

function analysisOf(
  { answer, verdict, usage, model, replayed }: GatewayResult,
  provider: string,
  task: "analysis" | "ocr",
): Analysis {
  const text = textOf(answer);
  const { inputTokens } = usage;
  const outputTokens = (usage.outputTokens ?? 0) + (usage.thoughtsTokens ?? 0);
  if (!verdict.ok && verdict.code === "content_blocked") {
    throw new AnalysisFailure("refused", "content_blocked", `the model's filters said ${verdict.reason}`, {
      spentTokens: inputTokens + outputTokens,
    });
  }
  const rawText = text.slice(0, MAX_RAW_CHARS);
  const facts = { provider, model, rawText, inputTokens, outputTokens, replayed };
  if (!verdict.ok && task === "ocr") {
    // No text in the picture is an answer, and the right one.
    return verdict.code === "empty_answer" && verdict.reason === "STOP"
      ? { ...facts, result: textResult("", null), fault: null }
      : { ...facts, result: null, fault: `${verdict.code}: ${verdict.reason}` };
  }
  if (task === "ocr") return { ...facts, result: textResult(text, null), fault: null };
  if (!verdict.ok && verdict.code !== "schema_mismatch") {
    return { ...facts, result: null, fault: `${verdict.code}: ${verdict.reason}` };
  }
  // Models without a JSON mode put a fence around it, which the gateway's check calls a mismatch.
  const parsed = parsedResult(text);
  return parsed.ok
    ? { ...facts, result: parsed.result, fault: null }
    : { ...facts, result: null, fault: parsed.fault };
}

function promptOf(
  bytes: Uint8Array,
  { picture, resolution, earlierFault }: AnalysisRequest,
  targetName: string,
  task: "analysis" | "ocr",
): Prompt {
  const words = task === "ocr" ? OCR_PROMPT : ANALYSIS_PROMPT;
  const text = earlierFault === undefined ? words : `${words}\n${onceMore(earlierFault)}`;
  const { inRequest, inPart } = resolutionFields(targetName, resolution);
  const image: Part = { inlineData: { mimeType: picture.mimeType, data: toBase64(bytes) }, ...inPart };
  return {
    contents: [{ role: "user", parts: [image, { text }] }],
    generationConfig: {
      // The same picture gets the same answer, as far as a model can.
      temperature: 0,
      maxOutputTokens: MAX_OUTPUT_TOKENS,
      ...inRequest,
      ...(task === "analysis" && {
        responseMimeType: "application/json",
        responseJsonSchema: VISION_JSON_SCHEMA,
      }),
    },
  };
}

/** Gemini takes a resolution for a request, Gemini 3 and later for each part too, and the highest there alone; Gemma has no such choice. */
function resolutionFields(
  targetName: string,
  resolution: Resolution,
): { inRequest?: Record<string, unknown>; inPart?: Record<string, unknown> } {
  const version = /(?:^|\/)gemini-(\d+)/.exec(targetName)?.[1];
  if (version === undefined) return {};
  if (resolution === "ultra_high" && Number(version) >= 3) {
    return { inPart: { mediaResolution: { level: "MEDIA_RESOLUTION_ULTRA_HIGH" } } };
  }
  const level = resolution === "ultra_high" ? "high" : resolution;
  return { inRequest: { mediaResolution: `MEDIA_RESOLUTION_${level.toUpperCase()}` } };
}
