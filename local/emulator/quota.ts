/**
 * Google's side of the limits: what has been used per project and model, and whether one more request fits.
 *
 * Nobody documents the shape of the minute window, so there are three to choose from. A window holds what was used
 * and learns the limit only when it is asked, so limits may change while it runs.
 */

import type { LimitName, Limits } from "./models.ts";
import { pacificDay } from "./pacific_day.ts";

/**
 * - `fixed`: counts start again at every minute of the epoch plus `offsetMs`. Twice the limit fits around an edge.
 * - `sliding`: what was admitted in the last minute counts, and no longer. The strictest.
 * - `token_bucket`: `burst` times the limit at once (default 1), refilled evenly over the minute.
 */
export type WindowShape =
  | { kind: "fixed"; offsetMs: number }
  | { kind: "sliding" }
  | { kind: "token_bucket"; burst?: number };

interface Window {
  /** Milliseconds until `amount` more fits under `limit`: 0 means now, Infinity never. */
  waitFor(now: number, amount: number, limit: number): number;
  take(now: number, amount: number, limit: number | null): void;
  used(now: number, limit: number | null): number;
}

class FixedWindow implements Window {
  #index = Number.NEGATIVE_INFINITY;
  #used = 0;

  constructor(private readonly minuteMs: number, private readonly offsetMs: number) {}

  #turn(now: number): void {
    const index = Math.floor((now - this.offsetMs) / this.minuteMs);
    if (index === this.#index) return;
    this.#index = index;
    this.#used = 0;
  }

  waitFor(now: number, amount: number, limit: number): number {
    this.#turn(now);
    if (this.#used + amount <= limit) return 0;
    if (amount > limit) return Infinity;
    return (this.#index + 1) * this.minuteMs + this.offsetMs - now;
  }

  take(now: number, amount: number): void {
    this.#turn(now);
    this.#used += amount;
  }

  used(now: number): number {
    this.#turn(now);
    return this.#used;
  }
}

class SlidingWindow implements Window {
  #entries: { at: number; amount: number }[] = [];
  #first = 0;
  #used = 0;

  constructor(private readonly minuteMs: number) {}

  #drop(now: number): void {
    while (this.#first < this.#entries.length && now - this.#entries[this.#first]!.at >= this.minuteMs) {
      this.#used -= this.#entries[this.#first++]!.amount;
    }
    if (this.#first > 1_000 && this.#first * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#first);
      this.#first = 0;
    }
  }

  waitFor(now: number, amount: number, limit: number): number {
    this.#drop(now);
    if (this.#used + amount <= limit) return 0;
    if (amount > limit) return Infinity;
    let left = this.#used;
    for (let i = this.#first; i < this.#entries.length; i++) {
      left -= this.#entries[i]!.amount;
      if (left + amount <= limit) return this.#entries[i]!.at + this.minuteMs - now;
    }
    return this.minuteMs;
  }

  take(now: number, amount: number): void {
    this.#drop(now);
    this.#entries.push({ at: now, amount });
    this.#used += amount;
  }

  used(now: number): number {
    this.#drop(now);
    return this.#used;
  }
}

/** Held as a debt that is paid off at `limit` a minute, which is a bucket seen from the other side. */
class TokenBucket implements Window {
  /** A debt smaller than this is rounding, not use. */
  static readonly DUST = 1e-6;

  #debt = 0;
  #at = 0;

  constructor(private readonly minuteMs: number, private readonly burst: number) {}

  #pay(now: number, limit: number): void {
    this.#debt = Math.max(0, this.#debt - Math.max(0, now - this.#at) * limit / this.minuteMs);
    this.#at = now;
  }

  waitFor(now: number, amount: number, limit: number): number {
    this.#pay(now, limit);
    const room = this.burst * limit;
    const over = this.#debt + amount - room;
    if (over <= TokenBucket.DUST) return 0;
    if (amount > room) return Infinity;
    return Math.ceil(over * this.minuteMs / limit);
  }

  take(now: number, amount: number, limit: number | null): void {
    if (limit === null) return;
    this.#pay(now, limit);
    // Refusals that count may not push the bucket further down than one full bucket, or it would never recover.
    this.#debt = Math.min(this.#debt + amount, 2 * this.burst * limit);
  }

  used(now: number, limit: number | null): number {
    if (limit === null) return 0;
    this.#pay(now, limit);
    return this.#debt;
  }
}

function newWindow(shape: WindowShape, minuteMs: number): Window {
  switch (shape.kind) {
    case "fixed":
      return new FixedWindow(minuteMs, shape.offsetMs);
    case "sliding":
      return new SlidingWindow(minuteMs);
    case "token_bucket":
      return new TokenBucket(minuteMs, shape.burst ?? 1);
  }
}

interface Lane {
  project: string;
  model: string;
  requests: Window;
  tokens: Window;
  day: string;
  today: number;
}

export interface Violation {
  limit: LimitName;
  /** The limit's value; 0 means that the project has no quota at all for the model. */
  value: number;
  /** Milliseconds until this limit alone would let the request through; Infinity: it never will. */
  waitMs: number;
}

export interface LaneUse {
  project: string;
  model: string;
  minute: { requests: number; tokens: number };
  day: string;
  today: number;
}

export interface Cost {
  requests: number;
  tokens: number;
}

export class Quota {
  #lanes = new Map<string, Lane>();

