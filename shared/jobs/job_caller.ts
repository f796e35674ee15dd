import type { Caller } from "../contract/caller.ts";
import type { ClaimedJob } from "../database/jobs/job_leases.ts";

/** Who handed a job in: its calls are made in their name. */
export function callerOf({ consumer_id, consumer_kind, consumer_name, token_id }: ClaimedJob): Caller {
  if (consumer_id === null) return { kind: "project", consumerId: null, tokenId: null, name: "project" };
  const kind = consumer_kind === "notebook" ? "notebook" : "service";
  return { kind, consumerId: consumer_id, tokenId: token_id, name: consumer_name ?? consumer_id };
}
