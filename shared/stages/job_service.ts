import type { Caller } from "../contract/caller.ts";
import type { GatewayRequest, InvokeContext } from "../contract/request.ts";
import type { ServedStage } from "../contract/target.ts";
import type { JobRow } from "../database/jobs/jobs.ts";

/** Submits jobs and answers about them. All of it throws GatewayErrors and nothing else. */
export interface JobService {
  /**
   * Admitted like a call; the job goes on by itself.
   * @param jobId of a job that has waited in a queue: anyone who runs it says how it ends, if this fails. Null: it is a new one
   */
  submit(
    request: GatewayRequest,
    stage: ServedStage,
    context: InvokeContext,
    jobId: string | null,
  ): Promise<JobRow>;
  /** Its present state; upstream is asked if that is not known. @throws GatewayError `not_found` */
  find(id: string, caller: Caller): Promise<JobRow>;
  /** The file that the gateway stores itself. @throws GatewayError `not_found` */
  content(id: string, caller: Caller): Promise<{ mimeType: string; bytes: Uint8Array }>;
}
