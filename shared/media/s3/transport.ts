import { type Clock, setTimer } from "../../runtime/clock.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { BodyTooLong, bytesOf } from "../../providers/bounded_body.ts";
import { headOf } from "../../providers/response_head.ts";
import type { StoreCall } from "../object_store.ts";
import { passes, type Refusal, refusalError, refusalOf } from "./refusal.ts";
import { EMPTY_SHA256, type Signer, type Unsigned } from "./sign.ts";
import { type Element, parseAnswer } from "./xml.ts";
import { retryAfterMs } from "../../runtime/retry_after.ts";

/** What the driver needs of the world. */
export interface S3Dependencies {
  fetch: typeof fetch;
  clock: Clock;
  /** Milliseconds since 1970: signatures hold the time of day. */
  now: () => number;
  /** 0 up to 1: jitter. */
  random: () => number;
  /** Told of every operation once, when it ends. */
  observe?: (operation: S3Observation) => void;
}

export interface S3Observation {
  /** `put`, `get`, `list` and so on. */
  operation: string;
  /** Null: it is about the bucket, or many objects. */
  key: string | null;
  /** `ok`, or the code of the error. */
  result: string;
  attempts: number;
  /** For all attempts and pauses; of `get` until its answer begins. */
  durationMs: number;
  /** Bytes that were sent. */
  sentBytes: number;
}

export interface S3Request extends Unsigned {
  /** For errors and metrics. */
  operation: string;
  body?: Uint8Array<ArrayBuffer>;
  /** Of the body; without one it is nothing's. */
  sha256?: string;
}

export interface Reading<Value> {
  /** Reads the answer of success; what it throws counts as a broken answer. The signal ends with the attempt's time. */
  read: (response: Response) => Promise<Value> | Value;
  /** An answer that is none of success and yet an answer; undefined: it is an error. */
  refused?: (refusal: Refusal) => Promise<Value | undefined> | Value | undefined;
  /** Attempts at most; absent: `MAX_ATTEMPTS`. */
  attempts?: number;
}

/** An overload passes in seconds; four attempts with their pauses take three on average. */
const MAX_ATTEMPTS = 4;
/** Full jitter up to 0.4 s, 0.8 s, 1.6 s: see AWS's "Exponential Backoff And Jitter". */
const BACKOFF_BASE_MS = 400;
/** An answer without a body to send comes in milliseconds; after this the connection is as good as dead. */
const ATTEMPT_TIMEOUT_MS = 10_000;
/** For all attempts, of a call that says nothing else. */
const CALL_TIMEOUT_MS = 30_000;
/** What is sent may take this much longer: 1 MB/s. */
const MS_PER_BYTE = 1 / 1_000;
/** A body from which nothing has come for so long has broken off. */
const SILENCE_TIMEOUT_MS = 30_000;
/** A page of 1,000 keys of 1,024 bytes, percent-encoded, with 1 KB about each. */
const MAX_ANSWER_BYTES = 8 * 1024 * 1024;

/**
 * Sends until there is an answer that is worth giving back: what passes by itself is tried again, within the call's time.
 * Redirects are not followed: what is signed is for the endpoint that was configured.
 */
export type Send = <Value>(request: S3Request, call: StoreCall, reading: Reading<Value>) => Promise<Value>;

type Attempt<Value> =
  | { done: true; value: Value }
  | { done: false; error: GatewayError; again: boolean };

export function createTransport(signer: Signer, dependencies: S3Dependencies): Send {
  const { fetch, clock, now, random, observe } = dependencies;

  async function attempt<Value>(
    request: S3Request,
    { read, refused }: Reading<Value>,
    signal: AbortSignal,
    timeoutMs: number,
  ): Promise<Attempt<Value>> {
    const { operation, method, body, sha256 = EMPTY_SHA256 } = request;
    const timer = new AbortController();
    const clearTimer = setTimer(clock, timeoutMs, () => timer.abort());
    const both = AbortSignal.any([signal, timer.signal]);
    try {
      const signed = await signer.header(request, sha256);
      // Not signed: a proxy before the store may ask for another encoding. Without it the runtime would unpack what was
      // stored packed, and leave no sign of it.
      signed.headers.set("accept-encoding", "identity");
      const response = await unless(
        both,
        fetch(signed.url, {
          method,
          headers: signed.headers,
          redirect: "manual",
          signal: both,
          ...(body === undefined ? {} : { body }),
        }),
      );
      if (response.status >= 200 && response.status < 300) {
        return { done: true, value: await unless(both, Promise.resolve(read(response))) };
      }
      const text = await unless(both, headOf(response));
      const refusal = refusalOf(
        response.status,
        response.headers,
        text,
        retryAfterMs(response.headers, now()),
      );
      const value = await refused?.(refusal);
      if (value !== undefined) return { done: true, value };
      return { done: false, error: refusalError(operation, refusal), again: passes(refusal) };
    } catch (thrown) {
      signal.throwIfAborted();
      if (timer.signal.aborted) {
        return {
          done: false,
          error: unavailable(operation, `no answer within ${timeoutMs} ms`),
          again: true,
        };
      }
      if (thrown instanceof GatewayError) {
        return { done: false, error: thrown, again: thrown.code === "storage_unavailable" };
      }
      return { done: false, error: unavailable(operation, reasonOf(thrown)), again: true };
    } finally {
      clearTimer();
    }
  }

  return async (request, call, reading) => {
    const signal = call.signal ?? new AbortController().signal;
    const sentBytes = request.body?.byteLength ?? 0;
    const since = clock.now();
    const callMs = call.timeoutMs ?? CALL_TIMEOUT_MS + 2 * sentBytes * MS_PER_BYTE;
    const attemptMs = Math.min(callMs, ATTEMPT_TIMEOUT_MS + sentBytes * MS_PER_BYTE);
    const most = reading.attempts ?? MAX_ATTEMPTS;
    let result = "aborted";
    let attempts = 0;
    try {
      for (;;) {
        signal.throwIfAborted();
        attempts++;
        const leftMs = since + callMs - clock.now();
        const outcome = await attempt(request, reading, signal, Math.ceil(Math.min(attemptMs, leftMs)));
        if (outcome.done) {
          result = "ok";
          return outcome.value;
        }
        const { error } = outcome;
        result = error.code;
        const jitterMs = random() * BACKOFF_BASE_MS * 2 ** (attempts - 1);
        const pauseMs = Math.max(jitterMs, error.retryAfterMs ?? 0);
        if (!outcome.again || attempts >= most || clock.now() + pauseMs >= since + callMs) throw error;
        await clock.sleep(pauseMs, signal);
      }
    } finally {
      observe?.({
        operation: request.operation,
        key: request.key ?? null,
        result: signal.aborted && result !== "ok" ? "aborted" : result,
        attempts,
        durationMs: clock.now() - since,
        sentBytes,
      });
    }
  };

  /** Rejects when the signal aborts, also where the runtime or a test's fetch does not listen to it. */
  function unless<Value>(signal: AbortSignal, promise: Promise<Value>): Promise<Value> {
    if (signal.aborted) return Promise.reject(signal.reason);
    const first = Promise.withResolvers<Value>();
    const onAbort = () => first.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(first.resolve, first.reject);
    return first.promise.finally(() => signal.removeEventListener("abort", onAbort));
  }
}

