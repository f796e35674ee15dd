import { isObject } from "../../contract/is_object.ts";
import { toBase64 } from "../../runtime/base64.ts";
import { baseUrlOf, connectionFailed, jsonFromUpstream, recordsIn } from "../upstream.ts";
import { YANDEX_ERROR_MAPPING } from "./errors.ts";

export const YANDEX_OCR_BASE_URL = "https://ocr.api.cloud.yandex.net";

/** https://yandex.cloud/docs/vision/concepts/limits, for one picture and the synchronous mode. */
export const MAX_YANDEX_OCR_BYTES = 10_000_000;
export const MAX_YANDEX_OCR_PIXELS = 20_000_000;
export const YANDEX_OCR_REQUESTS_A_SECOND = 1;
export const YANDEX_OCR_TYPES: ReadonlySet<string> = new Set(["image/jpeg", "image/png"]);

/** The model for pages of text in any layout. */
export const YANDEX_OCR_MODEL = "page";

export interface YandexOcrOptions {
  apiKey: string;
  folderId: string;
  baseUrl?: string;
  fetch: typeof fetch;
}

/**
 * The text of a picture, by Yandex Vision OCR: `recognizeText`, synchronous.
 * @throws ProviderFailure, and the signal's reason when it aborts
 */
export async function recognizeText(
  { apiKey, folderId, baseUrl, fetch }: YandexOcrOptions,
  { picture, mimeType, signal }: { picture: Uint8Array; mimeType: string; signal: AbortSignal },
): Promise<string> {
  const answer = await jsonFromUpstream({
    url: `${baseUrlOf(undefined, baseUrl, YANDEX_OCR_BASE_URL)}/ocr/v1/recognizeText`,
    headers: {
      authorization: `Api-Key ${apiKey}`,
      "x-folder-id": folderId,
      // Pictures are somebody's: they are not to be kept for the service's own ends.
      "x-data-logging-enabled": "false",
    },
    body: {
      content: toBase64(picture),
      mimeType,
      languageCodes: ["ru", "en"],
      model: YANDEX_OCR_MODEL,
    },
    secret: apiKey,
    signal,
    fetch,
    errorMapping: YANDEX_ERROR_MAPPING,
  });
  // The REST API puts the stream's one message into `result`.
  const annotation = (isObject(answer.result) ? answer.result : answer).textAnnotation;
  if (!isObject(annotation)) throw connectionFailed("an answer without an annotation", apiKey);
  if (typeof annotation.fullText === "string") return annotation.fullText;
  // Older answers have the lines alone; a picture without text may have neither.
  return recordsIn(annotation.blocks).map((block) =>
    recordsIn(block.lines).map(({ text }) => typeof text === "string" ? text : "").join("\n")
  ).join("\n\n");
}
