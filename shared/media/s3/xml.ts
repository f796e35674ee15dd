import { parseXml, XmlElement } from "@rgrove/parse-xml";

/** An element of a store's answer, by the names that S3's reference uses. */
export interface Element {
  name: string;
  /** Its text and that of all within. */
  text: string;
  /** Its source, unchanged. */
  source: string;
  /** Those of that name, in order; all without one. */
  all(name?: string): Element[];
  /** The text of the first of that name; null where there is none. */
  value(name: string): string | null;
}

/**
 * The root element of an answer. The parser takes well-formed XML only, resolves no entity but the five of XML itself, and loads
 * nothing. How long an answer may be is up to the one who read it.
 * @throws Error for anything else
 */
export function parseAnswer(xml: string): Element {
  const { root } = parseXml(xml, { includeOffsets: true });
  if (root === null) throw new Error("no element");
  // Offsets count from behind a byte order mark.
  return element(root, xml.replace(/^\ufeff/, ""));
}

function element(node: XmlElement, xml: string): Element {
  const children = node.children.filter((child): child is XmlElement => child instanceof XmlElement);
  const all = (name?: string) =>
    children.filter((child) => name === undefined || localName(child) === name)
      .map((child) => element(child, xml));
  return {
    name: localName(node),
    get text() {
      return node.text;
    },
    get source() {
      return xml.slice(node.start, node.end);
    },
    all,
    value: (name) => children.find((child) => localName(child) === name)?.text.trim() ?? null,
  };
}

/** Some stores write a prefix for S3's namespace. */
const localName = ({ name }: XmlElement) => name.slice(name.indexOf(":") + 1);

const ESCAPES: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "\r": "&#13;",
};

/** `text` as the content of an element. */
export function escaped(text: string): string {
  return text.replace(/[&<>"\r]/g, (char) => ESCAPES[char]!);
}

/** What no XML 1.0 can say, not even escaped. */
// deno-lint-ignore no-control-regex
export const UNSAYABLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/;
