/** The function `api`, as the storage commands call it. */
import type { Connection } from "../connection.ts";
import { CliFailure } from "../failure.ts";
import { callFunction, type CallOptions, type FunctionAnswer, refused } from "../function_call.ts";

type Query = Readonly<Record<string, string | number | undefined>>;

/** What `api` answers to a GET. @throws CliFailure with what it says against it */
export async function readFromApi<T>(
  connection: Connection,
  path: string,
  query: Query,
  signal: AbortSignal,
): Promise<T> {
  const answer = await callFunction(connection, apiPath(path, query), undefined, { method: "GET", signal });
  return succeeded<T>(answer);
}

/** What `api` answers to a POST of JSON. @throws CliFailure with what it says against it */
export async function postToApi<T>(
  connection: Connection,
  path: string,
  body: unknown,
  options: CallOptions & { query?: Query } = {},
): Promise<T> {
  return succeeded<T>(await callFunction(connection, apiPath(path, options.query ?? {}), body, options));
}

/** `api/v1/...` with the parameters that there are. */
export function apiPath(path: string, query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) parameters.set(name, String(value));
  }
  return `api/v1/${path}${parameters.size === 0 ? "" : `?${parameters}`}`;
}

/** A key as a part of a path: its slashes stay. */
export function asPath(key: string): string {
  return key.split("/").map(encodeURIComponent).join("/");
}

/** @throws CliFailure with what the function says against it */
export function succeeded<T>(answer: FunctionAnswer): T {
  const { status, body } = answer;
  if (status >= 200 && status < 300 && body !== undefined) return body as T;
  const error = body?.error;
  if (error?.code === "storage_quota_exceeded") {
    throw new CliFailure(`${error.code}: ${error.message} See \`storage quota\`, and \`storage cleanup\`.`);
  }
  throw refused(answer, "The function api");
}
