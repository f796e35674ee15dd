/**
 * Faults on request: a queue of scripted faults, each for the next requests that it matches.
 */

import { z } from "zod";
import { ERROR_NAMES, type ErrorName } from "./errors.ts";
import { fingerprint } from "./fingerprint.ts";

const errorName = z.enum(ERROR_NAMES as [ErrorName, ...ErrorName[]]);

const METHODS = [
  "generateContent",
  "streamGenerateContent",
  "countTokens",
  "embedContent",
  "batchEmbedContents",
  "getModel",
  "listModels",
  "createCachedContent",
  "updateCachedContent",
  "deleteCachedContent",
] as const;

/** Methods a fault without `match.method` is for: those that use quota. */
const QUOTA_METHODS: string[] = [
  "generateContent",
  "streamGenerateContent",
  "embedContent",
  "batchEmbedContents",
];

const BLOCK_REASONS = ["SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY"] as const;
const FINISH_REASONS = [
  "SAFETY",
  "RECITATION",
  "LANGUAGE",
  "OTHER",
  "BLOCKLIST",
  "PROHIBITED_CONTENT",
  "SPII",
  "MALFORMED_FUNCTION_CALL",
  "UNEXPECTED_TOOL_CALL",
  "IMAGE_SAFETY",
] as const;

/** Longest wait that can be scripted: an hour; `hang` waits longer. */
const MAX_DELAY_MS = 3_600_000;

const common = {
  match: z.strictObject({
    model: z.string().optional(),
    /** The key itself, or its fingerprint as the statistics show it. */
    key: z.string().optional(),
    project: z.string().optional(),
    method: z.enum(METHODS).optional(),
    /** A piece of the request body. */
    contains: z.string().optional(),
  }).optional(),
  /** How many requests it is for; null: all of them until it is cleared. */
  times: z.int().positive().nullable().default(1),
  /** How many matching requests pass first. */
  skip: z.int().nonnegative().default(0),
  /** Waits this long before anything else happens. */
  delayMs: z.int().nonnegative().max(MAX_DELAY_MS).optional(),
  /** Whether the request uses quota; unless said, what fails before any work does not, and what fails later does. */
  counted: z.boolean().optional(),
};

export const faultSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    ...common,
    kind: z.literal("status"),
    error: errorName,
    /** For quota errors: what RetryInfo says. */
    retryMs: z.int().nonnegative().optional(),
  }),
  z.strictObject({ ...common, kind: z.literal("delay"), delayMs: z.int().nonnegative().max(MAX_DELAY_MS) }),
  /** No byte ever comes. */
  z.strictObject({ ...common, kind: z.literal("hang") }),
  /** The answer stops in the middle: the connection is reset, or the stream ends as if it were whole. */
  z.strictObject({
    ...common,
    kind: z.literal("broken_stream"),
    afterChunks: z.int().nonnegative().default(1),
    how: z.enum(["reset", "end"]).default("reset"),
  }),
  /** An error after part of the answer: as a frame of the stream, or as bare JSON that breaks the framing. */
  z.strictObject({
    ...common,
    kind: z.literal("mid_stream_error"),
    afterChunks: z.int().nonnegative().default(1),
    as: z.enum(["frame", "raw"]).default("frame"),
    error: errorName.default("overloaded"),
  }),
  /** Status 200 with a reason instead of an answer: about the prompt, or about what was being said. */
  z.strictObject({
    ...common,
    kind: z.literal("safety_block"),
    where: z.enum(["prompt", "candidate"]).default("prompt"),
    reason: z.enum([...BLOCK_REASONS, ...FINISH_REASONS]).default("SAFETY"),
  }).refine(
    ({ where, reason }) =>
      (where === "prompt" ? BLOCK_REASONS : FINISH_REASONS as readonly string[]).some((one) =>
        one === reason
      ),
    { message: "reason is not one of that place: prompts have a blockReason, candidates a finishReason" },
  ),
  z.strictObject({
    ...common,
    kind: z.literal("empty_answer"),
    shape: z.enum(["no_candidates", "no_content", "no_parts", "empty_text"]).default("no_parts"),
  }),
  /** Status 200 and JSON that ends too early. */
  z.strictObject({ ...common, kind: z.literal("malformed_json") }),
  /** The connection is closed before any byte. */
  z.strictObject({ ...common, kind: z.literal("disconnect") }),
]);

/** A fault as it is asked for; `times` is 1 and `skip` is 0 unless said. */
export type FaultSpec = z.input<typeof faultSchema>;
export type Fault = z.output<typeof faultSchema>;

/** What is known of a request when a fault is looked for. */
export interface FaultTarget {
  model: string;
  key: string;
  project: string;
  method: string;
  body: string;
}

interface Queued {
  id: number;
  fault: Fault;
  left: number;
  toSkip: number;
}

export class FaultQueue {
  #queue: Queued[] = [];
  #nextId = 1;

  /** @throws ZodError when it is none of the kinds. @returns the number to recognise it by. */
  add(spec: FaultSpec): number {
    const fault = faultSchema.parse(spec);
    const id = this.#nextId++;
    this.#queue.push({ id, fault, left: fault.times ?? Infinity, toSkip: fault.skip });
    return id;
  }

  clear(): number {
    const count = this.#queue.length;
    this.#queue = [];
    return count;
  }

  /** What is still to come, with keys as fingerprints. */
  list(): { id: number; left: number | null; fault: Fault }[] {
    return this.#queue.map(({ id, fault, left }) => ({
      id,
      left: left === Infinity ? null : left,
      fault: fault.match?.key === undefined
        ? fault
        : { ...fault, match: { ...fault.match, key: fingerprint(fault.match.key) } },
    }));
  }

  /**
   * The first fault that is for this request, taken out of the queue, or undefined.
   *
   * @param wanted a fault that does not pass is left in the queue for another moment of this request.
   */
  take(target: FaultTarget, wanted: (fault: Fault) => boolean): Fault | undefined {
    for (const queued of this.#queue) {
      if (!wanted(queued.fault) || !matches(queued.fault, target)) continue;
      if (queued.toSkip > 0) {
        queued.toSkip--;
        continue;
      }
      queued.left--;
      if (queued.left <= 0) this.#queue = this.#queue.filter((other) => other !== queued);
      return queued.fault;
    }
    return undefined;
  }
}

function matches({ match }: Fault, target: FaultTarget): boolean {
  if (match?.method === undefined && !QUOTA_METHODS.includes(target.method)) return false;
  if (!match) return true;
  const { model, key, project, method, contains } = match;
  return (model === undefined || model === target.model) &&
    (key === undefined || key === target.key || key === fingerprint(target.key)) &&
    (project === undefined || project === target.project) &&
    (method === undefined || method === target.method) &&
    (contains === undefined || target.body.includes(contains));
}
