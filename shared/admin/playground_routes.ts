import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import { type AdminDependencies, route } from "./route.ts";

/** Headers of llm-invoke's answer that a page shows. */
const PASSED_ON = /^(content-type|retry-after|x-ratelimit-.*|x-eve-.*)$/;

/**
 * Calls of models out of the playground. A session is no credential of llm-invoke, and a secret key has no place in a browser:
 * so the call goes through here, with the project's key, and its record says whose it was.
 */
export const playgroundRoutes = [
  route(
    "POST",
    "/invoke",
    z.looseObject({ metadata: z.record(z.string(), z.unknown()).optional() }),
    async ({ dependencies, administrator, signal }, asked) => {
      const response = await dependencies.invoke("", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          ...asked,
          metadata: { ...asked.metadata, administrator: administrator.name },
        }),
        signal,
      });
      return passedOn(response);
    },
  ),

  route("GET", "/jobs/:id", z.strictObject({}), async ({ dependencies, signal }, _asked, id) => {
    await requireProjects(dependencies, id);
    return passedOn(await dependencies.invoke(`/jobs/${encodeURIComponent(id)}`, { signal }));
  }),

  // A file that the gateway stores: a page cannot put a credential into an element's address.
  route("GET", "/job-content/:id", z.strictObject({}), async ({ dependencies, signal }, _asked, id) => {
    await requireProjects(dependencies, id);
    return passedOn(await dependencies.invoke(`/jobs/${encodeURIComponent(id)}/content`, { signal }));
  }),
];

/** Calls go out with the project's key, which is shown every caller's jobs; what others were answered is not the playground's. */
async function requireProjects({ jobSearch }: AdminDependencies, id: string): Promise<void> {
  const found = z.uuid().safeParse(id).success ? await jobSearch.job(id) : null;
  if (found?.job.consumer !== null) throw new GatewayError("not_found");
}

function passedOn(response: Response): Response {
  const headers = new Headers({ "cache-control": "no-store", "x-content-type-options": "nosniff" });
  for (const [name, value] of response.headers) if (PASSED_ON.test(name)) headers.set(name, value);
  return new Response(response.body, { status: response.status, headers });
}
