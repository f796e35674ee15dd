/** Puts figures into a page of the docs, between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`. */
import { CHECKOUT } from "../../local/paths.ts";

/** Throws if the page lacks one of the places. */
export async function writeIntoPage(
  page: string,
  blocks: Record<string, string>,
): Promise<void> {
  const path = `${CHECKOUT}/${page}`;
  let text = await Deno.readTextFile(path);
  for (const [name, block] of Object.entries(blocks)) {
    const [from, to] = [`<!-- bench:${name} -->`, `<!-- /bench:${name} -->`];
    const [begin, end] = [text.indexOf(from), text.indexOf(to)];
    if (begin < 0 || end < begin) {
      throw new Error(`${page} has no place for ${name}: ${from} ... ${to}`);
    }
    text = `${text.slice(0, begin + from.length)}\n\n${block}\n\n${text.slice(end)}`;
  }
  await Deno.writeTextFile(path, text);
  await new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--quiet", path],
    cwd: CHECKOUT,
  }).output();
}
