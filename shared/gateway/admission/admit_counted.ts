import { asGatewayError, GatewayError } from "../../contract/gateway_error.ts";
import type { CountWanted, Reservation, ReserveInput } from "../../database/admission/reserve.ts";
import { linkAbort } from "../attempts/linked_abort.ts";
import type { GatewayDependencies } from "../dependencies.ts";
import type { Task } from "../tasks/task.ts";
import { poolSecret } from "../../stages/pool_secret.ts";
import { withTimeout } from "../../runtime/with_timeout.ts";

/**
 * How long upstream has to count a prompt. It takes a tenth of this; a caller whose prompt is to be counted would
 * wait for tokens anyway, and books without a count after that.
 */
export const COUNT_TIMEOUT_MS = 2_000;

/** How large a prompt is: what a reservation books. */
export interface Size {
  /** Input tokens. */
  tokens: number;
  /** True: upstream's own count. False: an estimate that upstream may be asked to count. Null: one that it cannot. */
  counted: boolean | null;
}

export interface Admission {
  dependencies: GatewayDependencies;
  task: Task<unknown>;
  /** Aborts when the client has gone. */
  client: AbortSignal;
  /** What is known of the prompt's size; null: nothing yet. */
  size: Size | null;
  /** Made for each call, since a count takes some of the time that the client would wait. */
  input: (size: Size) => ReserveInput;
}

/**
 * Reserves. Where tokens are scarce the ledger wants them counted first: then upstream counts, and what it says is booked;
 * if it does not say it in time, the most that the estimate may turn out to be.
 * @throws GatewayError as the ledger does, `database_unavailable` after `rpcTimeoutMs`; `client_closed` if the client leaves while upstream counts
 */
export async function admitCounted(
  { dependencies, task, client, input, ...known }: Admission,
): Promise<{ reservation: Exclude<Reservation, CountWanted>; size: Size }> {
  const size = known.size ?? { tokens: task.tokens, counted: task.prompt === undefined ? null : false };
  const { rpcTimeoutMs } = dependencies.times;
  const left = await readyToAsk(dependencies);
  const asked = input(size);
  const reservation = await dependencies.ledger.reserve(asked, left);
  if (reservation.status !== "count") return { reservation, size };

  const { requestId } = asked;
  const count = await countUpstream(dependencies, task, client, reservation, requestId);
  if (client.aborted) throw new GatewayError("client_closed");
  const counted: Size = count === null
    ? { tokens: reservation.tokensIfNotCounted, counted: null }
    : { tokens: count, counted: true };
  const second = await dependencies.ledger.reserve(input(counted), rpcTimeoutMs);
  if (second.status !== "count") return { reservation: second, size: counted };
  throw new GatewayError("internal", { detail: "eve_reserve wanted a count twice" });
}

/**
 * Connecting takes longer than booking, most of all in a process that has just started: without waiting for it first,
 * the start would seem to have been booked long ago, and to be too late.
 * @returns what is left of the time for a reservation
 */
async function readyToAsk({ ledger, clock, times: { rpcTimeoutMs } }: GatewayDependencies): Promise<number> {
  const connecting = ledger.ready?.() ?? null;
  if (connecting === null) return rpcTimeoutMs;
  const since = clock.now();
  // A database that cannot be reached is reported by the reservation.
  await withTimeout(clock, rpcTimeoutMs / 2, connecting).catch(() => {});
  return rpcTimeoutMs - (clock.now() - since);
}

/** Null: there is no count. The next call of the model reports the reason, if it concerns the caller. */
async function countUpstream(
  dependencies: GatewayDependencies,
  task: Task<unknown>,
  client: AbortSignal,
  { model, key }: CountWanted,
  requestId: string,
): Promise<number | null> {
  const { prompt } = task;
  const provider = dependencies.providers[key.provider];
  if (prompt === undefined || provider?.text?.countTokens === undefined) return null;
  const secret = await poolSecret(key.source, key.provider, dependencies);
  if (secret === null) return null;
  const since = dependencies.clock.now();
  const linked = linkAbort(dependencies.clock, client, COUNT_TIMEOUT_MS);
  const facts = { request_id: requestId, model, key_alias: key.alias, estimated: task.tokens };
  const latency = () => Math.round(dependencies.clock.now() - since);
  try {
    const counting = provider.text.countTokens({ model, secret, prompt, signal: linked.signal });
    const counted = await Promise.race([counting, linked.broken]);
    dependencies.log("info", "tokens_counted", { ...facts, counted, latency_ms: latency() });
    return counted;
  } catch (thrown) {
    const detail = linked.ended() ?? asGatewayError(thrown).detail;
    dependencies.log("warn", "count_failed", { ...facts, detail, latency_ms: latency() });
    return null;
  } finally {
    linked.release();
  }
}
