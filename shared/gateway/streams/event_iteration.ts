import { type Clock, setTimer } from "../../runtime/clock.ts";
import type { Emit, GatewayEvent } from "../../contract/events.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { UNREAD_AFTER_MS, type UnreadStreams } from "./unread_streams.ts";

export interface Followed {
  /** The run, up to its end; the signal ends it. */
  begin: (signal: AbortSignal, emit: Emit) => Promise<void>;
  /** Aborts when the client has gone. */
  client: AbortSignal;
  clock: Clock;
  /** How long a reader who has stopped pulling is waited for. */
  timeoutMs: number;
  /** Counts those whose reader has stopped pulling; one too many is ended. */
  unread: UnreadStreams;
  /** A unique name of the one who is charged for it. */
  caller: string;
  /** Called once, when it has ended in any way. */
  onEnd?: (() => void) | undefined;
}

/**
 * A run's events for one reader.
 *
 * Until the answer begins, the run goes on by itself, so that a reader who is slow to take `queued` delays no start
 * that was booked; from then on it goes on as the reader pulls. It ends, and is settled, in whichever way the reader
 * leaves: by `return()`, by hanging up while a piece is awaited or while none is, or by never coming back. A caller who leaves several unread
 * keeps a few of them, each until its time is up.
 */
export function eventIteration(followed: Followed): AsyncIterable<GatewayEvent> {
  return { [Symbol.asyncIterator]: () => new EventIterator(followed) };
}

class EventIterator implements AsyncIterator<GatewayEvent, undefined> {
  readonly #ready: GatewayEvent[] = [];
  readonly #leave = new AbortController();
  readonly #clearTimer: () => void;
  readonly #followed: Followed;
  /** Clears the timer for a reader who does not come back. */
  #readerIsBack: (() => void) | null = null;
  #countedUnread = false;
  /** The run; null: nobody has asked for an event yet. */
  #run: Promise<void> | null = null;
  /** Set while the run waits for its reader. */
  #more: PromiseWithResolvers<void> | null = null;
  #over = false;
  #error: unknown = null;
  #wake = Promise.withResolvers<void>();

  constructor(followed: Followed) {
    const { client, clock, timeoutMs } = followed;
    this.#followed = followed;
    client.addEventListener("abort", this.#onClientGone, { once: true });
    if (client.aborted) this.#leave.abort(client.reason);
    this.#clearTimer = setTimer(clock, timeoutMs, this.#onTimeUp);
  }

  async next(): Promise<IteratorResult<GatewayEvent, undefined>> {
    this.#isRead();
    for (;;) {
      const event = this.#ready.shift();
      if (event !== undefined) {
        if (!this.#over) this.#readerIsBack = setTimer(this.#followed.clock, UNREAD_AFTER_MS, this.#onUnread);
        return { done: false, value: event };
      }
      if (this.#over) {
        const error = this.#error;
        this.#error = null;
        if (error !== null) throw error;
        return { done: true, value: undefined };
      }
      if (this.#run === null) this.#run = this.#begin();
      else {
        this.#more?.resolve();
        this.#more = null;
      }
      await this.#wake.promise;
      this.#wake = Promise.withResolvers();
    }
  }

  async return(): Promise<IteratorResult<GatewayEvent, undefined>> {
    await this.#abandon(null);
    return { done: true, value: undefined };
  }

  /** While a piece is awaited, the run's own deadlines hold. */
  #onTimeUp = () => {
    if (this.#waitsForReader) void this.#abandon(new GatewayError("deadline_exceeded"));
  };

  #onClientGone = () => void this.#abandon(new GatewayError("client_closed"));

  #onUnread = () => {
    this.#readerIsBack = null;
    if (this.#over) return;
    const { unread, caller } = this.#followed;
    this.#countedUnread = unread.add(caller);
    if (!this.#countedUnread) void this.#abandon(new GatewayError("streams_unread"));
  };

  #isRead(): void {
    this.#readerIsBack?.();
    this.#readerIsBack = null;
    if (!this.#countedUnread) return;
    this.#countedUnread = false;
    this.#followed.unread.remove(this.#followed.caller);
  }

  get #waitsForReader(): boolean {
    return this.#run === null || this.#more !== null;
  }

  async #begin(): Promise<void> {
    try {
      await this.#followed.begin(this.#leave.signal, this.#emit);
      this.#end(null);
    } catch (thrown) {
      this.#end(thrown);
    }
  }

  #emit: Emit = (event) => {
    const isDelta = event.type === "delta";
    if (this.#over) return isDelta ? Promise.reject(readerLeft()) : Promise.resolve();
    this.#ready.push(event);
    this.#wake.resolve();
    if (!isDelta) return Promise.resolve();
    this.#more = Promise.withResolvers();
    return this.#more.promise;
  };

  #end(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.#clearTimer();
    this.#isRead();
    this.#followed.client.removeEventListener("abort", this.#onClientGone);
    this.#followed.onEnd?.();
    this.#more?.reject(readerLeft());
    this.#more = null;
    this.#wake.resolve();
  }

  /** Ends the call upstream. The run ends from wherever it is, and settles. */
  async #abandon(error: unknown): Promise<void> {
    if (this.#over) return;
    const waits = this.#waitsForReader;
    this.#leave.abort(readerLeft());
    // A piece that is awaited fails with the error that the abort causes.
    if (!waits && error !== null) return;
    this.#end(error);
    await this.#run;
  }
}

const readerLeft = () => new DOMException("the reader has left", "AbortError");
