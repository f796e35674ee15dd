import { asGatewayError, GatewayError } from "../../contract/gateway_error.ts";
import type { Block } from "../../contract/block.ts";
import type { Emit } from "../../contract/events.ts";
import type { InvokeContext } from "../../contract/request.ts";
import type { TokenUsage } from "../../contract/usage.ts";
import type { Grant } from "../../database/admission/reserve.ts";
import { ProviderFailure } from "../../providers/provider.ts";
import { type AbortCause, linkAbort, type RequestDeadline } from "./linked_abort.ts";
import { outputLoweredTo } from "../answers/output_limit.ts";
import type { GatewayDependencies } from "../dependencies.ts";
import { secretHash } from "../../secrets/key_facts.ts";
import { secretOf } from "../../stages/pool_secret.ts";
import type { Call, Delta, Destination, Served, Task } from "../tasks/task.ts";

/** How long a key whose secret is not set is left alone: long enough to spare callers, short enough to recover by itself. */
export const SECRET_MISSING_BLOCK_MS = 600_000;

/** How one attempt ended that brought no answer. */
export type Unanswered =
  /**
   * Upstream refused, or the connection failed. `used`: what had been used when part of the answer was out already.
   * `rejectedSecret`: the hash of the secret that upstream will not take any more.
   */
  | {
    kind: "failed";
    failure: ProviderFailure;
    latencyMs: number;
    used: TokenUsage | null;
    rejectedSecret?: string;
  }
  /** The client left, or time ran out. `dispatched`: after upstream had been called. */
  | {
    kind: "broken_off";
    how: AbortCause;
    dispatched: boolean;
    latencyMs: number | null;
    used: TokenUsage | null;
  }
  /** Upstream was never called, because of our own set-up or because the model cannot do what is asked. */
  | { kind: "not_sent"; error: GatewayError; block: Block | null };

/** The start that was booked has passed by more than the guard: to send now could be one call too many in Google's minute. */
export interface TooLate {
  kind: "too_late";
  lateMs: number;
}

/** How one attempt ended. */
export type Outcome<Value = unknown> =
  /** Upstream answered with status 200, be it a success or not. */
  | {
    kind: "answered";
    served: Served<Value>;
    /** Whether the client has some of it already. */
    begun: boolean;
    latencyMs: number;
  }
  | Unanswered;

/**
 * Carries out a granted attempt: waits for its start, finds the secret, calls the model. Never throws.
 * @param startsAt `Clock.now()` of the booked start
 * @param latestAt not sent after it, but `too_late`
 */
export async function dispatch<Value>(
  dependencies: GatewayDependencies,
  task: Task<Value>,
  grant: Grant,
  { startsAt, latestAt }: { startsAt: number; latestAt: number },
  context: InvokeContext,
  deadline: RequestDeadline,
  emit: Emit,
): Promise<Outcome<Value> | TooLate> {
  if (grant.waitMs > 0) {
    await emit({ type: "queued", attempt: grant.attempt, model: grant.model, waitMs: grant.waitMs });
    const how = await waitUntil(dependencies, startsAt, context.signal, deadline);
    if (how !== null) return { kind: "broken_off", how, dispatched: false, latencyMs: null, used: null };
  }
  if (context.signal.aborted) {
    return { kind: "broken_off", how: "client_closed", dispatched: false, latencyMs: null, used: null };
  }
  const provider = dependencies.providers[grant.key.provider];
  if (provider === undefined) return unknownProvider(grant);
  let access: Pick<Destination, "secret" | "settings"> | null;
  let call: Call<Value>;
  try {
    access = await secretOf(grant.key.source, grant.key.provider, dependencies);
    if (access === null) return secretMissing(grant);
    call = task.prepare(grant);
  } catch (thrown) {
    return { kind: "not_sent", error: asGatewayError(thrown), block: null };
  }
  const lateMs = dependencies.clock.now() - latestAt;
  if (lateMs > 0) return { kind: "too_late", lateMs };
  const destination = { model: grant.model, ...access };
  const begin: Begin<Value> = (signal, emit) => call(provider, { ...destination, signal }, emit);
  const lowered = task.prompt === undefined ? null : outputLoweredTo(task.prompt, grant);
  const granted = { ...grant, outputLoweredTo: lowered };
  const outcome = await callModel(dependencies, begin, granted, context.signal, deadline, emit);
  return await withRejectedSecret(outcome, grant, access.secret);
}