  constructor(private shape: WindowShape, private readonly minuteMs: number) {}

  get window(): WindowShape {
    return this.shape;
  }

  /** Another shape of window. What was used in the minute is forgotten, what was used in the day is not. */
  setWindow(shape: WindowShape): void {
    this.shape = shape;
    for (const lane of this.#lanes.values()) {
      lane.requests = newWindow(shape, this.minuteMs);
      lane.tokens = newWindow(shape, this.minuteMs);
    }
  }

  reset(): void {
    this.#lanes.clear();
  }

  #lane(project: string, model: string, now: number): Lane {
    const id = JSON.stringify([project, model]);
    let lane = this.#lanes.get(id);
    const day = pacificDay(now);
    if (!lane) {
      const requests = newWindow(this.shape, this.minuteMs);
      lane = { project, model, requests, tokens: newWindow(this.shape, this.minuteMs), day, today: 0 };
      this.#lanes.set(id, lane);
    }
    if (lane.day !== day) {
      lane.day = day;
      lane.today = 0;
    }
    return lane;
  }

  /**
   * Admits a request or says every limit it breaks. Limits are taken together or not at all.
   *
   * @param countRefused whether a refused request uses the limits up as an admitted one does.
   */
  admit(
    now: number,
    project: string,
    model: string,
    limits: Limits,
    cost: Cost,
    countRefused = false,
  ): Violation[] {
    const lane = this.#lane(project, model, now);
    const violations: Violation[] = [];
    if (limits.rpd !== null && lane.today + cost.requests > limits.rpd) {
      violations.push({ limit: "rpd", value: limits.rpd, waitMs: Infinity });
    }
    const minute = [
      ["rpm", lane.requests, cost.requests, limits.rpm],
      ["tpm", lane.tokens, cost.tokens, limits.tpm],
    ] as const;
    for (const [limit, window, amount, value] of minute) {
      if (value === null) continue;
      const waitMs = value === 0 ? Infinity : window.waitFor(now, amount, value);
      if (waitMs > 0) violations.push({ limit, value, waitMs });
    }
    if (violations.length === 0 || countRefused) {
      lane.today += cost.requests;
      lane.requests.take(now, cost.requests, limits.rpm);
      lane.tokens.take(now, cost.tokens, limits.tpm);
    }
    return violations;
  }

  /** What every lane that was ever asked for has used. */
  use(now: number, limitsOf: (project: string, model: string) => Limits): LaneUse[] {
    return [...this.#lanes.values()].map(({ project, model }) => {
      const lane = this.#lane(project, model, now);
      const limits = limitsOf(project, model);
      return {
        project,
        model,
        minute: {
          requests: Math.round(lane.requests.used(now, limits.rpm)),
          tokens: Math.round(lane.tokens.used(now, limits.tpm)),
        },
        day: lane.day,
        today: lane.today,
      };
    });
  }
}
