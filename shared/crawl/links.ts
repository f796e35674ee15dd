import { canonicalUrl, domainOf } from "./canonical_url.ts";

/** A link of a post: as it was written, and the page that it leads to. */
export interface Link {
  url: string;
  canonical_url: string;
  domain: string;
}

/** A digest of a day has some thirty; more is a list, not a post. */
export const MAX_LINKS = 50;
const IN_TEXT = /https?:\/\/[^\s<>"'`«»“”„]+/giu;
const WHOLE = /^https?:\/\/\S+$/iu;

/** The pages that a post's text and `metadata.links` lead to, each once, in their order. */
export function linksOf(text: string, metadata: unknown): Link[] {
  const found = new Map<string, Link>();
  const add = (url: string) => {
    if (found.size >= MAX_LINKS) return;
    const canonical = canonicalUrl(url);
    if (canonical === null || found.has(canonical)) return;
    found.set(canonical, { url, canonical_url: canonical, domain: domainOf(canonical) });
  };
  for (const [match] of text.matchAll(IN_TEXT)) add(withoutSentence(match));
  // Other URLs of the metadata are no links: where the post itself is read, for one.
  const { links } = (metadata ?? {}) as { links?: unknown };
  for (const link of Array.isArray(links) ? links : []) {
    if (typeof link === "string" && WHOLE.test(link)) add(link);
  }
  return [...found.values()];
}

/** What belongs to the sentence around a link, not to the link. Counted once: a text may be nothing but brackets. */
function withoutSentence(link: string): string {
  const needless: Record<string, number> = {
    ")": count(link, ")") - count(link, "("),
    "]": count(link, "]") - count(link, "["),
  };
  for (let end = link.length;; end--) {
    const last = link.charAt(end - 1);
    const closes = (needless[last] ?? 0) > 0;
    if (closes) needless[last]!--;
    else if (!/[.,;:!?…*_~|}]/u.test(last)) return link.slice(0, end);
  }
}

function count(text: string, character: string): number {
  return text.split(character).length - 1;
}
