import { z } from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import { CANONICAL_RULES, canonicalUrl, domainOf } from "../crawl/canonical_url.ts";
import { CRAWL_MODES, crawlPage, PAGE_STATES } from "../database/crawl.ts";
import { jsonResponse } from "../http/json_response.ts";
import { type ApiRoute, apiRoute, tenantId } from "./route.ts";

/** A hosted function's caller gets 504 if no byte came for 150 s. */
const MAX_WAIT_MS = 120_000;
const USUAL_WAIT_MS = 45_000;
const LOOK_EVERY_MS = 500;

const crawlAnswer = z.object({
  /** Null: it is to be fetched, and nothing is kept of it. */
  page: crawlPage.nullable(),
  from_cache: z.boolean(),
  /** Of the job that fetches it. */
  job_id: z.string().nullable(),
});
export type CrawlAnswer = z.output<typeof crawlAnswer>;

export const crawlRoutes: readonly ApiRoute[] = [
  apiRoute({
    method: "post",
    path: "/v1/crawl",
    tag: "crawl",
    summary:
      "A web page with what can be read in it, out of the cache while it is fresh; waits until it is fetched, or queues that",
    body: z.strictObject({
      tenant_id: tenantId.optional(),
      url: z.string().min(1).max(4_096),
      /** `bypass`, `disabled`: fetched, and neither looked for nor kept; `read_only`: never fetched; `write_only`: always fetched, and kept. */
      mode: z.enum(CRAWL_MODES).default("enabled"),
      wait: z.boolean().default(true),
      wait_ms: z.int().min(0).max(MAX_WAIT_MS).default(USUAL_WAIT_MS),
    }),
    answers: {
      200: { description: "The page as it was fetched; its state says how that went", shape: crawlAnswer },
      202: { description: "It waits: ask again later", shape: crawlAnswer },
    },
    async serve({ dependencies, actor, request, requestId, traceId, clock }, { body }) {
      const { crawl } = dependencies;
      const canonical = canonicalUrl(body.url);
      if (canonical === null) {
        throw new GatewayError("invalid_request", {
          message: "url must be an http or https URL without credentials, of at most 4,096 characters.",
        });
      }
      const page = {
        url: body.url,
        canonical_url: canonical,
        domain: domainOf(canonical),
        rules: CANONICAL_RULES,
      };
      const asked = await crawl.ask(actor, page, {
        tenantId: body.tenant_id ?? null,
        mode: body.mode,
        class: body.wait ? "interactive" : "batch",
        traceId,
      });
      if (asked.status === "none") throw new GatewayError("page_not_found");
      if (asked.status === "found") {
        return jsonResponse(200, { page: asked.page, from_cache: true, job_id: null }, requestId);
      }
      if (asked.wake) dependencies.background(dependencies.wake());
      const until = clock.now() + (body.wait ? body.wait_ms : 0);
      let shown = asked.page;
      while (clock.now() < until) {
        await clock.sleep(LOOK_EVERY_MS, request.signal);
        const { is_done, page } = await crawl.job(asked.job_id);
        shown = page;
        if (is_done) return jsonResponse(200, { page, from_cache: false, job_id: asked.job_id }, requestId);
      }
      return jsonResponse(202, { page: shown, from_cache: false, job_id: asked.job_id }, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/crawl/pages",
    tag: "crawl",
    summary: "A tenant's pages, those that changed last first, without the text of their articles",
    query: z.strictObject({
      tenant_id: tenantId.optional(),
      domain: z.string().min(1).max(255).optional(),
      state: z.enum(PAGE_STATES).optional(),
      /** The updated_at of the last page shown. */
      before: z.iso.datetime({ offset: true }).optional(),
      limit: z.string().regex(/^\d{1,3}$/).transform(Number).pipe(z.int().min(1).max(200)).default(50),
    }),
    answers: { 200: { description: "Pages", shape: z.object({ pages: z.array(crawlPage) }) } },
    async serve({ dependencies: { crawl }, actor, requestId }, { query }) {
      const pages = await crawl.list(actor, {
        tenantId: query.tenant_id ?? null,
        domain: query.domain ?? null,
        state: query.state ?? null,
        before: query.before ?? null,
        limit: query.limit,
      });
      return jsonResponse(200, { pages }, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/crawl/pages/{id}",
    tag: "crawl",
    summary: "A page with its article",
    answers: { 200: { description: "The page", shape: crawlPage } },
    async serve({ dependencies: { crawl }, actor, requestId }, { path }) {
      const id = z.uuid().safeParse(path.id);
      if (!id.success) throw new GatewayError("page_not_found");
      return jsonResponse(200, await crawl.find(actor, id.data), requestId);
    },
  }),
];
