import { GatewayError } from "../contract/gateway_error.ts";
import type { CrawlBooks, CrawlMode } from "../database/posts/crawl.ts";
import { PublicFetchError } from "../http/outgoing/public_target.ts";
import type { Media } from "../media/storage.ts";
import { uploadFile } from "../media/upload/upload.ts";
import { retryAfterMs } from "../runtime/retry_after.ts";
import { sha256Of } from "../runtime/sha256.ts";
import { type Article, readPage } from "./article.ts";
import { canonicalUrl, domainOf } from "./canonical_url.ts";
import { decodePage } from "./charset.ts";
import { FetchFailed, fetchPage, type PageNetwork, TooLarge } from "./fetch_page.ts";
import { freshnessOf, isForbidden, KEEP_REFUSED_S, KEEP_SHORT_S } from "./freshness.ts";
import {
  ALL_ALLOWED,
  MAX_ROBOTS_BYTES,
  NONE_ALLOWED,
  parseRobots,
  PRODUCT_TOKEN,
  type Robots,
} from "./robots.ts";

/** Hosts that pages are fetched from although they are private, with commas between them. */
export const CRAWL_HOSTS_VARIABLE = "EVE_CRAWL_HOSTS";

const MAX_PAGE_BYTES = 10_000_000;
const PAGE_TIMEOUT_MS = 30_000;
const ROBOTS_TIMEOUT_MS = 10_000;
/** RFC 9309, 2.4: not kept longer than a day, as a rule. */
const ROBOTS_KEEP_S = 86_400;
const ROBOTS_AWAY_S = 600;
/** Between two fetches from one server, for all of us together. */
const POLITE_MS = 1_000;
/** A turn that comes later is not waited for: the job is. */
const MOST_TURN_MS = 5_000;
const USER_AGENT = PRODUCT_TOKEN;
const ACTOR = { kind: "project" } as const;
const HTML = new Set(["text/html", "application/xhtml+xml"]);

