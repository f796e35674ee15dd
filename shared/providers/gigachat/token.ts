import { badKey, callersFault, quotaUsedUp, upstreamsFault } from "../diagnoses.ts";
import type { Diagnosis } from "../provider.ts";
import {
  connectionFailed,
  type ErrorMapping,
  jsonFromUpstream,
  type UpstreamErrorResponse,
} from "../upstream.ts";
import { isObject } from "../../contract/is_object.ts";
import { retryAfterMs } from "../../runtime/retry_after.ts";

export const GIGACHAT_AUTH_URL = "https://ngw.devices.sberbank.ru:9443/api/v2/oauth";
export const GIGACHAT_SCOPE = "GIGACHAT_API_PERS";

/** A token lives thirty minutes. One that expires during a call would fail it: so it is dropped a minute before. */
const DROPPED_BEFORE_END_MS = 60_000;
/** For a token that is fetched for several callers at once; none of them may abort it for the others. */
const FETCH_TIMEOUT_MS = 15_000;

export interface TokenInquiry {
  /** The authorisation key: Base64 of client id and client secret. */
  credentials: string;
  scope: string;
  authUrl: string;
  signal: AbortSignal;
}

export interface TokenStore {
  /**
   * An access token: the one at hand, or a new one, fetched once for all who ask at the same time.
   * @throws ProviderFailure, and the signal's reason when it aborts
   */
  token(inquiry: TokenInquiry): Promise<string>;
  /** Drops a token that upstream has refused. */
  forget(inquiry: Omit<TokenInquiry, "signal">, token: string): void;
}

interface Fetched {
  token: string;
  /** Milliseconds since 1970. */
  endsAt: number;
}

/** Access tokens, by credentials and scope, shared by all calls of a process. */
export function tokenStore(
  options: { fetch: typeof fetch; now?: () => number; newId?: () => string },
): TokenStore {
  const now = options.now ?? Date.now;
  const newId = options.newId ?? (() => crypto.randomUUID());
  const kept = new Map<string, Fetched>();
  const fetching = new Map<string, Promise<Fetched>>();
  const placeOf = ({ credentials, scope, authUrl }: Omit<TokenInquiry, "signal">) =>
    JSON.stringify([credentials, scope, authUrl]);

  async function fetchToken({ credentials, scope, authUrl }: TokenInquiry): Promise<Fetched> {
    const body = await jsonFromUpstream({
      url: authUrl,
      headers: { authorization: `Basic ${credentials}`, rquid: newId() },
      body: new URLSearchParams({ scope }),
      secret: credentials,
      signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
      fetch: options.fetch,
      errorMapping: AUTH_ERROR_MAPPING,
    });
    const { access_token, expires_at } = body;
    if (typeof access_token !== "string" || typeof expires_at !== "number") {
      throw connectionFailed("an answer without a token", credentials);
    }
    return { token: access_token, endsAt: expires_at };
  }

  return {
    async token(inquiry) {
      inquiry.signal.throwIfAborted();
      const place = placeOf(inquiry);
      const known = kept.get(place);
      if (known !== undefined && known.endsAt - DROPPED_BEFORE_END_MS > now()) return known.token;
      let begun = fetching.get(place);
      if (begun === undefined) {
        begun = fetchToken(inquiry);
        fetching.set(place, begun);
        begun.then((fetched) => kept.set(place, fetched), () => {}).finally(() => fetching.delete(place));
      }
      return (await orAborted(begun, inquiry.signal)).token;
    },
    forget(inquiry, token) {
      const place = placeOf(inquiry);
      if (kept.get(place)?.token === token) kept.delete(place);
    },
  };
}

/** A caller who leaves stops waiting, and does not abort what others wait for. */
function orAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason);
    if (signal.aborted) leave();
    signal.addEventListener("abort", leave, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", leave));
  });
}

const AUTH_ERROR_MAPPING: ErrorMapping = {
  // {"code": 6, "message": "credentials doesn't match db data"}
  messageIn: (body) => isObject(body) && typeof body.message === "string" ? body.message : null,
  diagnose: diagnoseAuthError,
};

function diagnoseAuthError({ status, message, headers }: UpstreamErrorResponse): Diagnosis {
  if (status === 429) return quotaUsedUp(retryAfterMs(headers, Date.now()));
  if (status === 408 || status >= 500 || status < 400) return upstreamsFault(status);
  if (/scope/i.test(message)) return badKey("key_restricted");
  // 400 "Can't decode 'Authorization' header": the key is none.
  if (status === 401 || status === 403 || /authorization|credential/i.test(message)) {
    return badKey("key_invalid");
  }
  return callersFault();
}
