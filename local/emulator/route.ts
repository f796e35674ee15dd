/**
 * Which method of the API a URL is for.
 */

import type { ModelMethod } from "./models.ts";

export type ApiMethod = ModelMethod | "getModel" | "listModels";

export interface Route {
  version: "v1" | "v1beta";
  /** Without `models/`; empty for the list. */
  model: string;
  method: ApiMethod;
}

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
  if (version !== "v1" && version !== "v1beta") return undefined;
  const model = decoded(name ?? "");
  if (httpMethod === "GET" && method === undefined) {
    return { version, model, method: name === undefined ? "listModels" : "getModel" };
  }
  const known = POST_METHODS.find((one) => one === method);
  return httpMethod === "POST" && known ? { version, model, method: known } : undefined;
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
