/** An open connection to a server; TLS, if any, is done. */
export interface Connection {
  readable: ReadableStream<Uint8Array>;
  writable: WritableStream<Uint8Array>;
  close(): void;
}

export interface Endpoint {
  /** An IP address: nothing is looked up any more. */
  address: string;
  port: number;
  /** The name that the server's certificate must be for; null: no TLS. */
  tlsName: string | null;
}

export type Connect = (to: Endpoint) => Promise<Connection>;

/** Longer than any server's head of an answer. */
const MAX_HEAD_BYTES = 32 * 1024;
/** A chunk's size with its extensions, or a line of a trailer. */
const MAX_LINE_BYTES = 4 * 1024;

/** What is sent. */
export interface PinnedRequest {
  /** Its name, for the server and its certificate; a port of its own is kept. */
  url: URL;
  method: "GET" | "POST";
  headers: Record<string, string>;
  /** Absent: none. */
  body?: Uint8Array;
}

/**
 * A request over a connection to one of `addresses`, tried in order, with the URL's own name towards the server and in its
 * certificate. `fetch` would resolve the name once more, and its owner could return another address by then.
 *
 * HTTP/1.1 (RFC 9112), one request to a connection, no redirects, no compression. Throws what the connection throws, and
 * Error for what is no HTTP.
 */
export async function pinnedRequest(
  request: PinnedRequest,
  { connect, addresses, signal }: { connect: Connect; addresses: readonly string[]; signal: AbortSignal },
): Promise<Response> {
  const connection = await connectedTo(request.url, addresses, connect);
  const close = () => {
    signal.removeEventListener("abort", close);
    try {
      connection.close();
    } catch {
      // It was closed by the other side, or by a stream of its own.
    }
  };
  signal.addEventListener("abort", close, { once: true });
  try {
    signal.throwIfAborted();
    const writer = connection.writable.getWriter();
    await writer.write(new TextEncoder().encode(headOf(request)));
    if (request.body !== undefined) await writer.write(request.body);
    writer.releaseLock();
    return await responseFrom(new ByteReader(connection.readable), close);
  } catch (thrown) {
    close();
    throw thrown;
  }
}

async function connectedTo(url: URL, addresses: readonly string[], connect: Connect): Promise<Connection> {
  const secure = url.protocol === "https:";
  let failure: unknown = new Error("there is no address");
  for (const address of addresses) {
    try {
      const port = Number(url.port) || (secure ? 443 : 80);
      return await connect({ address, port, tlsName: secure ? url.hostname : null });
    } catch (thrown) {
      failure = thrown;
    }
  }
  throw failure;
}

/** A parsed URL holds no white space and no line ends. */
function headOf({ url, method, headers, body }: PinnedRequest): string {
  const fields = {
    ...headers,
    ...(body !== undefined && { "content-length": String(body.byteLength) }),
    host: url.host,
    "accept-encoding": "identity",
    connection: "close",
  };
  return [
    `${method} ${url.pathname}${url.search} HTTP/1.1`,
    ...Object.entries(fields).map(([name, value]) => `${name}: ${value}`),
    "",
    "",
  ].join("\r\n");
}

async function responseFrom(reader: ByteReader, close: () => void): Promise<Response> {
  const { status, headers } = await headFrom(reader);
  const withoutBody = status === 204 || status === 205 || status === 304;
  if (withoutBody) {
    close();
    return new Response(null, { status, headers });
  }
  const pieces = bodyFrom(reader, headers);
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      const step = await pieces.next();
      if (!step.done) return controller.enqueue(new Uint8Array(step.value));
      close();
      controller.close();
    },
    cancel: close,
  }, { highWaterMark: 0 });
  return new Response(body, { status, headers });
}

async function headFrom(reader: ByteReader): Promise<{ status: number; headers: Headers }> {
  for (let left = MAX_HEAD_BYTES;;) {
    const line = async () => {
      const text = await reader.line(left);
      left -= text.length + 2;
      return text;
    };
    const status = Number(/^HTTP\/1\.[01] ([1-5]\d\d)(?: |$)/.exec(await line())?.[1]);
    if (Number.isNaN(status)) throw new Error("the answer is no HTTP");
    const headers = new Headers();
    for (let text = await line(); text !== ""; text = await line()) {
      const colon = text.indexOf(":");
      if (colon < 1) throw new Error("the answer has a header without a name");
      headers.append(text.slice(0, colon), text.slice(colon + 1).trim());
    }
    // Interim responses before the answer itself (RFC 9110, 15.2).
    if (status >= 200) return { status, headers };
  }
}

/** RFC 9112, 6.3. */
async function* bodyFrom(reader: ByteReader, headers: Headers): AsyncGenerator<Uint8Array, void> {
  const coding = headers.get("transfer-encoding");
  const length = headers.get("content-length");
  if (coding !== null) {
    if (coding.trim().toLowerCase() !== "chunked") throw new Error("the answer is coded in an unknown way");
    for (;;) {
      const size = /^([0-9a-f]{1,8})\s*(?:;|$)/i.exec(await reader.line(MAX_LINE_BYTES))?.[1];
      if (size === undefined) throw new Error("a chunk has no size");
      if (Number.parseInt(size, 16) === 0) return;
      yield* reader.bytes(Number.parseInt(size, 16));
      if (await reader.line(MAX_LINE_BYTES) !== "") throw new Error("a chunk is longer than it said");
    }
  }
  if (length !== null) {
    if (!/^\d{1,15}$/.test(length)) throw new Error("the answer has no single length");
    return yield* reader.bytes(Number(length));
  }
  yield* reader.rest();
}

/** Bytes of a stream by lines and by numbers, however they arrive. */
class ByteReader {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #ready = new Uint8Array();

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#reader = stream.getReader();
  }

  /** The next line, without its end. Throws if it is longer than `most` bytes. */
  async line(most: number): Promise<string> {
    for (let from = 0;;) {
      const end = this.#ready.indexOf(0x0a, from);
      if (end > most || end < 0 && this.#ready.length > most) {
        throw new Error("a line of the answer is too long");
      }
      if (end >= 0) {
        const line = this.#ready.subarray(0, end);
        this.#ready = this.#ready.subarray(end + 1);
        // As a header is read: each byte is a character.
        return String.fromCharCode(...line).replace(/\r$/, "");
      }
      from = this.#ready.length;
      if (!await this.#more()) throw new Error("the answer ended in its head");
    }
  }

  async *bytes(count: number): AsyncGenerator<Uint8Array, void> {
    for (let left = count; left > 0;) {
      if (this.#ready.length === 0 && !await this.#more()) throw new Error("the answer ended before its end");
      const piece = this.#ready.subarray(0, left);
      this.#ready = this.#ready.subarray(piece.length);
      left -= piece.length;
      yield piece;
    }
  }

  async *rest(): AsyncGenerator<Uint8Array, void> {
    while (this.#ready.length > 0 || await this.#more()) {
      yield this.#ready;
      this.#ready = new Uint8Array();
    }
  }

  async #more(): Promise<boolean> {
    const { done, value } = await this.#reader.read();
    if (done) return false;
    const joined = new Uint8Array(this.#ready.length + value.length);
    joined.set(this.#ready);
    joined.set(value, this.#ready.length);
    this.#ready = joined;
    return true;
  }
}
