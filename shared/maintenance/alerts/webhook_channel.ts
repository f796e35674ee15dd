import type { AlertMessage } from "../../database/maintenance/alerts.ts";
import { type AlertChannel, post } from "./alert_channel.ts";
import { retryAfterMs } from "../../runtime/retry_after.ts";
import { signedHeaders } from "../../events/webhooks/sign.ts";

export interface WebhookOptions {
  /** Where to post. It may hold a secret, so it is never written down. */
  url: string;
  /** Signs what is sent: `whsec_` and base64, or any text. Null: unsigned. */
  secret: string | null;
  /** The name of this gateway. */
  gateway: string;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** Failures that are about one message and not about the receiver. */
const ABOUT_THE_MESSAGE = new Set([400, 413, 415, 422]);

/**
 * Sends alerts as JSON to any address, signed as https://www.standardwebhooks.com says: a receiver checks
 * `webhook-signature` over `webhook-id`.`webhook-timestamp`.body, and knows by `webhook-id` what it has had before.
 */
export function webhookChannel({ url, secret, gateway, now }: WebhookOptions): AlertChannel {
  const secrets = secret === null ? [] : [secret];
  return {
    name: "webhook",
    async send(message, call) {
      const body = JSON.stringify(bodyOf(message, gateway));
      const id = `alert_${message.alertId}_${message.event}`;
      const headers = signedHeaders(secrets, { id, nowMs: now(), body });
      const answer = await post(url, body, headers, call);
      if ("ok" in answer) return answer;
      const { status } = answer;
      if (status >= 200 && status < 300) return { ok: true };
      return {
        ok: false,
        error: status >= 300 && status < 400
          ? `status ${status}: a redirect, which is not followed`
          : `status ${status}`,
        retryAfterMs: retryAfterMs(answer.headers, now()),
        wholeChannel: !ABOUT_THE_MESSAGE.has(status),
      };
    },
  };
}

/** What is posted. `text` is all of it in one line, for receivers that show nothing else. */
export function bodyOf(message: AlertMessage, gateway: string) {
  const { deliveryId: _, attempt: _attempt, event, ...alert } = message;
  const word = event === "closed" ? "over" : alert.severity;
  return {
    type: `alert.${event}`,
    timestamp: event === "closed" ? alert.closedAt : alert.openedAt,
    text: `[${word}] ${alert.title}: ${alert.message}`,
    data: {
      gateway,
      alert_id: alert.alertId,
      kind: alert.kind,
      severity: alert.severity,
      subject: alert.subject,
      title: alert.title,
      message: alert.message,
      advice: alert.advice,
      details: alert.details,
      opened_at: alert.openedAt,
      closed_at: alert.closedAt,
    },
  };
}
