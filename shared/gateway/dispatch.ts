import { asGatewayError, GatewayError } from "../contract/gateway_error.ts";
import type { GatewayRequest, InvokeContext } from "../contract/request.ts";
import type { Block } from "../contract/block.ts";
import type { Grant } from "../ledger/reserve.ts";
import {
  type Provider,
  type ProviderAnswer,
  type ProviderCall,
  ProviderFailure,
} from "../providers/provider.ts";
import { type Answer, textOf } from "../contract/content.ts";
import type { Usage } from "../contract/usage.ts";
import { textTokens } from "./estimate.ts";
import { type Deadline, type Ending, leash } from "./deadline.ts";
import { fitToModel } from "./fit.ts";
import type { GatewayParts } from "./parts.ts";

/** How long a key whose secret is not set is left alone: long enough to spare callers, short enough to mend itself. */
export const SECRET_MISSING_BLOCK_MS = 600_000;

/** How one attempt ended. */
export type Outcome =
  /** Upstream answered with status 200, be it a success or not. */
  | { kind: "answered"; served: ProviderAnswer; usage: Usage; latencyMs: number }
  /** Upstream refused, or the connection failed. */
  | { kind: "failed"; failure: ProviderFailure; latencyMs: number }
  /** The client left, or time ran out. `dispatched`: after upstream had been called. */
  | { kind: "broken_off"; how: Ending; dispatched: boolean; latencyMs: number | null }
  /** Upstream was never called, because of our own set-up or because the model cannot do what is asked. */
  | { kind: "not_sent"; error: GatewayError; block: Block | null };

/** Carries out a granted attempt: waits for its start, finds the secret, calls the model. Never throws. */
export async function dispatch(
  parts: GatewayParts,
  request: GatewayRequest,
  grant: Grant,
  context: InvokeContext,
  deadline: Deadline,
): Promise<Outcome> {
  const tell = context.onEvent ?? (() => {});
  if (grant.waitMs > 0) {
    tell({ type: "queued", attempt: grant.attempt, model: grant.model, waitMs: grant.waitMs });
    const how = await waitForStart(parts, grant.waitMs, context.signal, deadline);
    if (how !== null) return { kind: "broken_off", how, dispatched: false, latencyMs: null };
  }
  if (context.signal.aborted) {
    return { kind: "broken_off", how: "client_closed", dispatched: false, latencyMs: null };
  }
  const provider = parts.providers[grant.key.provider];
  if (provider === undefined) return unknownProvider(grant);
  const secret = parts.secrets(grant.key.envVarName);
  if (secret === null) return secretMissing(grant);
  let prompt;
  try {
    prompt = fitToModel(request.prompt, grant.capabilities, grant.model);
  } catch (thrown) {
    return { kind: "not_sent", error: asGatewayError(thrown), block: null };
  }
  tell({
    type: "started",
    attempt: grant.attempt,
    model: grant.model,
    keyAlias: grant.key.alias,
    limits: grant.limits,
  });
  return await callModel(
    parts,
    provider,
    grant,
    { model: grant.model, secret, prompt },
    context.signal,
    deadline,
  );
}

/** Null: the start has come. */
async function waitForStart(
  parts: GatewayParts,
  waitMs: number,
  client: AbortSignal,
  deadline: Deadline,
): Promise<Ending | null> {
  const rope = leash(parts.clock, client, deadline.left());
  try {
    await parts.clock.sleep(waitMs, rope.signal);
    return null;
  } catch {
    return rope.ended() ?? "timed_out";
  } finally {
    rope.release();
  }
}

async function callModel(
  parts: GatewayParts,
  provider: Provider,
  grant: Grant,
  call: Omit<ProviderCall, "signal">,
  client: AbortSignal,
  deadline: Deadline,
): Promise<Outcome> {
  const since = parts.clock.now();
  const latency = () => Math.round(parts.clock.now() - since);
  const rope = leash(parts.clock, client, Math.min(parts.times.upstreamTimeoutMs, deadline.left()));
  try {
    // Raced, so that a provider that is slow to notice the signal holds up neither the client nor the settlement.
    const served = await Promise.race([
      provider.generate({ ...call, signal: rope.signal }),
      aborted(rope.signal),
    ]);
    const usage = served.usage ?? estimatedUsage(grant, served.answer);
    return { kind: "answered", served, usage, latencyMs: latency() };
  } catch (thrown) {
    const how = rope.ended();
    if (how !== null) return { kind: "broken_off", how, dispatched: true, latencyMs: latency() };
    return { kind: "failed", failure: asFailure(thrown), latencyMs: latency() };
  } finally {
    rope.release();
  }
}

/** Upstream told no figures: what was booked, and the weight of what it wrote. */
function estimatedUsage(grant: Grant, answer: Answer): Usage {
  const outputTokens = Math.ceil(textTokens(textOf(answer)));
  return {
    inputTokens: grant.tokens,
    outputTokens,
    thoughtsTokens: null,
    cachedTokens: null,
    totalTokens: grant.tokens + outputTokens,
    estimated: true,
  };
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** A provider that throws anything else has a fault of its own: nobody is blamed and nothing is repeated. */
function asFailure(thrown: unknown): ProviderFailure {
  if (thrown instanceof ProviderFailure) return thrown;
  const said = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
  return new ProviderFailure(
    { blames: "nobody", retryable: false, block: null, code: "internal" },
    said,
    null,
  );
}

function secretMissing(grant: Grant): Outcome {
  return {
    kind: "not_sent",
    error: new GatewayError("secret_missing", {
      message:
        `The secret of key ${grant.key.alias} is not set. The owner should set the secret that its env_var_name names; until then the key is left alone for ${
          SECRET_MISSING_BLOCK_MS / 60_000
        } minutes at a time.`,
      detail: `no secret named ${JSON.stringify(grant.key.envVarName)}`,
    }),
    block: { scope: "key", lasts: { forMs: SECRET_MISSING_BLOCK_MS }, reason: "secret_missing" },
  };
}

function unknownProvider(grant: Grant): Outcome {
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