export interface CrawlDependencies {
  books: CrawlBooks;
  network: PageNetwork;
  media: () => Promise<Media>;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** The names are those of `eve_crawl_finish`. */
export interface CrawlOutcome {
  state: string;
  keep_s: number;
  reason?: string;
  status?: number;
  final_url?: string;
  mime_type?: string;
  charset?: string;
  size_bytes?: number;
  title?: string | null;
  etag?: string | null;
  last_modified?: string | null;
  cache_policy?: Record<string, unknown> | null;
  html_sha256?: string;
  facts_sha256?: string;
  is_same?: boolean;
  article?: Article | null;
}

/** Its server's turn is not soon. */
class NotNow extends Error {
  constructor(readonly delayMs: number) {
    super();
  }
}
class Disallowed extends Error {}

export interface PageToFetch {
  tenantId: string;
  url: string;
  /** Of the last answer, if the page is here: it is asked whether it has changed. */
  validators: { etag: string | null; lastModified: string | null } | null;
  mode: CrawlMode;
}

/**
 * Fetches a page, keeps it and what was said about it with the media (not with `bypass` and `disabled`), and reads it. A number: so many
 * milliseconds later it is the page's turn.
 * @throws GatewayError where the store or the database is away; the signal's reason
 */
export async function crawl(
  page: PageToFetch,
  dependencies: CrawlDependencies,
  signal: AbortSignal,
): Promise<CrawlOutcome | number> {
  const { network } = dependencies;
  const headers: Record<string, string> = {
    accept: "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1",
    "user-agent": USER_AGENT,
  };
  if (page.validators?.etag) headers["if-none-match"] = page.validators.etag;
  if (page.validators?.lastModified) headers["if-modified-since"] = page.validators.lastModified;
  try {
    const { url, status, headers: said, bytes } = await fetchPage(page.url, network, {
      headers,
      timeoutMs: PAGE_TIMEOUT_MS,
      maxBytes: MAX_PAGE_BYTES,
      before: (url, signal) => admitted(url, dependencies, signal),
      wants: (status, headers) => status >= 200 && status < 300 && HTML.has(typeOf(headers)),
      signal,
    });
    const facts = { status, final_url: url.slice(0, 4_096) };
    if (status === 304 && page.validators !== null) {
      const { keepS } = freshnessOf(url, 200, said);
      return { state: "fetched", is_same: true, ...facts, keep_s: keepS, ...validatorsOf(said) };
    }
    if (status < 200 || status >= 300) {
      return {
        state: "failed",
        reason: `answered with status ${status}`,
        ...facts,
        keep_s: retryS(said, dependencies.now()),
      };
    }
    const mime_type = typeOf(said).slice(0, 255);
    if (bytes === null) {
      return { state: "not_html", reason: "is no HTML", mime_type, ...facts, keep_s: KEEP_REFUSED_S };
    }
    if (isForbidden(said)) {
      return {
        state: "not_stored",
        reason: "its server forbids that it is kept",
        mime_type,
        ...facts,
        keep_s: KEEP_SHORT_S,
      };
    }
    return await kept(page, { ...facts, mime_type }, bytes, said, dependencies);
  } catch (thrown) {
    signal.throwIfAborted();
    if (thrown instanceof NotNow) return thrown.delayMs;
    if (thrown instanceof Disallowed) {
      return { state: "disallowed", reason: thrown.message, keep_s: KEEP_REFUSED_S };
    }
    if (thrown instanceof TooLarge) {
      return { state: "too_large", reason: `has more than ${MAX_PAGE_BYTES} bytes`, keep_s: KEEP_REFUSED_S };
    }
    if (thrown instanceof PublicFetchError) {
      return { state: "refused", reason: thrown.message, keep_s: KEEP_REFUSED_S };
    }
    if (thrown instanceof FetchFailed) {
      return { state: "failed", reason: thrown.message, keep_s: KEEP_SHORT_S };
    }
    throw thrown;
  }
}

async function kept(
  page: PageToFetch,
  facts: { status: number; final_url: string; mime_type: string },
  bytes: Uint8Array<ArrayBuffer>,
  said: Headers,
  { media, now }: CrawlDependencies,
): Promise<CrawlOutcome> {
  const { text, charset } = decodePage(bytes, said.get("content-type") ?? "");
  const { title, article } = readPage(text);
  const { keepS, policy } = freshnessOf(facts.final_url, facts.status, said);
  const outcome: CrawlOutcome = {
    state: "fetched",
    ...facts,
    charset,
    size_bytes: bytes.byteLength,
    title,
    article,
    keep_s: keepS,
    cache_policy: policy,
    ...validatorsOf(said),
  };
  if (page.mode === "bypass" || page.mode === "disabled") return outcome;
  try {
    const upload = async (mimeType: string, body: Uint8Array<ArrayBuffer>) => {
      await uploadFile(await media(), ACTOR, {
        tenantId: page.tenantId,
        kind: "crawl",
        mimeType,
        body,
        metadata: {},
        links: {},
        vision: null,
      });
      return await sha256Of(body);
    };
    const html_sha256 = await upload("text/html", bytes);
    const { article: _, cache_policy: __, ...about } = outcome;
    const record = {
      ...about,
      url: page.url,
      canonical_url: canonicalUrl(page.url),
      html_sha256,
      fetched_at: new Date(now()).toISOString(),
      headers: Object.fromEntries([...said].filter(([name]) => name !== "set-cookie")),
    };
    const facts_sha256 = await upload("application/json", new TextEncoder().encode(JSON.stringify(record)));
    return { ...outcome, html_sha256, facts_sha256 };
  } catch (thrown) {
    if (!(thrown instanceof GatewayError)) throw thrown;
    if (thrown.code === "media_type_mismatch") {
      return { state: "not_html", reason: "its bytes are no HTML", ...facts, keep_s: KEEP_REFUSED_S };
    }
    if (thrown.code === "storage_quota_exceeded" || thrown.code === "file_too_large") {
      return { state: "failed", reason: "there is no room to keep it", ...facts, keep_s: KEEP_SHORT_S };
    }
    throw thrown;
  }
}

/** What robots.txt says of it, and its server's turn. */
async function admitted(url: URL, dependencies: CrawlDependencies, signal: AbortSignal): Promise<void> {
  const robots = await robotsOf(url.origin, dependencies, signal);
  if (!robots.allows(url.pathname + url.search)) {
    throw new Disallowed("its server's robots.txt is against it, or could not be read");
  }
  await turn(url.origin, robots.crawlDelayMs ?? POLITE_MS, dependencies, signal);
}

async function turn(
  origin: string,
  intervalMs: number,
  { books, network }: CrawlDependencies,
  signal: AbortSignal,
) {
  const { is_taken, wait_ms } = await books.turn(origin, Math.max(intervalMs, POLITE_MS), MOST_TURN_MS);
  if (!is_taken) throw new NotNow(wait_ms);
  if (wait_ms > 0) await network.clock.sleep(wait_ms, signal);
}

async function robotsOf(
  origin: string,
  dependencies: CrawlDependencies,
  signal: AbortSignal,
): Promise<Robots> {
  const stored = await dependencies.books.robots(origin);
  const read = ({ state, text }: { state: string | null; text: string | null }) =>
    state === "rules" ? parseRobots(text ?? "") : state === "none" ? ALL_ALLOWED : NONE_ALLOWED;
  if (stored.is_fresh) return read(stored);
  let fetched: { state: "rules" | "none" | "unreachable"; text?: string; keep_s: number };
  try {
    const { status, bytes } = await fetchPage(`${origin}/robots.txt`, dependencies.network, {
      headers: { accept: "text/plain", "user-agent": USER_AGENT },
      timeoutMs: ROBOTS_TIMEOUT_MS,
      maxBytes: MAX_ROBOTS_BYTES,
      whenLarger: "cut",
      signal,
    });
    const text = new TextDecoder().decode(bytes ?? undefined).replaceAll("\0", "");
    fetched = status >= 200 && status < 300
      ? { state: "rules", text, keep_s: ROBOTS_KEEP_S }
      : status >= 500 || status === 429
      ? { state: "unreachable", keep_s: ROBOTS_AWAY_S }
      // RFC 9309, 2.3.1.3: there is none. Also a redirect that leads nowhere.
      : { state: "none", keep_s: ROBOTS_KEEP_S };
  } catch (thrown) {
    signal.throwIfAborted();
    if (thrown instanceof PublicFetchError) throw thrown;
    fetched = { state: "unreachable", keep_s: ROBOTS_AWAY_S };
  }
  // The last rules that were read hold while the server is away.
  if (fetched.state === "unreachable" && stored.state === "rules") {
    fetched = { state: "rules", text: stored.text ?? "", keep_s: ROBOTS_AWAY_S };
  }
  return read(await dependencies.books.robots(origin, fetched));
}

/** A page that was fetched and not kept, as the API shows pages. */
export function unkeptPage(
  { tenantId, url }: PageToFetch,
  outcome: CrawlOutcome,
  at: string,
): Record<string, unknown> {
  const canonical_url = canonicalUrl(url) ?? url;
  const { keep_s: _, cache_policy: __, article = null, ...facts } = outcome;
  const empty = {
    reason: null,
    status: null,
    final_url: null,
    mime_type: null,
    charset: null,
    size_bytes: null,
    title: null,
  };
  return {
    id: null,
    tenant_id: tenantId,
    url,
    canonical_url,
    domain: domainOf(canonical_url),
    ...empty,
    html_sha256: null,
    facts_sha256: null,
    ...facts,
    fetches: 1,
    fetched_at: at,
    expires_at: null,
    updated_at: null,
    article,
    post_ids: [],
  };
}

function typeOf(headers: Headers): string {
  return (headers.get("content-type") ?? "").split(";")[0]!.trim().toLowerCase();
}

function validatorsOf(headers: Headers): { etag: string | null; last_modified: string | null } {
  const held = (name: string, most: number) => {
    const value = headers.get(name);
    return value === null || value.length > most ? null : value;
  };
  return { etag: held("etag", 1_000), last_modified: held("last-modified", 100) };
}

function retryS(headers: Headers, nowMs: number): number {
  const said = Math.ceil((retryAfterMs(headers, nowMs) ?? 0) / 1_000);
  return Math.min(Math.max(said, KEEP_SHORT_S), KEEP_REFUSED_S);
}
