/** What the fakes of providers' APIs have in common: a handler that stands in for `fetch`, and a server for whole stacks. */

export type Handler = (request: Request) => Response | Promise<Response>;

/** Calls a handler in the place of the network. */
export function asFetch(handler: Handler): typeof fetch {
  return (async (input: string | URL | Request, init?: RequestInit) => {
    const request = new Request(input, init);
    request.signal.throwIfAborted();
    const response = await handler(request);
    request.signal.throwIfAborted();
    return response;
  }) as typeof fetch;
}

export interface FakeServer {
  url: string;
  close(): Promise<void>;
}

/** Serves it on a free port of the loopback interface. */
export function serveFake(handler: Handler): FakeServer {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, handler);
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    close: async () => {
      await server.shutdown();
    },
  };
}

// deno-lint-ignore no-explicit-any -- JSON whose fields the fakes look at.
export async function bodyOf(request: Request): Promise<any> {
  try {
    return await request.json();
  } catch {
    return null;
  }
}

/** Server-sent events, one `data` each. */
export function eventStream(data: readonly string[]): Response {
  const text = data.map((each) => `data: ${each}\n\n`).join("");
  return new Response(text, { headers: { "content-type": "text/event-stream" } });
}
