import type { Api, Query } from "./api.ts";

/** What the function api answers about pictures (docs/vision.md). */
export const PICTURE_STATUSES = ["waiting", "done", "skipped", "invalid", "failed"] as const;
export type PictureStatus = typeof PICTURE_STATUSES[number];

export interface SeenPicture {
  id: string;
  tenant_id: string;
  post_id: string;
  file_sha256: string | null;
  status: PictureStatus;
  reason: string | null;
  analyst: string | null;
  vision_description: string | null;
  labels: string[];
  ocr_text: string | null;
  tokens: number;
  from_cache: boolean;
  same_as: string | null;
  updated_at: string;
  decision: { action: string; reason: string; detail: { message?: string } } | null;
}

export interface VisionBudgets {
  budgets: {
    provider: string;
    period: string;
    unit: string;
    most: number;
    used: number;
    reserved: number;
    ends_at: string;
  }[];
}

export interface VisionApi {
  pictures(
    tenantId: string,
    status: PictureStatus | null,
    signal: AbortSignal,
  ): Promise<{ pictures: SeenPicture[] }>;
  budgets(tenantId: string, signal: AbortSignal): Promise<VisionBudgets>;
  /** Those that failed or are invalid, once more: one, or all of the tenant's with the status. */
  requeue(
    which: { tenant_id: string; post_id?: string; sha256?: string; status?: PictureStatus },
  ): Promise<{ queued: number }>;
}

/** @param api of the function `api` */
export function createVisionApi(api: Api): VisionApi {
  const get = api.get as <Answer>(path: string, query: Query, signal: AbortSignal) => Promise<Answer>;
  return {
    pictures: (tenantId, status, signal) =>
      get(
        "/v1/vision/pictures",
        { tenant_id: tenantId, limit: 50, ...(status !== null && { status }) },
        signal,
      ),
    budgets: (tenantId, signal) => get("/v1/vision/budgets", { tenant_id: tenantId }, signal),
    requeue: async (which) => await (await api.open("/v1/vision/requeue", which)).json(),
  };
}
