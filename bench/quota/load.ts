/** Who wants what: the loads that every contender gets alike. */
import { between, poissonPause, type Random, seededRandom } from "./random.ts";
import type { SimulatedTime } from "./simulated_time.ts";

export type TrafficClass = "interactive" | "batch";

/** The free tier of gemma-4: the lane that the project was built around. */
export const LIMITS: Limits = { rpm: 30, tpm: 16_000, rpd: 14_400 };

/** Of a quota project. */
export interface Limits {
  rpm: number;
  tpm: number;
  rpd: number;
}

/** What the classes leave each other: the defaults of a model's row. */
export const SHARES = {
  floor: 0,
  reserve: 0,
  reserveDay: 0.1,
  batchFloor: 0.1,
} as const;

/** How far an estimate is from the real number of tokens at most, as a share of the real one; uniform. */
export const ESTIMATE_ERROR = 0.3;

const MINUTE_MS = 60_000;

/** Clients join over this time, so that the first minute begins with a burst, but not with all at one instant. */
export const JOIN_MS = 5_000;

export interface ClassLoad {
  class: TrafficClass;
  /**
   * `saturating`: this many clients a project, each asking for its next call as soon as it has its answer.
   * `poisson`: people, who come whether or not the last one has been served.
   * `even`: a bot, that comes at regular times, each late by up to half the time between two.
   * The latter two come so often a project, from one minute of the run to another.
   */
  arrivals: { kind: "saturating"; clients: number } | {
    kind: "poisson" | "even";
    perMinute: number;
    fromMinute?: number;
    untilMinute?: number;
  };
  /** Real input tokens of a prompt, uniform. */
  tokens: readonly [least: number, most: number];
}

export interface Load {
  name: string;
  /** Simulated minutes. */
  minutes: number;
  /** Of each quota project. */
  limits: Limits;
  classes: ClassLoad[];
  /** How far an estimate is from the real number of tokens at most, if not by ESTIMATE_ERROR. */
  estimateError?: number;
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
/** Prompts of every size, from a line to a quarter of the minute. */
const MIXED = [30, 4_000] as const;
const MIXED_ERROR = 0.15;
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
    limits: LIMITS,
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
    {
      ...load("batch of all sizes", "tokens", saturating("batch", LARGE_CLIENTS, MIXED)),
      estimateError: MIXED_ERROR,
    },
  ];
}

/**
 * Lets the load's clients loose. `serve` resolves when the client has its answer. The n-th prompt of a client is the
 * same for each contender.
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
    const most = load.estimateError ?? ESTIMATE_ERROR;
    const error = between(random, -most, most);
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
      const { kind, fromMinute = 0, untilMinute = Infinity } = of.arrivals;
      const perMinute = of.arrivals.perMinute * projects;
      const client = ++clients;
      const random = seededRandom(seed, client);
      const startMs = time.now();
      const period = MINUTE_MS / perMinute;
      // A bot's first call comes at once, more or less.
      const phase = kind === "even" ? between(random, 0, Math.min(period / 2, MINUTE_MS / 2)) : 0;
      let due = startMs + fromMinute * MINUTE_MS;
      time.spawn(async () => {
        for (let n = 0;; n++) {
          due = kind === "poisson"
            ? due + poissonPause(random, perMinute)
            : startMs + fromMinute * MINUTE_MS + phase + n * period +
              (n === 0 ? 0 : between(random, 0, period / 2));
          if (due >= startMs + untilMinute * MINUTE_MS) return;
          await time.sleep(due - time.now());
          const call = callOf(client, of, random);
          time.spawn(() => serve(call));
        }
      });
    }
  }
}
