import { type Actor, actorName } from "../contract/actor.ts";
import {
  createFunction,
  type FunctionOptions,
  type FunctionRequest,
  methodNotAllowed,
  notFound,
} from "../http/function_shell.ts";
import { isForm } from "../http/form_body.ts";
import { jsonResponse } from "../http/json_response.ts";
import { sharedAnswers } from "../runtime/shared_answers.ts";
import { chatRoutes } from "./chat_routes.ts";
import { graphRoutes } from "./graph_routes.ts";
import { crawlRoutes } from "./crawl_routes.ts";
import { mediaRoutes } from "./media_routes.ts";
import { openApiDocument } from "./openapi.ts";
import type { ApiDependencies, ApiRoute } from "./route.ts";
import { readJsonForm } from "./upload_body.ts";
import { storageRoutes } from "./storage_routes.ts";
import { visionRoutes } from "./vision_routes.ts";

/** A handful of fields, and metadata of 16 kB. */
const MAX_JSON_BYTES = 256 * 1024;

/** In the order in which they are tried: a file's name may hold slashes. */
export const API_ROUTES: readonly ApiRoute[] = [
  ...storageRoutes,
  ...chatRoutes,
  ...visionRoutes,
  ...graphRoutes,
  ...crawlRoutes,
  ...mediaRoutes,
];

/** The API for what is around the models: files, chats, posts and what their pictures show. Nothing of a body is read before its sender is known. */
export function createApiEndpoint(
  options: FunctionOptions<ApiDependencies>,
): (request: Request) => Promise<Response> {
  const { clock } = options;
  const confirmations = sharedAnswers<unknown>();
  const actors = new WeakMap<FunctionRequest, Actor>();
  async function identified(received: FunctionRequest, { identify }: ApiDependencies): Promise<Actor> {
    const actor = await identify(received.request);
    actors.set(received, actor);
    received.attributes = { "eve.actor": actorName(actor) };
    return actor;
  }
  return createFunction(options, {
    maxBodyBytes: ({ maxBodyBytes }) => maxBodyBytes,
    noteError: (error, received, { noteError }) => noteError?.(error, callerOf(actors.get(received))),
    routes(app, dependencies) {
      app.get(
        "/v1/openapi.json",
        ({ env: { requestId } }) =>
          jsonResponse(200, openApiDocument(API_ROUTES, dependencies.baseUrl), requestId),
      );
      for (const route of API_ROUTES) {
        const takesJson = route.body !== undefined && route.body !== "file";
        app.on(route.method.toUpperCase(), honoPath(route.path), async ({ env: received, req }) => {
          const { request, requestId, traceId } = received;
          const actor = route.isSigned ? null : await identified(received, dependencies);
          const work = received.beginWork(actor === null ? "address" : actorName(actor));
          try {
            const confirmCaller = async () => {
              if (actor?.kind !== "consumer" || actor.token_id === null) return;
              const { consumer_id: consumerId, token_id: tokenId } = actor;
              await confirmations(tokenId, () => dependencies.confirmToken({ consumerId, tokenId }));
            };
            // A signed address acts for nobody: its routes do not ask.
            const context = {
              dependencies,
              actor: actor ?? PROJECT,
              request,
              requestId,
              traceId,
              clock,
              work,
              confirmCaller,
            };
            return await route.serve(context, {
              path: req.param() as Record<string, string>,
              query: route.isSigned ? {} : Object.fromEntries(new URL(request.url).searchParams),
              ...(takesForm(request, route)
                ? await readJsonForm(request, route.formField, {
                  maxBytes: dependencies.maxBodyBytes,
                  maxJsonBytes: route.maxBodyBytes ?? MAX_JSON_BYTES,
                  clock,
                  work,
                  confirmCaller,
                })
                : {
                  body: takesJson
                    ? await received.readJson(work, {
                      maxBytes: route.maxBodyBytes ?? MAX_JSON_BYTES,
                      confirmCaller,
                    })
                    : undefined,
                  files: [],
                }),
            });
          } finally {
            work.end();
          }
        });
      }
      app.all("*", async ({ env: received }) => {
        // A stranger learns nothing of which paths there are.
        await identified(received, dependencies);
        const there = API_ROUTES.filter((route) => patternOf(route.path).test(received.path));
        if (there.length === 0) throw notFound(received);
        throw methodNotAllowed([...new Set(there.map(({ method }) => method.toUpperCase())), "OPTIONS"]);
      });
    },
  });
}

const PROJECT: Actor = { kind: "project" };

function takesForm(request: Request, route: ApiRoute): route is ApiRoute & { formField: string } {
  return route.formField !== undefined && isForm(request.headers.get("content-type") ?? "");
}

/** As the counts of refused requests know them: a consumer, or the project. */
function callerOf(actor: Actor | undefined): { consumerId: string | null } | null {
  switch (actor?.kind) {
    case "consumer":
      return { consumerId: actor.consumer_id };
    case "project":
      return { consumerId: null };
    default:
      return null;
  }
}

/** `{name}` may hold slashes: `/v1/media/{name}/url` -> `/v1/media/:name{.+}/url`. */
function honoPath(path: string): string {
  return path.replace(
    /\{(\w+)\}/g,
    (_, name) => name === "name" || name === "key" ? `:${name}{.+}` : `:${name}`,
  );
}

function patternOf(path: string): RegExp {
  const pattern = path.replace(/[.]/g, "\\.").replace(/\{(name|key)\}/g, ".+").replace(/\{\w+\}/g, "[^/]+");
  return new RegExp(`^${pattern}$`);
}
