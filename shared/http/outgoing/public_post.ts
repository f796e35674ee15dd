import { type Clock, setTimer } from "../../runtime/clock.ts";
import { type Connect, pinnedRequest } from "./pinned_request.ts";
import { judgeTarget, type Resolve, type TargetRules } from "./public_target.ts";

/** What the runtime can do towards the network. */
export interface Network {
  fetch: typeof fetch;
  /** Absent: the runtime cannot resolve names. */
  resolve?: Resolve | undefined;
  /** Connects to an address that was judged. Absent: `fetch` looks the name up once more. */
  connect?: Connect | undefined;
}

export interface PublicPostOptions extends Network {
  allows?: TargetRules["allows"];
  clock: Clock;
  /** For all of it. */
  timeoutMs: number;
  signal: AbortSignal;
}

export interface PostAnswer {
  status: number;
  headers: Headers;
}

/**
 * Posts to an address that a user has given, judged as `fetchPublic` judges one, and connected to where it was judged if the runtime can.
 * Redirects are not followed. The answer's body is not read: nothing of what a receiver says gets further than its status and headers.
 * @throws PublicFetchError for an address that must not be called; the signal's reason when it aborts; otherwise a failure to be tried again
 */
export async function postPublic(
  url: string,
  body: string,
  headers: Record<string, string>,
  options: PublicPostOptions,
): Promise<PostAnswer> {
  options.signal.throwIfAborted();
  const ended = new AbortController();
  const onAbort = () => ended.abort(options.signal.reason);
  options.signal.addEventListener("abort", onAbort, { once: true });
  const clearTimer = setTimer(
    options.clock,
    options.timeoutMs,
    () => ended.abort(new DOMException(`no answer within ${options.timeoutMs} ms`, "TimeoutError")),
  );
  try {
    // Raced: a lookup at a name server that does not answer cannot be aborted.
    return await Promise.race([posted(url, body, headers, options, ended.signal), aborted(ended.signal)]);
  } finally {
    clearTimer();
    ended.abort();
    options.signal.removeEventListener("abort", onAbort);
  }
}

async function posted(
  text: string,
  body: string,
  headers: Record<string, string>,
  { fetch, connect, ...rules }: PublicPostOptions,
  signal: AbortSignal,
): Promise<PostAnswer> {
  const { url, addresses } = await judgeTarget(text, rules);
  signal.throwIfAborted();
  const response = connect !== undefined && addresses !== null
    ? await pinnedRequest(
      { url, method: "POST", headers, body: new TextEncoder().encode(body) },
      { connect, addresses, signal },
    )
    : await fetch(url, { method: "POST", redirect: "manual", headers, body, signal });
  response.body?.cancel().catch(() => {});
  return { status: response.status, headers: response.headers };
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
