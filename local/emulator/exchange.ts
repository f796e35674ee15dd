/**
 * One HTTP request and its answer, over node:http: the one server in Deno that can close a connection without an
 * answer and that distinguishes a caller who left from one who was served.
 */

import type { IncomingMessage, ServerResponse } from "node:http";

/** The caller left, or the emulator stops: no answer is needed. */
export class CallerGone extends Error {
  constructor() {
    super("the caller has gone");
  }
}

export class BodyTooLarge extends Error {}

/** What Google's front end adds to every answer. */
const HEADERS = { vary: "ReverseProxy, X-ReverseProxy, Referer", server: "scaffolding on HTTPServer2" };

export class Exchange {
  /** Aborted when the caller leaves before the whole answer was written. */
  readonly gone: AbortSignal;
  #cutByUs = false;

  constructor(private readonly req: IncomingMessage, private readonly res: ServerResponse) {
    const controller = new AbortController();
    this.gone = controller.signal;
    res.on("close", () => {
      if (!res.writableFinished && !this.#cutByUs) controller.abort();
    });
    // Without a listener a reset connection would end the process.
    req.on("error", () => {});
    res.on("error", () => {});
  }

  get httpMethod(): string {
    return this.req.method ?? "GET";
  }

  get url(): URL {
    return new URL(this.req.url ?? "/", "http://emulator.invalid");
  }

  header(name: string): string | undefined {
    const value = this.req.headers[name];
    return Array.isArray(value) ? value[0] : value;
  }

  get headers(): Record<string, string> {
    return Object.fromEntries(
      Object.entries(this.req.headers).map(([name, value]) => [name, String(value ?? "")]),
    );
  }

  /** Whether an answer has begun. */
  get begun(): boolean {
    return this.res.headersSent;
  }

  /** @throws BodyTooLarge above `cap` bytes. @throws CallerGone. */
  async text(cap: number): Promise<string> {
    const pieces: Uint8Array[] = [];
    let size = 0;
    try {
      for await (const piece of this.req as AsyncIterable<Uint8Array>) {
        size += piece.length;
        if (size > cap) throw new BodyTooLarge();
        pieces.push(piece);
      }
    } catch (error) {
      throw error instanceof BodyTooLarge ? error : new CallerGone();
    }
    const whole = new Uint8Array(size);
    let at = 0;
    for (const piece of pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    return new TextDecoder().decode(whole);
  }

  /** @throws CallerGone when the caller leaves first. */
  async wait(ms: number): Promise<void> {
    if (this.gone.aborted) throw new CallerGone();
    if (ms <= 0) return;
    await new Promise<void>((resolve, reject) => {
      const left = () => {
        clearTimeout(timer);
        reject(new CallerGone());
      };
      const timer = setTimeout(() => {
        this.gone.removeEventListener("abort", left);
        resolve();
      }, ms);
      this.gone.addEventListener("abort", left, { once: true });
    });
  }

  /** Waits until the caller leaves. */
  hang(): Promise<never> {
    return new Promise((_, reject) => {
      if (this.gone.aborted) return reject(new CallerGone());
      this.gone.addEventListener("abort", () => reject(new CallerGone()), { once: true });
    });
  }

  begin(status: number, contentType: string, extra: Record<string, string> = {}): void {
    if (this.gone.aborted) throw new CallerGone();
    this.res.writeHead(status, { "content-type": contentType, ...HEADERS, ...extra });
    this.res.flushHeaders();
  }

  /** @throws CallerGone. */
  write(text: string): void {
    if (this.gone.aborted) throw new CallerGone();
    this.res.write(text);
  }

  end(): void {
    this.res.end();
  }

  send(status: number, contentType: string, text: string): void {
    const bytes = new TextEncoder().encode(text);
    if (this.gone.aborted) throw new CallerGone();
    const length = { "content-length": String(bytes.length) };
    this.res.writeHead(status, { "content-type": contentType, ...HEADERS, ...length });
    this.res.end(bytes);
  }

  /** Closes the connection as it is; what was written before is sent first. */
  async cut(): Promise<void> {
    this.#cutByUs = true;
    if (this.begun) await new Promise((resolve) => setTimeout(resolve, FLUSH_MS));
    this.res.socket?.destroy();
    this.req.socket?.destroy();
  }
}

/** Time for what was written to reach the caller before the connection is cut. */
const FLUSH_MS = 10;
