import type { Config } from "../config.ts";
import type { ApiAnswers } from "../../../shared/api/answers.ts";
import { type Auth, markSessionOver } from "../session.ts";
import type { AnswerOf, PathsOf } from "./shapes.ts";

/** How a call to the gateway failed. `code` is one of the table in docs/errors.md, or `unreachable`. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestId?: string,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export type Query = Record<string, string | number | boolean | null | undefined>;

/** A function of the project, called as the signed-in user. */
export interface Api {
  get<Path extends PathsOf<"GET">>(
    path: Path,
    query?: Query,
    signal?: AbortSignal,
  ): Promise<AnswerOf<`GET ${Path}`>>;
  post<Path extends string>(path: Path, body?: unknown): Promise<AnswerOf<`POST ${Path}`>>;
  /** A file, to be shown by an element of the page. */
  file(path: string, signal?: AbortSignal): Promise<Blob>;
  /** For streams: the response as it comes, once its status says that it went well. */
  open(path: string, body: unknown, signal?: AbortSignal): Promise<Response>;
}

/** `get` of the function `api`, whose answers are listed as those of `admin` are. */
export type GetOf = <Path extends string>(
  path: Path,
  query: Query,
  signal: AbortSignal,
) => Promise<`GET ${Path}` extends keyof ApiAnswers ? ApiAnswers[`GET ${Path}`] : unknown>;

/** How long a person looks at nothing; what is read takes some hundred milliseconds. */
const READ_TIMEOUT_MS = 8_000;
/** Long enough for a provider to be asked for its models, short enough for a person. */
const WRITE_TIMEOUT_MS = 30_000;

/** @param name `admin`, or `api`, which serves files */
export function createApi(config: Config, auth: Auth, name: "admin" | "api" = "admin"): Api {
  async function send(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set("apikey", config.publishableKey);
    let response: Response;
    try {
      const { data } = await unlessOver(auth.getSession(), init.signal);
      if (data.session) headers.set("authorization", `Bearer ${data.session.access_token}`);
      response = await fetch(`${config.supabaseUrl}/functions/v1/${config.functionPrefix}${name}${path}`, {
        ...init,
        headers,
      });
    } catch (error) {
      if (
        init.signal?.aborted &&
        !(init.signal.reason instanceof DOMException && init.signal.reason.name === "TimeoutError")
      ) {
        throw error;
      }
      throw new ApiError(0, "unreachable", error instanceof Error ? error.message : String(error));
    }
    if (response.status === 401) markSessionOver();
    if (!response.ok) throw await failure(response);
    return response;
  }
  const post = (body: unknown): RequestInit => ({
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body ?? {}),
  });
  return {
    async get(path, query, signal) {
      const limit = AbortSignal.timeout(READ_TIMEOUT_MS);
      return (await send(path + search(query), { signal: signal ? AbortSignal.any([signal, limit]) : limit }))
        .json();
    },
    file: async (path, signal) => (await send(path, { ...(signal && { signal }) })).blob(),
    async post(path, body) {
      return (await send(path, { ...post(body), signal: AbortSignal.timeout(WRITE_TIMEOUT_MS) })).json();
    },
    open: (path, body, signal) => send(path, { ...post(body), ...(signal && { signal }) }),
  };
}

/** As `work`, unless the signal is quicker: a session may have to be renewed first, which is tried again and again. */
function unlessOver<Value>(work: Promise<Value>, signal: AbortSignal | null | undefined): Promise<Value> {
  if (!signal) return work;
  return Promise.race([
    work,
    new Promise<never>((_, reject) => {
      if (signal.aborted) reject(signal.reason);
      else signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    }),
  ]);
}

function search(query: Query = {}): string {
  const given = Object.entries(query).filter(([, value]) =>
    value !== undefined && value !== null && value !== ""
  );
  return given.length === 0
    ? ""
    : `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`;
}

async function failure(response: Response): Promise<ApiError> {
  const body = await response.json().catch(() => null) as
    | { error?: { code?: string; message?: string; request_id?: string }; code?: string; message?: string }
    | null;
  const error = body?.error ?? body;
  return new ApiError(
    response.status,
    error?.code ?? "unexpected_answer",
    error?.message ?? `status ${response.status}`,
    body?.error?.request_id,
  );
}
