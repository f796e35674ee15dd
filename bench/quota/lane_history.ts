/** What a lane's windows held at any instant of a run. */
import type { Limits, TrafficClass } from "./load.ts";

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
}

const NOTHING: Sums = { starts: 0, tokens: 0 };

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
    this.starts.push(start);
    this.#sums.push({
      starts: before.starts + 1,
      tokens: before.tokens + start.tokens,
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
    };
  }
}

/** Whether a call fits a window that holds `held`: batch may use all that interactive callers leave. */
export function fits(
  held: readonly Sums[],
  tokens: number,
  limits: Limits,
): boolean {
  const sum = (of: keyof Sums) => held.reduce((total, part) => total + part[of], 0);
  return sum("starts") + 1 <= limits.rpm &&
    sum("tokens") + tokens <= limits.tpm;
}

/**
 * Whether a call of `tokens` that starts at an instant leaves room to the interactive calls that started later: `people` are
 * all of theirs, `all` what is there by then (of the instant itself, what has a place smaller than the one given).
 */
export function leavesRoom(
  all: readonly LaneHistory[],
  people: LaneHistory,
  tokens: number,
  at: number,
  place: number,
  windowMs: number,
  limits: Limits,
): boolean {
  const first = people.countBefore(at, Infinity);
  for (let later = first; later < people.starts.length; later++) {
    const end = people.starts[later]!.at;
    if (end >= at + windowMs) return true;
    const held = all.map((history) =>
      history.between(
        history.countBefore(end - windowMs, Infinity),
        history.countBefore(at, place),
      )
    );
    const since = people.between(
      Math.max(first, people.countBefore(end - windowMs, Infinity)),
      later + 1,
    );
    if (!fits([...held, since], tokens, limits)) return false;
  }
  return true;
}

/** The next instant after `instant` at which a window can hold less, or a later start is no longer a later one. */
export function nextChange(
  histories: readonly LaneHistory[],
  instant: number,
  windowMs: number,
): number {
  let next = Infinity;
  for (const history of histories) {
    const leaving = history.starts[history.countBefore(instant - windowMs, Infinity)];
    if (leaving) next = Math.min(next, leaving.at + windowMs);
    const coming = history.starts[history.countBefore(instant, Infinity)];
    if (coming) next = Math.min(next, coming.at);
  }
  return next;
}
