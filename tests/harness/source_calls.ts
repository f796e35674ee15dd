/** What the sources call, and with what: for rules that hold for every call there is. */
import { CHECKOUT } from "../../local/paths.ts";

/** The TypeScript files in a folder, from the checkout's root. */
export function sourcesIn(folder: string): string[] {
  return [...Deno.readDirSync(`${CHECKOUT}/${folder}`)].flatMap((entry) =>
    entry.isDirectory
      ? sourcesIn(`${folder}/${entry.name}`)
      : entry.name.endsWith(".ts")
      ? [`${folder}/${entry.name}`]
      : []
  );
}

/**
 * Each call in a file, its arguments included, by where it stands.
 * @param opening global, and ends with the parenthesis that opens the arguments
 */
export function callsIn(path: string, opening: RegExp): [where: string, call: string][] {
  const text = Deno.readTextFileSync(`${CHECKOUT}/${path}`);
  return [...text.matchAll(opening)].map((match) => {
    let depth = 0;
    let at = match.index + match[0].length - 1;
    do {
      if (text[at] === "(") depth++;
      if (text[at] === ")") depth--;
      at++;
    } while (depth > 0 && at < text.length);
    const line = text.slice(0, match.index).split("\n").length;
    return [`${path}:${line}`, text.slice(match.index, at)];
  });
}
