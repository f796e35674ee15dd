/** The README and the pages of docs/, taken apart for tests. */
import { CHECKOUT } from "../../local/paths.ts";

export interface Page {
  /** From the checkout's root. */
  path: string;
  text: string;
}

/** @param path from the checkout's root */
export function readPage(path: string): Page {
  return { path, text: Deno.readTextFileSync(`${CHECKOUT}/${path}`) };
}

/** The README first, then docs/ by name. */
export function allPages(): Page[] {
  const names = [...Deno.readDirSync(`${CHECKOUT}/docs`)].map((entry) => entry.name).filter((name) =>
    name.endsWith(".md")
  );
  return ["README.md", ...names.sort().map((name) => `docs/${name}`)].map(readPage);
}

/** What stands under a heading of the second level, up to the next one. Throws if there is no such heading. */
export function section({ path, text }: Page, heading: string): Page {
  const found = `\n${text}`.split(/\n(?=## )/).find((part) => part.startsWith(`## ${heading}\n`));
  if (found === undefined) throw new Error(`${path} has no heading "${heading}"`);
  return { path, text: found };
}

/** The contents of the page's code blocks in a language, in order. */
export function codeBlocks({ text }: Page, language: string): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\``, "gm"))].map((match) => match[1]!);
}

/** The names in backticks of the first cell of every row of the page's tables. */
export function tableNames({ text }: Page): string[] {
  return [...text.matchAll(/^\| (`[^|]*) \|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/`([^`]+)`/g)].map((match) => match[1]!)
  );
}
