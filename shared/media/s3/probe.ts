import { type Clock, setTimer } from "../../runtime/clock.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { headOf } from "../../providers/response_head.ts";
import { sha256Of } from "../hash.ts";
import type { PresignedRequest, StoreAbilities, StoreCall, StoreLifecycle } from "../object_store.ts";
import { passes, type Refusal, refusalError, refusalOf } from "./refusal.ts";

/**
 * The header by which a presigned PUT is bound to its content. RGW holds to the first, Versity's gateway to the second and refuses
 * the first; RGW 16 takes a wrong `x-amz-checksum-sha256` and says nothing. Null: neither, and it goes without.
 */
export type HashHeader = "x-amz-content-sha256" | "x-amz-checksum-sha256" | null;

export interface S3Abilities extends StoreAbilities {
  hashHeader: HashHeader;
}

/** How a PUT is signed. */
export interface PutTerms {
  hashHeader: HashHeader;
  ifNoneMatch: boolean;
}

export interface Probed {
  presign(key: string, object: ProbeObject, terms: PutTerms): Promise<PresignedRequest>;
  lifecycle: StoreLifecycle;
  remove(key: string, call: StoreCall): Promise<void>;
  fetch: typeof fetch;
  clock: Clock;
}

interface ProbeObject {
  sha256: string;
  sizeBytes: number;
  contentType: string;
  expiresIn: number;
}

/** Where the probe writes, and deletes again. */
export const PROBE_PREFIX = "eve-probe/";
const EXPIRES_SECONDS = 60;
/** Tries of one request, without a pause between them: an answer that passes by itself says nothing of what the store can do. */
const TRIES = 2;
/** Of one try: anyone who waits for it has a request of their own to send after that. */
const TIMEOUT_MS = 5_000;

/**
 * Finds what a store can do by doing it: some take what they do not hold to, and say nothing. It writes an object of a few bytes
 * and deletes it again.
 * @throws GatewayError as every operation, where the store could not be asked
 */
export async function probe(store: Probed, call: StoreCall): Promise<S3Abilities> {
  const key = `${PROBE_PREFIX}${crypto.randomUUID()}`;
  const right = new TextEncoder().encode(`this is what was signed: ${key}`);
  const wrong = new TextEncoder().encode(`this is something else.. ${key}`);
  const object = {
    sha256: await sha256Of(right),
    sizeBytes: right.byteLength,
    contentType: "text/plain",
    expiresIn: EXPIRES_SECONDS,
  };
  const written = new Set<string>();
  /** Null: it was taken. The wrong body goes to a key of its own: that something is there is no reason to refuse it. */
  async function put(body: Uint8Array<ArrayBuffer>, terms: PutTerms): Promise<Refusal | null> {
    const at = body === right ? key : `${key}-wrong`;
    const refusal = await sent(store, await store.presign(at, object, terms), body, call);
    if (refusal === null) written.add(at);
    return refusal;
  }

  async function hashHeaderThatHolds(): Promise<HashHeader> {
    for (const hashHeader of ["x-amz-content-sha256", "x-amz-checksum-sha256"] as const) {
      const terms = { hashHeader, ifNoneMatch: false };
      if (await put(right, terms) === null && await put(wrong, terms) !== null) return hashHeader;
    }
    const refusal = await put(right, { hashHeader: null, ifNoneMatch: false });
    if (refusal !== null) throw refusalError("probe", refusal);
    return null;
  }

  try {
    const hashHeader = await hashHeaderThatHolds();
    // The object is there by now.
    const second = await put(right, { hashHeader, ifNoneMatch: true });
    const lifecycle = await hasLifecycle(store.lifecycle, call);
    return { hashHeader, hashBoundPut: hashHeader !== null, ifNoneMatch: second?.status === 412, lifecycle };
  } finally {
    // What is left over is a few bytes, and shows in the next listing.
    await Promise.allSettled([...written].map((at) => store.remove(at, call)));
  }
}

async function hasLifecycle(lifecycle: StoreLifecycle, call: StoreCall): Promise<boolean> {
  try {
    await lifecycle.abortUnfinishedAfterDays(call);
    return true;
  } catch (error) {
    if (error instanceof GatewayError && error.code === "storage_unavailable") throw error;
    return false;
  }
}

/** Sends as a client would, with nothing but what was signed. Null: it was taken. */
async function sent(
  { fetch, clock }: Probed,
  { url, method, headers }: PresignedRequest,
  body: Uint8Array<ArrayBuffer>,
  { timeoutMs = TIMEOUT_MS }: StoreCall,
): Promise<Refusal | null> {
  for (let tries = 1;; tries++) {
    const timer = new AbortController();
    const clearTimer = setTimer(clock, Math.min(timeoutMs, TIMEOUT_MS), () => timer.abort());
    let refusal: Refusal;
    try {
      const response = await fetch(url, { method, headers, body, redirect: "manual", signal: timer.signal });
      if (response.ok) {
        await response.body?.cancel();
        return null;
      }
      refusal = refusalOf(response.status, response.headers, await headOf(response), null);
    } catch {
      if (tries < TRIES) continue;
      throw new GatewayError("storage_unavailable", { detail: "S3 probe: no answer" });
    } finally {
      clearTimer();
    }
    if (!passes(refusal)) return refusal;
    if (tries >= TRIES) throw refusalError("probe", refusal);
  }
}
