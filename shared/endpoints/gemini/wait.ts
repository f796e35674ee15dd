/**
 * How long a start may lie ahead for clients that say nothing. With a usual answer on top it stays under the 60 s after
 * which most HTTP clients give up; Google's own have no limit unless they are given one.
 */
export const DEFAULT_WAIT_MS = 30_000;

/** Of a client's time limit, what may pass before the call begins; the rest is for the answer. */
const SHARE_TO_WAIT = 0.5;

/** `X-Server-Timeout`: the time limit that Google's clients were given, in seconds. After it nobody waits for the answer. */
export function geminiWaitMs(request: Request): number {
  const seconds = Number(request.headers.get("x-server-timeout") ?? Number.NaN);
  if (!(seconds > 0)) return DEFAULT_WAIT_MS;
  return Math.floor(Math.min(DEFAULT_WAIT_MS, seconds * 1000 * SHARE_TO_WAIT));
}
