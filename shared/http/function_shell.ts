import { Hono } from "hono";
import { TrieRouter } from "hono/router/trie-router";
import { asGatewayError, GatewayError } from "../contract/gateway_error.ts";
import { CanonicalLogLine, type LogAttributes } from "../runtime/canonical_log_line.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { BODY_TIMEOUT_MS, readBody } from "./body.ts";
import { preflight } from "./cors.ts";
import { errorHeaders } from "./error_headers.ts";
import { errorJson } from "./error_json.ts";
import { readFormBody } from "./form_body.ts";
import { type JsonBodyTerms, readJsonBody } from "./json_body.ts";
import { jsonResponse } from "./json_response.ts";
import { traceOf, traceResponse } from "./trace.ts";
import { BODY_COPIES, type Work, WorkBudget } from "./work_budget.ts";

/** What every function gets from its index.ts and from tests. */
export interface FunctionOptions<Dependencies> {
  /** The first part of every path, as hosted functions see it. */
  functionName: string;
  /** Makes the dependencies at the first request; a failure is answered, and the next request tries again. */
  open: () => Dependencies | Promise<Dependencies>;
  clock: Clock;
  newId: () => string;
  log: Log;
}

/** What a function adds to the shell. */
export interface FunctionShell<Dependencies> {
  /** The largest body that is read, in bytes; all bodies in work together are bounded by it too (`WorkBudget`). */
  maxBodyBytes: number | ((dependencies: Dependencies) => number);
  /** Who may read answers in a browser. Absent: every page. Null: none, and OPTIONS is a method like any other. */
  cors?: CorsPolicy | null;
  /** Another address of what a path serves. Absent: each path is its own. @param path below the function's own */
  canonicalPath?: (path: string, request: Request) => string;
  /** Absent: the gateway's own JSON. A request may set another (`FunctionRequest.errorResponse`). */
  errorResponse?: ErrorResponse;
  /** Is given every error that is answered. Must neither throw nor wait. */
  noteError?: (error: GatewayError, received: FunctionRequest, dependencies: Dependencies) => void;
  /** Called once, when the dependencies are there. Paths are those below the function's own. */
  routes: (app: FunctionApp, dependencies: Dependencies) => void;
}

/** A function's routes: `context.env` is the request. What their handlers throw becomes an error response. */
export type FunctionApp = Hono<{ Bindings: FunctionRequest }>;

export type ErrorResponse = (error: GatewayError, requestId: string) => Response;

export interface CorsPolicy {
  /** The answer to a browser's preflight. */
  preflight(request: Request): Response;
  /** The response as the page that asked may have it. */
  forPage(response: Response, request: Request): Response;
}

const EVERY_PAGE: CorsPolicy = { preflight, forPage: (response) => response };

/** One request of a function, from its arrival to its response. */
export class FunctionRequest {
  /** Made by us; an endpoint may put the client's own in its place. */
  requestId: string;
  errorResponse: ErrorResponse;
  /** More for the request's log line. */
  attributes: LogAttributes = {};
  readonly request: Request;
  /** Below the function's own: `/` or `/openai/v1/models`. */
  readonly path: string;
  /** `Clock.now()`. */
  readonly receivedAt: number;
  readonly logLine: CanonicalLogLine;
  /** 32 hexadecimal digits: the client's trace, or one that begins here. */
  readonly traceId: string;
  readonly #clock: Clock;
  #caps: Caps | null = null;

  constructor(
    request: Request,
    parts:
      & Pick<FunctionRequest, "path" | "requestId" | "receivedAt" | "logLine" | "traceId" | "errorResponse">
      & {
        clock: Clock;
      },
  ) {
    this.request = request;
    this.path = parts.path;
    this.requestId = parts.requestId;
    this.receivedAt = parts.receivedAt;
    this.logLine = parts.logLine;
    this.traceId = parts.traceId;
    this.errorResponse = parts.errorResponse;
    this.#clock = parts.clock;
  }

  limitTo(caps: Caps): void {
    this.#caps = caps;
  }

  /** Charges the request's work to a caller, by a unique name. The work must be ended. */
  beginWork(caller: string): Work {
    return this.#known().budget.begin(caller);
  }

