import { Readability } from "@mozilla/readability";
import { parseHTML } from "linkedom/worker";

/** Readability walks all elements several times: beyond this a hosted function's 2 s of computing are not enough. */
const MAX_HTML_CHARS = 2_000_000;
const MAX_ELEMENTS = 15_000;
/** A title stands before all that is shown. */
const MAX_HEAD_CHARS = 500_000;
/** Tags, entities and what only begins like one: each becomes a text of its own to walk over, a million of them for eight seconds. */
const MAX_MARKS = 100_000;
/** Its time also grows with the square of the depth; pages that people write stay below a hundred. */
const MAX_DEPTH = 400;
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
  const head = html.slice(0, MAX_HEAD_CHARS);
  const title = cut(decoded(/<title(?:\s[^>]{0,200})?>([^<]{0,2000})/i.exec(head)?.[1] ?? ""), 1_000) || null;
  if (html.length > MAX_HTML_CHARS) return { title, article: null };
  const elements = html.match(/<[a-z]/gi)?.length ?? 0;
  const marks = html.match(/[<&]/g)?.length ?? 0;
  if (elements > MAX_ELEMENTS || marks > MAX_MARKS) return { title, article: null };
  try {
    // The package says it is a window; it is what has a document.
    const { document } = parseHTML(html) as unknown as { document: unknown };
    if (depthOf(document as TextNode) > MAX_DEPTH) return { title, article: null };
    // deno-lint-ignore no-explicit-any -- linkedom's document is what Readability uses of one.
    const reader = new Readability<TextNode>(document as any, {
      maxElemsToParse: MAX_ELEMENTS,
      serializer: (node) => node,
    });
    const found = reader.parse();
    const text = cutBytes(
      found?.content
        ? textOf(found.content).replace(/[ \t\u00a0]+/g, " ").replace(/\s*\n\s*/g, "\n").trim()
        : "",
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

/** What of a document's node is needed to read it. */
interface TextNode {
  nodeType: number;
  nodeName: string;
  nodeValue: string | null;
  firstChild: TextNode | null;
  nextSibling: TextNode | null;
  parentNode: TextNode | null;
}
/** Elements that run on in a line. All others begin a line of their own, also where the markup has no white space between them. */
const INLINE = new Set(
  "A ABBR B BDI BDO CITE CODE DATA DEL DFN EM FONT I INS KBD MARK Q RUBY S SAMP SMALL SPAN STRONG SUB SUP TIME U VAR WBR"
    .split(" "),
);

/** What is at a node, and below it, in the document's order. Without recursion: markup may be nested as deeply as it likes. */
function walk(
  root: TextNode,
  enter: (node: TextNode, depth: number) => void,
  leave?: (node: TextNode) => void,
) {
  let depth = 0;
  for (let node: TextNode | null = root; node !== null;) {
    enter(node, depth);
    if (node.firstChild !== null) {
      node = node.firstChild;
      depth++;
      continue;
    }
    while (node !== null) {
      leave?.(node);
      if (node === root) return;
      if (node.nextSibling !== null) {
        node = node.nextSibling;
        break;
      }
      node = node.parentNode;
      depth--;
    }
  }
}

function depthOf(root: TextNode): number {
  let deepest = 0;
  walk(root, (_, depth) => deepest = Math.max(deepest, depth));
  return deepest;
}

/** A node's text, line by line. */
function textOf(root: TextNode): string {
  const pieces: string[] = [];
  const isBlock = ({ nodeType, nodeName }: TextNode) => nodeType === 1 && !INLINE.has(nodeName.toUpperCase());
  walk(root, (node) => {
    if (node.nodeType === 3) pieces.push((node.nodeValue ?? "").replace(/\s+/g, " "));
    if (isBlock(node)) pieces.push("\n");
  }, (node) => {
    if (isBlock(node)) pieces.push("\n");
  });
  return pieces.join("");
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
