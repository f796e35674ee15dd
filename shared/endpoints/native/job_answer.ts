/** A job as the native endpoint and the admin function answer it. Types alone: the console shares them. */
export interface JobAnswer {
  job: Job;
}

export interface Job {
  id: string;
  status: "running" | "succeeded" | "failed";
  /** Where to ask for it again. */
  url: string;
  stage: string;
  provider_kind: string;
  model: string;
  request_id: string;
  submitted_at: string;
  finished_at: string | null;
  result: {
    files: { url: string; mime_type: string; title: string | null; duration_s: number | null }[];
    expires_at: string | null;
  } | null;
  error: { code: string; message: string } | null;
}
