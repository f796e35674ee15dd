/** Who wants what: the loads that every contender gets alike. */
import { between, poissonPause, type Random, seededRandom } from "./random.ts";
import type { SimulatedTime } from "./simulated_time.ts";

export type TrafficClass = "interactive" | "batch";

/** The free tier of gemma-4: the lane that the project was built around. */
export const LIMITS = { rpm: 30, tpm: 16_000, rpd: 14_400 } as const;

/** What batch leaves to interactive callers: the defaults of a model's row. */
export const SHARES = { floor: 1, reserve: 0.2, reserveDay: 0.1 } as const;

/** How far an estimate is from the real number of tokens at most, as a share of the real one; uniform. */
export const ESTIMATE_ERROR = 0.3;

/** Clients join over this time, so that the first minute begins with a burst, but not with all at one instant. */
export const JOIN_MS = 5_000;

export interface ClassLoad {
  class: TrafficClass;
  /**
   * `saturating`: this many clients a project, each asking for its next call as soon as it has its answer.
   * `poisson`: people, who come whether or not the last one has been served.
   */
  arrivals: { kind: "saturating"; clients: number } | {
    kind: "poisson";
    perMinute: number;
  };
  /** Real input tokens of a prompt, uniform. */
  tokens: readonly [least: number, most: number];
}

export interface Load {
  name: string;
  /** Simulated minutes. */
  minutes: number;
  classes: ClassLoad[];
}

/** One thing that a client wants of a model. */
export interface Call {
  /** Unique in a run. */
  no: number;
  client: number;
  class: TrafficClass;
  /** Input tokens that Google will count. */
  real: number;
  /** What the caller believes beforehand. */
  estimate: number;
  /** When the client began to want it. */
  wantedAt: number;
}

/** Small prompts, of which 30 never reach the token limit: requests are what is scarce. */
const SMALL = [100, 460] as const;
/** Pages to be parsed: nine or so fill the minute, and tokens are what is scarce. */
const LARGE = [600, 3_000] as const;
/** A person's questions beside them. */
const QUESTION = [100, 500] as const;

// One more than a window's worth must always be waiting, but not so many that a wait exceeds what a caller may ask for.
const SMALL_CLIENTS = 34;
const LARGE_CLIENTS = 11;

export function loads(minutes: { requests: number; tokens: number }): Load[] {
  const load = (
    name: string,
    bound: "requests" | "tokens",
    ...classes: ClassLoad[]
  ): Load => ({
    name: `${bound}, ${name}`,
    minutes: minutes[bound],
    classes,
  });
  const saturating = (
    of: TrafficClass,
    clients: number,
    tokens: readonly [number, number],
  ): ClassLoad => ({
    class: of,
    arrivals: { kind: "saturating", clients },
    tokens,
  });
  const people = (perMinute: number): ClassLoad => ({
    class: "interactive",
    arrivals: { kind: "poisson", perMinute },
    tokens: QUESTION,
  });
  return [
    load(
      "interactive only",
      "requests",
      saturating("interactive", SMALL_CLIENTS, SMALL),
    ),
    load("batch only", "requests", saturating("batch", SMALL_CLIENTS, SMALL)),
    load(
      "both classes",
      "requests",
      saturating("batch", SMALL_CLIENTS, SMALL),
      people(3),
    ),
    load(
      "interactive only",
      "tokens",
      saturating("interactive", LARGE_CLIENTS, LARGE),
    ),
    load("batch only", "tokens", saturating("batch", LARGE_CLIENTS, LARGE)),
    load(
      "both classes",
      "tokens",
      saturating("batch", LARGE_CLIENTS, LARGE),
      people(2),
    ),
  ];
}

/**
 * Lets the load's clients loose. `serve` resolves when the client has its answer. The n-th prompt of a client is the
 * same whoever serves it.
 */
export function startClients(
  load: Load,
  projects: number,
  seed: number,
  time: SimulatedTime,
  serve: (call: Call) => Promise<void>,
): void {
  let calls = 0;
  let clients = 0;
  const callOf = (client: number, of: ClassLoad, random: Random): Call => {
    const real = Math.round(between(random, ...of.tokens));
    const error = between(random, -ESTIMATE_ERROR, ESTIMATE_ERROR);
    return {
      no: ++calls,
      client,
      class: of.class,
      real,
      estimate: Math.round(real * (1 + error)),
      wantedAt: time.now(),
    };
  };
  for (const of of load.classes) {
    if (of.arrivals.kind === "saturating") {
      for (let i = 0; i < of.arrivals.clients * projects; i++) {
        const client = ++clients;
        const random = seededRandom(seed, client);
        time.spawn(async () => {
          for (;;) await serve(callOf(client, of, random));
        }, between(random, 0, JOIN_MS));
      }
    } else {
      const perMinute = of.arrivals.perMinute * projects;
      const client = ++clients;
      const random = seededRandom(seed, client);
      time.spawn(async () => {
        for (;;) {
          await time.sleep(poissonPause(random, perMinute));
          const call = callOf(client, of, random);
          time.spawn(() => serve(call));
        }
      });
    }
  }
}
