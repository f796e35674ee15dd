import { brotliDecompressSync, gunzipSync, inflateSync } from "node:zlib";
import { type Connect, pinnedRequest } from "../http/outgoing/pinned_request.ts";
import { judgeTarget, PublicFetchError, type TargetRules } from "../http/outgoing/public_target.ts";
import { type Clock, setTimer } from "../runtime/clock.ts";
import { joinBytes } from "../runtime/join_bytes.ts";

export const MAX_REDIRECTS = 5;

export interface PageNetwork extends TargetRules {
  fetch: typeof fetch;
  clock: Clock;
  connect?: Connect | undefined;
}

export interface PageRequest {
  headers: Record<string, string>;
  /** For all of it: redirects, waiting for turns, and the body. */
  timeoutMs: number;
  /** Of the body, as it comes and unpacked. */
  maxBytes: number;
  /** `cut`: the first `maxBytes` are taken. Absent: a longer one is `too_large`. */
  whenLarger?: "cut";
  /** Before each request, redirected ones too; what it throws ends the fetch. */
  before?(url: URL, signal: AbortSignal): Promise<void>;
  /** Whether the body is wanted. Absent: always. */
  wants?(status: number, headers: Headers): boolean;
  signal: AbortSignal;
}

export interface FetchedPage {
  url: string;
  status: number;
  headers: Headers;
  /** Null: not wanted. */
  bytes: Uint8Array<ArrayBuffer> | null;
}

/** The body has more bytes than are taken, as it came or unpacked. */
export class TooLarge extends Error {}
/** It did not come: the server, the network, or its time. The message is for who asked. */
export class FetchFailed extends Error {}

/**
 * A page that a stranger's URL leads to, each redirect judged as the first (`judgeTarget`), and connected to where it was judged. Nothing of
 * the caller's is sent, and no cookies.
 * @throws PublicFetchError for a URL that must not be fetched; TooLarge; FetchFailed; what `before` throws; the signal's reason
 */
export async function fetchPage(
  start: string,
  network: PageNetwork,
  request: PageRequest,
): Promise<FetchedPage> {
  request.signal.throwIfAborted();
  const ended = new AbortController();
  const late = new FetchFailed(`did not arrive within ${request.timeoutMs} ms`);
  const clearTimer = setTimer(network.clock, request.timeoutMs, () => ended.abort(late));
  const onAbort = () => ended.abort(request.signal.reason);
  request.signal.addEventListener("abort", onAbort, { once: true });
  const aborted = Promise.withResolvers<never>();
  ended.signal.addEventListener("abort", () => aborted.reject(ended.signal.reason), { once: true });
  aborted.promise.catch(() => {});
  try {
    // Raced: a lookup at a name server that does not answer cannot be aborted.
    return await Promise.race([followed(start, network, request, ended.signal), aborted.promise]);
  } catch (thrown) {
    request.signal.throwIfAborted();
    throw ended.signal.aborted ? late : thrown;
  } finally {
    clearTimer();
    request.signal.removeEventListener("abort", onAbort);
    ended.abort();
  }
}

async function followed(
  start: string,
  network: PageNetwork,
  request: PageRequest,
  signal: AbortSignal,
): Promise<FetchedPage> {
  let target = await judgeTarget(start, network);
  for (let hop = 0;; hop++) {
    const { url, addresses } = target;
    await request.before?.(url, signal);
    signal.throwIfAborted();
    const response = await answered(url, addresses, network, request, signal);
    const location = response.headers.get("location");
    if (response.status >= 300 && response.status < 400 && response.status !== 304 && location !== null) {
      response.body?.cancel().catch(() => {});
      if (hop === MAX_REDIRECTS) throw new FetchFailed(`redirects more than ${MAX_REDIRECTS} times`);
      target = await judgeTarget(location, network, url);
      continue;
    }
    const { status, headers } = response;
    url.hash = "";
    if (request.wants?.(status, headers) === false) {
      response.body?.cancel().catch(() => {});
      return { url: url.href, status, headers, bytes: null };
    }
    const raw = await bodyOf(response, request);
    return {
      url: url.href,
      status,
      headers,
      bytes: unpacked(raw, addresses === null ? null : headers, request),
    };
  }
}

async function answered(
  url: URL,
  addresses: string[] | null,
  { connect, fetch }: PageNetwork,
  { headers }: PageRequest,
  signal: AbortSignal,
): Promise<Response> {
  try {
    return connect !== undefined && addresses !== null
      ? await pinnedRequest({ url, method: "GET", headers }, { connect, addresses, signal })
      : await fetch(url, { redirect: "manual", signal, headers });
  } catch {
    signal.throwIfAborted();
    throw new FetchFailed("could not be fetched");
  }
}

async function bodyOf(
  response: Response,
  { maxBytes, whenLarger }: PageRequest,
): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const piece of response.body ?? []) {
      pieces.push(piece);
      length += piece.byteLength;
      if (length <= maxBytes) continue;
      if (whenLarger === "cut") break;
      throw new TooLarge();
    }
  } catch (thrown) {
    if (thrown instanceof TooLarge) throw thrown;
    throw new FetchFailed("ended before its end");
  }
  return joinBytes(pieces).slice(0, maxBytes);
}

/** @param headers null: `fetch` has unpacked it */
function unpacked(
  bytes: Uint8Array<ArrayBuffer>,
  headers: Headers | null,
  { maxBytes }: PageRequest,
): Uint8Array<ArrayBuffer> {
  const coding = headers?.get("content-encoding")?.trim().toLowerCase() ?? "";
  if (coding === "" || coding === "identity" || bytes.length === 0) return bytes;
  const unpack = coding === "br"
    ? brotliDecompressSync
    : coding === "gzip" || coding === "x-gzip"
    ? gunzipSync
    : coding === "deflate"
    ? inflateSync
    : null;
  if (unpack === null) throw new FetchFailed("is packed in an unknown way");
  try {
    return new Uint8Array(unpack(bytes, { maxOutputLength: maxBytes }));
  } catch (thrown) {
    if ((thrown as { code?: string }).code === "ERR_BUFFER_TOO_LARGE" || thrown instanceof RangeError) {
      throw new TooLarge();
    }
    throw new FetchFailed("is packed wrongly");
  }
}

export { PublicFetchError };
