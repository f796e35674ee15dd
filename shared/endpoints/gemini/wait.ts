import { DEFAULT_WAIT_MS } from "../endpoint.ts";

/** Of a client's time limit, what may pass before the call begins; the rest is for the answer. */
const SHARE_TO_WAIT = 0.5;

/** `X-Server-Timeout`: the time limit that Google's clients were given, in seconds. After it nobody waits for the answer. */
export function geminiWaitMs(request: Request): number {
  const seconds = Number(request.headers.get("x-server-timeout") ?? Number.NaN);
  if (!(seconds > 0)) return DEFAULT_WAIT_MS;
  return Math.floor(Math.min(DEFAULT_WAIT_MS, seconds * 1000 * SHARE_TO_WAIT));
}
