import * as z from "zod";
import type { CachedContents as Contents } from "../../contract/cached_content.ts";
import type { Prompt } from "../../contract/content.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { Asked, Unresolved } from "../../contract/request.ts";
import type { ServedBy } from "../../contract/target.ts";
import { jsonResponse } from "../../http/json_response.ts";
import type { Clock } from "../../runtime/clock.ts";
import { targetOf } from "../../stages/stage_name.ts";
import type { RequestContext } from "../endpoint.ts";
import { invalidRequest, listOf, validated } from "../validated.ts";
import { withFiles } from "./files/file_data.ts";
import type { GeminiFiles } from "./files/files.ts";
import { geminiContent } from "./request.ts";
import { camelFields, camelPrompt } from "./spelling.ts";

/** What contents are kept with. */
export interface CachedContents {
  contents: Contents;
  clock: Pick<Clock, "now">;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** Each hour costs the key's owner, so one that a program forgets ends by itself. */
const MAX_TTL_S = 86_400;
const MAX_DISPLAY_NAME = 128;
/** As many as Google gives in a page, and at most. */
const DEFAULT_PAGE = 100;
const MAX_PAGE = 1_000;
const ID = /^[A-Za-z0-9_-]{1,100}$/;

const expiration = {
  ttl: z.string().regex(/^\d{1,9}(?:\.\d{1,9})?s$/, "must be a number of seconds, such as 3600s").optional(),
  expireTime: z.iso.datetime({ offset: true, error: "must be a time as in RFC 3339" }).optional(),
};
const anyObject = z.record(z.string(), z.unknown());
const toCreate = z.looseObject({
  model: z.string("must name a model").regex(/^(?:models\/)?[^/]/, "must name a model").max(200),
  displayName: z.string().max(MAX_DISPLAY_NAME).optional(),
  contents: listOf(geminiContent).optional(),
  systemInstruction: geminiContent.optional(),
  tools: listOf(anyObject).optional(),
  toolConfig: anyObject.optional(),
  ...expiration,
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });
const toUpdate = z.looseObject({ ...expiration }, {
  error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined,
});

/** `POST /v1beta/cachedContents`. */
export async function createCache(
  context: RequestContext,
  asked: Unresolved<Asked>,
  { caches, files }: { caches: CachedContents; files: GeminiFiles | undefined },
): Promise<Response> {
  const { caller, request: { signal } } = context;
  const { model, contents = [], ...content } = validated(toCreate, camelPrompt(await context.readJson()));
  checkExpiration(content, caches.now());
  const servedBy = await context.resolve(targetOf([model]));
  const prompt = await withFiles({ ...content, contents }, context, files);
  const made = await caches.contents.create(
    { ...asked, ...servedBy, prompt },
    { caller, signal, receivedAt: caches.clock.now() },
  );
  return jsonResponse(200, made, asked.id);
}

/** `GET /v1beta/cachedContents`: the caller's own, the newest first. */
export async function listCaches(
  { request, requestId, caller }: RequestContext,
  { contents }: CachedContents,
): Promise<Response> {
  const query = new URL(request.url).searchParams;
  const size = query.get("pageSize") ?? query.get("page_size") ?? "";
  if (!/^\d{0,9}$/.test(size)) {
    throw invalidRequest([{ field: "pageSize", problem: "must be a whole number" }]);
  }
  const after = query.get("pageToken") || query.get("page_token") || null;
  if (after !== null && !ID.test(after)) {
    throw invalidRequest([{ field: "pageToken", problem: "must be the nextPageToken of a page before" }]);
  }
  const page = await contents.list(caller, {
    limit: Math.min(Number(size) || DEFAULT_PAGE, MAX_PAGE),
    after,
  });
  return jsonResponse(200, {
    ...(page.contents.length > 0 && { cachedContents: page.contents }),
    ...(page.next !== null && { nextPageToken: page.next }),
  }, requestId);
}

/** `GET`, `PATCH` and `DELETE` of `/v1beta/cachedContents/{id}`. */
export async function oneCache(
  context: RequestContext,
  id: string,
  { contents, now }: CachedContents,
): Promise<Response> {
  const { request, requestId, caller } = context;
  switch (request.method) {
    case "DELETE":
      await contents.remove(id, caller);
      return jsonResponse(200, {}, requestId);
    case "PATCH": {
      const { ttl, expireTime } = validated(toUpdate, camelFields(await context.readJson()));
      if (ttl === undefined && expireTime === undefined) {
        throw invalidRequest([{
          field: "ttl",
          problem: "is what can be changed of a cache: this, or expireTime",
        }]);
      }
      checkExpiration({ ttl, expireTime }, now());
      const expiration = {
        ...(ttl !== undefined && { ttl }),
        ...(expireTime !== undefined && { expireTime }),
      };
      return jsonResponse(200, await contents.update(id, expiration, caller), requestId);
    }
    default:
      return jsonResponse(200, await contents.find(id, caller), requestId);
  }
}

/**
 * What serves a prompt: where it names a cached content, the keys of that one's project alone.
 * @throws GatewayError `not_found`
 */
export async function cacheNamed<Served extends ServedBy>(
  { cachedContent }: Prompt,
  { caller }: Pick<RequestContext, "caller">,
  servedBy: Served,
  caches: CachedContents | undefined,
): Promise<ServedBy & { cachedContentTokens?: number }> {
  if (cachedContent === undefined) return servedBy;
  if (typeof cachedContent !== "string" || !ID.test(cachedContent.replace(/^cachedContents\//, ""))) {
    throw invalidRequest([{
      field: "cachedContent",
      problem: "must be the name of one, cachedContents/{id}",
    }]);
  }
  if (caches === undefined) throw new GatewayError("not_found", { message: "Nothing is cached here." });
  return await caches.contents.pin(cachedContent, caller, servedBy);
}

function checkExpiration(
  { ttl, expireTime }: { ttl?: string | undefined; expireTime?: string | undefined },
  now: number,
): void {
  const seconds = ttl !== undefined ? Number(ttl.slice(0, -1)) : null;
  const until = expireTime !== undefined ? (Date.parse(expireTime) - now) / 1000 : null;
  if ((seconds ?? until ?? 0) <= MAX_TTL_S) return;
  throw invalidRequest([{
    field: seconds === null ? "expireTime" : "ttl",
    problem: `must be at most ${MAX_TTL_S} seconds from now: extend it while it is used`,
  }]);
}
