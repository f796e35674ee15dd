import * as z from "zod";
import type { Caller } from "../../contract/caller.ts";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

/** Nobody waits for it. */
const TIMEOUT_MS = 8_000;

/** The row of eve.consumers that stands for the project's own key. */
const PROJECT_ID = "00000000-0000-0000-0000-000000000000";

export interface BadRequestCount {
  code: string;
  /** Null: nobody had been recognised yet. */
  caller: Pick<Caller, "consumerId"> | null;
  times: number;
}

export type CountBadRequests = (counts: readonly BadRequestCount[]) => Promise<void>;

/** Adds to the counts of requests that were refused as invalid. */
export function countBadRequests(transport: Transport): CountBadRequests {
  return async (counts) => {
    const rows = counts.map(({ code, caller, times }) => ({
      code,
      consumer_id: caller === null ? null : caller.consumerId ?? PROJECT_ID,
      times,
    }));
    await call(transport, "eve_count_bad_requests", { counts: rows }, z.unknown(), TIMEOUT_MS);
  };
}
