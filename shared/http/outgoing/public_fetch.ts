import type { Clock } from "../../runtime/clock.ts";
import { joinBytes } from "../../runtime/join_bytes.ts";
import { type Connect, pinnedRequest } from "./pinned_request.ts";
import { judgeTarget, PublicFetchError } from "./public_target.ts";

/** Links to pictures redirect once or twice; a longer chain is a loop or a trick. */
export const MAX_REDIRECTS = 3;
export interface PublicFetchOptions {
  fetch: typeof fetch;
  clock: Clock;
  /** The addresses of a name. Absent: the runtime cannot resolve them, and only the name itself is judged. */
  resolve?: ((host: string) => Promise<string[]>) | undefined;
  /** Connects to an address that was judged. Absent: `fetch` looks the name up once more. */
  connect?: Connect | undefined;
  /** For the whole fetch, redirects and body included. */
  timeoutMs: number;
  signal: AbortSignal;
  /** Of the body; asked again at each piece, so several fetches may share one allowance. */
  mayTake(bytes: number): boolean;
  /** Whether a media type is accepted. */
  accepts(mimeType: string): boolean;
}

export interface Fetched {
  mimeType: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Fetches what a user's URL leads to: http or https on its usual port, a public host, without credentials; every
 * redirect is judged again. Nothing of the caller's request is sent.
 *
 * Where the runtime can (`resolve` and `connect`), what is connected to is the very address that was judged, so that
 * a name that resolves differently a moment later gains nothing. Where it cannot, the runtime's own network rules are
 * the last defence.
 * @throws PublicFetchError
 * @throws the signal's reason when it aborts
 */
export async function fetchPublic(url: string, options: PublicFetchOptions): Promise<Fetched> {
  options.signal.throwIfAborted();
  const ended = new AbortController();
  const timer = new AbortController();
  const onAbort = () => ended.abort(options.signal.reason);
  options.signal.addEventListener("abort", onAbort, { once: true });
  options.clock.sleep(options.timeoutMs, timer.signal).then(
    () => ended.abort(new PublicFetchError(`did not arrive within ${options.timeoutMs} ms`)),
    () => {},
  );
  try {
    // Raced: a lookup at a name server that does not answer cannot be aborted.
    return await Promise.race([followed(url, options, ended.signal), aborted(ended.signal)]);
  } catch (thrown) {
    options.signal.throwIfAborted();
    if (ended.signal.aborted) throw ended.signal.reason;
    if (thrown instanceof PublicFetchError) throw thrown;
    throw new PublicFetchError("could not be fetched");
  } finally {
    timer.abort();
    ended.abort();
    options.signal.removeEventListener("abort", onAbort);
  }
}

async function followed(start: string, options: PublicFetchOptions, signal: AbortSignal): Promise<Fetched> {
  let target = await judgeTarget(start, options);
  for (let hop = 0;; hop++) {
    const { url, addresses } = target;
    const { connect } = options;
    const response = connect !== undefined && addresses !== null
      ? await pinnedRequest({ url, method: "GET", headers: HEADERS }, { connect, addresses, signal })
      : await options.fetch(url, { redirect: "manual", signal, headers: HEADERS });
    const location = response.headers.get("location");
    if (response.status >= 300 && response.status < 400 && location !== null) {
      response.body?.cancel().catch(() => {});
      if (hop === MAX_REDIRECTS) throw new PublicFetchError(`redirects more than ${MAX_REDIRECTS} times`);
      target = await judgeTarget(location, options, url);
      continue;
    }
    return await taken(response, options);
  }
}

const HEADERS = { accept: "image/*, application/pdf, text/*;q=0.9", "user-agent": "eve-gateway" };

async function taken(response: Response, { accepts, mayTake }: PublicFetchOptions): Promise<Fetched> {
  const leave = (why: string) => {
    response.body?.cancel().catch(() => {});
    return new PublicFetchError(why);
  };
  if (!response.ok) throw leave(`answered with status ${response.status}`);
  const mimeType = (response.headers.get("content-type") ?? "").split(";")[0]!.trim().toLowerCase();
  if (!accepts(mimeType)) throw leave(`is of the type ${mimeType || "unknown"}, which is not accepted here`);
  const pieces: Uint8Array[] = [];
  for await (const piece of response.body ?? []) {
    if (!mayTake(piece.byteLength)) throw new PublicFetchError("is too large");
    pieces.push(piece);
  }
  return { mimeType, bytes: joinBytes(pieces) };
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
