import type * as z from "zod";
import { validated } from "../endpoints/validated.ts";
import type { Administrator } from "../contract/caller.ts";
import type { NoteError } from "../contract/note_error.ts";
import type { Background } from "../runtime/background.ts";
import type { CacheAdmin } from "../database/answer_cache.ts";
import type { Admin } from "../database/admin.ts";
import type { AdminChats } from "../database/admin_chats.ts";
import type { DeadLetters } from "../database/events.ts";
import type { Webhooks } from "../database/webhooks.ts";
import type { JobQueue } from "../database/jobs/job_queue.ts";
import type { KeyPool } from "../database/key_pool.ts";
import type { JobSearch } from "../database/jobs/job_search.ts";
import type { Ledger } from "../database/admission/ledger.ts";
import type { Reading } from "../database/reading.ts";
import type { Stages } from "../database/stages.ts";
import type { Tenants } from "../database/tenants.ts";
import type { KeyEncryption } from "../secrets/key_encryption.ts";
import type { ReadVariable } from "../runtime/settings.ts";
import type { SecretSources } from "../stages/pool_secret.ts";
import type { Inspectors } from "../stages/probe.ts";
import type { AnswerOf, ChannelTests } from "./answers.ts";

/** What the admin API works with. */
export interface AdminDependencies extends SecretSources {
  identify(request: Request): Promise<Administrator>;
  stages: Stages;
  reading: Reading;
  keyPool: KeyPool;
  admin: Admin;
  tenants: Tenants;
  cache: CacheAdmin;
  chats: AdminChats;
  models: Ledger["models"];
  /** @throws GatewayError `gateway_misconfigured` without ADMIN_SECRET_KEY */
  encryption: () => KeyEncryption;
  webhooks: Webhooks;
  deadLetters: DeadLetters;
  jobSearch: JobSearch;
  jobQueue: Pick<JobQueue, "cancel">;
  /** Whether a webhook may have this host although it is private. */
  webhookHosts: (hostname: string) => boolean;
  newId: () => string;
  inspectors: Inspectors;
  read: ReadVariable;
  /** Whether a base URL may lead into a private network. */
  allowPrivate: boolean;
  /** Passes a call on to llm-invoke with the project's own key. */
  invoke: (path: string, init: RequestInit) => Promise<Response>;
  /** Passes the run of an operation on to maintenance with the project's own key. */
  runOperation: (operation: string, timeLimitMs: number, signal: AbortSignal) => Promise<Response>;
  /** Sends a message to every channel of alerts. */
  testChannels: (signal: AbortSignal) => Promise<ChannelTests>;
  /** Passes a request for a token on to issue-kaggle-token with the project's own key. */
  issueToken: (form: Record<string, unknown>, signal: AbortSignal) => Promise<Response>;
  background: Background;
  noteError?: NoteError;
}

/** One request, its sender already known to be an administrator. */
export interface AdminRequest {
  dependencies: AdminDependencies;
  administrator: Administrator;
  requestId: string;
  /** Aborts when the client has gone. */
  signal: AbortSignal;
}

/** One thing that the admin API does. */
export interface Route {
  method: "GET" | "POST";
  /** Below the function's own, as hono has it; a part may be `:id`. */
  path: string;
  /** Answers what becomes the JSON of the response, or the response itself. Throws GatewayError. */
  serve(context: AdminRequest, asked: unknown, id: string): Promise<unknown>;
}

/** A route whose body, or whose query, has this shape, and whose answer is the one that answers.ts lists for it. */
export function route<Method extends Route["method"], Path extends string, Shape extends z.ZodType>(
  method: Method,
  path: Path,
  shape: Shape,
  serve: (
    context: AdminRequest,
    asked: z.output<Shape>,
    id: string,
  ) => Promise<AnswerOf<`${Method} ${Path}`> | Response>,
): Route {
  return { method, path, serve: (context, asked, id) => serve(context, validated(shape, asked), id) };
}
