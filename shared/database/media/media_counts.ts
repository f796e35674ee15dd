import * as z from "zod";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

/** What a function has counted of storage since it last said so. At most 1,000 of each list. */
export interface StorageSums {
  operations: { operation: string; result: string; content_type: string; times: number }[];
  /** `counts`: one for each of `UPLOAD_BOUNDS_S`, and one above. */
  uploads: { content_type: string; size_bucket: string; counts: number[]; seconds: number }[];
  violations: { tenant_id: string; reason: string; times: number }[];
  emergency_cleanups: number;
}

/** Upper bounds in seconds, as eve.media_upload_bounds has them; a test compares them. */
export const UPLOAD_BOUNDS_S = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60] as const;

const TIMEOUT_MS = 10_000;

export type CountStorage = (sums: StorageSums) => Promise<void>;

/** Adds to the metrics. @throws GatewayError as database_error.ts classifies it */
export const countStorage = (transport: Transport): CountStorage => async (sums) => {
  await call(transport, "eve_storage_count", { sums }, z.unknown(), TIMEOUT_MS);
};
