import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import {
  MEDIA_KINDS,
  storageCheck,
  storageGrowth,
  storageQuota,
  storageStats,
  storageUsage,
} from "../database/media/media.ts";
import { jsonResponse } from "../http/json_response.ts";
import { cleanUp, cleanupReport, CLEANUPS } from "../media/cleanup.ts";
import { healthOf, storageHealth } from "../media/health.ts";
import { type ApiRoute, apiRoute, tenantId } from "./route.ts";

const bytes = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const gigabytes = z.number().min(0).max(1e7);

export const storageRoutes: readonly ApiRoute[] = [
  apiRoute({
    method: "get",
    path: "/v1/storage/quota",
    tag: "storage",
    summary: "The limits that hold for a tenant, and what is used of each, in bytes",
    query: z.strictObject({ tenant_id: tenantId.optional() }),
    answers: { 200: { description: "The limits", shape: storageQuota } },
    serve: async ({ dependencies, actor, requestId }, { query }) =>
      jsonResponse(200, await dependencies.media.registry.quota(actor, query.tenant_id ?? null), requestId),
  }),
  apiRoute({
    method: "get",
    path: "/v1/storage/usage/{tenant_id}",
    tag: "storage",
    summary: "What a tenant keeps, by kind",
    answers: { 200: { description: "Its use", shape: storageUsage } },
    serve: async ({ dependencies, actor, requestId }, { path }) =>
      jsonResponse(200, await dependencies.media.registry.usage(actor, path.tenant_id ?? ""), requestId),
  }),
  apiRoute({
    method: "post",
    path: "/v1/storage/quota/check",
    tag: "storage",
    summary: "Whether a file of a size would have room; nothing is taken",
    body: z.strictObject({
      tenant_id: tenantId.optional(),
      size_bytes: bytes,
      /** The kind, as in the metrics. */
      content_type: z.enum(MEDIA_KINDS).default("media"),
    }),
    answers: { 200: { description: "`allowed`, and what refuses it", shape: storageCheck } },
    serve: async ({ dependencies: { media }, actor, requestId }, { body }) =>
      jsonResponse(
        200,
        await media.registry.check(actor, {
          tenantId: body.tenant_id ?? null,
          sizeBytes: body.size_bytes,
          kind: body.content_type,
          inSpool: media.s3 === null,
        }),
        requestId,
      ),
  }),
  apiRoute({
    method: "get",
    path: "/v1/storage/stats",
    tag: "storage",
    summary: "All that is stored, by kind and by tenant; for the project's secret key and administrators",
    answers: { 200: { description: "Figures", shape: storageStats } },
    serve: async ({ dependencies, actor, requestId }) =>
      jsonResponse(200, await dependencies.media.registry.stats(actor), requestId),
  }),
  apiRoute({
    method: "get",
    path: "/v1/storage/growth",
    tag: "storage",
    summary:
      "Files that are there, by the UTC day on which they came; for the project's secret key and administrators",
    query: z.strictObject({
      days: z.string().regex(/^\d{1,3}$/, "must be 1 to 366").transform(Number).pipe(z.int().min(1).max(366))
        .default(30),
    }),
    answers: { 200: { description: "Bytes and files by day and kind", shape: storageGrowth } },
    serve: async ({ dependencies, actor, requestId }, { query }) =>
      jsonResponse(200, await dependencies.media.registry.growth(actor, query.days), requestId),
  }),
  apiRoute({
    method: "get",
    path: "/v1/storage/health",
    tag: "storage",
    summary: "Which part of the storage is connected",
    answers: { 200: { description: "`is_connected`, as a whole and by part", shape: storageHealth } },
    serve: async ({ dependencies: { media }, actor, requestId }) => {
      // Anyone who may know of files at all may know this.
      await media.registry.quota(actor, null);
      return jsonResponse(200, await healthOf(media), requestId);
    },
  }),
  apiRoute({
    method: "post",
    path: "/v1/storage/cleanup",
    tag: "storage",
    summary:
      "Deletes what is in use least until enough is free; without force only beyond the emergency threshold. For the project's secret key and administrators",
    body: z.strictObject({
      force: z.boolean().default(false),
      /** So much is to be free of the total limit. */
      target_free_gb: gigabytes.optional(),
      /** At most so much is to be used, instead. */
      target_gb: gigabytes.optional(),
      what: z.enum(CLEANUPS).default("auto"),
      max_age_days: z.number().min(0).max(36_500).optional(),
      dry_run: z.boolean().default(false),
    }),
    answers: { 200: { description: "What was deleted, or would be", shape: cleanupReport } },
    serve: async ({ dependencies: { media }, actor, requestId, clock, request }, { body }) => {
      if (body.target_free_gb !== undefined && body.target_gb !== undefined) {
        throw new GatewayError("invalid_request", { message: "Give target_free_gb or target_gb, not both." });
      }
      // Refuses anyone who may not.
      const { total, emergency_threshold_bytes } = await media.registry.stats(actor);
      const report = await cleanUp(media, {
        what: body.what,
        force: body.force,
        targetFreeGb: body.target_free_gb ?? null,
        targetGb: body.target_gb ?? null,
        maxAgeDays: body.max_age_days ?? null,
        dryRun: body.dry_run,
        totalBytes: total.limit_bytes,
        emergencyBytes: emergency_threshold_bytes,
        usedBytes: total.used_bytes + total.reserved_bytes,
        signal: request.signal,
        endsAt: clock.now() + CLEANUP_MS,
      });
      return jsonResponse(200, report, requestId);
    },
  }),
];

/** Of the 150 s that a hosted function has on the free plan; whatever is left, the next call goes on with. */
const CLEANUP_MS = 60_000;
