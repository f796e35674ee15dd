import { Readability } from "@mozilla/readability";
import { parseHTML } from "linkedom/worker";

/** Readability walks all elements several times: beyond this a hosted function's 2 s of computing are not enough. */
const MAX_HTML_CHARS = 2_000_000;
const MAX_ELEMENTS = 15_000;
/** What the tables take. */
const MAX_TEXT_BYTES = 200_000;

export interface Article {
  title: string;
  byline: string | null;
  site_name: string | null;
  excerpt: string | null;
  language: string | null;
  /** ISO 8601. */
  published_at: string | null;
  text: string;
  words: number;
}

export interface ReadPage {
  title: string | null;
  /** Null: there is nothing to read in it, or it is too large to look for. */
  article: Article | null;
}

/** What can be read in a page, without what surrounds it. Nothing of it runs, and nothing is loaded. */
export function readPage(html: string): ReadPage {
  const title = cut(decoded(/<title[^>]*>([^<]{0,2000})/i.exec(html)?.[1] ?? ""), 1_000) || null;
  const elements = html.length > MAX_HTML_CHARS ? Infinity : html.match(/<[a-z]/gi)?.length ?? 0;
  if (elements > MAX_ELEMENTS) return { title, article: null };
  try {
    // The package says it is a window; it is what has a document.
    const { document } = parseHTML(html) as unknown as { document: unknown };
    // deno-lint-ignore no-explicit-any -- linkedom's document is what Readability uses of one.
    const found = new Readability(document as any, { maxElemsToParse: MAX_ELEMENTS }).parse();
    const text = cutBytes(
      (found?.textContent ?? "").replace(/[ \t\u00a0]+/g, " ").replace(/\s*\n\s*/g, "\n").trim(),
    );
    if (!found || text === "") return { title, article: null };
    const at = Date.parse(found.publishedTime ?? "");
    return {
      title,
      article: {
        title: cut(found.title ?? "", 1_000) || title || "",
        byline: cut(found.byline ?? "", 500) || null,
        site_name: cut(found.siteName ?? "", 500) || null,
        excerpt: cut(found.excerpt ?? "", 2_000) || null,
        language: /^[A-Za-z0-9-]{1,40}$/.test(found.lang ?? "") ? found.lang! : null,
        published_at: Number.isNaN(at) ? null : new Date(at).toISOString(),
        text,
        words: text.split(/\s+/).length,
      },
    };
  } catch {
    // Markup on which the libraries break: the page is kept all the same.
    return { title, article: null };
  }
}

/** Without what the database's texts cannot hold. */
function cut(text: string, most: number): string {
  return text.replaceAll("\0", "").trim().slice(0, most).toWellFormed();
}

function cutBytes(text: string): string {
  const bytes = new TextEncoder().encode(text.replaceAll("\0", ""));
  return bytes.length <= MAX_TEXT_BYTES
    ? text.replaceAll("\0", "").toWellFormed()
    : new TextDecoder().decode(bytes.subarray(0, MAX_TEXT_BYTES)).replace(/\ufffd+$/, "");
}

function decoded(text: string): string {
  const names: Readonly<Record<string, string>> = {
    amp: "&",
    lt: "<",
    gt: ">",
    quot: '"',
    nbsp: " ",
    laquo: "«",
    raquo: "»",
    mdash: "—",
  };
  return text.replace(/&(\w+);/g, (all, name: string) => names[name] ?? all).replace(/\s+/g, " ");
}
