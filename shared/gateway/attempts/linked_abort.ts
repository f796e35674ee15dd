import { type Clock, setTimer } from "../../runtime/clock.ts";

/** The end of the time that one request has. */
export interface RequestDeadline {
  /** Milliseconds left; never negative. */
  left(): number;
}

/** @param since `Clock.now()` when the request arrived */
export function deadlineFrom(clock: Clock, since: number, timeoutMs: number): RequestDeadline {
  return { left: () => Math.max(0, since + timeoutMs - clock.now()) };
}

/** Why we ended a call. */
export type AbortCause = "client_closed" | "timed_out";

export interface LinkedAbort {
  signal: AbortSignal;
  /** Rejects with the signal's reason when it aborts; no handler is needed. */
  broken: Promise<never>;
  /** Null while nothing has ended the call. */
  ended(): AbortCause | null;
  /** Clears the timer and removes the listener from the client's signal. */
  release(): void;
}

/** A signal linked to the client's: it aborts when the client has gone or when `ms` have passed, and tells which of the two it was. */
export function linkAbort(clock: Clock, client: AbortSignal, ms: number): LinkedAbort {
  const controller = new AbortController();
  const broken = Promise.withResolvers<never>();
  broken.promise.catch(() => {});
  let ended: AbortCause | null = null;
  const end = (how: AbortCause) => {
    if (ended !== null) return;
    ended = how;
    const reason = new DOMException(how, "AbortError");
    controller.abort(reason);
    broken.reject(reason);
  };
  const onClientGone = () => end("client_closed");
  client.addEventListener("abort", onClientGone, { once: true });
  if (client.aborted) onClientGone();
  const clearTimer = setTimer(clock, ms, () => end("timed_out"));
  return {
    signal: controller.signal,
    broken: broken.promise,
    ended: () => ended,
    release: () => {
      clearTimer();
      client.removeEventListener("abort", onClientGone);
    },
  };
}
