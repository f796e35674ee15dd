import * as z from "zod";
import type { TrafficClass } from "../../contract/request.ts";
import { jsonbBytes } from "../../runtime/byte_size.ts";
import type { CallBody } from "./job_queue.ts";
import { asCaller, type JobCaller } from "./jobs.ts";
import { callUnlessRefused } from "../refused.ts";
import type { Transport } from "../transport/transport.ts";

const response = z.object({
  id: z.string(),
  /** As its caller named it. */
  model: z.string(),
  state: z.enum(["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]),
  background: z.boolean(),
  /** False: it leaves an hour after its end. */
  store: z.boolean(),
  metadata: z.record(z.string(), z.string()).nullable(),
  /** The response object as the call was answered; null: it has not ended, or there is none. */
  answer: z.record(z.string(), z.unknown()).nullable(),
  error_code: z.string().nullable(),
  error_detail: z.string().nullable(),
  created_at: z.string(),
});
/** A row of eve.responses; the names are those of its columns. */
export type StoredResponse = z.output<typeof response>;

export interface ResponseToCreate {
  id: string;
  /** The caller's own name for it; null: its id. */
  requestId: string | null;
  /** Tells a repetition from another one with the same `requestId`. */
  requestHash: string;
  body: CallBody;
  class: TrafficClass;
  model: string;
  /** 1 to 10 that may answer it, or `stage:NAME`. */
  models: string[];
  store: boolean;
  metadata: Record<string, string> | null;
  input: unknown[];
  previousId: string | null;
}

/** A response that was answered at once. */
export interface ResponseToStore {
  id: string;
  model: string;
  models: string[];
  state: "completed" | "incomplete";
  metadata: Record<string, string> | null;
  /** The items that it was asked with, each with an `id`. */
  input: unknown[];
  /** The response that it goes on from. */
  previousId: string | null;
  /** The response object, with its `output`. */
  answer: Record<string, unknown>;
}

const turn = z.object({
  id: z.string(),
  state: z.string(),
  /** Null: too large to be kept. */
  input: z.array(z.unknown()).nullable(),
  /** Null: it has no answer. */
  output: z.array(z.unknown()).nullable(),
});
/** What a response was asked with, and what it answered. */
export type StoredTurn = z.output<typeof turn>;

const context = z.object({ turns: z.array(turn), others: z.array(turn) });
/** `turns`: the previous response and all that it went on from, the oldest first. `others`: those that there are, in no order. */
export type StoredContext = z.output<typeof context>;

/** Responses that are kept. Throws GatewayErrors: `not_found`, and what refuses a job or the caller. */
export interface StoredResponses {
  /** `wake`: whether the function worker is to be called. */
  create(asked: ResponseToCreate, caller: JobCaller): Promise<{ response: StoredResponse; wake: boolean }>;
  find(id: string, caller: JobCaller): Promise<StoredResponse>;
  /** False: it is too large, or the owner of this project keeps none. */
  store(response: ResponseToStore, caller: JobCaller): Promise<boolean>;
  context(
    named: { previousId: string | null; otherIds: string[] },
    caller: JobCaller,
  ): Promise<StoredContext>;
  /** As it is then; one that has ended stays as it ended. */
  cancel(id: string, caller: JobCaller): Promise<StoredResponse>;
  delete(id: string, caller: JobCaller): Promise<void>;
}

/** As the table bounds them, in bytes of jsonb. */
const MAX_INPUT_BYTES = 2_097_152;
const MAX_ANSWER_BYTES = 524_288;

/** A body of ten megabytes takes a while. */
const TIMEOUT_MS = 15_000;

export function createStoredResponses(transport: Transport, timeoutMs = TIMEOUT_MS): StoredResponses {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    callUnlessRefused(transport, name, args, shape, timeoutMs);
  return {
    create: (
      { id, requestId, requestHash, body, models, model, store, metadata, input, previousId, ...asked },
      caller,
    ) =>
      ask("eve_response_create", {
        job: {
          id,
          ...(requestId !== null && { request_id: requestId, request_hash: requestHash }),
          body,
          class: asked.class,
          models,
        },
        model,
        store,
        metadata,
        input: jsonbBytes(input) <= MAX_INPUT_BYTES ? input : null,
        previous_id: previousId,
        ...asCaller(caller),
      }, z.object({ response, wake: z.boolean() })),
    find: async (id, caller) =>
      (await ask("eve_response", { id, ...asCaller(caller) }, z.object({ response }))).response,
    async store({ previousId, ...asked }, caller) {
      if (jsonbBytes(asked.input) > MAX_INPUT_BYTES || jsonbBytes(asked.answer) > MAX_ANSWER_BYTES) {
        return false;
      }
      const { stored } = await ask("eve_response_store", {
        response: { ...asked, previous_id: previousId },
        ...asCaller(caller),
      }, z.object({ stored: z.boolean() }));
      return stored;
    },
    context: ({ previousId, otherIds }, caller) =>
      ask("eve_response_context", {
        previous_id: previousId,
        other_ids: otherIds,
        ...asCaller(caller),
      }, context),
    cancel: async (id, caller) =>
      (await ask("eve_response_cancel", { id, ...asCaller(caller) }, z.object({ response }))).response,
    async delete(id, caller) {
      await ask("eve_response_delete", { id, ...asCaller(caller) }, z.unknown());
    },
  };
}
