/**
 * The one address of the stack, routed as a Supabase project's: `/functions/v1/<name>/...` to the function's process,
 * `/rest/v1` and `/auth/v1` to the embedded API.
 */
import {
  Agent,
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request as httpRequest,
  type Server,
  type ServerResponse,
} from "node:http";
import { once } from "node:events";
import { pipeline } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { type Clock, systemClock } from "../shared/runtime/clock.ts";
import { asGatewayError } from "../shared/contract/gateway_error.ts";
import { BODY_TIMEOUT_MS, readBody } from "../shared/http/body.ts";
import { CALL_HEADER, DISCONNECTED_PATH } from "./call_number.ts";
import { DEMO_PAGE_PATH, demoPage } from "./demo_page.ts";
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
  /** Of the time-out of bodies for the embedded API. */
  clock?: Clock;
  /** How long a connection may be without a request, and a head may take. */
  idleTimeoutMs?: number;
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

/** Queries of the REST API may list many ids. */
const MAX_HEAD_BYTES = 256 * 1024;

/** Half of Node's own time for a head. */
const IDLE_TIMEOUT_MS = 30_000;

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

/** About the connection or the address of another server; no function has a use for them. */
const NOT_SERVED = new Set(["CONNECT", "TRACE", "TRACK"]);

