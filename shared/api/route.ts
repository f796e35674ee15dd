import * as z from "zod";
import type { Actor } from "../contract/actor.ts";
import type { NoteError } from "../contract/note_error.ts";
import type { Chats } from "../database/chats.ts";
import type { Graph } from "../database/posts/graph.ts";
import type { Crawl } from "../database/posts/crawl.ts";
import type { Vision } from "../database/vision.ts";
import type { Media } from "../media/storage.ts";
import type { AddressSigner } from "../media/signed_address.ts";
import type { Background } from "../runtime/background.ts";
import type { Clock } from "../runtime/clock.ts";
import { jsonOfAtMost, validated } from "../endpoints/validated.ts";
import type { Work } from "../http/work_budget.ts";
import type { ApiAnswers } from "./answers.ts";

/** What stands behind `api`. */
export interface ApiDependencies {
  identify(request: Request): Promise<Actor>;
  /** Throws for a token that was revoked: its signature does not say so. */
  confirmToken(token: { consumerId: string; tokenId: string }): Promise<unknown>;
  media: Media;
  addresses: AddressSigner;
  chats: Chats;
  vision: Vision;
  graph: Graph;
  crawl: Crawl;
  /** Calls the function worker: there is something to do. Never throws. */
  wake(): Promise<void>;
  /** Calls the function llm-invoke, with a JSON body. */
  callModels(body: string, credentials: HeadersInit, signal: AbortSignal): Promise<Response>;
  /** The project's secret key, with which this function asks for signed-in users. */
  secretKey: string;
  /** Where the function is, as its callers see it: `https://<ref>.supabase.co/functions/v1/api`. */
  baseUrl: string;
  maxBodyBytes: number;
  background: Background;
  noteError?: NoteError;
}

/** One request, its sender known. */
export interface ApiContext {
  dependencies: ApiDependencies;
  actor: Actor;
  request: Request;
  requestId: string;
  /** 32 hexadecimal digits. */
  traceId: string;
  clock: Clock;
  work: Work;
  /** Asks the database whether the sender's token still holds, before much is read for it. @throws GatewayError `token_revoked` and the like */
  confirmCaller(): Promise<void>;
}

export type Method = "get" | "post" | "put" | "patch" | "delete";

/** One thing that the API does: what the router serves, and what the OpenAPI document says of it. */
export interface ApiRoute {
  method: Method;
  /** As OpenAPI writes it, `/v1/media/{name}`; a part `{name}` may hold slashes. */
  path: string;
  summary: string;
  tag: string;
  query?: z.ZodObject;
  /** JSON; `file`: raw bytes, or a multipart form. */
  body?: z.ZodType | "file" | undefined;
  /** Of a JSON body, in bytes; absent: a handful of fields. */
  maxBodyBytes?: number;
  /** A multipart form is taken as well: the JSON stands in the field of this name, and files beside it. */
  formField?: string;
  /** By status: JSON of this shape; null: no JSON. */
  answers: Readonly<Record<number, { description: string; shape: z.ZodType | null }>>;
  /** Whether it looks at its own credential: the address itself. */
  isSigned?: boolean;
  serve(context: ApiContext, input: RouteInput): Promise<Response>;
}

export interface RouteInput {
  /** The parts of the path. */
  path: Readonly<Record<string, string>>;
  query: unknown;
  body: unknown;
  /** Of a multipart form. */
  files: readonly File[];
}

/** Of what the console reads of a route; any, where it reads nothing of it. */
type ShapeOf<Asked extends string> = Asked extends keyof ApiAnswers ? z.ZodType<ApiAnswers[Asked]>
  : z.ZodType | null;

/** A route whose query, body and answers have these shapes. */
export function apiRoute<
  How extends Method,
  Path extends string,
  Query extends z.ZodObject,
  Body extends z.ZodType = z.ZodUndefined,
>(
  route: Omit<ApiRoute, "method" | "path" | "answers" | "serve" | "query" | "body"> & {
    method: How;
    path: Path;
    answers: Readonly<Record<number, { description: string; shape: ShapeOf<`${Uppercase<How>} ${Path}`> }>>;
    query?: Query;
    body?: Body | "file";
    serve(
      context: ApiContext,
      input: Pick<RouteInput, "path" | "files"> & { query: z.output<Query>; body: z.output<Body> },
    ): Promise<Response>;
  },
): ApiRoute {
  const { query, body } = route;
  return {
    ...route,
    serve: (context, input) =>
      route.serve(context, {
        path: input.path,
        files: input.files,
        query: (query === undefined ? {} : validated(query, input.query)) as z.output<Query>,
        body: (body === undefined || body === "file" ? undefined : validated(body, input.body)) as z.output<
          Body
        >,
      }),
  };
}

/** What a tenant may be called. */
export const tenantId = z.string().regex(
  /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$/,
  "must be a tenant's id: 1 to 100 letters, digits or . _ -",
);

/** What the tables of files and of chats take (`octet_length(metadata::text)`). */
export const MAX_METADATA_BYTES = 16_384;
export const metadata = jsonOfAtMost(MAX_METADATA_BYTES, z.record(z.string(), z.unknown()));
