import type { ErrorCode } from "../contract/errors.ts";
import { callersFault } from "./diagnoses.ts";
import { type Provider, ProviderFailure, type ProviderSettings } from "./provider.ts";

/** A file that a provider has made. */
export interface MadeFile {
  /** Where it is; null: it is in `content`. */
  url: string | null;
  mimeType: string;
  title?: string;
  /** Seconds. */
  durationS?: number;
  content?: Uint8Array;
}

/** The state of a job. */
export type JobProgress =
  | { state: "running"; upstreamId: string }
  | {
    state: "succeeded";
    files: MadeFile[];
    /** Milliseconds since 1970; null: not known. */
    expiresAt: number | null;
  }
  | { state: "failed"; code: Extract<ErrorCode, "content_blocked" | "answer_unusable">; reason: string };

export interface JobSubmission {
  model: string;
  secret: string;
  settings?: ProviderSettings;
  /** What is to be said, sung or shown. */
  text: string;
  /** The provider's own settings of the job: voice, style, length. Those that it does not know are left out. */
  options: Readonly<Record<string, unknown>>;
  /** For upstreams that require one; what arrives there is not trusted. */
  callbackUrl: string;
  signal: AbortSignal;
}

export interface JobInquiry extends Omit<JobSubmission, "text" | "options" | "callbackUrl"> {
  upstreamId: string;
}

/** An upstream whose work takes longer than a call. */
export interface JobProvider {
  /** @throws ProviderFailure, and the signal's reason when it aborts */
  submit(submission: JobSubmission): Promise<JobProgress>;
  /** @throws as `submit`: the job's state is then unknown */
  poll(inquiry: JobInquiry): Promise<JobProgress>;
}

/** A provider that makes nothing but jobs. */
export function jobsAlone(jobs: JobProvider, name: string): Provider {
  const refuse = () =>
    Promise.reject(
      new ProviderFailure(
        callersFault("unsupported_feature"),
        `${name} makes no text: ask for its stage`,
        null,
      ),
    );
  return {
    generate: refuse,
    // deno-lint-ignore require-yield -- it never gets so far.
    async *stream() {
      return await refuse();
    },
    embed: refuse,
    jobs,
  };
}

/** Of options, those that the provider knows, by their own names. */
export function known(
  options: Readonly<Record<string, unknown>>,
  names: readonly string[],
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options).filter(([name, value]) =>
      names.includes(name) && value !== undefined && value !== null
    ),
  );
}
