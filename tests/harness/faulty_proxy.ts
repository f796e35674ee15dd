/** A line to a server that is away, slow, or drops what it carries. */

/** What happens to a connection. */
export type Fault =
  | "none"
  /** What is sent arrives, and what is answered is lost. */
  | "answer_lost"
  /** It is cut before anything arrives. */
  | "cut"
  /** Nothing arrives, and nothing is said. */
  | "silent"
  /** So many bytes of the answer come, and then the line is cut. */
  | { cutAfter: number }
  /** So many bytes of the answer come, and then nothing. */
  | { silentAfter: number };

export interface FaultyProxy {
  url: string;
  /** Connections that something was sent on. */
  readonly used: number;
  /** For connections from now on; those that are open are cut. */
  fault(next: Fault | (() => Fault)): void;
  /** Nobody listens any more. */
  away(): void;
  /** And here again, at the same address. */
  back(): void;
  stop(): void;
}

export function startFaultyProxy(target: string): FaultyProxy {
  const { hostname, port: targetPort } = new URL(target);
  let choose: () => Fault = () => "none";
  let used = 0;
  const open = new Set<Deno.Conn>();
  let listener: Deno.Listener | undefined;
  const close = (connection: Deno.Conn) => {
    open.delete(connection);
    try {
      connection.close();
    } catch {
      // The other side has.
    }
  };
  const cutAll = () => [...open].forEach(close);

  async function carry(client: Deno.Conn): Promise<void> {
    const fault = choose();
    const buffer = new Uint8Array(65_536);
    let server: Deno.Conn | undefined;
    try {
      const first = await client.read(buffer);
      if (first === null) return;
      used++;
      if (fault === "cut") return;
      if (fault === "silent") {
        while (await client.read(buffer) !== null);
        return;
      }
      server = await Deno.connect({ hostname, port: Number(targetPort) });
      open.add(server);
      const toServer = (async () => {
        const writer = server.writable.getWriter();
        await writer.write(buffer.slice(0, first));
        writer.releaseLock();
        await client.readable.pipeTo(server.writable);
      })();
      toServer.catch(() => server && close(server));
      await back(server, client, fault);
      // Until the client goes, also when the server has.
      if (typeof fault === "object" && "silentAfter" in fault) await toServer;
    } catch {
      // One of the two has gone.
    } finally {
      close(client);
      if (server) close(server);
    }
  }

  /** What the server answers, as far as the fault lets it through. */
  async function back(server: Deno.Conn, client: Deno.Conn, fault: Fault): Promise<void> {
    const buffer = new Uint8Array(65_536);
    let left = typeof fault === "object" ? Object.values(fault)[0] as number : Infinity;
    for (;;) {
      const count = await server.read(buffer);
      if (count === null || fault === "answer_lost") return;
      const piece = buffer.slice(0, Math.min(count, left));
      left -= piece.byteLength;
      for (let at = 0; at < piece.byteLength;) at += await client.write(piece.subarray(at));
      if (left > 0) continue;
      // Silent: until one of the two goes.
      if (typeof fault === "object" && "silentAfter" in fault) { while (await server.read(buffer) !== null); }
      return;
    }
  }

  function listen(port: number): number {
    const mine = Deno.listen({ hostname: "127.0.0.1", port });
    listener = mine;
    (async () => {
      for await (const client of mine) {
        open.add(client);
        carry(client);
      }
    })().catch(() => {});
    return (mine.addr as Deno.NetAddr).port;
  }
  const port = listen(0);
  return {
    url: `http://127.0.0.1:${port}`,
    get used() {
      return used;
    },
    fault(next) {
      choose = typeof next === "function" ? next : () => next;
      cutAll();
    },
    away() {
      listener?.close();
      listener = undefined;
      cutAll();
    },
    back() {
      if (listener === undefined) listen(port);
    },
    stop() {
      listener?.close();
      cutAll();
    },
  };
}
