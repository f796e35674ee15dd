/**
 * The one address of the stack, routed as a Supabase project's: `/functions/v1/<name>/...` to the function's process,
 * `/rest/v1` and `/auth/v1` to the embedded API.
 */
import { type Clock, systemClock } from "../shared/runtime/clock.ts";
import { asGatewayError } from "../shared/contract/gateway_error.ts";
import { BODY_TIMEOUT_MS, readBody } from "../shared/http/body.ts";
import { CALL_HEADER, DISCONNECTED_PATH } from "./call_number.ts";
import { DEMO_PAGE_PATH, demoPage } from "./demo_page.ts";
import { Disconnects } from "./disconnects.ts";
import { IdleConnections } from "./idle_connections.ts";
import type { SupervisedProcess } from "./supervised_process.ts";

export interface ReverseProxyOptions {
  port: number;
  functions: Map<string, SupervisedProcess>;
  /** Answers `/rest/v1` and `/auth/v1`. */
  api: (request: Request, peerAddress: string) => Response | Promise<Response>;
  /** Answers what is below `/console`, if it is served. */
  console?: ((request: Request) => Promise<Response>) | undefined;
  /** Answers what is below `/emulator/telegram`, if Telegram is emulated. */
  telegram?: ((request: Request) => Promise<Response>) | undefined;
  log: (line: string) => void;
  /** Of the time-outs of senders. */
  clock?: Clock;
}

export interface ReverseProxy {
  /** Takes no more connections, and resolves when those that there are have ended. */
  shutdown(): Promise<void>;
}

/**
 * What the embedded API reads of a body: rows and sign-ins, and, without S3, files that functions keep in the database: 10 MiB, in Base64.
 * Functions have bounds of their own.
 */
const MAX_API_BODY_BYTES = 14 * 1024 * 1024;

/** The platform gives up on a function that has not sent its first byte by then. */
const FIRST_BYTE_TIMEOUT_MS = 150_000;

/** A killed function is back within about a second. */
const RETRY_AFTER_S = "1";

/** About one hop only, RFC 9110 section 7.6.1; the other side's client or server sets its own. */
const HOP_BY_HOP = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];

/** `fetch` cannot send these, and no function has a use for them. */
const NOT_FORWARDED = new Set(["CONNECT", "TRACE", "TRACK"]);

/** Starts listening on 127.0.0.1. Throws Deno.errors.AddrInUse when the port is taken. */
export function startReverseProxy(options: ReverseProxyOptions): ReverseProxy {
  const clock = options.clock ?? systemClock;
  const server: Deno.HttpServer<Deno.NetAddr> = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: () => {},
    onError(error) {
      options.log(`request failed: ${error instanceof Error ? error.stack : error}`);
      return errorResponse(500, "internal_error", "The local stack failed: see its log.");
    },
  }, (request, info) => {
    const end = connections.begin(info.remoteAddr);
    info.completed.then(end, end);
    return route(request, info.remoteAddr, { ...options, clock }, disconnects);
  });
  const disconnects = new Disconnects(server.addr.port);
  let connections: IdleConnections;
  try {
    connections = new IdleConnections({ port: options.port, serverPort: server.addr.port, clock });
  } catch (error) {
    void server.shutdown();
    throw error;
  }
  return {
    async shutdown() {
      connections.close();
      await server.shutdown();
      connections.closeAll();
    },
  };
}

function route(
  request: Request,
  client: Deno.NetAddr,
  options: ReverseProxyOptions & { clock: Clock },
  disconnects: Disconnects,
): Response | Promise<Response> {
  // Before the address is looked at: that of a CONNECT is another server's.
  if (NOT_FORWARDED.has(request.method)) {
    return errorResponse(405, "method_not_allowed", `${request.method} is not served.`);
  }
  const url = new URL(request.url);
  const [, room, version, name] = url.pathname.split("/");
  if (version === "v1" && (room === "rest" || room === "auth")) {
    return ofApi(request, client, options);
  }
  if (version === "v1" && room === "functions" && name) {
    const worker = options.functions.get(name);
    if (!worker) return errorResponse(404, "not_found", `There is no function named ${name}.`);
    return forward(request, url, client, worker, disconnects);
  }
  if (room === "console" && options.console) return options.console(request);
  if (room === "emulator" && version === "telegram" && options.telegram) return options.telegram(request);
  if (url.pathname === DEMO_PAGE_PATH) return demoPage();
  if (url.pathname === "/") {
    return Response.json({
      name: "EVE Gateway, local stack",
      functions: [...options.functions.keys()].map((key) => `/functions/v1/${key}`),
      rest: "/rest/v1",
      auth: "/auth/v1",
      ...(options.console && { console: "/console/" }),
      ...(options.telegram && { telegram: "/emulator/telegram", page: DEMO_PAGE_PATH }),
    });
  }
  return errorResponse(404, "not_found", `Nothing is served at ${url.pathname}.`);
}