/** @throws Error with the code EADDRINUSE when the port of 127.0.0.1 is taken */
export async function startReverseProxy(options: ReverseProxyOptions): Promise<ReverseProxy> {
  const { port, log, idleTimeoutMs = IDLE_TIMEOUT_MS } = options;
  const agent = new Agent({ keepAlive: true });
  const others = getRequestListener(
    (request, { incoming }) =>
      answer(request, (incoming as IncomingMessage).socket.remoteAddress ?? "", options),
    {
      overrideGlobalObjects: false,
      errorHandler(error) {
        log(`request failed: ${error instanceof Error ? error.stack : error}`);
        return errorResponse(500, "internal_error", "The local stack failed: see its log.");
      },
    },
  );
  const server = createServer({
    headersTimeout: idleTimeoutMs,
    keepAliveTimeout: idleTimeoutMs,
    // Who reads a body has a time-out for it.
    requestTimeout: 0,
    connectionsCheckingInterval: Math.ceil(idleTimeoutMs / 6),
    maxHeaderSize: MAX_HEAD_BYTES,
  }, (incoming, outgoing) => {
    const [, functions, version, name] = pathOf(incoming).split("/", 4);
    const worker = functions === "functions" && version === "v1" && options.functions.get(name ?? "");
    if (!worker || NOT_SERVED.has(incoming.method!)) return void others(incoming, outgoing);
    forward(incoming, outgoing, worker, agent).catch((error) => {
      log(`request failed: ${error instanceof Error ? error.stack : error}`);
      outgoing.destroy();
    });
  });
  // Node would close the connection without a word.
  server.on("connect", (_, socket) => {
    socket.end("HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  });
  const inProgress = new Set<ServerResponse>();
  server.on("request", (_, outgoing) => {
    inProgress.add(outgoing);
    outgoing.on("close", () => inProgress.delete(outgoing));
  });
  await listening(server, port);
  return {
    async shutdown() {
      server.close();
      await Promise.all([...inProgress].map((outgoing) => once(outgoing, "close")));
      server.closeAllConnections();
      agent.destroy();
    },
  };
}

async function listening(server: Server, port: number): Promise<void> {
  server.listen(port, "127.0.0.1");
  // It throws what comes as an error meanwhile.
  await once(server, "listening");
}

function pathOf({ url }: IncomingMessage): string {
  return url!.split("?", 1)[0]!;
}

async function answer(
  request: Request,
  client: string,
  { functions, api, console, telegram, clock = systemClock }: ReverseProxyOptions,
): Promise<Response> {
  if (NOT_SERVED.has(request.method)) {
    return errorResponse(405, "method_not_allowed", `${request.method} is not served.`);
  }
  const { pathname } = new URL(request.url);
  const [, room, version, name] = pathname.split("/");
  if (version === "v1" && (room === "rest" || room === "auth")) {
    return await ofApi(request, client, api, clock);
  }
  if (version === "v1" && room === "functions" && name) {
    return errorResponse(404, "not_found", `There is no function named ${name}.`);
  }
  if (room === "console" && console) return await console(request);
  if (room === "emulator" && version === "telegram" && telegram) return await telegram(request);
  if (pathname === DEMO_PAGE_PATH) return demoPage();
  if (pathname === "/") {
    return Response.json({
      name: "EVE Gateway, local stack",
      functions: [...functions.keys()].map((key) => `/functions/v1/${key}`),
      rest: "/rest/v1",
      auth: "/auth/v1",
      ...(console && { console: "/console/" }),
      ...(telegram && { telegram: "/emulator/telegram", page: DEMO_PAGE_PATH }),
    });
  }
  return errorResponse(404, "not_found", `Nothing is served at ${pathname}.`);
}

/** The embedded API has neither a time-out nor a bound for what it is sent. */
async function ofApi(
  request: Request,
  client: string,
  api: ReverseProxyOptions["api"],
  clock: Clock,
): Promise<Response> {
  if (request.body === null) return await api(request, client);
  const limits = { maxBytes: MAX_API_BODY_BYTES, timeoutMs: BODY_TIMEOUT_MS, clock };
  let body: Uint8Array;
  try {
    body = await readBody(request, limits);
  } catch (thrown) {
    const { status, code, publicMessage } = asGatewayError(thrown);
    return errorResponse(status, code, publicMessage);
  }
  const { method, headers, url } = request;
  return await api(new Request(url, { method, headers, body: body.slice() }), client);
}

/** Streams both ways; when the client goes, so does the request to the function. */
async function forward(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  worker: SupervisedProcess,
  agent: Agent,
): Promise<void> {
  // One that is to start late starts now; one that went down is started again by itself.
  if (!worker.url) await worker.start();
  const workerUrl = worker.url;
  if (!workerUrl) return unavailable(outgoing, worker);
  const { hostname, port } = new URL(workerUrl);
  const call = String(++calls);
  const sent = httpRequest({
    agent,
    hostname,
    port,
    method: incoming.method,
    path: incoming.url!.slice("/functions/v1".length),
    headers: {
      ...withoutHopByHop(incoming.headers),
      ...(incoming.headers["transfer-encoding"] !== undefined && { "transfer-encoding": "chunked" }),
      host: new URL(workerUrl).host,
      // The answer is passed on as it comes, so it must come as the client can read it.
      "accept-encoding": "identity",
      "x-forwarded-for": incoming.socket.remoteAddress,
      "x-forwarded-host": incoming.headers.host,
      "x-forwarded-proto": "http",
      [CALL_HEADER]: call,
    },
  });
  const timer = setTimeout(() => {
    endCall(workerUrl, call);
    fail(
      outgoing,
      504,
      "idle_timeout",
      `The function sent nothing for ${FIRST_BYTE_TIMEOUT_MS / 1000} seconds.`,
    );
    sent.destroy();
  }, FIRST_BYTE_TIMEOUT_MS);
  outgoing.on("close", () => {
    clearTimeout(timer);
    if (outgoing.writableFinished) return;
    // The function's server does not tell it as long as nothing has been answered.
    if (!outgoing.headersSent) endCall(workerUrl, call);
    sent.destroy();
  });
  sent.on("response", (response) => {
    clearTimeout(timer);
    if (outgoing.headersSent || outgoing.destroyed) return void response.destroy();
    outgoing.writeHead(response.statusCode!, response.statusMessage, withoutHopByHop(response.headers));
    outgoing.flushHeaders();
    // An answer that breaks off ends the connection: its client must not take it for whole.
    pipeline(response, outgoing, () => {});
  });
  sent.on("error", () => {
    if (!outgoing.headersSent) unavailable(outgoing, worker);
  });
  incoming.pipe(sent);
}

/** Numbers for calls, so that each can be ended by name. */
let calls = 0;

function endCall(workerUrl: string, call: string): void {
  fetch(workerUrl + DISCONNECTED_PATH, { method: "DELETE", headers: { [CALL_HEADER]: call } })
    .then((response) => response.body?.cancel(), () => {});
}

function withoutHopByHop(from: IncomingHttpHeaders): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = { ...from };
  const named = (from.connection ?? "").split(",").map((name) => name.trim().toLowerCase());
  // This server has answered what is expected before a body.
  for (const name of [...HOP_BY_HOP, ...named, "expect"]) delete headers[name];
  return headers;
}

function unavailable(outgoing: ServerResponse, { name }: SupervisedProcess): void {
  const message = `The ${name} is down and being started again: try in a second.`;
  fail(outgoing, 503, "worker_unavailable", message, { "retry-after": RETRY_AFTER_S });
}

function fail(
  outgoing: ServerResponse,
  status: number,
  code: string,
  message: string,
  headers: OutgoingHttpHeaders = {},
): void {
  if (outgoing.headersSent || outgoing.destroyed) return;
  outgoing.writeHead(status, { ...headers, "content-type": "application/json" });
  outgoing.end(JSON.stringify({ code, message }));
}

function errorResponse(status: number, code: string, message: string): Response {
  return Response.json({ code, message }, { status });
}
