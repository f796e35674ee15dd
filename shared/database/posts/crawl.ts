import * as z from "zod";
import type { Actor } from "../../contract/actor.ts";
import { callUnlessRefused } from "../refused.ts";
import type { Transport } from "../transport/transport.ts";

export const CRAWL_MODES = ["enabled", "bypass", "read_only", "write_only", "disabled"] as const;
export type CrawlMode = (typeof CRAWL_MODES)[number];
export const PAGE_STATES = [
  "waiting",
  "fetched",
  "not_html",
  "too_large",
  "not_stored",
  "disallowed",
  "refused",
  "failed",
] as const;

const article = z.object({
  id: z.string().optional(),
  title: z.string(),
  byline: z.string().nullable(),
  site_name: z.string().nullable(),
  excerpt: z.string().nullable(),
  language: z.string().nullable(),
  published_at: z.string().nullable(),
  /** Absent in lists. */
  text: z.string().optional(),
  words: z.number(),
  /** Made when it was asked for; null: it was not, or the page says something else since. */
  summary: z.string().nullable().default(null),
  summary_model: z.string().nullable().default(null),
  summary_prompt: z.string().nullable().default(null),
});

/** A row of public.crawl_pages with its article; one that was not kept has no id. */
export const crawlPage = z.object({
  id: z.string().nullable(),
  tenant_id: z.string(),
  url: z.string(),
  canonical_url: z.string(),
  domain: z.string(),
  state: z.enum(PAGE_STATES),
  reason: z.string().nullable(),
  status: z.number().nullable(),
  final_url: z.string().nullable(),
  mime_type: z.string().nullable(),
  charset: z.string().nullable(),
  size_bytes: z.number().nullable(),
  title: z.string().nullable(),
  html_sha256: z.string().nullable(),
  facts_sha256: z.string().nullable(),
  fetches: z.number(),
  fetched_at: z.string().nullable(),
  expires_at: z.string().nullable(),
  /** Of the row; null: it was not kept. */
  updated_at: z.string().nullable(),
  article: article.nullable(),
  post_ids: z.array(z.string()),
});
export type CrawlPage = z.output<typeof crawlPage>;

const asked = z.discriminatedUnion("status", [
  z.object({ status: z.literal("found"), page: crawlPage }),
  z.object({
    status: z.literal("queued"),
    page: crawlPage.nullable(),
    job_id: z.string(),
    wake: z.boolean(),
  }),
  z.object({ status: z.literal("none") }),
]);
const onePage = z.object({ page: crawlPage });

/** A page as it is asked for. */
export interface PageToAsk {
  url: string;
  canonical_url: string;
  domain: string;
  /** Version of the rules of canonical URLs. */
  rules: number;
}

const TIMEOUT_MS = 15_000;

/** Pages for those who ask for them. Refuses as the media registry does. */
export function createCrawl(transport: Transport, timeoutMs = TIMEOUT_MS) {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    callUnlessRefused(transport, name, args, shape, timeoutMs);
  return {
    ask: (
      actor: Actor,
      page: PageToAsk,
      terms: {
        tenantId: string | null;
        mode: CrawlMode;
        class: "interactive" | "batch";
        traceId: string | null;
      },
    ) =>
      ask("eve_crawl_ask", {
        actor,
        page,
        mode: terms.mode,
        tenant_id: terms.tenantId,
        class: terms.class,
        trace_id: terms.traceId,
      }, asked),
    /** Null: it ended without a page, such as when it was cancelled. */
    job: (jobId: string) =>
      ask("eve_crawl_job", { job_id: jobId }, z.object({ is_done: z.boolean(), page: crawlPage.nullable() })),
    find: async (actor: Actor, id: string) => (await ask("eve_crawl_page", { actor, id }, onePage)).page,
    /** @param textSha256 of the text that the model was given */
    summarised: async (
      actor: Actor,
      id: string,
      made: { textSha256: string; summary: string; model: string; prompt: string },
    ) =>
      (await ask("eve_crawl_summarised", {
        actor,
        id,
        text_sha256: made.textSha256,
        summary: made.summary,
        model: made.model,
        prompt: made.prompt,
      }, onePage)).page,
    list: async (
      actor: Actor,
      filter: {
        tenantId: string | null;
        domain: string | null;
        state: string | null;
        before: string | null;
        limit: number;
      },
    ) =>
      (await ask("eve_crawl_pages", {
        actor,
        tenant_id: filter.tenantId,
        domain: filter.domain,
        state: filter.state,
        before: filter.before,
        at_most: filter.limit,
      }, z.object({ pages: z.array(crawlPage) }))).pages,
  };
}
export type Crawl = ReturnType<typeof createCrawl>;

const heldPage = z.object({
  id: z.string(),
  tenant_id: z.string(),
  url: z.string(),
  canonical_url: z.string(),
  state: z.enum(PAGE_STATES),
  etag: z.string().nullable(),
  last_modified: z.string().nullable(),
  html_sha256: z.string().nullable(),
});
const begun = z.discriminatedUnion("status", [
  z.object({ status: z.literal("begun"), page: heldPage }),
  z.object({ status: z.literal("fresh") }),
  z.object({ status: z.literal("busy"), retry_after_ms: z.number() }),
  z.object({ status: z.literal("gone") }),
]);
const robots = z.object({
  state: z.enum(["rules", "none", "unreachable"]).nullable(),
  text: z.string().nullable(),
  is_fresh: z.boolean(),
});

/** What the worker asks and says of pages. All of it may be repeated. */
export function createCrawlBooks(transport: Transport, timeoutMs = TIMEOUT_MS) {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    callUnlessRefused(transport, name, args, shape, timeoutMs);
  return {
    begin: (pageId: string, jobId: string, mode: CrawlMode, leaseS: number) =>
      ask("eve_crawl_begin", { page_id: pageId, job_id: jobId, mode, lease_s: leaseS }, begun),
    turn: (origin: string, intervalMs: number, waitMs: number) =>
      ask(
        "eve_crawl_turn",
        { origin, interval_ms: intervalMs, wait_ms: waitMs },
        z.object({ is_taken: z.boolean(), wait_ms: z.number() }),
      ),
    robots: (origin: string, saved: Record<string, unknown> | null = null) =>
      ask("eve_crawl_robots", { origin, saved }, robots),
    finish: (pageId: string, jobId: string, outcome: Record<string, unknown>, traceId: string | null) =>
      ask(
        "eve_crawl_finish",
        { page_id: pageId, job_id: jobId, outcome, trace_id: traceId },
        z.object({ status: z.enum(["saved", "gone"]) }),
      ),
    post: (postId: string) =>
      ask(
        "eve_crawl_post",
        { post_id: postId },
        z.discriminatedUnion("status", [
          z.object({ status: z.literal("found"), text: z.string(), metadata: z.unknown() }),
          z.object({ status: z.literal("gone") }),
        ]),
      ),
    links: (postId: string, links: readonly PageToAsk[], traceId: string | null) =>
      ask(
        "eve_crawl_links",
        { post_id: postId, links: { list: links }, trace_id: traceId },
        z.object({
          status: z.enum(["linked", "gone"]),
          links: z.number().default(0),
          queued: z.number().default(0),
        }),
      ),
  };
}
export type CrawlBooks = ReturnType<typeof createCrawlBooks>;
