/** A real HTTP server that plays Telegram or somebody's webhook: it keeps what it got, and answers as it is told to. */

export interface Received {
  path: string;
  headers: Headers;
  body: string;
}

export interface Receiver {
  url: string;
  received: Received[];
  /** How it answers from now on; each request of `next` in its turn first. */
  answer(respond: Respond, next?: Respond[]): void;
  stop(): Promise<void>;
}

type Respond = () => Response | Promise<Response>;

export function startReceiver(): Receiver {
  const received: Received[] = [];
  const ended = Promise.withResolvers<Response>();
  let always: Respond = () => Response.json({ ok: true });
  let queue: Respond[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { pathname } = new URL(request.url);
    received.push({ path: pathname, headers: request.headers, body: await request.text() });
    return await Promise.race([(queue.shift() ?? always)(), ended.promise]);
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    received,
    answer(respond, next = []) {
      always = respond;
      queue = [...next];
    },
    async stop() {
      ended.resolve(new Response(null, { status: 503 }));
      await server.shutdown();
    },
  };
}

/** An answer that never comes. */
export const never: Respond = () => new Promise<Response>(() => {});
