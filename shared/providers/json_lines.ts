/** The longest line accepted, in characters: an answer of a model is far shorter. */
const MAX_LINE_CHARS = 4 * 1024 * 1024;

/**
 * JSON values, one a line, out of bytes. Reads no further than it is asked; leaving the iteration cancels the body.
 * @throws SyntaxError for a line that is no JSON, RangeError for one that is too long
 */
export async function* readJsonLines(body: ReadableStream<Uint8Array>): AsyncGenerator<unknown, void, void> {
  const reader = body.getReader();
  // Some versions of Deno remove the byte order mark also where a later piece begins with it.
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let begun = false;
  let rest = "";
  /** Where the search for the line end begins: what came before has none. */
  let searched = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      if (!begun && rest !== "") {
        begun = true;
        if (rest.startsWith("\ufeff")) rest = rest.slice(1);
      }
      let from = 0;
      for (let end = rest.indexOf("\n", searched); end >= 0; end = rest.indexOf("\n", from)) {
        const line = rest.slice(from, end).trim();
        from = end + 1;
        if (line !== "") yield JSON.parse(line);
      }
      rest = rest.slice(from);
      searched = rest.length;
      if (rest.length > MAX_LINE_CHARS) throw new RangeError("a line that is too long");
      if (done) break;
    }
    if (rest.trim() !== "") yield JSON.parse(rest);
  } finally {
    reader.cancel().catch(() => {});
  }
}
