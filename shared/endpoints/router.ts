import { type Caller, chargedName } from "../contract/caller.ts";
import type { Gateway } from "../contract/gateway.ts";
import type { GatewayError } from "../contract/gateway_error.ts";
import type { CacheOutcome } from "../contract/request.ts";
import type { ResolveTarget } from "../contract/target.ts";
import {
  createFunction,
  type FunctionOptions,
  type FunctionRequest,
  methodNotAllowed,
} from "../http/function_shell.ts";
import { BODY_COPIES } from "../http/work_budget.ts";
import { sharedAnswers } from "../runtime/shared_answers.ts";
import { canonicalPath } from "./aliases.ts";
import type { Endpoint, EndpointRoute, RequestContext } from "./endpoint.ts";
import { cacheTtlOf } from "./eve_options.ts";

/** What the router works with. */
export interface RouterDependencies {
  endpoints: readonly Endpoint[];
  /** Throws GatewayError for a caller who may not call. */
  identify(request: Request): Promise<Caller>;
  resolve: ResolveTarget;
  gateway: Gateway;
  maxBodyBytes: number;
  /** The job that a request is the run of; absent or null: it is a client's own. */
  jobOf?(request: Request): string | null;
  /** Is given every error that is answered; caller null: nobody was recognised. Must neither throw nor wait. */
  noteError?(error: GatewayError, caller: Caller | null): void;
}

/**
 * Takes every request: finds its endpoint, identifies the caller, and answers errors in that endpoint's own form.
 * Nothing of the body is read before the caller is known.
 */
export function createRouter(
  options: FunctionOptions<RouterDependencies>,
): (request: Request) => Promise<Response> {
  const confirmations: Confirmations = sharedAnswers();
  const callers = new WeakMap<FunctionRequest, Caller>();
  return createFunction(options, {
    maxBodyBytes: ({ maxBodyBytes }) => maxBodyBytes,
    canonicalPath,
    noteError: (error, received, { noteError }) => noteError?.(error, callers.get(received) ?? null),
    routes(app, dependencies) {
      for (const endpoint of dependencies.endpoints) {
        for (const route of endpoint.routes) {
          app.all(route.path, async ({ env: received, req }) => {
            received.errorResponse = endpoint.errorResponse;
            received.attributes = { "eve.endpoint": endpoint.name };
            const methods = typeof route.methods === "function"
              ? route.methods(received.path)
              : route.methods;
            if (!methods.includes(req.method)) throw methodNotAllowed([...methods, "OPTIONS"]);
            const caller = await route.callerOfAddress?.(received.request) ??
              await dependencies.identify(received.request);
            callers.set(received, caller);
            received.attributes["eve.consumer"] = caller.name;
            return await serve(
              dependencies,
              route,
              received,
              caller,
              confirmations,
              (name) => req.param(name),
            );
          });
        }
      }
    },
  });
}

async function serve(
  { gateway, resolve, jobOf }: RouterDependencies,
  route: EndpointRoute,
  received: FunctionRequest,
  caller: Caller,
  confirmations: Confirmations,
  param: (name: string) => string | undefined,
): Promise<Response> {
  const { request, path, receivedAt, logLine } = received;
  const work = received.beginWork(chargedName(caller));
  let cache: CacheOutcome | null = null;
  const invokeContext = {
    caller,
    signal: request.signal,
    receivedAt,
    logLine,
    onStreamEnd: () => work.end(),
    noteCache: (outcome: CacheOutcome) => void (cache = outcome),
  };
  /** What every endpoint takes as a header, unless the body has said it. */
  const withCache = <Asked extends { cacheTtlS?: number | null }>(asked: Asked): Asked => {
    const cacheTtlS = asked.cacheTtlS ?? cacheTtlOf(request);
    return cacheTtlS === null ? asked : { ...asked, cacheTtlS };
  };
  const confirmCaller = confirmation(caller, gateway, confirmations);
  let streams = false;
  const context: RequestContext = {
    request,
    path,
    param: (name) => param(name) ?? "",
    caller,
    jobId: jobOf?.(request) ?? null,
    requestId: received.requestId,
    adoptRequestId: (id) => {
      received.requestId = id;
      context.requestId = id;
    },
    readJson: () => received.readJson(work, { confirmCaller }),
    readForm: () => received.readForm(work, { confirmCaller }),
    readBytes: () => received.readBytes(work, { confirmCaller }),
    takeMemory: (bytes) => work.add(bytes * BODY_COPIES),
    confirmCaller,
    resolve: (target) => resolve(target, caller),
    invoke: (asked, as = caller) => gateway.invoke(withCache(asked), { ...invokeContext, caller: as }),
    stream: (asked, as = caller) => {
      streams = true;
      return gateway.stream(withCache(asked), { ...invokeContext, caller: as });
    },
    embed: (asked) => gateway.embed(withCache(asked), invokeContext),
    countTokens: (asked) => gateway.countTokens(asked, caller),
    models: () => gateway.models(caller),
  };
  try {
    const response = await route.serve(context);
    // A stream has begun by now, so what the cache had to do with it is known.
    if (cache !== null) response.headers.set("x-eve-cache", cacheHeader(cache));
    return response;
  } catch (thrown) {
    streams = false;
    throw thrown;
  } finally {
    // The request is needed until the last piece of a stream has gone.
    if (!streams) work.end();
  }
}

/** As in RFC 9211, in words that say what to do: its age, how long it stays, and the key to flush it by. */
function cacheHeader(outcome: CacheOutcome): string {
  switch (outcome.status) {
    case "hit":
      return `hit; age=${outcome.ageS}; ttl=${outcome.leftS}; key=${outcome.key}`;
    case "miss":
      return `miss${outcome.stored === true ? "; stored" : ""}; key=${outcome.key}`;
    case "bypass":
      return `bypass; reason=${outcome.reason}`;
  }
}

/** By token. */
type Confirmations = ReturnType<typeof sharedAnswers<unknown>>;

/**
 * A notebook's token is verified without the database, which alone knows whether it was revoked; the other
 * credentials were checked there just now. Requests that come while the question is under way share its answer.
 */
function confirmation(caller: Caller, gateway: Gateway, confirmations: Confirmations): () => Promise<void> {
  let asked: Promise<unknown> | null = null;
  return async () => {
    const { kind, tokenId } = caller;
    if (kind !== "notebook" || tokenId === null) return;
    await (asked ??= confirmations(tokenId, () => gateway.models(caller)));
  };
}
