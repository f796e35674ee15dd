import * as z from "zod";
import { MAX_CACHE_TTL_S } from "../endpoints/eve_options.ts";
import { route } from "./route.ts";

const text = z.string().trim().min(1).max(200);

/** Answers that are kept. */
export const cacheRoutes = [
  route(
    "GET",
    "/cache",
    z.strictObject({
      since: text.optional(),
      until: text.optional(),
      consumer: text.optional(),
      model: text.optional(),
    }),
    ({ dependencies }, asked) => dependencies.cache.stats(asked),
  ),

  route(
    "POST",
    "/cache/consumer",
    z.strictObject({
      name: text,
      ttl_s: z.number().int().min(0).max(MAX_CACHE_TTL_S).nullable(),
      by_tenant: z.boolean().default(false),
      seen: z.strictObject({ ttl_s: z.number().nullable(), by_tenant: z.boolean().nullable() }).optional(),
    }),
    ({ dependencies }, { name, ttl_s, by_tenant, seen }) =>
      dependencies.cache.setConsumer(name, ttl_s, by_tenant, seen),
  ),

  route(
    "POST",
    "/cache/flush",
    z.union([
      z.strictObject({ everything: z.literal(true) }),
      z.strictObject({
        model: text.optional(),
        consumer: text.optional(),
        key: z.string().regex(/^[0-9a-f]{8,64}$/).optional(),
      }).refine((which) => Object.keys(which).length > 0),
    ], {
      error: "send model, consumer, key (8 to 64 hexadecimal digits) or several of them, or everything: true",
    }),
    async ({ dependencies }, asked) => {
      const { model, consumer, key, everything } = { everything: false, ...asked } as {
        model?: string;
        consumer?: string;
        key?: string;
        everything: boolean;
      };
      return {
        deleted: await dependencies.cache.flush({
          ...(model !== undefined && { model }),
          ...(consumer !== undefined && { consumer }),
          ...(key !== undefined && { key }),
          everything,
        }),
      };
    },
  ),
];
