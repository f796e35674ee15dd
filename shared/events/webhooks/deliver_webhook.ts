import { type Network, type PostAnswer, postPublic } from "../../http/outgoing/public_post.ts";
import { PublicFetchError, type TargetRules } from "../../http/outgoing/public_target.ts";
import type { Clock } from "../../runtime/clock.ts";
import { retryAfterMs } from "../../runtime/retry_after.ts";
import type { KeyEncryption } from "../../secrets/key_encryption.ts";
import { cloudEvent } from "../cloud_event.ts";
import { type Attempted, DELIVERED, type DeliveryHandler } from "../deliver.ts";
import { openSecrets } from "./secret.ts";
import { signedHeaders } from "./sign.ts";

/** A receiver that has not answered by then has failed. Standard Webhooks recommends 15 to 30 s; a run's time is short. */
const ANSWER_TIMEOUT_MS = 15_000;

/** Statuses with which a receiver asks to be left alone for a while, all of it. */
const ASKS_FOR_REST = new Set([429, 503]);

export interface WebhookDependencies extends Network {
  encryption: KeyEncryption;
  /** Hosts that may be private; absent: none. */
  allows?: TargetRules["allows"];
  clock: Clock;
  /** Milliseconds since 1970. */
  now: () => number;
  /** What this gateway is called, such as its host. */
  gateway: string;
}

/**
 * Posts events to webhooks, signed with all secrets that are good now. Any 2xx is success, 410 ends the webhook, and everything else
 * is tried again; a redirect is not followed.
 */
export function webhookHandler(dependencies: WebhookDependencies): DeliveryHandler {
  const { encryption, gateway, now } = dependencies;
  return async ({ event, webhook }, signal) => {
    if (webhook === null) return failed("the webhook is not there any more");
    const { url } = webhook;
    const secrets = await openSecrets(encryption, webhook.secrets, url);
    const body = JSON.stringify(cloudEvent(event, gateway));
    const headers = {
      "content-type": "application/json; charset=utf-8",
      "user-agent": "eve-gateway",
      ...(event.traceparent !== null && { traceparent: event.traceparent }),
      ...signedHeaders(secrets, { id: event.id, nowMs: now(), body }),
    };
    try {
      const answer = await postPublic(url, body, headers, {
        ...dependencies,
        timeoutMs: ANSWER_TIMEOUT_MS,
        signal,
      });
      return resultOf(answer, now());
    } catch (thrown) {
      signal.throwIfAborted();
      if (thrown instanceof PublicFetchError) return failed(`its address ${thrown.message}`);
      // What was thrown may name the address, and with it a secret in it.
      return thrown instanceof DOMException && thrown.name === "TimeoutError"
        ? failed(`no answer within ${ANSWER_TIMEOUT_MS / 1000} s`)
        : failed("it could not be reached, or broke off");
    }
  };
}

function resultOf({ status, headers }: PostAnswer, nowMs: number): Attempted {
  if (status >= 200 && status < 300) return { ...DELIVERED, status };
  if (status === 410) return { ...failed("status 410: it wants no more"), result: "gone", status };
  const asked = retryAfterMs(headers, nowMs);
  const error = status >= 300 && status < 400
    ? `status ${status}: a redirect, which is not followed`
    : `status ${status}`;
  return {
    ...failed(error),
    status,
    retryAfterMs: asked,
    rests: asked !== null && ASKS_FOR_REST.has(status),
  };
}

const failed = (error: string): Attempted => ({
  result: "failed",
  error,
  status: null,
  retryAfterMs: null,
  rests: false,
});
