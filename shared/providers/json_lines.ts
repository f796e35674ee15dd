/** The longest line accepted, in characters: an answer of a model is far shorter. */
const MAX_LINE_CHARS = 4 * 1024 * 1024;

/**
 * JSON values, one a line, out of bytes. Reads no further than it is asked; leaving the iteration cancels the body.
 * @throws SyntaxError for a line that is no JSON, RangeError for one that is too long
 */
export async function* readJsonLines(body: ReadableStream<Uint8Array>): AsyncGenerator<unknown, void, void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
        const line = rest.slice(0, end).trim();
        rest = rest.slice(end + 1);
        if (line !== "") yield JSON.parse(line);
      }
      if (rest.length > MAX_LINE_CHARS) throw new RangeError("a line that is too long");
      if (done) break;
    }
    if (rest.trim() !== "") yield JSON.parse(rest);
  } finally {
    reader.cancel().catch(() => {});
  }
}
