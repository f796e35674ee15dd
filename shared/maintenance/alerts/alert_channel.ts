import type { AlertChannelName, AlertMessage } from "../../database/maintenance/alerts.ts";

/** A way to send messages to a person. */
export interface AlertChannel {
  name: AlertChannelName;
  /** Sends one message. Throws nothing but the signal's reason: a failure is returned. */
  send(message: AlertMessage, call: ChannelCall): Promise<Delivery>;
}

export interface ChannelCall {
  fetch: typeof fetch;
  /** Ends the call. */
  signal: AbortSignal;
  /** How long an answer may take; absent: 10 s. */
  timeoutMs?: number;
}

export type Delivery =
  | { ok: true }
  | {
    ok: false;
    /** For the log and the database: it names no address and no secret. */
    error: string;
    /** When the channel said it may be asked again. */
    retryAfterMs: number | null;
    /** Every other message would fail as well. */
    wholeChannel: boolean;
  };

/** A channel that has not answered by then is down for now; the message is tried again. */
const ANSWER_TIMEOUT_MS = 10_000;
/** The longest description of a failure: a channel writes a line or two. */
const MAX_ANSWER_BYTES = 16_384;

export interface ChannelAnswer {
  status: number;
  headers: Headers;
  /** Cut off after 16 KiB. */
  text: string;
}

/**
 * Posts JSON and reads the answer. Redirects are not followed: what is sent is for the address that was configured.
 * @returns a failed delivery where no answer came
 * @throws the signal's reason when it aborts
 */
export async function post(
  url: string,
  body: string,
  headers: Record<string, string>,
  { fetch, signal, timeoutMs = ANSWER_TIMEOUT_MS }: ChannelCall,
): Promise<ChannelAnswer | Extract<Delivery, { ok: false }>> {
  const timeout = AbortSignal.timeout(timeoutMs);
  try {
    const response = await fetch(url, {
      method: "POST",
      redirect: "manual",
      headers: { "content-type": "application/json; charset=utf-8", "user-agent": "eve-gateway", ...headers },
      body,
      signal: AbortSignal.any([signal, timeout]),
    });
    return { status: response.status, headers: response.headers, text: await beginningOf(response) };
  } catch {
    signal.throwIfAborted();
    // The thrown error names the address, and with it the token in it.
    const error = timeout.aborted
      ? `no answer within ${timeoutMs / 1000} s`
      : "it could not be reached, or broke off";
    return { ok: false, error, retryAfterMs: null, wholeChannel: true };
  }
}

async function beginningOf(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  if (reader === undefined) return "";
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    bytes += value.byteLength;
    text += decoder.decode(value, { stream: true });
    if (bytes < MAX_ANSWER_BYTES) continue;
    await reader.cancel().catch(() => {});
    return text;
  }
}

/** `text` of at most `length` UTF-16 units, with an ellipsis where it was cut; never through a character. */
export function cut(text: string, length: number): string {
  if (text.length <= length) return text;
  const kept = text.slice(0, length - 1);
  return `${/[\uD800-\uDBFF]$/.test(kept) ? kept.slice(0, -1) : kept}…`;
}
