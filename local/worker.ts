/**
 * The environment of one function in its own process, as the hosted runtime has it: the `EdgeRuntime` global, a server that
 * calls the module's `fetch`, and an end that waits for background work. Imported before the function's module.
 */
import "./exit_with_parent.ts";
import { CALL_HEADER, DISCONNECTED_PATH } from "./call_number.ts";

/** A function's module. */
export interface FunctionModule {
  default?: { fetch?: (request: Request) => Response | Promise<Response> };
}

/** Requests and background work get this long to finish once the process is asked to end. */
const DRAIN_MS = 10_000;

/** Variables that the Deno process itself needs; a hosted function has none of them. */
const RUNTIME_VARIABLES = ["HOME", "PATH", "DENO_DIR", "DENO_NO_UPDATE_CHECK", "DENO_NODE_SHIM_ACTIVE"];
for (const name of RUNTIME_VARIABLES) Deno.env.delete(name);

/** Lines of the log go out together: the stack that reads them would be woken by each, in the midst of a request. */
const LINES_MS = 20;
let lines = "";
let writing: ReturnType<typeof setTimeout> | undefined;

function writeLines(): void {
  clearTimeout(writing);
  writing = undefined;
  let left = new TextEncoder().encode(lines);
  lines = "";
  while (left.length > 0) left = left.subarray(Deno.stdout.writeSync(left));
}

for (const name of ["info", "log"] as const) {
  const writeNow = console[name].bind(console);
  console[name] = (...values: unknown[]) => {
    const [line] = values;
    if (values.length === 1 && typeof line === "string") {
      lines += `${line}\n`;
      writing ??= setTimeout(writeLines, LINES_MS);
    } else {
      writeLines();
      writeNow(...values);
    }
  };
}
globalThis.addEventListener("unload", writeLines);

const background = new Set<Promise<unknown>>();

Object.defineProperty(globalThis, "EdgeRuntime", {
  value: {
    /** Keeps the process alive until the promise settles, beyond the response. */
    waitUntil(promise: Promise<unknown>): void {
      const settled: Promise<unknown> = Promise.resolve(promise)
        .catch((error) => console.error("waitUntil:", error))
        .finally(() => background.delete(settled));
      background.add(settled);
    },
  },
});

type Handle = (request: Request) => Response | Promise<Response>;

/**
 * A handler whose requests' signals also abort when the reverse proxy says that the client has gone: Deno's own does so only
 * once the response has begun, or if the whole request came in one packet.
 */
function abortingOnDisconnect(handle: Handle): Handle {
  const calls = new Map<string, AbortController>();
  return async (request) => {
    const call = request.headers.get(CALL_HEADER);
    if (call === null) return await handle(request);
    if (request.method === "DELETE" && request.url.endsWith(DISCONNECTED_PATH)) {
      calls.get(call)?.abort(new DOMException("The client has gone.", "AbortError"));
      return new Response(null, { status: 204 });
    }
    const gone = new AbortController();
    const { signal } = request;
    signal.addEventListener("abort", () => gone.abort(signal.reason), { once: true });
    // Making a new request would copy its body.
    Object.defineProperty(request, "signal", { value: gone.signal });
    calls.set(call, gone);
    try {
      return await handle(request);
    } finally {
      calls.delete(call);
    }
  };
}

/** Serves the module on a free port of the loopback interface and prints the address. */
export function serveFunction(name: string, module: FunctionModule): void {
  const handle = module.default?.fetch?.bind(module.default);
  if (!handle) {
    console.error(`The function ${name} has no default export with a fetch method.`);
    Deno.exit(1);
  }
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: ({ port }) => {
      console.log(`eve-worker listening http://127.0.0.1:${port}`);
      writeLines();
    },
    onError(error) {
      console.error(error);
      const body = { code: "worker_error", message: "The function failed: see the log of the local stack." };
      return Response.json(body, { status: 500 });
    },
  }, abortingOnDisconnect(handle));

  Deno.addSignalListener("SIGTERM", () => {
    setTimeout(() => Deno.exit(1), DRAIN_MS);
    server.shutdown().then(async () => {
      while (background.size > 0) await Promise.all(background);
      Deno.exit(0);
    });
  });
}