/** A key that upstream rejects is off until it has another secret: so its hash is settled with the block. */
async function withRejectedSecret<Value>(
  outcome: Outcome<Value>,
  { key }: Grant,
  secret: string,
): Promise<Outcome<Value>> {
  const block = outcome.kind === "failed" ? outcome.failure.diagnosis.block : null;
  if (outcome.kind !== "failed" || block?.scope !== "key" || !("until" in block.lasts)) return outcome;
  // A stage's key is entered again with its stage.
  if (key.source.kind === "stage") return outcome;
  return { ...outcome, rejectedSecret: await secretHash(key.id, secret) };
}

/**
 * Null: the time has come.
 * @param at `Clock.now()`
 */
export async function waitUntil(
  dependencies: GatewayDependencies,
  at: number,
  client: AbortSignal,
  deadline: RequestDeadline,
): Promise<AbortCause | null> {
  const linked = linkAbort(dependencies.clock, client, deadline.left());
  try {
    await dependencies.clock.sleep(Math.max(0, at - dependencies.clock.now()), linked.signal);
    return null;
  } catch {
    return linked.ended() ?? "timed_out";
  } finally {
    linked.release();
  }
}

type Begin<Value> = (
  signal: AbortSignal,
  emit: (delta: Delta) => Promise<void>,
) => ReturnType<Call<Value>>;

async function callModel<Value>(
  dependencies: GatewayDependencies,
  begin: Begin<Value>,
  grant: Grant & { outputLoweredTo: number | null },
  client: AbortSignal,
  deadline: RequestDeadline,
  emit: Emit,
): Promise<Outcome<Value>> {
  const since = dependencies.clock.now();
  const latencyMs = () => Math.round(dependencies.clock.now() - since);
  const linked = linkAbort(
    dependencies.clock,
    client,
    Math.min(dependencies.times.upstreamTimeoutMs, deadline.left()),
  );
  let usageSoFar: (() => TokenUsage) | null = null;
  const used = () => usageSoFar?.() ?? null;
  let over = false;
  /** The latest piece, until the client has taken it. */
  let taken: Promise<void> = Promise.resolve();
  try {
    const call = begin(linked.signal, async (delta) => {
      if (over) throw new DOMException("the call is over", "AbortError");
      usageSoFar = delta.usageSoFar;
      await (taken = emit({ type: "delta", chunk: delta.chunk }));
    });
    call.catch(() => {});
    // The call is under way before the event is sent, so that a slow reader does not delay a start that was booked.
    await emit({
      type: "started",
      attempt: grant.attempt,
      model: grant.model,
      keyAlias: grant.key.alias,
      limits: grant.limits,
      outputLoweredTo: grant.outputLoweredTo,
    });
    // Raced, so that a provider that is slow to notice the signal delays neither the client nor the settlement.
    const broken = linked.broken.catch(async (reason) => {
      // Time that a slow reader takes is not the model's: what ended meanwhile is said when they come back.
      await taken.catch(() => {});
      throw reason;
    });
    const served = await Promise.race([call, broken]);
    return { kind: "answered", served, begun: usageSoFar !== null, latencyMs: latencyMs() };
  } catch (thrown) {
    const how = linked.ended();
    return how === null
      ? { kind: "failed", failure: asFailure(thrown), latencyMs: latencyMs(), used: used() }
      : { kind: "broken_off", how, dispatched: true, latencyMs: latencyMs(), used: used() };
  } finally {
    over = true;
    linked.release();
  }
}

/** A provider that throws anything else has a bug: nobody is at fault and nothing is repeated. */
function asFailure(thrown: unknown): ProviderFailure {
  if (thrown instanceof ProviderFailure) return thrown;
  const said = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
  return new ProviderFailure(
    { fault: "nobody", retryable: false, block: null, code: "internal" },
    said,
    null,
  );
}

function secretMissing(grant: Grant): Unanswered {
  return {
    kind: "not_sent",
    error: new GatewayError("secret_missing", {
      message: `The secret of key ${grant.key.alias} ${
        grant.key.source.kind !== "environment"
          ? "cannot be read: ADMIN_SECRET_KEY is not the one that it was stored with. The owner should set that one, or enter the key again"
          : "is not set. The owner should set the secret that its env_var_name names"
      }; until then the key is left alone for ${SECRET_MISSING_BLOCK_MS / 60_000} minutes at a time.`,
      detail: `no secret named ${JSON.stringify(grant.key.source.name)}`,
    }),
    block: { scope: "key", lasts: { forMs: SECRET_MISSING_BLOCK_MS }, reason: "secret_missing" },
  };
}

function unknownProvider(grant: Grant): Unanswered {
  return {
    kind: "not_sent",
    error: new GatewayError("gateway_misconfigured", {
      detail: `key ${grant.key.alias} is of provider ${
        JSON.stringify(grant.key.provider)
      }, which this version lacks`,
    }),
    block: null,
  };
}