  /** The body as JSON, for a caller whose credential has been verified. @throws as readJsonBody */
  readJson(
    work: Work,
    { maxBytes = this.#known().maxBytes, confirmCaller }: Partial<
      Pick<JsonBodyTerms, "maxBytes" | "confirmCaller">
    > = {},
  ): Promise<unknown> {
    return readJsonBody(this.request, { maxBytes, clock: this.#clock, work, confirmCaller });
  }

  /** The body as a multipart form, for a caller whose credential has been verified. @throws as readFormBody */
  readForm(work: Work, { confirmCaller }: Pick<JsonBodyTerms, "confirmCaller">): Promise<FormData> {
    const { maxBytes } = this.#known();
    return readFormBody(this.request, { maxBytes, clock: this.#clock, work, confirmCaller });
  }

  /** The body's bytes. @param work absent: they are charged to nobody @throws as readBody */
  readBytes(
    work?: Work,
    { confirmCaller }: Pick<JsonBodyTerms, "confirmCaller"> = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { maxBytes } = this.#known();
    return readBody(this.request, {
      maxBytes,
      timeoutMs: BODY_TIMEOUT_MS,
      clock: this.#clock,
      onBytes: (count) => work?.add(count * BODY_COPIES),
      onLarge: confirmCaller,
    }) as Promise<Uint8Array<ArrayBuffer>>;
  }

  #known(): Caps {
    if (this.#caps === null) throw new TypeError("a request that has not come to a route");
    return this.#caps;
  }
}

/** What one function instance may take for bodies. */
interface Caps {
  maxBytes: number;
  budget: WorkBudget;
}

/**
 * What all functions have in common. The dependencies are made at the first request. Each request is routed, answered, and
 * has one canonical log line; what is thrown anywhere becomes an error response, and what nobody foresaw the fixed
 * `internal`, its text in the log alone.
 */
export function createFunction<Dependencies>(
  options: FunctionOptions<Dependencies>,
  shell: FunctionShell<Dependencies>,
): (request: Request) => Promise<Response> {
  const { clock, log, functionName } = options;
  const cors = shell.cors === undefined ? EVERY_PAGE : shell.cors;
  const canonicalPath = shell.canonicalPath ?? ((path) => path);
  let opened: Opened<Dependencies> | null = null;
  let opening: Promise<Opened<Dependencies>> | null = null;

  async function open(): Promise<Opened<Dependencies>> {
    const dependencies = await options.open();
    const { maxBodyBytes } = shell;
    const maxBytes = typeof maxBodyBytes === "number" ? maxBodyBytes : maxBodyBytes(dependencies);
    const app: FunctionApp = new Hono({
      // An instance answers many requests: hono's presets look through all routes for each (`quick`), or build one large
      // expression of them first, which takes none with both `/openai/*` and `/openai/v1/models/:id{.+}` (the others).
      router: new TrieRouter(),
      getPath: (_request, given) => given?.env?.path ?? "/",
    });
    app.onError((thrown) => {
      throw thrown;
    });
    app.notFound(({ env }) => {
      throw notFound(env);
    });
    shell.routes(app, dependencies);
    return opened = { dependencies, app, caps: { maxBytes, budget: new WorkBudget(maxBytes) } };
  }

  return async (asked) => {
    // Answered as GET is, without its body.
    if (asked.method === "HEAD") return await headOf(new Request(asked, { method: "GET" }));
    return await answered(asked);
  };

  async function headOf(request: Request): Promise<Response> {
    const { body, status, headers } = await answered(request);
    await body?.cancel();
    return new Response(null, { status, headers });
  }

  async function answered(request: Request): Promise<Response> {
    if (cors !== null && request.method === "OPTIONS") return cors.preflight(request);
    const receivedAt = clock.now();
    const trace = traceOf(request);
    const received = new FunctionRequest(request, {
      path: canonicalPath(pathWithin(functionName, request.url), request),
      requestId: options.newId(),
      receivedAt,
      logLine: new CanonicalLogLine({ trace, log, clock, receivedAt }),
      traceId: trace.traceId,
      errorResponse: shell.errorResponse ?? errorResponse,
      clock,
    });
    let error: GatewayError | null = null;
    let response: Response;
    try {
      const { app, caps } = opened ?? await (opening ??= open().finally(() => opening = null));
      received.limitTo(caps);
      response = await app.fetch(request, received);
    } catch (thrown) {
      error = asGatewayError(thrown);
      if (opened !== null) shell.noteError?.(error, received, opened.dependencies);
      response = received.errorResponse(error, received.requestId);
    }
    if (cors !== null) response = cors.forPage(response, request);
    if (trace.parentSpanId !== null) response.headers.set("traceresponse", traceResponse(trace));
    received.logLine.responded(response.status, {
      request_id: received.requestId,
      "eve.outcome": error === null ? "succeeded" : "failed",
      "error.type": error?.code,
      // What a client did wrong may repeat its words.
      detail: error !== null && error.status >= 500 ? error.detail ?? undefined : undefined,
      ...received.attributes,
    });
    return response;
  }
}

interface Opened<Dependencies> {
  dependencies: Dependencies;
  app: FunctionApp;
  caps: Caps;
}

/** An error as the gateway's own JSON. */
export function errorResponse(error: GatewayError, requestId: string): Response {
  return jsonResponse(error.status, { error: errorJson(error, requestId) }, requestId, errorHeaders(error));
}

export function notFound({ path }: FunctionRequest): GatewayError {
  return new GatewayError("not_found", { details: { path } });
}

/** @param methods those that there are at this address */
export function methodNotAllowed(methods: readonly string[]): GatewayError {
  return new GatewayError("method_not_allowed", { headers: { allow: methods.join(", ") } });
}

/** The path below the function's own, without a slash at its end: `/` for the function itself. */
export function pathWithin(functionName: string, url: string): string {
  const segments = pathOf(url).split("/").filter((segment) => segment !== "");
  return `/${segments.slice(segments.indexOf(functionName) + 1).join("/")}`;
}

/** Plain addresses, as nearly all are, in which parsing would change nothing; others are parsed. */
const PLAIN_ADDRESS = /^https?:\/\/[^/?#]+((?:\/[\w~:-][\w~:.-]*)*\/?)(?:\?[^#]*)?$/;

function pathOf(url: string): string {
  return PLAIN_ADDRESS.exec(url)?.[1] ?? new URL(url).pathname;
}
