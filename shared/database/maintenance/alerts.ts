import { secretSourceOf } from "../../contract/secret_source.ts";
import * as z from "zod";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

/** Looks at ten minutes of the audit; takes milliseconds, and up to a second or two where thousands of calls a minute pass. */
const EVALUATE_TIMEOUT_MS = 15_000;
const TIMEOUT_MS = 8_000;

export type AlertChannelName = "telegram" | "webhook";

const evaluation = z.object({
  status: z.enum(["evaluated", "busy"]),
  opened: z.number().int(),
  closed: z.number().int(),
  open: z.number().int(),
});

/**
 * Opens alerts for what is wrong, and closes those that are over.
 * @param missingSecrets ids of active keys whose secret was not found; null: nobody has looked
 */
export function evaluateAlerts(transport: Transport, missingSecrets: string[] | null) {
  const args = { missing_secrets: missingSecrets };
  return call(transport, "eve_alerts_evaluate", args, evaluation, EVALUATE_TIMEOUT_MS);
}

const neededSecrets = z.array(
  z.object({ key_id: z.string(), env_var_name: z.string().nullable() })
    .transform((row) => ({ keyId: row.key_id, source: secretSourceOf(row.env_var_name ?? "") })),
);

/** Where the secrets are that active keys need. */
export function listNeededSecrets(transport: Transport) {
  return call(transport, "eve_alert_secrets", {}, neededSecrets, TIMEOUT_MS);
}

const message = z.object({
  delivery_id: z.number().int(),
  event: z.enum(["opened", "closed"]),
  attempt: z.number().int(),
  alert_id: z.number().int(),
  kind: z.string(),
  title: z.string(),
  advice: z.string().nullable(),
  severity: z.enum(["info", "warning", "critical"]),
  subject: z.string(),
  message: z.string(),
  details: z.record(z.string(), z.unknown()).catch({}),
  opened_at: z.string(),
  closed_at: z.string().nullable(),
}).transform((row) => ({
  /** Of the message: an alert has one for each channel, and others when it closes. */
  deliveryId: row.delivery_id,
  event: row.event,
  /** 1 for the first try. */
  attempt: row.attempt,
  alertId: row.alert_id,
  kind: row.kind,
  title: row.title,
  /** What to do about it. */
  advice: row.advice,
  severity: row.severity,
  subject: row.subject,
  message: row.message,
  details: row.details,
  openedAt: row.opened_at,
  closedAt: row.closed_at,
}));

/** A message for a person. */
export type AlertMessage = z.output<typeof message>;

/** The next message for a channel, which nobody else is given for `leaseMs`; null: there is none. */
export function claimAlertMessage(
  transport: Transport,
  channel: AlertChannelName,
  leaseMs: number,
): Promise<AlertMessage | null> {
  const args = { channel, lease_ms: leaseMs };
  return call(transport, "eve_alert_claim", args, message.nullable(), TIMEOUT_MS);
}

export interface AlertDelivery {
  deliveryId: number;
  /** Null: it arrived. Otherwise why not; no secret, since it is kept. */
  error: string | null;
  /** When the channel wants to be asked again. */
  retryAfterMs: number | null;
  /** The channel as a whole does not work, so its other messages wait as well. */
  wholeChannel: boolean;
}

const noted = z.object({ state: z.string() });

/** Records whether the message was sent; the database decides when to try again. */
export async function noteAlertMessage(transport: Transport, delivery: AlertDelivery): Promise<string> {
  const args = {
    delivery_id: delivery.deliveryId,
    succeeded: delivery.error === null,
    error: delivery.error,
    retry_after_ms: delivery.retryAfterMs,
    whole_channel: delivery.wholeChannel,
  };
  return (await call(transport, "eve_alert_done", args, noted, TIMEOUT_MS)).state;
}
