import * as z from "zod";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

const claimed = z.object({
  id: z.string(),
  kind: z.string(),
  class: z.enum(["interactive", "batch"]),
  request_id: z.string(),
  models: z.array(z.string()).nullable(),
  body: z.unknown(),
  body_media: z.string().nullable(),
  lease_token: z.string(),
  /** Runs that count, this one among them. */
  tries: z.number(),
  losses: z.number(),
  expires_at: z.string(),
  consumer_id: z.string().nullable(),
  consumer_name: z.string().nullable(),
  consumer_kind: z.string().nullable(),
  token_id: z.string().nullable(),
  batch_id: z.string().nullable(),
  place: z.number().nullable(),
  custom_id: z.string().nullable(),
  /** Between two starts of its model, over all lanes; null: not known, or no limit. */
  start_every_ms: z.number().nullable(),
});

const given = z.object({ jobs: z.array(claimed), is_late: z.boolean() });

/** A job that a worker holds; the names are those of its columns. */
export type ClaimedJob = z.output<typeof claimed>;

/** Proof that a worker holds a job. */
export type Lease = Pick<ClaimedJob, "id" | "lease_token">;

/** How a job ended well. `resultMedia`: its result is kept with the media, there, and `result` is null. */
export type Done = Lease & { result: unknown; resultMedia?: string };

export interface RunFailure {
  code: string;
  message: string;
  /** Whether another run may end better. */
  retryable: boolean;
  retryAfterMs?: number | null;
  /** What there is of an answer. */
  result?: unknown;
}

/** Where a worker runs: as the function, of which there are only so many at once, or outside. */
export type WorkerPlace = "edge" | "outside";

/**
 * Jobs for workers. Whatever is said of a job whose lease has ended, or which was cancelled, changes nothing and is no error.
 * All of it throws GatewayErrors and nothing else.
 */
export interface JobLeases {
  /** False: as many of the function run as may. */
  begin(workerId: string, place: WorkerPlace, leaseMs: number): Promise<boolean>;
  /** True: there is more to do, and another worker is to be called. */
  end(workerId: string): Promise<boolean>;
  /**
   * @param terms `atMost` 1 to 1000; `leftMs`: the time that the worker has left, kinds that take longer are left out
   * @returns `isLate`: they all take longer, so this worker is given nothing any more
   */
  claim(
    workerId: string,
    terms: { kinds: readonly string[]; atMost: number; leaseMs: number; leftMs: number | null },
  ): Promise<{ jobs: ClaimedJob[]; isLate: boolean }>;
  /** The ids of those that the worker has lost. */
  renew(
    workerId: string,
    held: readonly (Lease & { progress?: unknown })[],
    leaseMs: number,
  ): Promise<string[]>;
  complete(done: readonly Done[]): Promise<void>;
  fail(held: Lease, failure: RunFailure): Promise<void>;
  /**
   * To the place that they had; it was no try. `pauseMs`: their whole queue is left alone for so long. `delayMs`: they alone are, and lose
   * their place.
   */
  release(held: readonly (Lease & { pauseMs?: number; delayMs?: number })[]): Promise<void>;
  isDue(): Promise<boolean>;
}

const LEASES_TIMEOUT_MS = 15_000;

export function createJobLeases(transport: Transport, timeoutMs = LEASES_TIMEOUT_MS): JobLeases {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    call(transport, name, args, shape, timeoutMs);
  const lease = ({ id, lease_token }: Lease) => ({ id, lease_token });
  return {
    async begin(worker_id, place, lease_ms) {
      const shape = z.object({ status: z.enum(["begun", "enough"]) });
      return (await ask("eve_jobs_worker_begin", { worker_id, place, lease_ms }, shape)).status === "begun";
    },
    end: async (worker_id) =>
      (await ask("eve_jobs_worker_end", { worker_id }, z.object({ wake: z.boolean() }))).wake,
    async claim(worker_id, { kinds, atMost, leaseMs, leftMs }) {
      const args = { worker_id, kinds, at_most: atMost, lease_ms: leaseMs, left_ms: leftMs };
      const { jobs, is_late: isLate } = await ask("eve_jobs_claim", args, given);
      return { jobs, isLate };
    },
    async renew(worker_id, held, lease_ms) {
      const leases = held.map((one) => ({ ...lease(one), progress: one.progress ?? null }));
      const shape = z.object({ lost: z.array(z.string()) });
      return (await ask("eve_jobs_renew", { worker_id, leases, lease_ms }, shape)).lost;
    },
    async complete(done) {
      const results = done.map((one) => ({
        ...lease(one),
        result: one.result,
        result_media: one.resultMedia ?? null,
      }));
      await ask("eve_jobs_complete", { results }, z.unknown());
    },
    async fail(held, { code, message, retryable, retryAfterMs, result }) {
      await ask("eve_job_fail", {
        ...lease(held),
        code,
        message,
        retryable,
        retry_after_ms: retryAfterMs ?? null,
        result: result ?? null,
      }, z.unknown());
    },
    async release(held) {
      const jobs = held.map((one) => ({
        ...lease(one),
        pause_ms: one.pauseMs ?? null,
        delay_ms: one.delayMs ?? null,
      }));
      await ask("eve_jobs_release", { jobs }, z.unknown());
    },
    isDue: () => ask("eve_jobs_due", {}, z.boolean()),
  };
}
