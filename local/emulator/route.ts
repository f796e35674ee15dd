/**
 * Which method of the API a URL is for.
 */

import type { ModelMethod } from "./models.ts";

export type ApiMethod =
  | ModelMethod
  | "getModel"
  | "listModels"
  | "listCachedContents"
  | "getCachedContent"
  | "updateCachedContent"
  | "deleteCachedContent";

export interface Route {
  version: "v1" | "v1beta";
  /** Without `models/`; empty for lists, and where the body or what is kept names it. */
  model: string;
  /** Without `cachedContents/`. */
  cachedContent?: string;
  method: ApiMethod;
}

const CACHED = /^\/(v1|v1beta)\/cachedContents(?:\/([^/:]+))?$/;
const CACHED_LIST: Record<string, ApiMethod> = { POST: "createCachedContent", GET: "listCachedContents" };
const CACHED_ONE: Record<string, ApiMethod> = {
  GET: "getCachedContent",
  PATCH: "updateCachedContent",
  DELETE: "deleteCachedContent",
};

const POST_METHODS: ModelMethod[] = [
  "generateContent",
  "streamGenerateContent",
  "countTokens",
  "embedContent",
  "batchEmbedContents",
];

const PATH = /^\/(v1|v1beta)\/models(?:\/([^/:]+)(?::([A-Za-z]+))?)?$/;

/** @returns undefined for what Google's front end answers with a page of HTML. */
export function routeOf(httpMethod: string, pathname: string): Route | undefined {
  const [, version, name, method] = PATH.exec(pathname.replaceAll("%3A", ":")) ?? [];
  if (version !== "v1" && version !== "v1beta") return cachedRoute(httpMethod, pathname);
  const model = decoded(name ?? "");
  if (httpMethod === "GET" && method === undefined) {
    return { version, model, method: name === undefined ? "listModels" : "getModel" };
  }
  const known = POST_METHODS.find((one) => one === method);
  return httpMethod === "POST" && known ? { version, model, method: known } : undefined;
}

function cachedRoute(httpMethod: string, pathname: string): Route | undefined {
  const [, version, id] = CACHED.exec(pathname) ?? [];
  const method = (id === undefined ? CACHED_LIST : CACHED_ONE)[httpMethod];
  if ((version !== "v1" && version !== "v1beta") || method === undefined) return undefined;
  return { version, model: "", method, ...(id !== undefined && { cachedContent: id }) };
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
