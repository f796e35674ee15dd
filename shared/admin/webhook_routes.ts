import * as z from "zod";
import { addWebhook, rotateWebhook } from "../events/webhooks/register.ts";
import { type AdminDependencies, route } from "./route.ts";

const id = z.uuid();
const types = z.array(z.string().max(100)).max(50);
const secret = z.string().max(200).nullish();
/** A query has texts alone. */
const number = z.string().regex(/^\d{1,15}$/, "must be a whole number").transform(Number);

/** How long the previous secret signs too by default: a day, in which the receiver can be given the new one. */
const GRACE_S = 86_400;

function registering({ webhooks, encryption, webhookHosts, newId }: AdminDependencies) {
  return { webhooks, encryption: encryption(), allows: webhookHosts, newId };
}

/** Webhooks and dead letters. A secret is in the one answer that made it, and nowhere else. */
export const webhookRoutes = [
  route(
    "GET",
    "/webhooks",
    z.strictObject({ consumer: z.string().max(63).optional() }),
    async ({ dependencies }, { consumer }) => ({ webhooks: await dependencies.webhooks.list(consumer) }),
  ),

  route(
    "POST",
    "/webhooks/add",
    z.strictObject({
      consumer: z.string().min(1).max(63).nullish(),
      url: z.string().max(4_096),
      types: types.default([]),
      description: z.string().max(200).nullish(),
      secret,
    }),
    async ({ dependencies }, asked) =>
      await addWebhook(registering(dependencies), { ...asked, consumer: asked.consumer ?? null }),
  ),

  route(
    "POST",
    "/webhooks/rotate",
    z.strictObject({ id, secret, grace_s: z.number().int().min(0).max(604_800).default(GRACE_S) }),
    async ({ dependencies }, { grace_s: graceSeconds, ...asked }) =>
      await rotateWebhook(registering(dependencies), {
        ...asked,
        secret: asked.secret ?? null,
        graceSeconds,
      }),
  ),

  route(
    "POST",
    "/webhooks/change",
    z.strictObject({ id, enabled: z.boolean().optional(), types: types.optional() }),
    async ({ dependencies }, { id, enabled, types }) => ({
      webhook: await dependencies.webhooks.change(id, {
        ...(enabled !== undefined && { isActive: enabled }),
        ...(types !== undefined && { types }),
      }),
    }),
  ),

  route("POST", "/webhooks/remove", z.strictObject({ id }), async ({ dependencies }, { id }) => {
    await dependencies.webhooks.remove(id);
    return { removed: id };
  }),

  route(
    "POST",
    "/webhooks/test",
    z.strictObject({ id }),
    async ({ dependencies }, { id }) => await dependencies.webhooks.test(id),
  ),

  route(
    "GET",
    "/webhooks/deliveries",
    z.strictObject({
      id,
      state: z.enum(["pending", "delivered", "dead", "dropped"]).optional(),
      before: number.optional(),
      limit: number.optional(),
    }),
    async ({ dependencies }, { id, limit: atMost, ...asked }) =>
      await dependencies.webhooks.deliveries(id, { ...asked, atMost }),
  ),

  route(
    "POST",
    "/webhooks/redeliver",
    z.union([
      z.strictObject({ id, delivery_id: z.number().int().positive() }),
      z.strictObject({ id, since: z.iso.datetime({ offset: true }) }),
    ], { error: "send id and either delivery_id or since" }),
    async ({ dependencies }, asked) => ({
      redelivered: await dependencies.webhooks.redeliver(
        asked.id,
        "delivery_id" in asked ? { deliveryId: asked.delivery_id } : { since: asked.since },
      ),
    }),
  ),

  route(
    "GET",
    "/dead-letters",
    z.strictObject({
      consumer: z.string().max(80).optional(),
      type: z.string().max(100).optional(),
      before: number.optional(),
      limit: number.optional(),
    }),
    async ({ dependencies }, { limit: atMost, ...asked }) =>
      await dependencies.deadLetters.list({ ...asked, atMost }),
  ),

  route(
    "GET",
    "/dead-letters/detail",
    z.strictObject({ id: number }),
    async ({ dependencies }, { id }) => ({ dead_letter: await dependencies.deadLetters.show(id) }),
  ),

  route("POST", "/dead-letters/replay", meant(), async ({ dependencies }, asked) => ({
    replayed: await dependencies.deadLetters.replay(asked),
  })),

  route("POST", "/dead-letters/drop", meant(), async ({ dependencies }, asked) => ({
    dropped: await dependencies.deadLetters.drop(asked),
  })),
];

/** Nothing at all is not taken for everything. */
function meant() {
  return z.union([
    z.strictObject({ ids: z.array(z.number().int().positive()).min(1).max(1_000) }),
    z.strictObject({ consumer: z.string().min(1).max(80) }),
    z.strictObject({ all: z.literal(true) }).transform(() => ({})),
  ], { error: "send ids, consumer, or all: true" });
}
