/**
 * What a terminal acts on instead of showing it, or shows in another order than it stands there: C0 and C1 controls, marks of
 * writing direction, line separators, invisible tags, halves of characters. Names of models and keys, answers and errors come
 * from others, and may hold any of them.
 *
 * A line feed and a tab are shown as what they are, and a carriage return before a line feed belongs to it.
 */
const UNSAFE =
  // deno-lint-ignore no-control-regex -- they are what is looked for.
  /(?!\r\n)[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|\p{Cs}/gu;

/** The colours that table.ts writes, and no other sequence. */
// deno-lint-ignore no-control-regex -- the escape that begins a colour.
const OURS = /\x1b\[(?:0|1|2|31|32|33|34)m/y;

/**
 * Text as it may go to a terminal, the same character by character except that what is unsafe becomes a visible `\uXXXX`: in
 * JSON that is the same string.
 * @param coloured false: even our own colours are none of it
 */
export function safeForTerminal(text: string, coloured: boolean): string {
  return text.replace(UNSAFE, (unsafe, at: number) => {
    OURS.lastIndex = at;
    if (coloured && unsafe === "\x1b" && OURS.test(text)) return unsafe;
    return [...Array(unsafe.length).keys()]
      .map((index) => `\\u${unsafe.charCodeAt(index).toString(16).padStart(4, "0")}`).join("");
  });
}