/**
 * An answer of XML, at most 8 MiB of it.
 * @throws GatewayError `storage_failed`: it is none, or has another root. One that says `Error` with status 200 is a refusal.
 */
export async function xmlOf(response: Response, operation: string, root: string): Promise<Element> {
  const text = new TextDecoder().decode(await bounded(response, operation));
  const answer = readable(text, operation);
  if (answer.name === root) return answer;
  if (answer.name === "Error") {
    const refusal = refusalOf(response.status, response.headers, text, null);
    // A 200 begins before the store knows: what went wrong after that is nobody's fault (CompleteMultipartUpload does it).
    throw refusalError(operation, { ...refusal, status: 500 });
  }
  throw failed(operation, `an answer of another kind than ${root}`);
}

async function bounded(response: Response, operation: string): Promise<Uint8Array> {
  try {
    return await bytesOf(response, MAX_ANSWER_BYTES);
  } catch (error) {
    if (error instanceof BodyTooLong) {
      throw failed(operation, `an answer of more than ${MAX_ANSWER_BYTES} bytes`);
    }
    throw error;
  }
}

function readable(text: string, operation: string): Element {
  try {
    return parseAnswer(text);
  } catch {
    throw failed(operation, "an answer that is not XML");
  }
}

/** Reads an answer of which nothing is wanted, so that its connection can be used again. */
export async function discard(response: Response): Promise<true> {
  await response.body?.cancel();
  return true;
}

/**
 * A body as it is read: it errs as everything else does, and when nothing has come for 30 s.
 * @throws GatewayError `storage_unavailable` while it is read
 */
export function watchedBody(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  operation: string,
  { signal }: StoreCall,
  clock: Clock,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const reader = body.getReader();
  return new ReadableStream({
    async pull(controller) {
      const late = Promise.withResolvers<never>();
      late.promise.catch(() => {});
      const clearTimer = setTimer(
        clock,
        SILENCE_TIMEOUT_MS,
        () => late.reject(unavailable(operation, `nothing more within ${SILENCE_TIMEOUT_MS} ms`)),
      );
      const onAbort = () => late.reject(signal?.reason);
      signal?.addEventListener("abort", onAbort, { once: true });
      if (signal?.aborted) onAbort();
      try {
        const { done, value } = await Promise.race([reader.read(), late.promise]);
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (thrown) {
        reader.cancel().catch(() => {});
        if (signal?.aborted) throw signal.reason;
        throw thrown instanceof GatewayError ? thrown : unavailable(operation, reasonOf(thrown));
      } finally {
        clearTimer();
        signal?.removeEventListener("abort", onAbort);
      }
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
}

export function failed(operation: string, detail: string): GatewayError {
  return new GatewayError("storage_failed", { detail: `S3 ${operation}: ${detail}` });
}

function unavailable(operation: string, detail: string): GatewayError {
  return new GatewayError("storage_unavailable", { detail: `S3 ${operation}: ${detail}` });
}

/** Words of the runtime's that say what is wrong with a connection. The rest of what it throws names the address. */
const KNOWN_REASON =
  /connection refused|connection reset|dns error|timed out|certificate|broken pipe|unreachable|unexpected eof|end of file|gzip/i;

function reasonOf(thrown: unknown): string {
  const known = KNOWN_REASON.exec(thrown instanceof Error ? thrown.message : "")?.[0];
  return `no connection, or it broke off${known === undefined ? "" : ` (${known.toLowerCase()})`}`;
}
