/**
 * As little of an HTTP/1.1 client as a load generator needs: connections that stay open, one call at a time on each. It
 * shares the machine with what it measures, and Deno's `fetch` takes as much of it as the upstream does.
 */

const CRLF = "\r\n";
/** The end of a body in chunks; JSON and events cannot hold it, since what follows it would be another chunk's length. */
const LAST_CHUNK = "\r\n0\r\n\r\n";

export interface Target {
  url: string;
  headers: Record<string, string>;
  body: unknown;
  /** Text of the answer itself, as a stream's first piece holds it; whole answers are not looked into. */
  content?: string;
}

export interface Answered {
  /** From the first byte sent until the last byte came; with `content`, until that came. */
  ms: number;
  ok: boolean;
}

/** The bytes of a call, made once for a whole run. */
export function requestBytes({ url, headers, body }: Target): Uint8Array {
  const { host, pathname, search } = new URL(url);
  const text = JSON.stringify(body);
  const lines = [
    `POST ${pathname}${search} HTTP/1.1`,
    `Host: ${host}`,
    "Content-Type: application/json",
    `Content-Length: ${new TextEncoder().encode(text).byteLength}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  return new TextEncoder().encode(lines.join(CRLF) + CRLF + CRLF + text);
}

/** One connection. */
export class Connection {
  readonly #tcp: Deno.TcpConn;
  readonly #decoder = new TextDecoder();
  readonly #buffer = new Uint8Array(65_536);
  readonly #now: () => number;

  private constructor(tcp: Deno.TcpConn, now: () => number) {
    this.#tcp = tcp;
    this.#now = now;
  }

  static async to(
    url: string,
    now = () => performance.now(),
  ): Promise<Connection> {
    const { hostname, port } = new URL(url);
    const tcp = await Deno.connect({ hostname, port: Number(port) });
    tcp.setNoDelay(true);
    return new Connection(tcp, now);
  }

  /** Throws when the connection breaks; it is of no use then. */
  async call(request: Uint8Array, content?: string): Promise<Answered> {
    const since = this.#now();
    for (let sent = 0; sent < request.byteLength;) {
      sent += await this.#tcp.write(request.subarray(sent));
    }
    let text = "";
    let cameAt: number | null = null;
    let bodyAt = -1;
    let length: number | null = null;
    for (;;) {
      const read = await this.#tcp.read(this.#buffer);
      if (read === null) {
        throw new Error("the connection ended before the answer did");
      }
      text += this.#decoder.decode(this.#buffer.subarray(0, read), {
        stream: true,
      });
      if (bodyAt < 0) {
        const headEnd = text.indexOf(CRLF + CRLF);
        if (headEnd < 0) continue;
        bodyAt = headEnd + 4;
        const said = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, headEnd))
          ?.[1];
        length = said === undefined ? null : Number(said);
      }
      if (
        content !== undefined && cameAt === null &&
        text.includes(content, bodyAt)
      ) cameAt = this.#now();
      // Answers here are ASCII, so that characters are bytes.
      if (
        length === null ? text.endsWith(LAST_CHUNK) : text.length >= bodyAt + length
      ) break;
    }
    const end = this.#now();
    const ok = text.startsWith("HTTP/1.1 200") &&
      (content === undefined || cameAt !== null);
    return { ms: (cameAt ?? end) - since, ok };
  }

  close(): void {
    try {
      this.#tcp.close();
    } catch {
      // The other side was quicker.
    }
  }
}
