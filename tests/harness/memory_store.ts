/** A bucket in memory: what S3 would have, and whether it answers at all. */
import { GatewayError } from "../../shared/contract/gateway_error.ts";
import type { MultipartUploads, ObjectStore } from "../../shared/media/object_store.ts";

interface Kept {
  body: Uint8Array<ArrayBuffer>;
  contentType: string;
  contentEncoding: string | null;
  at: Date;
}

export interface MemoryStore extends ObjectStore {
  objects: Map<string, Kept>;
  /** No operation is answered. */
  away: boolean;
  /** Whether a presigned PUT is held to its hash. */
  hashBoundPut: boolean;
  /** Called before each operation; may throw. */
  before: ((operation: string, key: string) => void | Promise<void>) | null;
  /** Told how each operation has gone that asks the store. */
  observe: ((result: string) => void) | null;
  /** Every put that was taken, in order. */
  puts: string[];
  /** Uploads in parts that are neither completed nor aborted, by their ids. */
  uploads: Map<string, KeptUpload>;
}

interface KeptUpload {
  key: string;
  contentType: string;
  parts: Map<number, Uint8Array<ArrayBuffer>>;
  at: Date;
}

export function memoryStore(now: () => number = Date.now): MemoryStore {
  const objects = new Map<string, Kept>();
  const reach = async (operation: string, key: string) => {
    await store.before?.(operation, key);
    store.observe?.(store.away ? "storage_unavailable" : "ok");
    if (store.away) throw new GatewayError("storage_unavailable", { detail: "away" });
  };
  const factsOf = ({ body, contentType, contentEncoding, at }: Kept) => ({
    sizeBytes: body.byteLength,
    contentType,
    contentEncoding,
    etag: null,
    lastModified: at,
  });
  const uploads = new Map<string, KeptUpload>();
  let begun = 0;
  function openUpload(uploadId: string): KeptUpload {
    const upload = uploads.get(uploadId);
    if (upload === undefined) throw new GatewayError("object_not_found", { detail: "no such upload" });
    return upload;
  }
  const multipart: MultipartUploads = {
    async create(key, { contentType }) {
      await reach("multipart_create", key);
      const uploadId = `upload-${++begun}`;
      uploads.set(uploadId, { key, contentType, parts: new Map(), at: new Date(now()) });
      await store.before?.("after multipart_create", key);
      return { key, uploadId };
    },
    presignPart: ({ key, uploadId }, { partNumber, sizeBytes, expiresIn }) =>
      Promise.resolve({
        method: "PUT",
        url: `https://bucket.example/${key}?uploadId=${uploadId}&partNumber=${partNumber}`,
        headers: { "content-length": String(sizeBytes) },
        expiresAt: new Date(now() + expiresIn * 1000),
      }),
    async parts({ key, uploadId }) {
      await reach("multipart_parts", key);
      return [...openUpload(uploadId).parts].sort(([a], [b]) => a - b).map(([partNumber, body]) => ({
        partNumber,
        etag: `etag-${partNumber}`,
        sizeBytes: body.byteLength,
      }));
    },
    async complete({ key, uploadId }, parts) {
      await reach("multipart_complete", key);
      // Completed before.
      if (!uploads.has(uploadId) && objects.has(key)) return;
      const { contentType, parts: kept } = openUpload(uploadId);
      const body = new Uint8Array(
        await new Blob(parts.map(({ partNumber }) => kept.get(partNumber)!)).arrayBuffer(),
      );
      objects.set(key, { body, contentType, contentEncoding: null, at: new Date(now()) });
      uploads.delete(uploadId);
      await store.before?.("after multipart_complete", key);
    },
    async abort({ key, uploadId }) {
      await reach("multipart_abort", key);
      uploads.delete(uploadId);
    },
    async list({ prefix = "" } = {}) {
      await reach("multipart_list", prefix);
      return {
        uploads: [...uploads].filter(([, { key }]) => key.startsWith(prefix)).map((
          [uploadId, { key, at }],
        ) => ({
          key,
          uploadId,
          startedAt: at,
        })),
        cursor: null,
      };
    },
  };
  const store: MemoryStore = {
    kind: "s3",
    objects,
    uploads,
    away: false,
    hashBoundPut: true,
    before: null,
    observe: null,
    puts: [],
    abilities: () =>
      Promise.resolve({ hashBoundPut: store.hashBoundPut, ifNoneMatch: true, lifecycle: false }),
    ping: () => reach("ping", ""),
    async put(key, { body, contentType, contentEncoding }) {
      await reach("put", key);
      const created = !objects.has(key);
      if (created) {
        store.puts.push(key);
        objects.set(key, {
          body: body.slice(),
          contentType,
          contentEncoding: contentEncoding ?? null,
          at: new Date(now()),
        });
      }
      await store.before?.("after put", key);
      return { created, sizeBytes: body.byteLength };
    },
    async get(key, { range } = {}) {
      await reach("get", key);
      const kept = objects.get(key);
      if (kept === undefined) throw new GatewayError("object_not_found");
      const piece = range === undefined
        ? kept.body
        : kept.body.slice(range.from, (range.to ?? kept.body.length) + 1);
      const stream = new Blob([piece]).stream();
      const packed = kept.contentEncoding === "gzip" && range === undefined;
      return {
        ...factsOf(kept),
        body: packed ? stream.pipeThrough(new DecompressionStream("gzip")) : stream,
      };
    },
    async head(key) {
      await reach("head", key);
      const kept = objects.get(key);
      return kept === undefined ? null : factsOf(kept);
    },
    async delete(key) {
      await reach("delete", key);
      objects.delete(key);
    },
    async deleteMany(keys) {
      for (const key of keys) {
        await reach("delete", key);
        objects.delete(key);
        await store.before?.("after delete", key);
      }
      return { failed: [] };
    },
    async list({ prefix = "", limit = 1000, after = "", cursor = null } = {}) {
      await reach("list", prefix);
      const keys = [...objects.keys()].filter((key) => key.startsWith(prefix) && key > (cursor ?? after))
        .sort();
      return {
        objects: keys.slice(0, limit).map((key) => ({ key, ...factsOf(objects.get(key)!) })),
        cursor: keys.length > limit ? keys[limit - 1]! : null,
      };
    },
    presignGet(key, { expiresIn, contentDisposition, contentEncoding }) {
      const parameters = new URLSearchParams({
        ...(contentDisposition !== undefined && { disposition: contentDisposition }),
        ...(contentEncoding !== undefined && { encoding: contentEncoding }),
      });
      const query = parameters.size === 0 ? "" : `?${parameters}`;
      return Promise.resolve({
        method: "GET",
        url: `https://bucket.example/${key}${query}`,
        headers: {},
        expiresAt: new Date(now() + expiresIn * 1000),
      });
    },
    // Signed here, whether anybody will answer there or not.
    presignPut: (key, { sha256, sizeBytes, contentType, expiresIn }) =>
      Promise.resolve({
        method: "PUT",
        url: `https://bucket.example/${key}?put`,
        headers: {
          "content-type": contentType,
          "content-length": String(sizeBytes),
          "x-amz-content-sha256": sha256,
        },
        expiresAt: new Date(now() + expiresIn * 1000),
      }),
    multipart,
    lifecycle: null,
  };
  return store;
}
