import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import {
  budgets,
  enrichedPost,
  enrichment,
  foundPicture,
  post,
  savedPolicy,
  visionStats,
} from "../database/vision.ts";
import { textOfBytes } from "../endpoints/validated.ts";
import { jsonResponse } from "../http/json_response.ts";
import { uploadFile } from "../media/upload/upload.ts";
import { USUAL_POLICY, visionPolicy } from "../vision/policy.ts";
import { type ApiContext, type ApiRoute, apiRoute, metadata, tenantId } from "./route.ts";

/** The database's bounds are the same (public.posts). */
const source = textOfBytes(200, 1);
const externalId = textOfBytes(500, 1);
const MAX_TEXT_BYTES = 262_144;
const MAX_MEDIA = 50;
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "must have 64 hexadecimal digits, in small letters");
const instant = z.iso.datetime({ offset: true });
const trafficClass = z.enum(["interactive", "batch"]);
const id = z.uuid();
const wholeNumber = (most: number, usual: number) =>
  z.string().regex(/^\d{1,4}$/, `must be 1 to ${most}`).transform(Number).pipe(z.int().min(1).max(most))
    .default(usual);
const ofTenant = z.strictObject({ tenant_id: tenantId.optional() });

/** A hosted function's caller gets 504 if no byte came for 150 s. */
const MAX_WAIT_MS = 120_000;
const USUAL_WAIT_MS = 60_000;
/** The row of a picture is looked at so often while its caller waits: a model takes seconds. */
const POLL_EVERY_MS = 500;
/** The source of pictures that are looked at without a post of their own. */
const ANALYSE_SOURCE = "vision";

const budget = z.strictObject({
  /** An analyst by its name, such as model:gemini-3.5-flash; *: all together that spend tokens. */
  provider: z.string().min(1).max(100).default("*"),
  /** Of UTC. */
  period: z.enum(["day", "month"]),
  unit: z.enum(["tokens", "pictures"]),
  most: z.int().min(0).max(Number.MAX_SAFE_INTEGER),
});
const policyAnswer = savedPolicy.extend({
  /** What is in force: what the saved one leaves out is as usual. */
  in_force: visionPolicy,
});