/** The embedded API has neither a time-out nor a bound for what it is sent. */
async function ofApi(
  request: Request,
  client: Deno.NetAddr,
  { api, clock }: ReverseProxyOptions & { clock: Clock },
): Promise<Response> {
  if (request.body === null) return await api(request, client.hostname);
  const limits = { maxBytes: MAX_API_BODY_BYTES, timeoutMs: BODY_TIMEOUT_MS, clock };
  let body: Uint8Array;
  try {
    body = await readBody(request, limits);
  } catch (thrown) {
    const { status, code, publicMessage } = asGatewayError(thrown);
    return errorResponse(status, code, publicMessage);
  }
  const { method, headers, url } = request;
  return await api(new Request(url, { method, headers, body: body.slice() }), client.hostname);
}

/** Streams both ways; when the client goes, so does the request to the function. */
async function forward(
  request: Request,
  url: URL,
  client: Deno.NetAddr,
  worker: SupervisedProcess,
  disconnects: Disconnects,
): Promise<Response> {
  // One that is to start late starts now; one that went down is started again by itself.
  if (!worker.url) await worker.start();
  if (!worker.url) return unavailable(worker);
  const target = worker.url + url.pathname.slice("/functions/v1".length) + url.search;
  const headers = withoutHopByHop(request.headers);
  // The answer is passed on as it comes, so it must come as the client can read it.
  headers.set("accept-encoding", "identity");
  headers.set("x-forwarded-for", client.hostname);
  headers.set("x-forwarded-host", url.host);
  headers.set("x-forwarded-proto", url.protocol.slice(0, -1));

  const call = String(++calls);
  headers.set(CALL_HEADER, call);
  const givenUp = new AbortController();
  let left = false;
  const unwatch = disconnects.watch(client, () => {
    left = true;
    givenUp.abort();
  });
  const timer = setTimeout(() => givenUp.abort(), FIRST_BYTE_TIMEOUT_MS);
  try {
    const response = await fetch(target, {
      method: request.method,
      headers,
      body: request.body,
      redirect: "manual",
      signal: AbortSignal.any([request.signal, givenUp.signal]),
    });
    return new Response(response.body, {
      status: response.status,
      statusText: response.statusText,
      headers: withoutHopByHop(response.headers),
    });
  } catch (error) {
    left ||= request.signal.aborted;
    if (left || givenUp.signal.aborted) endCall(worker.url, call);
    if (!left && givenUp.signal.aborted) {
      return errorResponse(
        504,
        "idle_timeout",
        `The function sent nothing for ${FIRST_BYTE_TIMEOUT_MS / 1000} seconds.`,
      );
    }
    // Nobody reads this one: the client is gone.
    if (left) return new Response(null, { status: 499 });
    if (error instanceof TypeError) return unavailable(worker);
    throw error;
  } finally {
    clearTimeout(timer);
    unwatch();
  }
}

/** Numbers for calls, so that each can be ended by name. */
let calls = 0;

function endCall(workerUrl: string, call: string): void {
  fetch(workerUrl + DISCONNECTED_PATH, { method: "DELETE", headers: { [CALL_HEADER]: call } })
    .then((response) => response.body?.cancel(), () => {});
}

function withoutHopByHop(from: Headers): Headers {
  const headers = new Headers(from);
  const named = (from.get("connection") ?? "").split(",").map((name) => name.trim()).filter((name) =>
    name !== ""
  );
  for (const name of [...HOP_BY_HOP, ...named]) headers.delete(name);
  return headers;
}

function unavailable(worker: SupervisedProcess): Response {
  return errorResponse(
    503,
    "worker_unavailable",
    `The ${worker.name} is down and being started again: try in a second.`,
    {
      "retry-after": RETRY_AFTER_S,
    },
  );
}

function errorResponse(
  status: number,
  code: string,
  message: string,
  headers: Record<string, string> = {},
): Response {
  return Response.json({ code, message }, { status, headers });
}
