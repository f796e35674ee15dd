/** Calls of the project's functions with its secret key. */
import type { Connection } from "./connection.ts";
import { CliFailure, unreachable } from "./failure.ts";

export interface FunctionAnswer {
  status: number;
  headers: Headers;
  /** Undefined for a body that is not JSON. */
  // deno-lint-ignore no-explicit-any -- each caller knows what it asked for.
  body: any;
}

export interface CallOptions {
  /** POST without it. */
  method?: "GET" | "POST" | "PUT";
  /** The project's own without it. */
  key?: string;
  signal?: AbortSignal;
}

/** Sends JSON and reads JSON. @throws CliFailure when nobody answers */
export async function callFunction(
  connection: Connection,
  path: string,
  body?: unknown,
  options: CallOptions = {},
): Promise<FunctionAnswer> {
  return await readAnswer(await sendToFunction(connection, path, body, options));
}

/** A response's JSON. */
export async function readAnswer(response: Response): Promise<FunctionAnswer> {
  const text = await response.text();
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = undefined;
  }
  return { status: response.status, headers: response.headers, body: parsed };
}

/** The response as it comes; a redirect is not followed. @throws CliFailure when nobody answers */
export async function sendToFunction(
  connection: Connection,
  path: string,
  body?: unknown,
  { method = "POST", key, signal }: CallOptions = {},
): Promise<Response> {
  try {
    return await connection.fetch(`${connection.functions}${path}`, {
      method,
      headers: {
        apikey: key ?? connection.secretKey,
        ...(body !== undefined && { "content-type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      redirect: "manual",
      signal,
    });
  } catch (thrown) {
    if (signal?.aborted) throw thrown;
    throw unreachable(
      `${connection.url} does not answer (${
        thrown instanceof Error ? thrown.message : thrown
      }). Is the address right, and the project running?`,
    );
  }
}

/** What an answer that is no success says, as a failure of the command. */
export function refused({ status, body }: FunctionAnswer, what: string): CliFailure {
  const error = body?.error ?? body;
  if (typeof error?.code === "string") {
    // Supabase's own way to say that there is no such function.
    if (error.code === "NOT_FOUND" || /function was not found/i.test(error.message ?? "")) {
      return new CliFailure(`${what} is not deployed: run npm run deploy.`);
    }
    return new CliFailure(`${error.code}: ${error.message}`);
  }
  return new CliFailure(`${what} answered ${status} without saying why. See its log in the dashboard.`);
}
