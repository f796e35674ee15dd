import * as z from "zod";
import { CANONICAL_RULES } from "../crawl/canonical_url.ts";
import { crawl, type CrawlDependencies, type PageToFetch, unkeptPage } from "../crawl/crawl.ts";
import { linksOf } from "../crawl/links.ts";
import { CRAWL_MODES } from "../database/posts/crawl.ts";
import type { JobRunner } from "./job_runner.ts";

/** No other job fetches the same page for so long: more than one run takes. */
const HOLD_SECONDS = 90;
/** Between two looks at a page that another job fetches. */
const POLL_AGAIN_MS = 2_000;

const crawlJob = z.union([
  z.object({ tenant_id: z.string(), post_id: z.string(), trace_id: z.string().nullish() }),
  z.object({
    tenant_id: z.string(),
    page_id: z.string().nullable(),
    mode: z.enum(CRAWL_MODES),
    /** Of a page that is not kept. */
    url: z.string().nullish(),
    trace_id: z.string().nullish(),
  }),
]);

/** Follows the links of posts, and fetches pages (eve.crawl_queue hands both in). */
export function crawlRunner(dependencies: CrawlDependencies): JobRunner {
  const { books, now } = dependencies;
  return async (job, { signal }) => {
    const body = crawlJob.parse(job.body);
    const traceId = body.trace_id ?? null;
    try {
      if ("post_id" in body) {
        const post = await books.post(body.post_id);
        if (post.status === "gone") return { kind: "done", result: { status: "gone" } };
        const links = linksOf(post.text, post.metadata).map((link) => ({ ...link, rules: CANONICAL_RULES }));
        const { status, links: linked, queued } = await books.links(body.post_id, links, traceId);
        return { kind: "done", result: { status, links: linked, queued } };
      }
      if (body.page_id === null) {
        const page: PageToFetch = {
          tenantId: body.tenant_id,
          url: body.url ?? "",
          validators: null,
          mode: body.mode,
        };
        const outcome = await crawl(page, dependencies, signal);
        if (typeof outcome === "number") return { kind: "unspent", delayMs: outcome };
        return { kind: "done", result: { page: unkeptPage(page, outcome, new Date(now()).toISOString()) } };
      }
      const begun = await books.begin(body.page_id, job.id, body.mode, HOLD_SECONDS);
      if (begun.status === "busy") {
        return { kind: "unspent", delayMs: Math.min(POLL_AGAIN_MS, begun.retry_after_ms + 1) };
      }
      if (begun.status !== "begun") return { kind: "done", result: { status: begun.status } };
      const { page } = begun;
      const asksForChange = body.mode === "enabled" && page.state === "fetched" && page.html_sha256 !== null;
      const outcome = await crawl(
        {
          tenantId: page.tenant_id,
          url: page.url,
          mode: body.mode,
          validators: asksForChange ? { etag: page.etag, lastModified: page.last_modified } : null,
        },
        dependencies,
        signal,
      );
      if (typeof outcome === "number") return { kind: "unspent", delayMs: outcome };
      const { status } = await books.finish(page.id, job.id, { ...outcome }, traceId);
      return { kind: "done", result: { status, state: outcome.state } };
    } catch (thrown) {
      if (signal.aborted) return { kind: "unspent" };
      throw thrown;
    }
  };
}
