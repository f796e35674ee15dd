import { alarm, type Clock } from "../../runtime/clock.ts";

/** The end of the time that one request has. */
export interface Deadline {
  /** Milliseconds left; never negative. */
  left(): number;
}

/** @param since `Clock.now()` when the request arrived */
export function deadlineFrom(clock: Clock, since: number, timeoutMs: number): Deadline {
  return { left: () => Math.max(0, since + timeoutMs - clock.now()) };
}

/** Why a call was broken off by us. */
export type Ending = "client_closed" | "timed_out";

export interface Leash {
  signal: AbortSignal;
  /** Rejects with the signal's reason when it aborts; nobody has to be listening. */
  broken: Promise<never>;
  /** Null while nothing has ended the call. */
  ended(): Ending | null;
  /** Aborts the signal, as if the client had gone. */
  cut(): void;
  /** Stops the timer and lets go of the client's signal. */
  release(): void;
}

/** A signal that aborts when the client has gone or when `ms` have passed, and knows which of the two it was. */
export function leash(clock: Clock, client: AbortSignal, ms: number): Leash {
  const controller = new AbortController();
  const broken = Promise.withResolvers<never>();
  broken.promise.catch(() => {});
  let ended: Ending | null = null;
  const end = (how: Ending) => {
    if (ended !== null) return;
    ended = how;
    const reason = new DOMException(how, "AbortError");
    controller.abort(reason);
    broken.reject(reason);
  };
  const onClientGone = () => end("client_closed");
  client.addEventListener("abort", onClientGone, { once: true });
  if (client.aborted) onClientGone();
  const silence = alarm(clock, ms, () => end("timed_out"));
  return {
    signal: controller.signal,
    broken: broken.promise,
    ended: () => ended,
    cut: () => end("client_closed"),
    release: () => {
      silence();
      client.removeEventListener("abort", onClientGone);
    },
  };
}
