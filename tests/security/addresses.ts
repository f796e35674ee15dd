/**
 * Every address of every function, as the functions' own tables of routes have them: a new route is tried by every stranger without
 * anybody's doing. What a table does not say (the addresses of functions that have four of them) is read from their sources.
 */
import { GEMINI_METHODS } from "../../shared/endpoints/gemini/route.ts";
import { ADMIN_ROUTES } from "../../shared/admin/admin_endpoint.ts";
import { API_ROUTES } from "../../shared/api/api_endpoint.ts";
import type { ApiRoute } from "../../shared/api/route.ts";
import { openCalls } from "../../shared/calls/open_calls.ts";
import type { FunctionName } from "../../shared/runtime/function_names.ts";
import { readSettings } from "../../shared/runtime/settings.ts";
import { systemClock } from "../../shared/runtime/clock.ts";
import { CHECKOUT } from "../../local/paths.ts";

export interface Address {
  fn: FunctionName;
  method: string;
  /** Below the function's own, as its table has it: `/v1/media/{name}`, `/openai/v1/files/:id`. */
  pattern: string;
  /** The same with values in it. */
  path: string;
  /** Of the function `api`. */
  route?: ApiRoute;
  /** It proves who calls by itself, or is there for everybody. */
  open?: boolean;
}

export const MODEL = "gemma-4-31b-it";
export const EMBEDDING_MODEL = "gemini-embedding-001";
export const NOBODYS_ID = "00000000-0000-4000-8000-000000000000";
export const NOBODYS_HASH = "0".repeat(64);
const HEX = "0".repeat(32);

/** @param values of parts of paths, by name; the others are nobody's */
export function apiAddresses(values: Record<string, string> = {}): Address[] {
  const value = (name: string) =>
    values[name] ?? (/^(?:name|sha256)$/.test(name) ? NOBODYS_HASH : name === "key" ? "a/b" : NOBODYS_ID);
  return [
    ...API_ROUTES.map((route): Address => ({
      fn: "api",
      method: route.method.toUpperCase(),
      pattern: route.path,
      path: route.path.replace(/\{(\w+)\}/g, (_, name) => value(name)),
      route,
      ...(route.isSigned && { open: true }),
    })),
    { fn: "api", method: "GET", pattern: "/v1/openapi.json", path: "/v1/openapi.json", open: true },
  ];
}

function adminAddresses(): Address[] {
  return ADMIN_ROUTES.map(({ method, path }) => ({
    fn: "admin",
    method,
    pattern: path,
    path: path.replace(":id", NOBODYS_ID),
  }));
}

const GEMINI_PATHS = [
  ...GEMINI_METHODS.map((method) => [
    "POST",
    `/v1beta/models/${/embed/i.test(method) ? EMBEDDING_MODEL : MODEL}:${method}`,
  ]),
  ["GET", "/v1beta/models"],
  ["GET", `/v1beta/models/${MODEL}`],
  ["GET", "/v1beta/files"],
  ...["GET", "DELETE"].map((method) => [method, `/v1beta/files/${HEX}`]),
  ["GET", `/v1beta/files/${HEX}:download`],
  ...["GET", "POST"].map((method) => [method, "/v1beta/cachedContents"]),
  ...["GET", "PATCH", "DELETE"].map((method) => [method, `/v1beta/cachedContents/${HEX}`]),
  ["GET", "/v1beta/batches"],
  ["GET", "/v1beta/operations"],
  ...["GET", "DELETE"].map((method) => [method, `/v1beta/batches/${HEX}`]),
  ["POST", `/v1beta/batches/${HEX}:cancel`],
  ["POST", "/upload/v1beta/files"],
] as [string, string][];

/** How OpenAI's and Anthropic's ids begin, by what stands before them. */
const PREFIXES: Record<string, string> = {
  files: "file-",
  batches: "batch_",
  uploads: "upload_",
  responses: "resp_",
};

function idAfter(pattern: string): string {
  if (pattern.startsWith("/jobs")) return NOBODYS_ID;
  if (pattern.includes("/models/")) return MODEL;
  if (pattern.startsWith("/anthropic")) return `msgbatch_${HEX}`;
  return (PREFIXES[pattern.split("/")[3]!] ?? "") + HEX;
}

function invokeAddresses(): Address[] {
  const { endpoints } = openCalls({
    settings: readSettings((name) => SETTINGS[name]),
    read: (name) => SETTINGS[name],
    fetch: () => Promise.reject(new Error("nothing is asked here")),
    createClient: () => undefined,
    resolve: undefined,
    connect: undefined,
    clock: systemClock,
    newId: () => NOBODYS_ID,
    background: () => {},
    log: () => {},
  });
  const routes = endpoints.flatMap(({ routes }) => routes);
  const named = routes.filter(({ path }) => !path.includes("*")).flatMap(({ path, methods }) => {
    const at = path.replace(/:id(?:\{(?:[^{}]|\{[^{}]*\})*\})?/, idAfter(path));
    return (typeof methods === "function" ? methods(at) : methods).map((method): Address => ({
      fn: "llm-invoke",
      method,
      pattern: path,
      path: at === "/" ? "" : at,
    }));
  });
  // Gemini's are found in their paths, and what no route serves is answered under each endpoint.
  const others = [...GEMINI_PATHS, ["POST", "/openai/v1/nothing"], ["GET", "/anthropic/v1/nothing"]];
  return [
    ...named,
    ...others.map(([method, path]): Address => ({
      fn: "llm-invoke",
      method: method!,
      pattern: path!,
      path: path!,
    })),
  ];
}

