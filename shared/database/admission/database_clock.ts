/**
 * The database's clock, as far as it is known here. It starts as ours, and is corrected when the database sends its
 * time: by as much as is certain and no more, since the answer may have been under way for any part of the time between.
 */
export class DatabaseClock {
  readonly #ours: () => number;
  /** How far the database's clock is ahead of ours, in ms. */
  #ahead = 0;

  /** @param ours milliseconds since 1970 */
  constructor(ours: () => number = Date.now) {
    this.#ours = ours;
  }

  /** Milliseconds since 1970. */
  now(): number {
    return this.#ours() + this.#ahead;
  }

  /** Our own clock, for `learn`. */
  ours(): number {
    return this.#ours();
  }

  /**
   * @param shown what the database's clock showed at some moment since `since`, a value of `ours()`
   * @returns whether that changed anything
   */
  learn(shown: number, since: number): boolean {
    const before = this.#ahead;
    this.#ahead = Math.min(Math.max(before, shown - this.#ours()), shown - since);
    return this.#ahead !== before;
  }
}
