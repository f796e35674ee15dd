import type { Clock } from "../runtime/clock.ts";
import { asGatewayError, GatewayError } from "../contract/gateway_error.ts";
import type { Log } from "../runtime/log.ts";
import { pathWithin } from "../endpoints/router.ts";
import { nativeErrorResponse } from "../endpoints/native/answer.ts";
import { readJsonBody } from "../http/json_body.ts";
import { jsonResponse } from "../http/json_response.ts";
import { WorkBudget } from "../http/work_budget.ts";
import { consumerRoutes } from "./consumer_routes.ts";
import { type AllowedOrigins, forOrigin, preflightFor } from "./origins.ts";
import { playgroundRoutes } from "./playground_routes.ts";
import { providerRoutes } from "./provider_routes.ts";
import { readingRoutes } from "./reading_routes.ts";
import type { AdminDependencies, Route } from "./route.ts";

export interface AdminEndpointOptions {
  /** The first part of every path, as hosted functions see it. */
  functionName: string;
  /** Makes the dependencies at the first request; a failure is answered, and the next request tries again. */
  open: () => AdminDependencies;
  /** Which pages in a browser may call. */
  origins: () => AllowedOrigins;
  clock: Clock;
  newId: () => string;
  log: Log;
}

/** Prompts of the playground come with pictures; everything else is a handful of fields. */
const MAX_BODY_BYTES = 10 * 1024 * 1024;

const ROUTES: readonly Route[] = [
  ...providerRoutes,
  ...readingRoutes,
  ...consumerRoutes,
  ...playgroundRoutes,
];

/**
 * The administrators' API. Nothing of a request is read before its sender is known to be one, and no answer holds a key of a
 * provider; a consumer's secret is in the one answer that made it.
 */
export function createAdminEndpoint(options: AdminEndpointOptions): (request: Request) => Promise<Response> {
  let dependencies: AdminDependencies | null = null;
  const budget = new WorkBudget(MAX_BODY_BYTES);
  return async (request) => {
    const origins = options.origins();
    if (request.method === "OPTIONS") return preflightFor(request, origins);
    const requestId = options.newId();
    try {
      dependencies ??= options.open();
      return forOrigin(await receive(request, dependencies, budget, options, requestId), request, origins);
    } catch (thrown) {
      const error = asGatewayError(thrown);
      if (error.status >= 500) {
        const { code, detail } = error;
        options.log("error", "admin_request_failed", { request_id: requestId, code, detail });
      }
      return forOrigin(nativeErrorResponse(error, requestId), request, origins);
    }
  };
}

async function receive(
  request: Request,
  dependencies: AdminDependencies,
  budget: WorkBudget,
  { clock, functionName, log }: AdminEndpointOptions,
  requestId: string,
): Promise<Response> {
  const administrator = await dependencies.identify(request);
  const path = pathWithin(functionName, request.url);
  const here = ROUTES.filter((each) => rest(each.path, path) !== null);
  if (here.length === 0) throw new GatewayError("not_found", { details: { path } });
  const route = here.find(({ method }) => method === request.method);
  if (route === undefined) {
    const allow = [...here.map(({ method }) => method), "OPTIONS"].join(", ");
    throw new GatewayError("method_not_allowed", { headers: { allow } });
  }
  const work = budget.begin(administrator.id ?? "project");
  try {
    const asked = route.method === "GET"
      ? Object.fromEntries(new URL(request.url).searchParams)
      : await readJsonBody(request, { maxBytes: MAX_BODY_BYTES, clock, work });
    if (route.method === "POST") {
      log("info", "admin_action", {
        request_id: requestId,
        path,
        administrator: administrator.id ?? "project",
      });
    }
    const context = { dependencies, administrator, requestId, signal: request.signal };
    const answer = await route.serve(context, asked, rest(route.path, path) ?? "");
    return answer instanceof Response ? answer : jsonResponse(200, answer, requestId);
  } finally {
    work.end();
  }
}

/** The part of the path in the place of a route's `*`, empty where the route has none; null: the path is not the route's. */
function rest(route: string, path: string): string | null {
  if (!route.endsWith("/*")) return route === path ? "" : null;
  const head = route.slice(0, -1);
  const tail = path.startsWith(head) ? path.slice(head.length) : "";
  return tail !== "" && !tail.includes("/") ? decodeURIComponent(tail) : null;
}
