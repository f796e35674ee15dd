import type { Clock } from "../../../shared/runtime/clock.ts";
import type { GatewayRequest, InvokeContext } from "../../../shared/contract/request.ts";
import type { GatewayEvent } from "../../../shared/contract/events.ts";
import { createGateway } from "../../../shared/gateway/invoke.ts";
import { serve } from "../../../shared/gateway/serve.ts";
import { replay } from "../../../shared/gateway/answers/recorded_result.ts";
import { ChatTask, resultOf } from "../../../shared/gateway/tasks/chat_task.ts";
import type { GatewayDependencies } from "../../../shared/gateway/dependencies.ts";
import type { Captured } from "../../../shared/database/capture.ts";
import type {
  Grant,
  InLine,
  Refusal,
  Reservation,
  ReserveInput,
} from "../../../shared/database/admission/reserve.ts";
import type { Settlement } from "../../../shared/database/admission/settle.ts";
import type {
  EmbeddingProvider,
  Provider,
  ProviderAnswer,
  ProviderCall,
  ProviderChunk,
  ProviderEmbedCall,
  ProviderEmbedding,
  ProviderEnd,
} from "../../../shared/providers/provider.ts";

/** Time that stands still until a test moves it. */
export class StillClock implements Clock {
  #now = 0;
  #sleepers = new Set<{ at: number; wake: () => void }>();

  now = () => this.#now;

  sleep = (ms: number, signal?: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const sleeper = { at: this.#now + ms, wake: resolve };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", () => {
        this.#sleepers.delete(sleeper);
        reject(signal.reason);
      });
    });

  /** How many are asleep: timers that were not stopped show here. */
  get asleep(): number {
    return this.#sleepers.size;
  }

  /** Time passes and nobody is woken, as on a machine that is too busy: sleepers that are due then are late. */
  stall(ms: number): void {
    this.#now += ms;
  }

  /** Moves time on, waking each sleeper at its own instant. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settled();
    for (;;) {
      const [first] = [...this.#sleepers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (first === undefined) break;
      this.#now = Math.max(this.#now, first.at);
      this.#sleepers.delete(first);
      first.wake();
      await settled();
    }
    this.#now = end;
  }
}

/** Lets everything go on that waits for no timer. */
export const settled = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

export function grant(more: Partial<Grant> = {}): Grant {
  return {
    status: "granted",
    requestNo: 12,
    attempt: 1,
    model: "gemma-4-31b-it",
    requestedModel: "gemma-4-31b-it",
    replaced: false,
    key: { id: "key-a", alias: "demo-a", source: { kind: "environment", name: "KEY_A" }, provider: "google" },
    quotaProject: "demo-one",
    waitMs: 0,
    tokens: 10,
    maxOutputTokens: null,
    limits: {
      requests: { limit: 30, remaining: 29, resetMs: 60_000 },
      tokens: { limit: 16_000, remaining: 15_990, resetMs: 60_000 },
      requestsDay: { limit: 14_400, remaining: 14_399, resetMs: 3_600_000 },
    },
    capabilities: { system: true, json: true, tools: true, thinking: true, maxOutputTokens: null },
    capture: false,
    ...more,
  };
}

/** A grant on another key, for the attempt of that number. */
export function grantTo(letter: string, attempt: number, more: Partial<Grant> = {}): Grant {
  const key = {
    id: `key-${letter}`,
    alias: `demo-${letter}`,
    source: { kind: "environment" as const, name: `KEY_${letter.toUpperCase()}` },
    provider: "google",
  };
  return grant({ key, attempt, ...more });
}

/** Batch is told to ask again. */
export function waiting(waitMs: number, more: Partial<InLine> = {}): InLine {
  return { status: "waiting", requestNo: 12, attempt: 1, model: "gemma-4-31b-it", waitMs, ...more };
}

export function refusal(more: Partial<Refusal> = {}): Refusal {
  return {
    status: "refused",
    code: "rate_limited",
    limit: "rpm",
    retryAfterMs: 31_000,
    model: "gemma-4-31b-it",
    limits: grant().limits,
    detail: null,
    ...more,
  };
}

export const ANSWER: ProviderAnswer = {
  answer: {
    candidates: [{ content: { role: "model", parts: [{ text: "Концерт" }] }, finishReason: "STOP" }],
  },
  verdict: { ok: true },
  finishReason: "STOP",
  usage: {
    inputTokens: 9,
    outputTokens: 3,
    thoughtsTokens: null,
    cachedTokens: null,
    totalTokens: 12,
    estimated: false,
  },
};

/** A stream of these texts, that ends well. */
export async function* chunksOf(...texts: string[]): AsyncGenerator<ProviderChunk, ProviderEnd, void> {
  for (const [index, text] of texts.entries()) {
    const last = index === texts.length - 1;
    yield {
      answer: {
        candidates: [{
          content: { role: "model", parts: [{ text }] },
          ...(last && { finishReason: "STOP" }),
          index: 0,
        }],
      },
      usage: last ? ANSWER.usage : null,
    };
    await Promise.resolve();
  }
  return { verdict: { ok: true }, finishReason: "STOP", usage: ANSWER.usage };
}

