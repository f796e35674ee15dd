import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import { JOB_STATES } from "../database/jobs/jobs.ts";
import { route } from "./route.ts";

/** A query has texts alone. */
const number = z.string().regex(/^\d{1,15}$/, "must be a whole number").transform(Number);
const PROJECT = { consumerId: null, tokenId: null };

/** Jobs and batches of all callers; what is said in them as far as their callers' rows allow it. */
export const jobRoutes = [
  route(
    "GET",
    "/jobs",
    z.strictObject({
      state: z.enum(JOB_STATES).optional(),
      kind: z.string().min(1).max(32).optional(),
      consumer: z.string().trim().min(1).max(63).optional(),
      batch_id: z.uuid().optional(),
      before: number.optional(),
      limit: number.optional(),
    }),
    ({ dependencies }, { batch_id: batchId, limit: atMost, ...asked }) =>
      dependencies.jobSearch.jobs({ ...asked, batchId, atMost }),
  ),

  route("GET", "/job-detail", z.strictObject({ id: z.uuid() }), async ({ dependencies }, { id }) => {
    const found = await dependencies.jobSearch.job(id);
    if (found === null) throw new GatewayError("not_found");
    return found;
  }),

  route(
    "POST",
    "/job-cancel",
    z.strictObject({ ids: z.array(z.uuid()).min(1).max(1_000) }),
    async ({ dependencies }, { ids }) => ({ cancelled: await dependencies.jobQueue.cancel(ids, PROJECT) }),
  ),

  route(
    "GET",
    "/batches",
    z.strictObject({ before: number.optional(), limit: number.optional() }),
    ({ dependencies }, { before, limit: atMost }) => dependencies.jobSearch.batches({ before, atMost }),
  ),
];
