/** Server-sent events with names (HTML Living Standard, 9.2), whose data is one JSON value each. */

export interface NamedEvent {
  event: string;
  data: Record<string, unknown>;
}

/** Events as they come. Leaving the iteration cancels the body. @throws SyntaxError for data that is not JSON */
export async function* namedEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<NamedEvent, void, void> {
  let rest = "";
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    // What comes from us has line ends of one kind, but a proxy may have changed them.
    rest = (rest + piece).replaceAll("\r\n", "\n");
    let end: number;
    while ((end = rest.indexOf("\n\n")) !== -1) {
      const found = eventOf(rest.slice(0, end));
      rest = rest.slice(end + 2);
      if (found !== undefined) yield found;
    }
  }
}

function eventOf(block: string): NamedEvent | undefined {
  let event = "message";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const [, name, value] = /^(event|data):(?: ?)(.*)$/.exec(line) ?? [];
    if (name === "event") event = value!;
    else if (name === "data") data.push(value!);
  }
  return data.length === 0 ? undefined : { event, data: JSON.parse(data.join("\n")) };
}
