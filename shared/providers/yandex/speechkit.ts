import { bytesOf } from "../bounded_body.ts";
import { callersFault } from "../diagnoses.ts";
import type { KeyInquiry, KeyInspector } from "../key_inspector.ts";
import { baseUrlOf, callUpstream, connectionFailed, upstreamModel } from "../upstream.ts";
import { type JobSubmission, ProviderFailure, type ProviderOf } from "../provider.ts";
import { YANDEX_ERROR_MAPPING } from "./errors.ts";

export const SPEECHKIT_BASE_URL = "https://tts.api.cloud.yandex.net";

/** The most characters that the API takes at once. */
const MAX_TEXT_CHARS = 5_000;
/** The largest file that is stored; 5,000 characters read slowly are some 5 MB of MP3. */
const MAX_AUDIO_BYTES = 8 * 1024 * 1024;
/** How long the gateway stores the file: enough to fetch it. */
const KEPT_MS = 7 * 86_400_000;

/** Voices of API v1 (the documentation's list); a voice takes the place of a model. */
const VOICES = [
  "alena",
  "alexander",
  "amira",
  "dasha",
  "ermil",
  "filipp",
  "jane",
  "john",
  "julia",
  "kirill",
  "lera",
  "madirus",
  "marina",
  "masha",
  "omazh",
  "zahar",
];

const TYPES: Readonly<Record<string, string>> = {
  mp3: "audio/mpeg",
  oggopus: "audio/ogg",
  lpcm: "audio/L16",
};
const OPTIONS = ["lang", "emotion", "speed", "sampleRateHertz"];

export interface SpeechKitOptions {
  baseUrl?: string;
  fetch?: typeof fetch;
  now?: () => number;
}

/** Yandex SpeechKit, synthesis by API v1: the answer is the file itself, so a job has ended when it is submitted. */
export function speechKitProvider(options: SpeechKitOptions = {}): ProviderOf<"jobs"> & KeyInspector {
  const now = options.now ?? Date.now;

  function synthesize(
    { secret, settings, signal }: KeyInquiry,
    fields: Record<string, string>,
  ): Promise<Response> {
    const base = baseUrlOf(settings, options.baseUrl, SPEECHKIT_BASE_URL);
    return callUpstream({
      url: `${base}/speech/v1/tts:synthesize`,
      headers: { authorization: `Api-Key ${secret}`, accept: "*/*" },
      body: new URLSearchParams(fields),
      secret,
      signal,
      fetch: options.fetch ?? fetch,
      errorMapping: YANDEX_ERROR_MAPPING,
    });
  }

  async function submit(call: JobSubmission) {
    if (call.text.length > MAX_TEXT_CHARS) {
      throw new ProviderFailure(
        callersFault("prompt_too_large"),
        `SpeechKit takes at most ${MAX_TEXT_CHARS} characters at once`,
        null,
      );
    }
    const wanted = String(call.options.format ?? "mp3");
    const format = wanted in TYPES ? wanted : "mp3";
    const chosen = Object.entries(call.options).filter(([name, value]) =>
      OPTIONS.includes(name) && (typeof value === "string" || typeof value === "number")
    );
    const response = await synthesize(call, {
      lang: "ru-RU",
      ...Object.fromEntries(chosen.map(([name, value]) => [name, String(value)])),
      text: call.text,
      voice: String(call.options.voice ?? upstreamModel(call.model, "speechkit")),
      format,
    });
    const bytes = await audioIn(response, call);
    return {
      state: "succeeded" as const,
      files: [{ url: null, mimeType: TYPES[format]!, content: bytes }],
      expiresAt: now() + KEPT_MS,
    };
  }

  return {
    name: "SpeechKit",
    jobs: {
      submit,
      poll: ({ secret }) =>
        Promise.reject(connectionFailed("a job of SpeechKit has ended when it is submitted", secret)),
    },
    listModels: () => Promise.resolve(VOICES),
    async checkKey(inquiry) {
      // A request without a text costs nothing: the error for a good key is that the text is missing, for a bad one that the key is bad.
      try {
        const response = await synthesize(inquiry, { voice: VOICES[0]! });
        await response.body?.cancel();
      } catch (thrown) {
        if (thrown instanceof ProviderFailure && thrown.diagnosis.fault === "caller") return;
        throw thrown;
      }
    },
  };
}

async function audioIn(response: Response, { signal, secret }: JobSubmission): Promise<Uint8Array> {
  try {
    const bytes = await bytesOf(response, MAX_AUDIO_BYTES);
    if (bytes.byteLength === 0) throw new RangeError("an empty file");
    return bytes;
  } catch (thrown) {
    signal.throwIfAborted();
    throw connectionFailed(thrown, secret);
  }
}
