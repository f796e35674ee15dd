import * as z from "zod";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

const TIMEOUT_MS = 8_000;

const event = z.object({
  id: z.string(),
  source: z.string(),
  type: z.string(),
  subject: z.string().nullable(),
  time: z.string(),
  data: z.record(z.string(), z.unknown()),
  traceparent: z.string().nullable(),
});

/** Something that has happened, as eve.events has it. */
export type StoredEvent = z.output<typeof event>;

const delivery = z.object({
  delivery_id: z.number().int(),
  lease: z.string(),
  attempt: z.number().int(),
  consumer: z.string(),
  kind: z.string(),
  event,
  webhook: z.object({ id: z.string(), url: z.string(), secrets: z.array(z.string()) }).nullable(),
}).transform((row) => ({
  deliveryId: row.delivery_id,
  /** Shown with the result: who does not hold it any more changes nothing. */
  lease: row.lease,
  /** 1 for the first try. */
  attempt: row.attempt,
  /** A name in eve.event_consumers. */
  consumer: row.consumer,
  /** What delivers to it: `webhook`, or the name of a handler. */
  kind: row.kind,
  event: row.event,
  /** Where it is posted, with its secrets as they are stored, the newest first; null: it is no webhook. */
  webhook: row.webhook,
}));

/** An event that is to be delivered to one consumer, under a lease. */
export type EventDelivery = z.output<typeof delivery>;

const claimed = z.object({
  deliveries: z.array(delivery),
  next_due_ms: z.number().nullable(),
}).transform((row) => ({
  deliveries: row.deliveries,
  /** Milliseconds until the next one is due; null: none waits. */
  nextDueMs: row.next_due_ms,
}));

/** Deliveries that are due to consumers of these kinds, which nobody else is given for `leaseMs`; at most `atMost` (1 to 100). */
export function claimDeliveries(
  transport: Transport,
  { kinds, atMost, leaseMs }: { kinds: readonly string[]; atMost: number; leaseMs: number },
) {
  const args = { kinds, at_most: atMost, lease_ms: leaseMs };
  return call(transport, "eve_events_claim", args, claimed, TIMEOUT_MS);
}

/** How a try went. */
export interface DeliveryResult {
  /** `failed` is tried again; `gone`: the consumer wants no more, and is switched off. */
  result: "delivered" | "failed" | "gone";
  /** Why not; it is kept, so it names no secret and no address. */
  error: string | null;
  /** Of HTTP; null: there was none. */
  status: number | null;
  durationMs: number;
  /** When the consumer wants to be asked again. */
  retryAfterMs: number | null;
  /** Whether everything else for it waits as long. */
  rests: boolean;
}

export type DeliveryState = "delivered" | "pending" | "dead" | "dropped" | "lost";

const done = z.object({ state: z.enum(["delivered", "pending", "dead", "dropped", "lost"]) });

/**
 * Records how a try went; the database decides when there is another.
 * @param draw from 0 to 1: which part of the longest pause passes before that
 * @returns `lost` for one who does not hold the lease any more, and nothing has changed then
 */
export async function finishDelivery(
  transport: Transport,
  { deliveryId, lease }: Pick<EventDelivery, "deliveryId" | "lease">,
  { result, error, status, durationMs, retryAfterMs, rests }: DeliveryResult,
  draw: number,
): Promise<DeliveryState> {
  const args = {
    delivery_id: deliveryId,
    lease,
    result,
    error,
    status,
    duration_ms: Math.round(durationMs),
    draw,
    retry_after_ms: retryAfterMs,
    rests,
  };
  return (await call(transport, "eve_event_done", args, done, TIMEOUT_MS)).state;
}

const deadLetter = z.object({
  id: z.number().int(),
  delivery_id: z.number().int(),
  event_id: z.string(),
  consumer: z.string(),
  /** What the consumer is called for people; of a webhook its host. */
  receiver: z.string(),
  type: z.string(),
  subject: z.string().nullable(),
  error: z.string().nullable(),
  attempts: z.number().int(),
  first_failed_at: z.string(),
  last_failed_at: z.string(),
});
export type DeadLetter = z.output<typeof deadLetter>;

export const deliveryTry = z.object({
  attempt: z.number().int(),
  at: z.string(),
  result: z.enum(["delivered", "failed", "gone", "lost"]),
  status: z.number().int().nullable(),
  error: z.string().nullable(),
  duration_ms: z.number().int().nullable(),
});

const deadLetters = z.object({
  dead_letters: z.array(deadLetter.strip()),
  next_before: z.number().int().nullable(),
});
const deadLetterDetail = deadLetter.extend({ event, tries: z.array(deliveryTry) });
export type DeadLetterDetail = z.output<typeof deadLetterDetail>;

/** Which dead letters are meant; neither: all. */
export interface DeadLetterSelection {
  ids?: number[] | undefined;
  /** A name in eve.event_consumers. */
  consumer?: string | undefined;
}

/** Deliveries whose tries are used up. */
export interface DeadLetters {
  /** The newest first. */
  list(
    asked: {
      consumer?: string | undefined;
      type?: string | undefined;
      before?: number | undefined;
      atMost?: number | undefined;
    },
  ): Promise<z.output<typeof deadLetters>>;
  /** @throws GatewayError `not_found` */
  show(id: number): Promise<DeadLetterDetail>;
  /** Sends up to 1,000 again and answers how many; those of a consumer that is switched off stay. */
  replay(meant: DeadLetterSelection): Promise<number>;
  /** Gives up to 1,000 up, and answers how many. */
  drop(meant: DeadLetterSelection): Promise<number>;
}

export function createDeadLetters(transport: Transport): DeadLetters {
  const meantBy = ({ ids, consumer }: DeadLetterSelection) => ({
    ids: ids ?? null,
    consumer: consumer ?? null,
  });
  return {
    list: ({ consumer, type, before, atMost }) =>
      call(
        transport,
        "eve_dead_letters",
        { consumer: consumer ?? null, type: type ?? null, before: before ?? null, at_most: atMost ?? 100 },
        deadLetters,
        TIMEOUT_MS,
      ),
    show: (id) => call(transport, "eve_dead_letter", { id }, deadLetterDetail, TIMEOUT_MS),
    async replay(meant) {
      const shape = z.object({ replayed: z.number().int() });
      return (await call(transport, "eve_dead_letters_replay", meantBy(meant), shape, TIMEOUT_MS)).replayed;
    },
    async drop(meant) {
      const shape = z.object({ dropped: z.number().int() });
      return (await call(transport, "eve_dead_letters_drop", meantBy(meant), shape, TIMEOUT_MS)).dropped;
    },
  };
}