/** The least with which a function starts. */
const SETTINGS: Record<string, string> = {
  SUPABASE_URL: "http://project.test",
  SUPABASE_SECRET_KEYS: JSON.stringify({ default: "sb_secret_for_tests_only" }),
  SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: "sb_publishable_for_tests" }),
};

/** Of functions with a handful of addresses, which stand in their sources. */
function fewAddresses(fn: FunctionName, source: string, open: RegExp): Address[] {
  const text = Deno.readTextFileSync(`${CHECKOUT}/${source}`);
  const named = [...text.matchAll(/\bapp\.(get|post|put|patch|delete|all)\(\s*(?:"([^"]+)"|([A-Z_]+))/g)];
  return named.flatMap(([, method, literal, constant]) => {
    const pattern = literal ?? new RegExp(`const ${constant} = "([^"]+)"`).exec(text)![1]!;
    if (pattern.includes("*")) return [];
    const path = pattern.replace(":operation", "alerts");
    return [{
      fn,
      method: method === "all" ? fn === "issue-kaggle-token" ? "POST" : "DELETE" : method!.toUpperCase(),
      pattern,
      path: path === "/" ? "" : path,
      ...(open.test(pattern) && { open: true }),
    }];
  });
}

const NONE = /^$/;

export const ADDRESSES: readonly Address[] = [
  ...invokeAddresses(),
  ...apiAddresses(),
  ...adminAddresses(),
  ...fewAddresses("telegram", "shared/telegram/telegram_endpoint.ts", NONE),
  ...fewAddresses("worker", "shared/jobs/worker_endpoint.ts", NONE),
  ...fewAddresses("maintenance", "shared/maintenance/router.ts", NONE),
  // Whose secret it is stands in the body: `tests/e2e/tokens.test.ts` has all that can be wrong with it.
  ...fewAddresses("issue-kaggle-token", "shared/identity/token_endpoint.ts", NONE),
];

/** What a route of the function `api` is asked with where a sample of its shape says nothing, by method and pattern. */
const ASKED: Record<string, { body?: Record<string, unknown>; query?: string }> = {
  "POST /v1/media/uploads": {
    body: { sha256: "1".repeat(64), size_bytes: 1, content_type: "text/plain" },
  },
  "POST /v1/intake/posts": { body: { source: "test", external_id: "one", text: "Hello" } },
  "POST /v1/vision/analyze": { body: { sha256: NOBODYS_HASH, mode: "queue" } },
  "POST /v1/vision/requeue": { body: { status: "failed" } },
  "GET /v1/vision/search": { query: "q=hello" },
  "GET /v1/chats/search": { query: "q=hello" },
  "GET /v1/graph/neighbours": { query: "kind=Post&key=a" },
  "GET /v1/graph/path": { query: "from_kind=Post&from_key=a&to_kind=Post&to_key=b" },
  "GET /v1/graph/related": { query: `post_id=${NOBODYS_ID}` },
  "GET /v1/graph/nodes": { query: "kind=Post" },
  "POST /v1/crawl": { body: { url: "https://example.com/", wait: false, mode: "read_only" } },
  "POST /v1/crawl/pages/{id}/summary": { body: { model: MODEL } },
  "POST /v1/chats/{id}/answer": { body: { model: MODEL, prompt: "Hello" } },
  "POST /v1/chats/{id}/messages": { body: { content: "Hello" } },
  "PATCH /v1/chats/{id}": { body: { title: "another" } },
  "PATCH /v1/messages/{id}": { body: { feedback: "good" } },
  "POST /v1/messages/{id}/images": { body: { s3_url: "https://example.com/a.png" } },
  "POST /v1/chats/{id}/search-results": { body: { block_text: "a place" } },
  "PUT /v1/vision/policy": { body: { policy: null } },
  "PUT /v1/vision/budgets": { body: { budgets: [] } },
  "POST /v1/storage/quota/check": { body: { size_bytes: 1 } },
  "POST /v1/storage/cleanup": { body: { dry_run: true } },
};

/** A request that an address of `api` takes for one that makes sense. */
export function sensibleRequest({ method, pattern, path, route }: Address): {
  path: string;
  init: RequestInit & { headers: Record<string, string> };
} {
  const { body = {}, query } = ASKED[`${method} ${pattern}`] ?? {};
  const sent = route?.body === undefined ? null : route.body === "file" ? "some bytes" : JSON.stringify(body);
  return {
    path: query === undefined ? path : `${path}?${query}`,
    init: {
      method,
      body: sent,
      headers: sent === null
        ? {}
        : { "content-type": route?.body === "file" ? "text/plain" : "application/json" },
    },
  };
}
