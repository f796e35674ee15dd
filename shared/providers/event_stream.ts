/** What arrives in a stream of server-sent events. */
export type StreamPiece =
  /** The data of one event. */
  | { kind: "data"; text: string }
  /** Bytes that are no event, from there to the stream's end: Google breaks its framing with bare JSON to report errors. */
  | { kind: "stray"; text: string };

/**
 * The longest event accepted, in characters: a picture of 10 MB in Base64 fits. A longer one would fill a function's memory.
 */
export const MAX_EVENT_CHARS = 16 * 1024 * 1024;

/** Of what breaks the framing, this much is kept: an error with its details. */
const MAX_STRAY_CHARS = 65_536;

export class EventTooLong extends Error {
  constructor(maxChars: number) {
    super(`an event of more than ${maxChars} characters`);
  }
}

/**
 * Server-sent events (HTML Living Standard, 9.2) out of bytes: any line ending, comments skipped, lines of one event
 * joined. Only `data` matters here. What the stream ends on without an empty line is given too: it may be whole.
 *
 * Reads no further than it is asked: a slow reader slows the sender. Leaving the iteration cancels the body.
 *
 * Not by `eventsource-parser`, which the CLI and the console use: what breaks the framing is an unknown field to it, line by line,
 * and an event that the stream ends on without an empty line is dropped, while both may be all that an upstream has to say.
 * @throws EventTooLong above `maxChars`, and what the body's reader throws
 */
export async function* readEvents(
  body: ReadableStream<Uint8Array>,
  maxChars = MAX_EVENT_CHARS,
): AsyncGenerator<StreamPiece, void, void> {
  const reader = body.getReader();
  // Some versions of Deno remove the byte order mark also where a later piece begins with it.
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let begun = false;
  // A line that is still coming, piece by piece: joined once, when its end is there.
  let pending: string[] = [];
  let pendingChars = 0;
  let data: string[] = [];
  let length = 0;
  let stray: string | null = null;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      let arrived = done ? decoder.decode() : decoder.decode(value, { stream: true });
      if (!begun && arrived !== "") {
        begun = true;
        if (arrived.startsWith("\ufeff")) arrived = arrived.slice(1);
      }
      if (stray !== null) {
        stray = (stray + arrived).slice(0, MAX_STRAY_CHARS);
        if (done) break;
        continue;
      }
      pending.push(arrived);
      pendingChars += arrived.length;
      if (pendingChars > maxChars) throw new EventTooLong(maxChars);
      if (!done && !/[\r\n]/.test(arrived) && !pending.at(-2)?.endsWith("\r")) continue;
      const rest = pending.join("");
      let from = 0;
      for (;;) {
        const line = lineAt(rest, from, done);
        if (line === null) break;
        from = line.next;
        if (line.text === "") {
          if (data.length > 0) yield { kind: "data", text: data.join("\n") };
          data = [];
          length = 0;
        } else if (/^\s*[{[]/.test(line.text)) {
          stray = rest.slice(line.start).slice(0, MAX_STRAY_CHARS);
          break;
        } else if (line.text === "data" || line.text.startsWith("data:")) {
          const text = line.text.slice("data:".length).replace(/^ /, "");
          length += text.length;
          if (length > maxChars) throw new EventTooLong(maxChars);
          data.push(text);
        }
      }
      pending = stray === null && from < rest.length ? [rest.slice(from)] : [];
      pendingChars = pending[0]?.length ?? 0;
      if (done) break;
    }
    if (data.length > 0) yield { kind: "data", text: data.join("\n") };
    if (stray !== null) yield { kind: "stray", text: stray };
  } finally {
    // Nothing to do where the body has ended; otherwise this ends the connection.
    reader.cancel().catch(() => {});
  }
}

/** The line that begins at `from`; null while its end has not come. A line end at the very end may be half of a CRLF. */
function lineAt(
  text: string,
  from: number,
  ended: boolean,
): { text: string; start: number; next: number } | null {
  LINE_END.lastIndex = from;
  const end = LINE_END.exec(text);
  if (end === null || (end[0] === "\r" && end.index === text.length - 1 && !ended)) {
    return ended && from < text.length ? { text: text.slice(from), start: from, next: text.length } : null;
  }
  return { text: text.slice(from, end.index), start: from, next: end.index + end[0].length };
}

const LINE_END = /\r\n|\n|\r/g;
