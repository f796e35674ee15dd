import type { ApiAnswers, SeenPicture, VisionBudgets } from "../../../shared/api/answers.ts";
import type { Api, GetOf } from "./api.ts";

export type { SeenPicture, VisionBudgets } from "../../../shared/api/answers.ts";
export type PictureStatus = SeenPicture["status"];

/** Each once, in the order of a list: a record, so that the compiler misses one that is left out. */
const STATUSES: Record<PictureStatus, true> = {
  waiting: true,
  done: true,
  skipped: true,
  invalid: true,
  failed: true,
};
export const PICTURE_STATUSES = Object.keys(STATUSES) as PictureStatus[];

export interface VisionApi {
  pictures(
    tenantId: string,
    status: PictureStatus | null,
    signal: AbortSignal,
  ): Promise<ApiAnswers["GET /v1/vision/pictures"]>;
  budgets(tenantId: string, signal: AbortSignal): Promise<VisionBudgets>;
  /** Those that failed or are invalid, once more: one, or all of the tenant's with the status. */
  requeue(
    which: { tenant_id: string; post_id?: string; sha256?: string; status?: PictureStatus },
  ): Promise<ApiAnswers["POST /v1/vision/requeue"]>;
}

/** @param api of the function `api` */
export function createVisionApi(api: Api): VisionApi {
  const get = api.get as GetOf;
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
