/** A job as the native endpoint and the admin function answer it. Types alone: the console shares them. */
export interface JobAnswer {
  job: Job;
  /** Where its end is told, when it was asked for with the job. `secret` is shown once: null where the webhook was there already. */
  webhook?: { id: string; url: string; secret: string | null };
}

/** A page of them, the newest first. */
export interface JobsAnswer {
  jobs: Job[];
  /** What to ask for the next page with, as `before`; null: there is none. */
  next: number | null;
}

export interface Job {
  id: string;
  /** `llm`: a call of a model. `provider_job`: speech, a song, a video. */
  kind: string;
  status: "queued" | "running" | "succeeded" | "failed" | "cancelled" | "expired";
  /** Where to ask for it again. */
  url: string;
  /** The models that it asks for, or `stage:NAME`. */
  models: string[];
  /** Null: it is no stage's. */
  stage: string | null;
  provider_kind: string | null;
  /** The model that makes it, where a provider does; otherwise the response says which served. */
  model: string | null;
  request_id: string;
  /** Null: it never waited. */
  class: "interactive" | "batch" | null;
  submitted_at: string;
  started_at: string | null;
  finished_at: string | null;
  /** While it waits or runs as a call: when it ends as `expired`. */
  expires_at: string | null;
  progress: unknown;
  /** Of what a provider makes. */
  result: {
    files: { url: string; mime_type: string; title: string | null; duration_s: number | null }[];
    expires_at: string | null;
  } | null;
  /** Of a call: what the call would have been answered. Null until it has ended, and in lists. */
  response: unknown;
  error: { code: string; message: string } | null;
}
