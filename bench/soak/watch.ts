/** Looks every second whether a reservation has outlived its lease, and by how much. */
import type postgres from "postgres";

const EVERY_MS = 1_000;

export class Watch {
  readonly #sql: postgres.Sql;
  readonly #stopped = new AbortController();
  #sampling: Promise<void> = Promise.resolve();
  #paused = false;
  #longestMs = 0;

  constructor(sql: postgres.Sql) {
    this.#sql = sql;
  }

  start(): void {
    this.#sampling = this.#sample();
  }

  /** While the database's clock is wrong, leases say nothing. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
  }

  /** The longest that one outlived its lease, in ms. */
  async stop(): Promise<number> {
    this.#stopped.abort();
    await this.#sampling;
    return this.#longestMs;
  }

  async #sample(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
      if (this.#paused) continue;
      try {
        const [row] = await this.#sql`
          select coalesce(max(extract(epoch from eve.clock() - lease_until)), 0)::float8 as s from eve.inflight`;
        if (!this.#paused) {
          this.#longestMs = Math.max(
            this.#longestMs,
            Math.round(row!.s * 1_000),
          );
        }
      } catch {
        // The database is away; the next look tells.
      }
    }
  }
}
