import * as z from "zod";
import { fromBase64, toBase64 } from "../../runtime/base64.ts";
import { callUnlessRefused } from "../refused.ts";
import type { Transport } from "../transport/transport.ts";

const facts = z.object({
  size_bytes: z.number(),
  /** Of the bytes as they are kept. */
  sha256: z.string(),
  content_type: z.string(),
  content_encoding: z.string().nullable(),
  created_at: z.string(),
});
export type SpooledFacts = z.output<typeof facts>;

const next = facts.extend({ key: z.string(), tries: z.number() });
export type NextSpooled = z.output<typeof next>;

/** Objects in the database, by their keys. */
export interface MediaSpool {
  /** @throws GatewayError `storage_quota_exceeded`: the limit spool is used up; `content_mismatch` */
  put(key: string, object: {
    body: Uint8Array;
    sha256: string;
    contentType: string;
    contentEncoding: string | null;
    /** S3 is set up: it is to move there. */
    moves: boolean;
  }): Promise<{ created: boolean }>;
  facts(key: string): Promise<SpooledFacts | null>;
  /** A piece of it; null: no such object. */
  piece(key: string, start: number, length: number): Promise<Uint8Array<ArrayBuffer> | null>;
  delete(keys: readonly string[]): Promise<void>;
  list(
    prefix: string,
    after: string,
    limit: number,
  ): Promise<{ key: string; size_bytes: number; created_at: string }[]>;
  /** The next that is to move to S3; null: none, or not yet. */
  next(leaseSeconds: number): Promise<NextSpooled | null>;
  moved(key: string): Promise<"moved" | "gone" | "deleting">;
  /** Says that S3 is set up: all of it is to move there. */
  allMove(): Promise<void>;
  moveFailed(key: string, error: string, waitSeconds: number): Promise<void>;
}

/** Ten megabytes over a slow line. */
const TIMEOUT_MS = 30_000;

export function createMediaSpool(transport: Transport, timeoutMs = TIMEOUT_MS): MediaSpool {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    callUnlessRefused(transport, name, args, shape, timeoutMs);
  return {
    put: (key, { body, sha256, contentType, contentEncoding, moves }) =>
      ask("eve_media_spool_put", {
        key,
        body: toBase64(body),
        sha256,
        content_type: contentType,
        content_encoding: contentEncoding,
        moves,
      }, z.object({ created: z.boolean() })),
    facts: (key) => ask("eve_media_spool_get", { key, length: 0 }, facts.nullable()),
    async piece(key, start, length) {
      const found = await ask(
        "eve_media_spool_get",
        { key, start, length },
        z.object({ body: z.string() }).nullable(),
      );
      return found === null ? null : fromBase64(found.body);
    },
    async delete(keys) {
      await ask("eve_media_spool_delete", { keys }, z.unknown());
    },
    list: (prefix, after, limit) =>
      ask(
        "eve_media_spool_list",
        { prefix, after, at_most: limit },
        z.array(z.object({ key: z.string(), size_bytes: z.number(), created_at: z.string() })),
      ),
    next: (leaseSeconds) => ask("eve_media_spool_next", { lease_s: leaseSeconds }, next.nullable()),
    moved: async (key) =>
      (await ask(
        "eve_media_spool_moved",
        { key },
        z.object({ status: z.enum(["moved", "gone", "deleting"]) }),
      )).status,
    async allMove() {
      await ask("eve_media_spool_moves", {}, z.unknown());
    },
    async moveFailed(key, error, waitSeconds) {
      await ask("eve_media_spool_failed", { key, error, wait_s: waitSeconds }, z.unknown());
    },
  };
}
