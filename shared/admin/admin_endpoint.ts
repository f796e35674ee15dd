import type { Administrator } from "../contract/caller.ts";
import { PROJECT_CALLER } from "../contract/note_error.ts";
import {
  createFunction,
  type FunctionOptions,
  type FunctionRequest,
  methodNotAllowed,
  notFound,
} from "../http/function_shell.ts";
import { jsonResponse } from "../http/json_response.ts";
import { cacheRoutes } from "./cache_routes.ts";
import { chatRoutes } from "./chat_routes.ts";
import { consumerRoutes } from "./consumer_routes.ts";
import { type AllowedOrigins, forOrigin, preflightFor } from "./origins.ts";
import { jobRoutes } from "./job_routes.ts";
import { keyRoutes } from "./key_routes.ts";
import { playgroundRoutes } from "./playground_routes.ts";
import { providerRoutes } from "./provider_routes.ts";
import { readingRoutes } from "./reading_routes.ts";
import type { AdminDependencies, Route } from "./route.ts";
import { tenantRoutes } from "./tenant_routes.ts";
import { webhookRoutes } from "./webhook_routes.ts";

export interface AdminEndpointOptions extends FunctionOptions<AdminDependencies> {
  /** Which pages in a browser may call. */
  origins: () => AllowedOrigins;
}

/** Prompts of the playground come with pictures; everything else is a handful of fields. */
const MAX_BODY_BYTES = 10 * 1024 * 1024;

export const ADMIN_ROUTES: readonly Route[] = [
  ...providerRoutes,
  ...readingRoutes,
  ...keyRoutes,
  ...consumerRoutes,
  ...tenantRoutes,
  ...cacheRoutes,
  ...chatRoutes,
  ...playgroundRoutes,
  ...webhookRoutes,
  ...jobRoutes,
];

/**
 * The administrators' API. Nothing of a request is read before its sender is known to be one, and no answer holds a key of a
 * provider; a consumer's secret is in the one answer that made it.
 */
export function createAdminEndpoint(options: AdminEndpointOptions): (request: Request) => Promise<Response> {
  const { origins, log } = options;
  const administrators = new WeakMap<FunctionRequest, Administrator>();
  async function identified(
    received: FunctionRequest,
    { identify }: AdminDependencies,
  ): Promise<Administrator> {
    const administrator = await identify(received.request);
    administrators.set(received, administrator);
    received.attributes = { "eve.administrator": nameOf(administrator) };
    return administrator;
  }
  return createFunction(options, {
    maxBodyBytes: MAX_BODY_BYTES,
    // A signed-in user is no consumer.
    noteError: (error, received, { noteError }) =>
      noteError?.(error, administrators.get(received)?.id === null ? PROJECT_CALLER : null),
    cors: {
      preflight: (request) => preflightFor(request, origins()),
      forPage: (response, request) => forOrigin(response, request, origins()),
    },
    routes(app, dependencies) {
      for (const [path, routes] of Map.groupBy(ADMIN_ROUTES, (route) => route.path)) {
        app.all(path, async ({ env: received, req }) => {
          const administrator = await identified(received, dependencies);
          const route = routes.find(({ method }) => method === req.method);
          if (route === undefined) throw methodNotAllowed([...routes.map(({ method }) => method), "OPTIONS"]);
          const { request, requestId, path } = received;
          const name = nameOf(administrator);
          const work = received.beginWork(name);
          try {
            const asked = route.method === "GET"
              ? Object.fromEntries(new URL(request.url).searchParams)
              : await received.readJson(work);
            if (route.method === "POST") {
              log("info", "admin_action", { request_id: requestId, path, administrator: name });
            }
            const context = { dependencies, administrator, requestId, signal: request.signal };
            const answer = await route.serve(context, asked, req.param("id") ?? "");
            return answer instanceof Response ? answer : jsonResponse(200, answer, requestId);
          } finally {
            work.end();
          }
        });
      }
      // A stranger learns nothing of which paths there are.
      app.all("*", async ({ env: received }) => {
        await identified(received, dependencies);
        throw notFound(received);
      });
    },
  });
}

const nameOf = ({ id }: Administrator) => id ?? "project";
