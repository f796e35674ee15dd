import type { Caller } from "../contract/caller.ts";
import type { VisionEstimate } from "../contract/request.ts";
import type { VisionResult } from "./result.ts";

/** How closely a picture is looked at: the more, the more tokens. Those that have no such choice look as they do. */
export const RESOLUTIONS = ["low", "medium", "high", "ultra_high"] as const;
export type Resolution = (typeof RESOLUTIONS)[number];

/** A picture that is stored. Its header has been read: it is of its type, and no bomb. */
export interface Picture {
  /** Of the bytes, 64 small hexadecimal digits. */
  sha256: string;
  /** Without parameters: `image/jpeg`. */
  mimeType: string;
  sizeBytes: number;
  /** Pixels, as shown: turned as EXIF says. */
  width: number;
  height: number;
  /** Reads it from its store: only when it is needed, and again at each call. @throws GatewayError */
  bytes(signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}

export interface AnalysisRequest {
  picture: Picture;
  resolution: Resolution;
  /**
   * Of this step and no other, the same whenever the step is repeated (at most 100 characters): who was answered under an id is answered
   * the same again, and pays once.
   */
  requestId: string;
  /** 32 hexadecimal digits; null: none. */
  traceId: string | null;
  tenantId: string;
  /** Who is charged. */
  caller: Caller;
  /** Of one that spends tokens: what its call takes of the tenant's budgets, together with its start. Null: it is taken already. */
  estimate: VisionEstimate | null;
  /** Why an earlier answer did not hold: the model is told, under another `requestId`. */
  earlierFault?: string;
  /** The job is not the worker's any more, or time is up. */
  signal: AbortSignal;
}

/** What came back and was paid for, whether or not it holds. */
export interface Analysis {
  /** Who did it: `google`, `gigachat`, `openai`, `tesseract`, ... */
  provider: string;
  /** The model that served, by its name in the gateway; of OCR the program or service with its version. */
  model: string;
  /** Null: the answer does not hold, and `fault` says why. */
  result: VisionResult | null;
  fault: string | null;
  /** The answer as it came, at most `MAX_RAW_CHARS`. */
  rawText: string;
  /** 0 where no tokens are spent. */
  inputTokens: number;
  /** Thoughts among them. */
  outputTokens: number;
  /** True: an earlier run was answered so; nothing was paid now. */
  replayed: boolean;
}

/** What an analyst takes, known without asking it. */
export interface AnalystCapabilities {
  mimeTypes: ReadonlySet<string>;
  /** The largest picture. */
  maxBytes: number;
  /** Width times height; null: no limit of its own. */
  maxPixels: number | null;
  /** False: token budgets do not concern it. True: it calls a model, and takes its estimate of budgets with the slot of the model's lane. */
  spendsTokens: boolean;
  /** True: it reads text, and answers with `ocr_text` alone. */
  readsTextOnly: boolean;
}

/** One way to find out what a picture shows. One call of `analyse` is at most one answer that is paid for. */
export interface Analyst {
  /** As routing, the cache's key, metrics and messages name it: `model:gemini-3.5-flash`, `tesseract`. */
  name: string;
  capabilities: AnalystCapabilities;
  /** Tokens that a picture will cost, in and out, rather too many: for the budget. 0 where none are spent. */
  estimatedTokens(picture: Pick<Picture, "width" | "height">, resolution: Resolution): number;
  /** @throws AnalysisFailure, and the signal's reason when it aborts */
  analyse(request: AnalysisRequest): Promise<Analysis>;
}

/**
 * `no_capacity`: nothing was sent, for lack of room in a lane, a budget or a program: later, or another analyst.
 * `retryable`: it broke off; the same may succeed later.
 * `refused`: this analyst will not do it: the picture, the filters or the set-up are against it. Another one may.
 */
export type AnalysisFailureKind = "no_capacity" | "retryable" | "refused";

export class AnalysisFailure extends Error {
  readonly kind: AnalysisFailureKind;
  /** A code of `contract/errors.ts`, or a word of the same form: `tesseract_missing`. */
  readonly code: string;
  /** When to come back, in ms; null: no time is known. */
  readonly retryAfterMs: number | null;
  /** Tokens that were paid for nevertheless, in and out, as far as is known. */
  readonly spentTokens: number;

  /** @param message for the owner: what happened, without secrets */
  constructor(
    kind: AnalysisFailureKind,
    code: string,
    message: string,
    { retryAfterMs = null, spentTokens = 0 }: { retryAfterMs?: number | null; spentTokens?: number } = {},
  ) {
    super(message);
    this.name = "AnalysisFailure";
    this.kind = kind;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.spentTokens = spentTokens;
  }
}

/** Why an analyst does not take a picture; null: it does. */
export function unsuitable(
  { mimeTypes, maxBytes, maxPixels }: AnalystCapabilities,
  { mimeType, sizeBytes, width, height }: Omit<Picture, "bytes" | "sha256">,
): string | null {
  if (!mimeTypes.has(mimeType)) return `${mimeType} is not among its types`;
  if (sizeBytes > maxBytes) return `${sizeBytes} bytes are more than its ${maxBytes}`;
  if (maxPixels !== null && width * height > maxPixels) {
    return `${width} x ${height} pixels are more than its ${maxPixels}`;
  }
  return null;
}
