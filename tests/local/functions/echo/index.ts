/** A function for the tests of the functions host: answers in every way a gateway has to pass on. */

declare const EdgeRuntime: { waitUntil(promise: Promise<unknown>): void };

/** What happened to earlier requests, by the name the test gave them. */
const seen: Record<string, string> = {};

export default {
  async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const mark = url.searchParams.get("mark") ?? "";
    switch (url.pathname) {
      case "/echo/request":
        return Response.json({
          method: request.method,
          path: url.pathname,
          query: url.search,
          headers: Object.fromEntries(request.headers),
          body: await request.text(),
        }, { status: 201, headers: { "x-made-by": "echo" } });
      case "/echo/upload":
        return new Response(request.body?.pipeThrough(shout()));
      case "/echo/stream":
        return new Response(ticks(mark), { headers: { "content-type": "text/event-stream" } });
      case "/echo/hang":
        request.signal.addEventListener("abort", () => seen[mark] = "aborted");
        seen[mark] = "running";
        await new Promise((resolve) => setTimeout(resolve, 600_000));
        return new Response("late");
      case "/echo/later":
        EdgeRuntime.waitUntil(afterwards(url.searchParams.get("tell")!));
        return new Response("soon");
      case "/echo/seen":
        return Response.json(seen);
      case "/echo/throw":
        throw new Error("on purpose");
      default:
        return new Response(null, { status: 307, headers: { location: "/elsewhere" } });
    }
  },
};

function shout(): TransformStream<Uint8Array, Uint8Array> {
  return new TransformStream({
    transform(chunk, controller) {
      controller.enqueue(new TextEncoder().encode(new TextDecoder().decode(chunk).toUpperCase()));
    },
  });
}

function ticks(mark: string): ReadableStream<Uint8Array> {
  let timer: number;
  let count = 0;
  return new ReadableStream({
    start(controller) {
      seen[mark] = "running";
      timer = Number(setInterval(() => {
        controller.enqueue(new TextEncoder().encode(`data: ${count++}\n\n`));
      }, 20));
    },
    cancel() {
      clearInterval(timer);
      seen[mark] = "cancelled";
    },
  });
}

/** Tells somebody outside, so that a test can see it even when this process has ended; the second time once they answer. */
async function afterwards(tell: string): Promise<void> {
  await (await fetch(tell, { method: "POST" })).body?.cancel();
  await (await fetch(tell, { method: "POST" })).body?.cancel();
}
