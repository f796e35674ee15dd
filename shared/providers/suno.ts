import {
  badKey,
  callersFault,
  noSuchModel,
  quotaUsedUp,
  UNEXPLAINED_DENIAL_MS,
  upstreamsFault,
} from "./diagnoses.ts";
import type { KeyInquiry, KeyInspector } from "./key_inspector.ts";
import {
  baseUrlOf,
  clean,
  connectionFailed,
  type ErrorMapping,
  jsonFromUpstream,
  knownOptions,
  recordsIn,
  type UpstreamCall,
  upstreamModel,
} from "./upstream.ts";
import {
  type Diagnosis,
  type JobInquiry,
  type JobProgress,
  type JobSubmission,
  ProviderFailure,
  type ProviderOf,
} from "./provider.ts";
import { isObject } from "../contract/is_object.ts";

/** Suno has no API of its own for developers; this one sells access to it, and others copy its format. */
export const SUNO_BASE_URL = "https://api.sunoapi.org";

const MODELS = ["V5", "V4_5PLUS", "V4_5", "V4", "V3_5"];
const OPTIONS = ["title", "style", "negativeTags", "vocalGender", "styleWeight"];
/** Files are kept for fifteen days. */
const KEPT_MS = 15 * 86_400_000;
export interface SunoOptions {
  baseUrl?: string;
  fetch?: typeof fetch;
  now?: () => number;
}

/** Suno through sunoapi.org: a task that is submitted and asked about. Errors may come with status 200 and a `code`. */
export function sunoProvider(options: SunoOptions = {}): ProviderOf<"jobs"> & KeyInspector {
  const now = options.now ?? Date.now;

  async function ask(
    path: string,
    { secret, settings, signal }: KeyInquiry,
    body?: unknown,
  ): Promise<unknown> {
    const base = baseUrlOf(settings, options.baseUrl, SUNO_BASE_URL);
    const call: UpstreamCall = {
      url: `${base}${path}`,
      headers: { authorization: `Bearer ${secret}` },
      body,
      secret,
      signal,
      fetch: options.fetch ?? fetch,
      errorMapping: ERROR_MAPPING,
    };
    const said = await jsonFromUpstream(call);
    if (said.code === 200) return said.data;
    const status = typeof said.code === "number" ? said.code : 500;
    const message = ERROR_MAPPING.messageIn(said) ?? `code ${status}`;
    throw new ProviderFailure(
      diagnose(status),
      clean(message, secret),
      status,
    );
  }

  async function submit(call: JobSubmission): Promise<JobProgress> {
    const more = knownOptions(call.options, OPTIONS);
    const custom = more.style !== undefined && more.title !== undefined;
    const data = await ask("/api/v1/generate", call, {
      ...more,
      prompt: call.text,
      // With a style and a title the text is sung as it is; without, it says what the song is about.
      customMode: custom,
      instrumental: call.options.instrumental === true,
      model: upstreamModel(call.model, "suno"),
      // The API requires a callback. The gateway polls, and trusts no callback.
      callBackUrl: call.callbackUrl,
    });
    const id = isObject(data) ? data.taskId : undefined;
    if (typeof id !== "string") throw connectionFailed("an answer without a task", call.secret);
    return { state: "running", upstreamId: id };
  }

  async function poll(inquiry: JobInquiry): Promise<JobProgress> {
    const { upstreamId } = inquiry;
    const data = await ask(
      `/api/v1/generate/record-info?${new URLSearchParams({ taskId: upstreamId })}`,
      inquiry,
    );
    if (!isObject(data)) throw connectionFailed("an answer without the task", inquiry.secret);
    switch (data.status) {
      case "SUCCESS":
        return songsOf(data, now()) ??
          { state: "failed", code: "answer_unusable", reason: "no song came out" };
      case "CALLBACK_EXCEPTION":
        // The callback failed; the songs may be there all the same.
        return songsOf(data, now()) ?? { state: "running", upstreamId };
      case "SENSITIVE_WORD_ERROR":
        return { state: "failed", code: "content_blocked", reason: "SENSITIVE_WORD_ERROR" };
      case "CREATE_TASK_FAILED":
      case "GENERATE_AUDIO_FAILED": {
        const said = typeof data.errorMessage === "string" ? data.errorMessage : data.status;
        return { state: "failed", code: "answer_unusable", reason: clean(said, inquiry.secret) };
      }
      default:
        // PENDING, TEXT_SUCCESS, FIRST_SUCCESS.
        return { state: "running", upstreamId };
    }
  }

  return {
    name: "Suno",
    jobs: { submit, poll },
    listModels: () => Promise.resolve(MODELS),
    async checkKey(inquiry) {
      await ask("/api/v1/generate/credit", inquiry);
    },
  };
}

/** Null: there is none yet. */
function songsOf(task: Record<string, unknown>, now: number): JobProgress | null {
  const songs = isObject(task.response) ? recordsIn(task.response.sunoData) : [];
  const files = songs.filter((song) => typeof song.audioUrl === "string" && song.audioUrl !== "").map((
    song,
  ) => ({
    url: song.audioUrl as string,
    mimeType: "audio/mpeg",
    ...(typeof song.title === "string" && { title: song.title }),
    ...(typeof song.duration === "number" && { durationS: song.duration }),
  }));
  return files.length === 0 ? null : { state: "succeeded", files, expiresAt: now + KEPT_MS };
}

const ERROR_MAPPING: ErrorMapping = {
  messageIn: (body) => isObject(body) && typeof body.msg === "string" ? body.msg : null,
  diagnose: ({ status }) => diagnose(status),
};

/** By the API's table of codes, some of which mean something else than the statuses that they look like. */
function diagnose(code: number): Diagnosis {
  switch (code) {
    case 401:
      return badKey("key_invalid");
    case 402:
    case 429:
      return badKey("credits_depleted");
    case 403:
      return noSuchModel("permission_denied", { forMs: UNEXPLAINED_DENIAL_MS });
    case 405:
    case 430:
      return quotaUsedUp(null);
    case 413:
      return callersFault("prompt_too_large");
    case 455:
      return upstreamsFault(null);
  }
  return code >= 500 || code < 400 ? upstreamsFault(code) : callersFault();
}
