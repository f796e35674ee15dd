/** A reader who has not come back for this long is not reading: the slowest readers take a piece a second. */
export const UNREAD_AFTER_MS = 5_000;
/** Streams that one caller may leave unread in one function instance: each holds a call upstream and its sockets. */
export const MOST_UNREAD_STREAMS = 8;

/** Streams whose readers have stopped reading, counted per caller. */
export class UnreadStreams {
  readonly #callers = new Map<string, number>();

  /** Counts one more; false: the caller has as many as they may have, and this one is not counted. */
  add(caller: string): boolean {
    if (this.isFull(caller)) return false;
    this.#callers.set(caller, (this.#callers.get(caller) ?? 0) + 1);
    return true;
  }

  /** One of them is read again, or has ended. */
  remove(caller: string): void {
    const left = (this.#callers.get(caller) ?? 0) - 1;
    if (left > 0) this.#callers.set(caller, left);
    else this.#callers.delete(caller);
  }

  isFull(caller: string): boolean {
    return (this.#callers.get(caller) ?? 0) >= MOST_UNREAD_STREAMS;
  }
}
