import { Hono } from "hono";
import { actorName } from "../contract/actor.ts";
import { asGatewayError, GatewayError } from "../contract/gateway_error.ts";
import { preflight } from "../http/cors.ts";
import { errorHeaders } from "../http/error_headers.ts";
import { errorJson } from "../http/error_json.ts";
import { readJsonBody } from "../http/json_body.ts";
import { jsonResponse } from "../http/json_response.ts";
import { WorkBudget } from "../http/work_budget.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { mediaRoutes } from "./media_routes.ts";
import { openApiDocument } from "./openapi.ts";
import type { ApiDependencies, ApiRoute } from "./route.ts";
import { storageRoutes } from "./storage_routes.ts";

export interface ApiEndpointOptions {
  /** The first part of every path, as hosted functions see it. */
  functionName: string;
  /** Puts the dependencies together, at the first request; a failure is answered, and tried again by the next request. */
  open: () => ApiDependencies | Promise<ApiDependencies>;
  clock: Clock;
  newId: () => string;
  log: Log;
}

/** A handful of fields, and metadata of 16 kB. */
const MAX_JSON_BYTES = 256 * 1024;

/** In the order in which they are tried: a file's name may hold slashes. */
export const API_ROUTES: readonly ApiRoute[] = [...storageRoutes, ...mediaRoutes];

interface Variables {
  requestId: string;
}

/** The API for what is around the models: files so far. Nothing of a body is read before its sender is known. */
export function createApiEndpoint(options: ApiEndpointOptions): (request: Request) => Promise<Response> {
  const { clock, log } = options;
  let dependencies: Promise<ApiDependencies> | null = null;
  let budget: WorkBudget | null = null;
  const opened = (): Promise<ApiDependencies> => {
    dependencies ??= Promise.resolve().then(options.open);
    dependencies.catch(() => dependencies = null);
    return dependencies;
  };
  const app = new Hono<{ Variables: Variables }>().basePath(`/${options.functionName}`);

  app.use("*", async (context, next) => {
    context.set("requestId", options.newId());
    if (context.req.method === "OPTIONS") return preflight(context.req.raw);
    await next();
  });
  app.get("/v1/openapi.json", async (context) => {
    const { baseUrl } = await opened();
    return jsonResponse(200, openApiDocument(API_ROUTES, baseUrl), context.get("requestId"));
  });
  for (const route of API_ROUTES) {
    app.on(route.method.toUpperCase(), honoPath(route.path), async (context) => {
      const known = await opened();
      budget ??= new WorkBudget(known.maxBodyBytes);
      const request = context.req.raw;
      const actor = route.isSigned ? null : await known.identify(request);
      const work = budget.begin(actor === null ? "address" : actorName(actor));
      try {
        const takesJson = route.body !== undefined && route.body !== "file";
        return await route.serve({
          dependencies: known,
          // A signed address acts for nobody: its routes do not ask.
          actor: actor ?? { kind: "project" },
          request,
          requestId: context.get("requestId"),
          clock,
          work,
        }, {
          path: context.req.param() as Record<string, string>,
          query: route.isSigned ? {} : Object.fromEntries(new URL(request.url).searchParams),
          body: takesJson
            ? await readJsonBody(request, { maxBytes: MAX_JSON_BYTES, clock, work })
            : undefined,
        });
      } finally {
        work.end();
      }
    });
  }
  app.all("*", async (context) => {
    // A stranger learns nothing of which paths there are.
    await (await opened()).identify(context.req.raw);
    const { pathname } = new URL(context.req.url);
    const allowed = API_ROUTES.filter((route) => patternOf(options.functionName, route.path).test(pathname));
    if (allowed.length === 0) throw new GatewayError("not_found");
    const allow = [...new Set(allowed.map(({ method }) => method.toUpperCase())), "OPTIONS"].join(", ");
    throw new GatewayError("method_not_allowed", { headers: { allow } });
  });
  app.onError((thrown, context) => {
    const error = asGatewayError(thrown);
    const requestId = context.get("requestId") ?? options.newId();
    if (error.status >= 500 && error.status !== 507) {
      log("error", "api_request_failed", { request_id: requestId, code: error.code, detail: error.detail });
    }
    return jsonResponse(error.status, { error: errorJson(error, requestId) }, requestId, errorHeaders(error));
  });
  return async (request) => await app.fetch(request);
}

/** `{name}` may hold slashes: `/v1/media/{name}/url` -> `/v1/media/:name{.+}/url`. */
function honoPath(path: string): string {
  return path.replace(
    /\{(\w+)\}/g,
    (_, name) => name === "name" || name === "key" ? `:${name}{.+}` : `:${name}`,
  );
}

function patternOf(functionName: string, path: string): RegExp {
  const pattern = path.replace(/[.]/g, "\\.").replace(/\{(name|key)\}/g, ".+").replace(/\{\w+\}/g, "[^/]+");
  return new RegExp(`^/${functionName}${pattern}$`);
}
