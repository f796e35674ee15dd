/**
 * The share of characters that are wrong, missing or too many: the edit distance to what was written, by its length. White space of any
 * kind and length is one blank, since where lines break is not read but laid out.
 */
export function characterErrorRate(written: string, read: string): number {
  const from = [...written.replace(/\s+/g, " ").trim()];
  const to = [...read.replace(/\s+/g, " ").trim()];
  let above = Array.from({ length: to.length + 1 }, (_, place) => place);
  for (const [row, character] of from.entries()) {
    const here = [row + 1];
    for (const [column, other] of to.entries()) {
      here.push(Math.min(
        above[column]! + (character === other ? 0 : 1),
        above[column + 1]! + 1,
        here[column]! + 1,
      ));
    }
    above = here;
  }
  return above.at(-1)! / from.length;
}
