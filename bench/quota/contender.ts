/** What is compared: ways to decide when a call may go to Google, and with which project's key. */
import type { Call, Limits } from "./load.ts";
import type { Random } from "./random.ts";
import type { SimulatedTime } from "./simulated_time.ts";
import type { Upstream } from "./upstream.ts";

/** A call that Google has admitted. */
export interface Served extends Call {
  /** Place in the line: the order in which the contender took the calls on. */
  place: number;
  /** Input tokens that its place was made for. */
  booked: number;
  /** The project, counted from 0. */
  lane: number;
  /** When it was sent; the network comes on top. */
  startedAt: number;
}

/** The one place where a run is written down. */
export class Journal {
  /** All that clients have asked for, in that order. */
  readonly wanted: Call[] = [];
  readonly served: Served[] = [];
  /** Each time that a caller was told to come back later. */
  readonly sentBack: Call[] = [];
  /** Calls that ended in an error after the contender's own retries; their clients ask again. */
  failed = 0;
  #place = 0;

  nextPlace(): number {
    return ++this.#place;
  }
}

export interface World {
  time: SimulatedTime;
  upstream: Upstream;
  journal: Journal;
  random: Random;
  /** Quota projects, a key each. */
  projects: number;
  /** Of each of them. */
  limits: Limits;
}

export interface Contender {
  /** Resolves when the client has its answer. */
  serve(call: Call): Promise<void>;
}

export type MakeContender = (world: World) => Contender | Promise<Contender>;
