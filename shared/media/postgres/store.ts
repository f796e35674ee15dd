import { GatewayError } from "../../contract/gateway_error.ts";
import type { MediaSpool } from "../../database/media/media_spool.ts";
import { checkedKey } from "../object_key.ts";
import type { ListPage, ObjectFacts, ObjectStore } from "../object_store.ts";
import type { AddressSigner } from "../signed_address.ts";
import { checkedExpiry, checkedLimit, checkedRange, checkSize, MAX_LIST } from "../store_arguments.ts";

export interface PostgresStoreOptions {
  spool: MediaSpool;
  addresses: AddressSigner;
  /** S3 is set up: what is kept here moves there once it is back. */
  moves: boolean;
  /** Of one file, as it is stored. */
  maxFileBytes: number;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** A body is read in pieces of so many bytes: as text of base64 and as bytes it is there a few times over. */
const PIECE_BYTES = 1_000_000;

/**
 * Files in a table of the database, within the limit `spool`: for a stack without S3, and for the time when S3 is away. Addresses are
 * signed and served by the function `api`. What it throws beyond `ObjectStore`: `storage_quota_exceeded` by `put`.
 */
export function createPostgresStore(
  { spool, addresses, moves, maxFileBytes, now }: PostgresStoreOptions,
): ObjectStore {
  const address = async (
    method: "GET" | "PUT",
    key: string,
    expiresIn: number,
    terms: Omit<Parameters<AddressSigner["sign"]>[2], "expiresAt">,
  ) => {
    const expiresAt = now() + checkedExpiry(expiresIn) * 1_000;
    return {
      url: await addresses.sign(method, checkedKey(key), { ...terms, expiresAt }),
      expiresAt: new Date(expiresAt),
    };
  };
  const head = async (key: string): Promise<ObjectFacts | null> => {
    const facts = await spool.facts(checkedKey(key));
    return facts === null ? null : {
      sizeBytes: facts.size_bytes,
      contentType: facts.content_type,
      contentEncoding: facts.content_encoding,
      etag: facts.sha256,
      lastModified: new Date(facts.created_at),
    };
  };
  return {
    kind: "postgres",
    abilities: () => Promise.resolve({ hashBoundPut: true, ifNoneMatch: true, lifecycle: false }),
    async ping() {
      await spool.list("", "", 1);
    },
    async put(key, { body, sha256, contentType, contentEncoding }) {
      checkSize(body.byteLength, maxFileBytes);
      const { created } = await spool.put(checkedKey(key), {
        body,
        sha256,
        contentType,
        contentEncoding: contentEncoding ?? null,
        moves,
      });
      const sizeBytes = created ? body.byteLength : (await head(key))?.sizeBytes ?? body.byteLength;
      return { created, sizeBytes };
    },
    async get(key, { range } = {}) {
      const { from = 0, to } = range === undefined ? {} : checkedRange(range);
      const facts = await head(key);
      if (facts === null) throw new GatewayError("object_not_found");
      if (range !== undefined && from >= facts.sizeBytes) {
        throw new GatewayError("invalid_request", {
          message: "The range begins behind the end of the file.",
        });
      }
      const end = Math.min(facts.sizeBytes, (to ?? facts.sizeBytes - 1) + 1);
      const stored = pieces(spool, key, from, end);
      // A piece of what was packed is nothing that could be unpacked.
      const contentEncoding = range === undefined ? facts.contentEncoding : null;
      const packed = contentEncoding === "gzip";
      return {
        ...facts,
        contentEncoding,
        body: packed ? stored.pipeThrough(new DecompressionStream("gzip")) : stored,
      };
    },
    head,
    delete: (key) => spool.delete([checkedKey(key)]),
    async deleteMany(keys) {
      for (let from = 0; from < keys.length; from += MAX_LIST) {
        await spool.delete(keys.slice(from, from + MAX_LIST));
      }
      return { failed: [] };
    },
    async list({ prefix = "", limit = MAX_LIST, after = "", cursor = null } = {}): Promise<ListPage> {
      const rows = await spool.list(prefix, cursor ?? after, checkedLimit(limit));
      return {
        objects: rows.map((row) => ({
          key: row.key,
          sizeBytes: row.size_bytes,
          etag: null,
          lastModified: new Date(row.created_at),
        })),
        cursor: rows.length === limit ? rows.at(-1)?.key ?? null : null,
      };
    },
    async presignGet(key, { expiresIn, contentDisposition, contentType, contentEncoding }) {
      // It is served unpacked; once it has moved to S3, anyone who follows there has to know.
      const signed = await address("GET", key, expiresIn, {
        contentDisposition,
        contentType,
        contentEncoding,
      });
      return { method: "GET", ...signed, headers: {} };
    },
    async presignPut(key, { sha256, sizeBytes, contentType, contentEncoding, expiresIn }) {
      checkSize(sizeBytes, maxFileBytes);
      const signed = await address("PUT", key, expiresIn, {
        sha256,
        sizeBytes,
        contentType,
        contentEncoding,
      });
      const headers: Record<string, string> = {
        "content-type": contentType,
        "content-length": String(sizeBytes),
        ...(contentEncoding !== undefined && { "content-encoding": contentEncoding }),
      };
      return { method: "PUT", ...signed, headers };
    },
    multipart: null,
    lifecycle: null,
  };
}

function pieces(
  spool: MediaSpool,
  key: string,
  from: number,
  end: number,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  let at = from;
  return new ReadableStream({
    async pull(controller) {
      if (at >= end) return controller.close();
      const piece = await spool.piece(key, at, Math.min(PIECE_BYTES, end - at));
      if (piece === null || piece.byteLength === 0) {
        // It was moved or deleted while it was read.
        return controller.error(
          new GatewayError("storage_unavailable", { detail: "the object went while it was read" }),
        );
      }
      at += piece.byteLength;
      controller.enqueue(piece);
    },
  }, { highWaterMark: 0 });
}