export const visionRoutes: readonly ApiRoute[] = [
  apiRoute({
    method: "post",
    path: "/v1/intake/posts",
    tag: "vision",
    summary:
      "Brings a post with pictures, uploaded before or in the same form, and has them looked at. A source and external_id that are there already are that post: its words stay, and pictures that it did not have are added",
    maxBodyBytes: 2 * 1024 * 1024,
    body: z.strictObject({
      tenant_id: tenantId.optional(),
      /** Where it comes from, such as telegram:city_events. */
      source,
      external_id: externalId.optional(),
      text: textOfBytes(MAX_TEXT_BYTES).optional(),
      published_at: instant.optional(),
      metadata: metadata.optional(),
      /** Hashes of files that are stored (POST /v1/media), in the post's order; those of a form stand behind them. */
      media: z.array(sha256).max(MAX_MEDIA).default([]),
      class: trafficClass.default("batch"),
      /** A post that is there says what is given now, with these pictures and no others. */
      replace: z.boolean().default(false),
    }),
    answers: {
      200: { description: "It was there already", shape: post },
      201: { description: "The post", shape: post },
    },
    formField: "post",
    async serve(context, { body, files }) {
      const { dependencies: { vision }, actor, requestId, traceId } = context;
      if (body.media.length + files.length > MAX_MEDIA) {
        throw new GatewayError("invalid_request", { message: `A post has at most ${MAX_MEDIA} files.` });
      }
      const hashes = [...body.media];
      for (const file of files) hashes.push(await storedOf(file, body.tenant_id, context));
      const added = await vision.add(actor, { ...body, media: hashes }, { traceId, scope: "intake" });
      wakeIf(added.wake, context);
      return jsonResponse(added.status === "created" ? 201 : 200, added.post, requestId);
    },
  }),
  apiRoute({
    method: "delete",
    path: "/v1/intake/posts/{id}",
    tag: "vision",
    summary:
      "Deletes a post with what was found in its pictures. Files that nothing else uses go with the next clean-up",
    answers: { 200: { description: "It is gone", shape: z.object({ deleted: z.literal(true) }) } },
    async serve({ dependencies: { vision }, actor, requestId }, { path }) {
      await vision.remove(actor, known(path.id));
      return jsonResponse(200, { deleted: true }, requestId);
    },
  }),
  apiRoute({
    method: "post",
    path: "/v1/vision/analyze",
    tag: "vision",
    summary:
      "Has a picture looked at that was uploaded, on its own or as one of a post's, or that comes in the same form; waits for the result, or queues it",
    body: z.strictObject({
      tenant_id: tenantId.optional(),
      /** Of a picture that is stored; absent: it is the form's one file. */
      sha256: sha256.optional(),
      /** `queue`: answers at once. `wait`: at the latest after wait_ms, with whatever there is. */
      mode: z.enum(["wait", "queue"]).default("wait"),
      wait_ms: z.int().min(0).max(MAX_WAIT_MS).default(USUAL_WAIT_MS),
    }),
    answers: {
      200: { description: "It has been looked at", shape: enrichedPost },
      202: { description: "It waits: ask for the post later", shape: enrichedPost },
    },
    formField: "request",
    async serve(context, { body, files }) {
      const { dependencies: { vision }, actor, request, requestId, traceId, clock } = context;
      const [file] = files;
      if (files.length + (body.sha256 === undefined ? 0 : 1) !== 1) {
        throw new GatewayError("invalid_request", {
          message: "Give one picture: the sha256 of one that is stored, or one file in a form.",
        });
      }
      // What is no picture is not stored first.
      if (file !== undefined && !file.type.startsWith("image/")) throw noPicture();
      const hash = body.sha256 ?? await storedOf(file!, body.tenant_id, context);
      const added = await vision.add(actor, {
        tenant_id: body.tenant_id,
        source: ANALYSE_SOURCE,
        external_id: hash,
        media: [hash],
        class: body.mode === "wait" ? "interactive" : "batch",
      }, { traceId, scope: "vision" });
      wakeIf(added.wake, context);
      const until = clock.now() + (body.mode === "wait" ? body.wait_ms : 0);
      for (;;) {
        const found = await vision.find(actor, added.post.id);
        if (found.enrichment.length === 0) throw noPicture();
        const waits = found.enrichment.some(({ status }) => status === "waiting");
        if (!waits) return jsonResponse(200, found, requestId);
        if (clock.now() >= until) return jsonResponse(202, found, requestId);
        await clock.sleep(POLL_EVERY_MS, request.signal);
      }
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/vision/posts/{id}",
    tag: "vision",
    summary: "A post with what was found in its pictures, and why it was done so",
    answers: { 200: { description: "The post", shape: enrichedPost } },
    async serve({ dependencies: { vision }, actor, requestId }, { path }) {
      return jsonResponse(200, await vision.find(actor, known(path.id)), requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/vision/search",
    tag: "vision",
    summary:
      "Pictures whose words hold all of `q`, by their stems in Russian or English, and that have the label: either or both",
    query: z.strictObject({
      tenant_id: tenantId.optional(),
      q: z.string().min(1).max(1_000).optional(),
      label: z.string().min(1).max(60).optional(),
      limit: wholeNumber(100, 20),
    }).refine(({ q, label }) => q !== undefined || label !== undefined, "give q, label, or both"),
    answers: {
      200: {
        description: "The best of a thousand candidates",
        shape: z.object({ found: z.array(foundPicture) }),
      },
    },
    async serve({ dependencies: { vision }, actor, requestId }, { query }) {
      const found = await vision.search(actor, {
        tenantId: query.tenant_id ?? null,
        query: query.q ?? null,
        label: query.label ?? null,
        limit: query.limit,
      });
      return jsonResponse(200, { found }, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/vision/pictures",
    tag: "vision",
    summary: "A tenant's pictures with what was found in them and why, those that changed last first",
    query: z.strictObject({
      tenant_id: tenantId.optional(),
      status: z.enum(["waiting", "done", "skipped", "invalid", "failed"]).optional(),
      limit: wholeNumber(200, 50),
    }),
    answers: { 200: { description: "Pictures", shape: z.object({ pictures: z.array(enrichment) }) } },
    async serve({ dependencies: { vision }, actor, requestId }, { query }) {
      const pictures = await vision.list(actor, {
        tenantId: query.tenant_id ?? null,
        status: query.status ?? null,
        limit: query.limit,
      });
      return jsonResponse(200, { pictures }, requestId);
    },
  }),
  apiRoute({
    method: "post",
    path: "/v1/vision/requeue",
    tag: "vision",
    summary:
      "Has pictures looked at once more: those of a post, or a tenant's that failed, are invalid or were skipped; a thousand at most",
    body: z.strictObject({
      tenant_id: tenantId.optional(),
      post_id: id.optional(),
      sha256: sha256.optional(),
      status: z.enum(["failed", "invalid", "skipped"]).optional(),
      class: trafficClass.default("batch"),
    }).refine(
      ({ post_id, status }) => post_id !== undefined || status !== undefined,
      "give post_id or status",
    ),
    answers: { 200: { description: "How many are queued", shape: z.object({ queued: z.number() }) } },
    async serve(context, { body }) {
      const { dependencies: { vision }, actor, requestId, traceId } = context;
      const { queued, wake } = await vision.requeue(actor, {
        postId: body.post_id ?? null,
        sha256: body.sha256 ?? null,
        tenantId: body.tenant_id ?? null,
        status: body.status ?? null,
        traceId,
        class: body.class,
      });
      wakeIf(wake, context);
      return jsonResponse(200, { queued }, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/vision/stats",
    tag: "vision",
    summary: "How a tenant's pictures stand, what they wait for, and what was decided",
    query: ofTenant.extend({ days: wholeNumber(366, 30) }),
    answers: { 200: { description: "Of the last days", shape: visionStats } },
    async serve({ dependencies: { vision }, actor, requestId }, { query }) {
      return jsonResponse(200, await vision.stats(actor, query.tenant_id ?? null, query.days), requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/vision/budgets",
    tag: "vision",
    summary:
      "A tenant's budgets with what is used of them, and what was spent in the day and the month that run now",
    query: ofTenant,
    answers: { 200: { description: "Budgets", shape: budgets } },
    async serve({ dependencies: { vision }, actor, requestId }, { query }) {
      return jsonResponse(200, await vision.budgets(actor, query.tenant_id ?? null), requestId);
    },
  }),
  apiRoute({
    method: "put",
    path: "/v1/vision/budgets",
    tag: "vision",
    summary: "Sets all of a tenant's budgets: with the project's secret key, or as an administrator",
    body: ofTenant.extend({ budgets: z.array(budget).max(100) }),
    answers: { 200: { description: "Budgets", shape: budgets } },
    async serve({ dependencies: { vision }, actor, requestId }, { body }) {
      const saved = await vision.saveBudgets(actor, body.tenant_id ?? null, body.budgets);
      return jsonResponse(200, saved, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/vision/policy",
    tag: "vision",
    summary: "What a tenant wants looked at, and by whom",
    query: ofTenant,
    answers: { 200: { description: "The policy", shape: policyAnswer } },
    async serve({ dependencies: { vision }, actor, requestId }, { query }) {
      return jsonResponse(200, inForce(await vision.policy(actor, query.tenant_id ?? null)), requestId);
    },
  }),
  apiRoute({
    method: "put",
    path: "/v1/vision/policy",
    tag: "vision",
    summary:
      "Sets a tenant's policy: with the project's secret key, or as an administrator. Null: the usual one",
    body: ofTenant.extend({ policy: visionPolicy.nullable() }),
    answers: { 200: { description: "The policy", shape: policyAnswer } },
    async serve({ dependencies: { vision }, actor, requestId }, { body }) {
      const saved = await vision.savePolicy(actor, body.tenant_id ?? null, body.policy);
      return jsonResponse(200, inForce(saved), requestId);
    },
  }),
];

/** A post's id from a path: what is none is found nowhere. */
function known(text: string | undefined): string {
  const parsed = id.safeParse(text);
  if (!parsed.success) throw new GatewayError("post_not_found");
  return parsed.data;
}

function wakeIf(wake: boolean, { dependencies }: ApiContext): void {
  if (wake) dependencies.background(dependencies.wake());
}

function inForce(saved: z.output<typeof savedPolicy>): z.output<typeof policyAnswer> {
  return { ...saved, in_force: saved.policy === null ? USUAL_POLICY : visionPolicy.parse(saved.policy) };
}

function noPicture(): GatewayError {
  return new GatewayError("media_type_mismatch", {
    message: "This file is no picture: pictures are those whose type begins with image/.",
  });
}

/** Stores a form's file. @returns its hash */
async function storedOf(
  file: File,
  tenant: string | undefined,
  { dependencies: { media }, actor }: ApiContext,
): Promise<string> {
  const { object } = await uploadFile(media, actor, {
    tenantId: tenant ?? null,
    kind: "media",
    mimeType: file.type || "application/octet-stream",
    body: new Uint8Array(await file.arrayBuffer()),
    metadata: {},
    links: {},
    vision: null,
  });
  return object.sha256;
}
