import { type Caller, chargedName } from "../contract/caller.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Gateway } from "../contract/gateway.ts";
import { asGatewayError, GatewayError } from "../contract/gateway_error.ts";
import type { Log } from "../runtime/log.ts";
import { CanonicalLogLine } from "../runtime/canonical_log_line.ts";
import { preflight } from "../http/cors.ts";
import { readJsonBody } from "../http/json_body.ts";
import { traceOf, traceResponse } from "../http/trace.ts";
import { WorkBudget } from "../http/work_budget.ts";
import type { Endpoint, RequestContext } from "./endpoint.ts";
import { nativeErrorResponse } from "./native/answer.ts";

/** What the router works with. */
export interface RouterDependencies {
  endpoints: readonly Endpoint[];
  /** Throws GatewayError for a caller who may not call. */
  identify(request: Request): Promise<Caller>;
  gateway: Gateway;
  maxBodyBytes: number;
  /** Is given every error that is answered; caller null: nobody was recognised. Must neither throw nor wait. */
  noteError?(error: GatewayError, caller: Caller | null): void;
}

export interface RouterOptions {
  /** The first part of every path, as hosted functions see it. */
  functionName: string;
  /** Makes the dependencies at the first request; a failure is answered, and the next request tries again. */
  open: () => RouterDependencies;
  clock: Clock;
  newId: () => string;
  log: Log;
}

/**
 * Takes every request: finds its endpoint, identifies the caller, and answers errors in that endpoint's own form.
 * Nothing of the body is read before the caller is known.
 */
export function createRouter(options: RouterOptions): (request: Request) => Promise<Response> {
  let dependencies: RouterDependencies | null = null;
  let budget: WorkBudget | null = null;
  const confirmations: Confirmations = new Map();
  return async (request) => {
    if (request.method === "OPTIONS") return preflight(request);
    const { clock, log } = options;
    const receivedAt = clock.now();
    const trace = traceOf(request);
    const logLine = new CanonicalLogLine({ trace, log, clock, receivedAt });
    const received: ReceivedRequest = {
      requestId: options.newId(),
      receivedAt,
      endpoint: null,
      caller: null,
      logLine,
    };
    let error: GatewayError | null = null;
    let response: Response;
    try {
      dependencies ??= options.open();
      budget ??= new WorkBudget(dependencies.maxBodyBytes);
      response = await receive(dependencies, { budget, confirmations }, options, request, received);
    } catch (thrown) {
      error = asGatewayError(thrown);
      dependencies?.noteError?.(error, received.caller);
      response = (received.endpoint?.errorResponse ?? nativeErrorResponse)(error, received.requestId);
    }
    if (trace.parentSpanId !== null) response.headers.set("traceresponse", traceResponse(trace));
    logLine.responded(response.status, {
      request_id: received.requestId,
      "eve.door": received.endpoint?.name,
      "eve.consumer": received.caller?.name,
      "eve.outcome": error === null ? "succeeded" : "failed",
      "error.type": error?.code,
      // What a client did wrong may repeat its words.
      detail: error !== null && error.status >= 500 ? error.detail : undefined,
    });
    return response;
  };
}

/** What an error response needs, learned while the request is received. */
interface ReceivedRequest {
  requestId: string;
  receivedAt: number;
  endpoint: Endpoint | null;
  caller: Caller | null;
  logLine: CanonicalLogLine;
}

async function receive(
  dependencies: RouterDependencies,
  { budget, confirmations }: { budget: WorkBudget; confirmations: Confirmations },
  { clock, functionName }: RouterOptions,
  request: Request,
  received: ReceivedRequest,
): Promise<Response> {
  const path = pathWithin(functionName, request.url);
  const endpoint = dependencies.endpoints.find((candidate) => candidate.methodsAt(path) !== null);
  if (endpoint === undefined) throw new GatewayError("not_found", { details: { path } });
  received.endpoint = endpoint;
  const methods = endpoint.methodsAt(path) ?? [];
  if (!methods.includes(request.method)) {
    throw new GatewayError("method_not_allowed", { headers: { allow: [...methods, "OPTIONS"].join(", ") } });
  }
  const caller = await dependencies.identify(request);
  received.caller = caller;
  const { gateway } = dependencies;
  const { receivedAt, logLine } = received;
  const work = budget.begin(chargedName(caller));
  const invokeContext = {
    caller,
    signal: request.signal,
    receivedAt,
    logLine,
    onStreamEnd: () => work.end(),
  };
  const confirmCaller = confirmation(caller, gateway, confirmations);
  let streams = false;
  const context: RequestContext = {
    request,
    path,
    caller,
    requestId: received.requestId,
    adoptRequestId: (id) => {
      received.requestId = id;
      context.requestId = id;
    },
    readJson: () =>
      readJsonBody(request, { maxBytes: dependencies.maxBodyBytes, clock, work, confirmCaller }),
    confirmCaller,
    invoke: (asked) => gateway.invoke(asked, invokeContext),
    stream: (asked) => {
      streams = true;
      return gateway.stream(asked, invokeContext);
    },
    embed: (asked) => gateway.embed(asked, invokeContext),
    countTokens: (asked) => gateway.countTokens(asked, caller),
    models: () => gateway.models(caller),
  };
  try {
    return await endpoint.answer(context);
  } catch (thrown) {
    streams = false;
    throw thrown;
  } finally {
    // The request is needed until the last piece of a stream has gone.
    if (!streams) work.end();
  }
}

/** Questions under way, by token. */
type Confirmations = Map<string, Promise<unknown>>;

/**
 * A notebook's token is verified without the database, which alone knows whether it was revoked; the other
 * credentials were checked there just now. Requests that come while the question is under way share its answer.
 */
function confirmation(caller: Caller, gateway: Gateway, confirmations: Confirmations): () => Promise<void> {
  let asked: Promise<unknown> | null = null;
  return async () => {
    const { kind, tokenId } = caller;
    if (kind !== "notebook" || tokenId === null) return;
    await (asked ??= confirmations.get(tokenId) ?? ask(tokenId));
  };

  function ask(tokenId: string): Promise<unknown> {
    const answer = gateway.models(caller).finally(() => confirmations.delete(tokenId));
    confirmations.set(tokenId, answer);
    return answer;
  }
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