export const REQUEST: GatewayRequest = {
  id: "r1",
  idIsClients: false,
  endpoint: "native",
  models: ["gemma-4-31b-it"],
  excludeKeys: [],
  stage: null,
  prompt: { contents: [{ role: "user", parts: [{ text: "Что сегодня?" }] }] },
  class: "interactive",
  maxWaitMs: 30_000,
  metadata: {},
  traceId: null,
};

export interface ScriptedGatewayOptions {
  /** What the ledger answers, one by one; a function is called. */
  reservations: (Reservation | (() => Promise<Reservation>))[];
  generate?: (call: ProviderCall, attempt: number) => Promise<ProviderAnswer>;
  stream?: (call: ProviderCall, attempt: number) => AsyncGenerator<ProviderChunk, ProviderEnd, void>;
  countTokens?: (call: ProviderCall) => Promise<number>;
  embed?: (call: ProviderEmbedCall) => Promise<ProviderEmbedding>;
  /** Absent: the provider takes one text at a time. */
  embedMany?: EmbeddingProvider["embedMany"];
  settle?: (settlement: Settlement) => Promise<"settled">;
  /** The way to the database, before each reservation. */
  ready?: () => Promise<void> | null;
  secrets?: Record<string, string>;
}

/** The gateway with nothing real around it: a scripted ledger and provider, and time that stands still. */
export function scriptedGateway(options: ScriptedGatewayOptions) {
  const clock = new StillClock();
  const reserved: ReserveInput[] = [];
  const within: (number | undefined)[] = [];
  const settlements: Settlement[] = [];
  const captured: Captured[] = [];
  const calls: ProviderCall[] = [];
  const logged: [string, Record<string, unknown>][] = [];
  const background: Promise<void>[] = [];
  const secrets: Record<string, string> = options.secrets ??
    { KEY_A: "secret-a", KEY_B: "secret-b", KEY_C: "secret-c" };
  const script = [...options.reservations];
  const google: Provider = {
    name: "Google",
    text: {
      generate: (call) => {
        calls.push(call);
        return options.generate?.(call, calls.length) ?? Promise.resolve(ANSWER);
      },
      stream: (call) => {
        calls.push(call);
        return options.stream?.(call, calls.length) ?? chunksOf("Кон", "церт");
      },
      countTokens: options.countTokens,
    },
    embeddings: {
      embed: (call) =>
        options.embed?.(call) ?? Promise.resolve({ embedding: { values: [1, 0] }, usage: null }),
      ...(options.embedMany !== undefined && { embedMany: options.embedMany }),
    },
  };
  const parts: GatewayDependencies = {
    ledger: {
      ready: options.ready,
      reserve: (input, withinMs) => {
        reserved.push(structuredClone(input));
        within.push(withinMs);
        const next = script.shift();
        if (next === undefined) throw new Error("the gateway reserved more often than the test expected");
        return typeof next === "function" ? next() : Promise.resolve(next);
      },
      settle: (settlement) => {
        settlements.push(settlement);
        return options.settle?.(settlement) ?? Promise.resolve("settled");
      },
      models: () => Promise.resolve([]),
      capture: (one) => {
        captured.push(one);
        return Promise.resolve();
      },
    },
    providers: { google },
    secrets: (name) => secrets[name] ?? null,
    clock,
    random: () => 0.5,
    background: (work) => void background.push(work),
    log: (_level, event, fields) => void logged.push([event, fields]),
    times: { requestTimeoutMs: 140_000, upstreamTimeoutMs: 120_000, rpcTimeoutMs: 8_000 },
  };
  const gateway = createGateway(parts);
  const client = new AbortController();
  const context = (more: Partial<InvokeContext> = {}): InvokeContext => ({
    caller: { kind: "project", consumerId: null, tokenId: null, name: "default" },
    signal: client.signal,
    receivedAt: clock.now(),
    ...more,
  });
  return {
    clock,
    client,
    parts,
    reserved,
    within,
    settlements,
    captured,
    calls,
    gateway,
    context,
    logged,
    background,
    invoke: (request: Partial<GatewayRequest> = {}, more: Partial<InvokeContext> = {}) =>
      gateway.invoke({ ...REQUEST, ...request }, context(more)),
    /** A call's result, and the events of its run as they come. */
    follow: async (more: Partial<GatewayRequest>, onEvent: (event: GatewayEvent) => void) => {
      const request = { ...REQUEST, ...more };
      const task = new ChatTask(request, { streams: false, hash: null });
      const ended = await serve(parts, task, context(), (event) => {
        onEvent(event);
        return Promise.resolve();
      });
      return "status" in ended ? replay(request, ended) : resultOf(request, ended);
    },
  };
}
