import * as z from "zod";
import { deliveryTry } from "./events.ts";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

const TIMEOUT_MS = 8_000;

const webhook = z.object({
  id: z.string(),
  /** The caller who is told, and of what concerns them alone; `project`: of everything. */
  consumer: z.string(),
  url: z.string(),
  description: z.string().nullable(),
  /** Types that it takes; none: only what is addressed to it. */
  types: z.array(z.string()),
  is_active: z.boolean(),
  /** `gone`: its receiver answered 410; null: nobody but a person has switched it off. */
  off_reason: z.string().nullable(),
  secret_last_four: z.string(),
  secret_changed_at: z.string(),
  /** Until then the secret before signs too. */
  previous_secret_until: z.string().nullable(),
  paused_until: z.string().nullable(),
  created_at: z.string(),
  pending: z.number().int(),
  dead_letters: z.number().int(),
  last_delivered_at: z.string().nullable(),
});
export type WebhookRow = z.output<typeof webhook>;

const added = z.object({ status: z.enum(["added", "exists"]), webhook });

const delivery = z.object({
  delivery_id: z.number().int(),
  event_id: z.string(),
  type: z.string(),
  subject: z.string().nullable(),
  time: z.string(),
  state: z.enum(["pending", "delivered", "dead", "dropped"]),
  attempts: z.number().int(),
  next_try_at: z.string().nullable(),
  ended_at: z.string().nullable(),
  last_error: z.string().nullable(),
  tries: z.array(deliveryTry),
});
export type WebhookDelivery = z.output<typeof delivery>;

const deliveries = z.object({ deliveries: z.array(delivery), next_before: z.number().int().nullable() });
const sent = z.object({ event_id: z.string(), delivery_id: z.number().int() });
const redelivered = z.object({ redelivered: z.number().int() });
const ciphertexts = z.array(z.object({ id: z.string(), which: z.string(), token: z.string() }));

/** A secret as it is stored. */
export interface StoredSecret {
  /** Encrypted together with the address that it was made for. */
  token: string;
  lastFour: string;
}

export interface NewWebhook {
  id: string;
  /** A name in eve.consumers; null: the project. */
  consumer: string | null;
  /** The consumer by its id, instead. */
  consumerId?: string | null;
  url: string;
  types: readonly string[];
  description: string | null;
  secret: StoredSecret;
}

/** Webhooks, without their secrets. Methods with an id throw GatewayError `not_found` where there is none. */
export interface Webhooks {
  /** `exists`: this caller has one for the address, which is left as it is. */
  add(webhook: NewWebhook): Promise<z.output<typeof added>>;
  list(consumer?: string): Promise<WebhookRow[]>;
  /** The secret before signs beside the new one for `graceSeconds`, 0 to 604,800. */
  rotate(id: string, secret: StoredSecret, graceSeconds: number): Promise<WebhookRow>;
  change(id: string, to: { isActive?: boolean; types?: readonly string[] }): Promise<WebhookRow>;
  remove(id: string): Promise<void>;
  /** Sends an event of the type eve.webhook.test.v1. */
  test(id: string): Promise<z.output<typeof sent>>;
  /** The log, the newest first. */
  deliveries(
    id: string,
    asked: { state?: string; before?: number; atMost?: number; deliveryId?: number },
  ): Promise<z.output<typeof deliveries>>;
  /** One that has ended, or up to 1,000 that ended since then without being delivered; answers how many are sent again. */
  redeliver(id: string, what: { deliveryId: number } | { since: string }): Promise<number>;
  ciphertexts(): Promise<z.output<typeof ciphertexts>>;
  /** Answers how many were replaced; what has changed meanwhile is left alone. */
  reencrypt(tokens: readonly { token: string; replacement: string }[]): Promise<number>;
}

export function createWebhooks(transport: Transport): Webhooks {
  return {
    add: ({ id, consumer, consumerId = null, url, types, description, secret }) =>
      call(
        transport,
        "eve_webhook_add",
        {
          id,
          consumer,
          consumer_id: consumerId,
          url,
          types,
          description,
          secret: secret.token,
          secret_last_four: secret.lastFour,
        },
        added,
        TIMEOUT_MS,
      ),
    list: (consumer) =>
      call(transport, "eve_webhooks", { consumer: consumer ?? null }, z.array(webhook), TIMEOUT_MS),
    rotate: (id, secret, graceSeconds) =>
      call(
        transport,
        "eve_webhook_rotate",
        { id, secret: secret.token, secret_last_four: secret.lastFour, grace_s: graceSeconds },
        webhook,
        TIMEOUT_MS,
      ),
    change: (id, { isActive, types }) =>
      call(
        transport,
        "eve_webhook_change",
        { id, is_active: isActive ?? null, types: types ?? null },
        webhook,
        TIMEOUT_MS,
      ),
    async remove(id) {
      await call(transport, "eve_webhook_remove", { id }, z.unknown(), TIMEOUT_MS);
    },
    test: (id) => call(transport, "eve_webhook_test", { id }, sent, TIMEOUT_MS),
    deliveries: (id, { state, before, atMost, deliveryId }) =>
      call(
        transport,
        "eve_webhook_deliveries",
        {
          id,
          state: state ?? null,
          before: before ?? null,
          at_most: atMost ?? 50,
          delivery_id: deliveryId ?? null,
        },
        deliveries,
        TIMEOUT_MS,
      ),
    async redeliver(id, what) {
      const args = {
        id,
        delivery_id: "deliveryId" in what ? what.deliveryId : null,
        since: "since" in what ? what.since : null,
      };
      return (await call(transport, "eve_webhook_redeliver", args, redelivered, TIMEOUT_MS)).redelivered;
    },
    ciphertexts: () => call(transport, "eve_webhook_ciphertexts", {}, ciphertexts, TIMEOUT_MS),
    reencrypt: (tokens) => call(transport, "eve_webhook_reencrypt", { tokens }, z.number().int(), TIMEOUT_MS),
  };
}
