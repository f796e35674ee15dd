/**
 * What only a function on its host can tell of the host: its runtime, how far the database is, whether it notices a client that leaves.
 * `npm run check:hosted` asks for it.
 */
import type { DirectConnection } from "../database/maintenance/connections.ts";
import type { Resolve } from "../http/outgoing/public_target.ts";

export interface HostCheckDependencies {
  /** Milliseconds that only go forward. */
  now: () => number;
  /** Tells instances of the function apart. */
  instance: string;
  /** Of the runtime, undefined where it has none. */
  runtime: {
    version: string | undefined;
    resolve: Resolve | undefined;
    connects: boolean;
    /** Goes on with work after the answer. */
    waitsUntil: boolean;
    memoryBytes: (() => number) | undefined;
  };
  /** One question to the database over the REST API. */
  ask: () => Promise<unknown>;
  /** Null: the function has no address of the database. */
  connect: ((times: number) => Promise<DirectConnection>) | null;
}

/** A name that every resolver knows. */
const KNOWN_HOST = "generativelanguage.googleapis.com";
const QUESTIONS = 5;
/** The longest that a client may ask to be held. */
export const LONGEST_HOLD_MS = 20_000;
/** Clients that were held, which are remembered. */
const HELD_AT_MOST = 100;

export type Held = "waiting" | "left" | "stayed";

export interface HostFacts {
  instance: string;
  /** Milliseconds since the instance began, and how often it was asked before. */
  age_ms: number;
  asked_before: number;
  deno: string | null;
  resolve_dns: { works: boolean; ms: number; problem: string | null };
  connects: boolean;
  waits_until: boolean;
  memory_bytes: number | null;
  /** Milliseconds of a fixed piece of work: the processor's pace. */
  work_ms: number;
  rest_ms: number[];
  direct:
    | { connect_ms: number; question_ms: number[]; connections_most: number; connections_used: number }
    | { problem: string }
    | null;
}

export interface HostCheck {
  facts(): Promise<HostFacts>;
  /** Waits until the client leaves, or for so long. */
  hold(id: string, ms: number, left: AbortSignal): Promise<Held>;
  /** What became of a client that this instance held; null: it held none of that id. */
  held(id: string): Held | null;
}

export function createHostCheck({ now, instance, runtime, ask, connect }: HostCheckDependencies): HostCheck {
  const began = now();
  const clients = new Map<string, Held>();
  let asked = 0;

  return {
    async facts() {
      const asked_before = asked++;
      const age_ms = now() - began;
      const rest_ms: number[] = [];
      for (let time = 0; time < QUESTIONS; time++) {
        const from = now();
        await ask();
        rest_ms.push(now() - from);
      }
      return {
        instance,
        age_ms,
        asked_before,
        deno: runtime.version ?? null,
        resolve_dns: await resolves(runtime.resolve, now),
        connects: runtime.connects,
        waits_until: runtime.waitsUntil,
        memory_bytes: runtime.memoryBytes?.() ?? null,
        work_ms: work(now),
        rest_ms,
        direct: await direct(connect),
      };
    },

    async hold(id, ms, left) {
      clients.set(id, "waiting");
      if (clients.size > HELD_AT_MOST) clients.delete(clients.keys().next().value!);
      const { promise, resolve } = Promise.withResolvers<Held>();
      const timer = setTimeout(() => resolve("stayed"), Math.min(ms, LONGEST_HOLD_MS));
      const leave = () => resolve("left");
      if (left.aborted) leave();
      left.addEventListener("abort", leave, { once: true });
      const outcome = await promise;
      clearTimeout(timer);
      left.removeEventListener("abort", leave);
      clients.set(id, outcome);
      return outcome;
    },

    held: (id) => clients.get(id) ?? null,
  };
}

async function resolves(resolve: Resolve | undefined, now: () => number): Promise<HostFacts["resolve_dns"]> {
  if (resolve === undefined) return { works: false, ms: 0, problem: "the runtime cannot look names up" };
  const from = now();
  try {
    const found = await resolve(KNOWN_HOST);
    return {
      works: found.length > 0,
      ms: now() - from,
      problem: found.length > 0 ? null : "no address was found",
    };
  } catch (thrown) {
    return { works: false, ms: now() - from, problem: String(thrown).slice(0, 200) };
  }
}

async function direct(connect: HostCheckDependencies["connect"]): Promise<HostFacts["direct"]> {
  if (connect === null) return null;
  try {
    const { connectMs, questionMs, most, used } = await connect(QUESTIONS);
    return { connect_ms: connectMs, question_ms: questionMs, connections_most: most, connections_used: used };
  } catch (thrown) {
    // A driver's words may hold the host's name, never the password.
    return { problem: (thrown instanceof Error ? thrown.message : String(thrown)).slice(0, 200) };
  }
}

/** What a function does most: JSON there and back, some 2 MB of it. */
function work(now: () => number): number {
  const value = Array.from(
    { length: 4_000 },
    (_, number) => ({ number, text: "some words of a prompt", parts: [number, number] }),
  );
  const from = now();
  for (let time = 0; time < 8; time++) JSON.parse(JSON.stringify(value));
  return now() - from;
}
