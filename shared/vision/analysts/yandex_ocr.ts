import { ProviderFailure } from "../../providers/provider.ts";
import {
  MAX_YANDEX_OCR_BYTES,
  MAX_YANDEX_OCR_PIXELS,
  recognizeText,
  YANDEX_OCR_MODEL,
  YANDEX_OCR_REQUESTS_A_SECOND,
  YANDEX_OCR_TYPES,
  type YandexOcrOptions,
} from "../../providers/yandex/vision_ocr.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { ReadVariable } from "../../runtime/settings.ts";
import { AnalysisFailure, type Analyst, type AnalystCapabilities, unsuitable } from "../analyst.ts";
import { MAX_RAW_CHARS, textResult } from "../result.ts";
import { asAnalysisFailure } from "./failures.ts";

/** Variables that hold the key; the first that is set does. */
const KEY_VARIABLES = ["YANDEX_OCR_API_KEY", "YANDEX_API_KEY"] as const;

/** A page takes some seconds; a hung call would hold up those behind it. */
const RECOGNIZE_TIMEOUT_MS = 30_000;
/** Between two calls: what the quota leaves, and some for the way, which may be longer for one than for the next. */
const APART_MS = 1_000 / YANDEX_OCR_REQUESTS_A_SECOND + 100;
/** How long a call waits here for its turn: others come back later, and leave the worker to other jobs. */
const MAX_WAIT_MS = 5_000;

const CAPABILITIES: AnalystCapabilities = {
  mimeTypes: YANDEX_OCR_TYPES,
  maxBytes: MAX_YANDEX_OCR_BYTES,
  maxPixels: MAX_YANDEX_OCR_PIXELS,
  spendsTokens: false,
  readsTextOnly: true,
};

/** What the environment says of it; null: it is not set up. */
export function yandexOcrOptions(read: ReadVariable, request: typeof fetch): YandexOcrOptions | null {
  const value = (name: string) => read(name)?.trim() || undefined;
  const apiKey = KEY_VARIABLES.map(value).find((key) => key !== undefined);
  const folderId = value("YANDEX_FOLDER_ID");
  if (apiKey === undefined || folderId === undefined) return null;
  return { apiKey, folderId, baseUrl: value("YANDEX_OCR_BASE_URL"), fetch: request };
}

/**
 * The next turn of all processes together, at least `apartMs` after the one before; none is taken of which one would have to wait more than
 * `mostMs`.
 */
export type TakeTurn = (
  of: string,
  apartMs: number,
  mostMs: number,
) => Promise<{ is_taken: boolean; wait_ms: number }>;

/** Yandex Vision OCR reads the text. One call a second is what a project may make without asking for more. */
export function yandexOcrAnalyst(options: YandexOcrOptions, takeTurn: TakeTurn, clock: Clock): Analyst {
  async function turn(signal: AbortSignal): Promise<void> {
    const { is_taken, wait_ms } = await takeTurn(`yandex-ocr:${options.folderId}`, APART_MS, MAX_WAIT_MS);
    if (!is_taken) {
      const message = "as many pictures wait for Yandex Vision as may";
      throw new AnalysisFailure("no_capacity", "rate_limited", message, { retryAfterMs: wait_ms });
    }
    if (wait_ms > 0) await clock.sleep(wait_ms, signal);
  }

  return {
    name: "yandex_ocr",
    capabilities: CAPABILITIES,
    estimatedTokens: () => 0,
    async analyse({ picture, signal }) {
      signal.throwIfAborted();
      const why = unsuitable(CAPABILITIES, picture);
      if (why !== null) throw new AnalysisFailure("refused", "unsupported_feature", why);
      let text: string;
      const timeout = new AbortController();
      try {
        const bytes = await picture.bytes(signal);
        await turn(signal);
        clock.sleep(RECOGNIZE_TIMEOUT_MS, timeout.signal).then(() => timeout.abort(), () => {});
        text = await recognizeText(options, {
          picture: bytes,
          mimeType: picture.mimeType,
          signal: AbortSignal.any([signal, timeout.signal]),
        });
      } catch (thrown) {
        signal.throwIfAborted();
        if (timeout.signal.aborted) {
          throw new AnalysisFailure("retryable", "upstream_timeout", "Yandex Vision did not answer in time");
        }
        throw thrown instanceof ProviderFailure ? failureOf(thrown) : asAnalysisFailure(thrown);
      } finally {
        timeout.abort();
      }
      return {
        provider: "yandex",
        model: `vision-ocr/${YANDEX_OCR_MODEL}`,
        // It does not say how sure it is.
        result: textResult(text, null),
        fault: null,
        rawText: text.slice(0, MAX_RAW_CHARS),
        inputTokens: 0,
        outputTokens: 0,
        replayed: false,
      };
    },
  };
}

/** It has one key: what is the key's fault is not cured by trying again. */
function failureOf({ diagnosis, message }: ProviderFailure): AnalysisFailure {
  const { fault, code, block } = diagnosis;
  if (fault === "lane") {
    const retryAfterMs = block?.scope === "lane" && "forMs" in block.lasts ? block.lasts.forMs : null;
    return new AnalysisFailure("no_capacity", code, message, { retryAfterMs });
  }
  return new AnalysisFailure(
    fault === "nobody" && diagnosis.retryable ? "retryable" : "refused",
    code,
    message,
  );
}
