/**
 * Connections of clients, each passed on to an HTTP server of this process as long as it has a request in progress, and
 * closed when it had none for too long. Deno's server (2.9.6) waits for a head without an end: a client that has sent half of one
 * holds a connection for as long as they like, and the server offers no way to close it.
 */
import { type Clock, setTimer } from "../shared/runtime/clock.ts";

/** How long a connection may be without a request, its first or its next: Node's servers wait 60 s for a head, and 5 s between two. */
export const IDLE_TIMEOUT_MS = 30_000;

/** What is read at once; more waits in the sockets. */
const PIECE_BYTES = 64 * 1024;

export interface IdleConnectionsOptions {
  /** Where clients connect to, on 127.0.0.1. */
  port: number;
  clock: Clock;
  /** Where the server listens, on 127.0.0.1. */
  serverPort: number;
}

interface Passed {
  client: Deno.TcpConn;
  server: Deno.TcpConn;
  requests: number;
  /** Stops the clock of a connection without a request. */
  stopWaiting: () => void;
}

export class IdleConnections {
  readonly #options: IdleConnectionsOptions;
  readonly #listener: Deno.TcpListener;
  /** By the port from which the server sees them come. */
  readonly #passed = new Map<number, Passed>();

  /** Starts listening. Throws Deno.errors.AddrInUse when the port is taken. */
  constructor(options: IdleConnectionsOptions) {
    this.#options = options;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: options.port });
    void this.#accept();
  }

  /** A request on a connection has begun, until what is given back is called. */
  begin(serverSees: Deno.NetAddr): () => void {
    const one = this.#passed.get(serverSees.port);
    if (one === undefined) return () => {};
    one.requests++;
    one.stopWaiting();
    return () => {
      if (--one.requests === 0) this.#wait(one);
    };
  }

  /** Takes no more connections; those that there are stay until `closeAll`. */
  close(): void {
    this.#listener.close();
  }

  closeAll(): void {
    for (const one of [...this.#passed.values()]) this.#end(one);
  }

  async #accept(): Promise<void> {
    for (;;) {
      try {
        void this.#pass(await this.#listener.accept());
      } catch (error) {
        if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) return;
        // This one has gone again, or there are too many open files for the moment.
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  }

  async #pass(client: Deno.TcpConn): Promise<void> {
    let server: Deno.TcpConn;
    try {
      server = await Deno.connect({ hostname: "127.0.0.1", port: this.#options.serverPort });
    } catch {
      return client.close();
    }
    client.setNoDelay();
    server.setNoDelay();
    const one: Passed = { client, server, requests: 0, stopWaiting: () => {} };
    this.#passed.set(server.localAddr.port, one);
    this.#wait(one);
    await Promise.all([copied(server, client), copied(client, server).catch(() => unheard(client))]).catch(
      () => {},
    );
    this.#end(one);
  }

  #wait(one: Passed): void {
    if (this.#passed.get(one.server.localAddr.port) !== one) return;
    one.stopWaiting();
    one.stopWaiting = setTimer(this.#options.clock, IDLE_TIMEOUT_MS, () => this.#end(one));
  }

  #end(one: Passed): void {
    one.stopWaiting();
    if (!this.#passed.delete(one.server.localAddr.port)) return;
    for (const connection of [one.client, one.server]) {
      try {
        connection.close();
      } catch {
        // Closed already.
      }
    }
  }
}

/**
 * What comes after the server has answered and gone: to close on a sender would take away the answer that they have not
 * read yet (RFC 9112, 9.6).
 */
async function unheard(from: Deno.TcpConn): Promise<void> {
  const piece = new Uint8Array(PIECE_BYTES);
  while (await from.read(piece) !== null);
}

/** Up to the end of one side, which the other is told. */
async function copied(from: Deno.TcpConn, to: Deno.TcpConn): Promise<void> {
  const piece = new Uint8Array(PIECE_BYTES);
  for (;;) {
    const count = await from.read(piece);
    if (count === null) return await to.closeWrite();
    for (let written = 0; written < count;) written += await to.write(piece.subarray(written, count));
  }
}
