/** What a lane's windows held at any instant of a run. */
import { LIMITS, SHARES, type TrafficClass } from "./load.ts";

export interface Start {
  at: number;
  /** Real input tokens. */
  tokens: number;
  class: TrafficClass;
  /** Decides between starts of the same instant: the smaller was there first. */
  place: number;
}

interface Sums {
  starts: number;
  tokens: number;
  batchStarts: number;
  batchTokens: number;
}

const NOTHING: Sums = { starts: 0, tokens: 0, batchStarts: 0, batchTokens: 0 };
const MINUTE_MS = 60_000;
/** The interactive share follows the busiest minute of this many. */
const REMEMBERED_MINUTES = 10;

/** Starts in order, with running sums, so that any window costs two look-ups. */
export class LaneHistory {
  readonly starts: Start[] = [];
  #sums: Sums[] = [NOTHING];

  constructor(starts: readonly Start[] = []) {
    for (
      const start of starts.toSorted((a, b) => a.at - b.at || a.place - b.place)
    ) this.append(start);
  }

  /** `start` must not be before the last one. */
  append(start: Start): void {
    const before = this.#sums.at(-1)!;
    const batch = start.class === "batch";
    this.starts.push(start);
    this.#sums.push({
      starts: before.starts + 1,
      tokens: before.tokens + start.tokens,
      batchStarts: before.batchStarts + (batch ? 1 : 0),
      batchTokens: before.batchTokens + (batch ? start.tokens : 0),
    });
  }

  /** How many starts lie before the instant, or in it with a place smaller than the one given. */
  countBefore(at: number, place = -Infinity): number {
    let low = 0;
    let high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const start = this.starts[middle]!;
      if (start.at < at || (start.at === at && start.place < place)) {
        low = middle + 1;
      } else high = middle;
    }
    return low;
  }

  /** What the starts numbered from `first` up to, not including, `end` add up to. */
  between(first: number, end: number): Sums {
    const from = this.#sums[first]!;
    const to = this.#sums[Math.max(first, end)]!;
    return {
      starts: to.starts - from.starts,
      tokens: to.tokens - from.tokens,
      batchStarts: to.batchStarts - from.batchStarts,
      batchTokens: to.batchTokens - from.batchTokens,
    };
  }
}

/**
 * What batch has to leave to interactive callers (guarantee G5): the starts and tokens of their busiest clock minute of the
 * last ten, at least the floor, at most the reserve.
 */
export class InteractiveShare {
  readonly #history: LaneHistory;

  constructor(starts: readonly Start[]) {
    this.#history = new LaneHistory(
      starts.filter((start) => start.class === "interactive"),
    );
  }

  at(instant: number): { starts: number; tokens: number } {
    const minute = Math.floor(instant / MINUTE_MS);
    let starts = 0;
    let tokens = 0;
    const first = this.#history.countBefore(
      (minute - REMEMBERED_MINUTES + 1) * MINUTE_MS,
    );
    const end = this.#history.countBefore(instant, Infinity);
    let largest = 0;
    for (let from = first; from < end;) {
      const next = (Math.floor(this.#history.starts[from]!.at / MINUTE_MS) + 1) *
        MINUTE_MS;
      const to = Math.min(end, this.#history.countBefore(next));
      const used = this.#history.between(from, to);
      starts = Math.max(starts, used.starts);
      tokens = Math.max(tokens, used.tokens);
      for (let i = from; i < to; i++) {
        largest = Math.max(largest, this.#history.starts[i]!.tokens);
      }
      from = to;
    }
    const even = LIMITS.tpm / LIMITS.rpm;
    return {
      starts: Math.max(
        SHARES.floor,
        Math.min(starts, Math.floor(LIMITS.rpm * SHARES.reserve)),
      ),
      tokens: Math.min(
        Math.max(tokens, SHARES.floor * Math.max(largest, even)),
        Math.max(LIMITS.tpm * SHARES.reserve, SHARES.floor * even),
      ),
    };
  }
}

/** Whether a call fits a window that holds `held`. */
export function fits(
  held: Sums,
  call: { class: TrafficClass; tokens: number },
  share: { starts: number; tokens: number },
): boolean {
  if (held.starts + 1 > LIMITS.rpm || held.tokens + call.tokens > LIMITS.tpm) {
    return false;
  }
  if (call.class === "interactive") return true;
  // A batch of one prompt always passes, or a large one would wait for ever.
  return held.batchStarts + 1 <= LIMITS.rpm - share.starts &&
    (held.batchStarts === 0 ||
      held.batchTokens + call.tokens <= LIMITS.tpm - share.tokens);
}

/** The next instant after `instant` at which a window can hold less, or the interactive share can shrink. */
export function nextChange(
  histories: readonly LaneHistory[],
  instant: number,
  windowMs: number,
): number {
  let next = (Math.floor(instant / MINUTE_MS) + 1) * MINUTE_MS;
  for (const history of histories) {
    const leaving = history.starts[history.countBefore(instant - windowMs, Infinity)];
    if (leaving) next = Math.min(next, leaving.at + windowMs);
  }
  return next;
}
