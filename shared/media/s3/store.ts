import { GatewayError } from "../../contract/gateway_error.ts";
import { sha256Of } from "../hash.ts";
import { addressableKey, checkedKey } from "../object_key.ts";
import type {
  DeleteManyResult,
  ListedObject,
  ListOptions,
  ListPage,
  ObjectFacts,
  ObjectStore,
  PresignedObject,
  PresignedRequest,
  PutResult,
  StoreCall,
} from "../object_store.ts";
import type { S3Settings } from "../settings.ts";
import { dateOf, encodingHeaders, factsOf, factsOfUnpacked, keyDecoder, unquoted } from "./answers.ts";
import { checkedExpiry, checkedLimit, checkedSha256, checkSize, MAX_LIST } from "../store_arguments.ts";
import { hashHeaders, rangeHeader } from "./arguments.ts";
import { lifecycleOf } from "./lifecycle.ts";
import { multipartOf } from "./multipart.ts";
import { probe, type PutTerms, type S3Abilities } from "./probe.ts";
import { createSigner } from "./sign.ts";
import {
  createTransport,
  discard,
  failed,
  type S3Dependencies,
  type S3Request,
  type Send,
  watchedBody,
  xmlOf,
} from "./transport.ts";
import { escaped, UNSAYABLE } from "./xml.ts";
import { xmlBody } from "./xml_body.ts";

export interface S3StoreOptions extends S3Settings {
  /** Of one file, as it is stored. */
  maxFileBytes: number;
  /**
   * Where what the store can do is kept from one instance to the next, under its endpoint and bucket: to ask takes half a dozen
   * requests. Absent: each instance asks for itself.
   */
  memory?: AbilityMemory;
}

export interface AbilityMemory {
  load(store: string): Promise<S3Abilities | null>;
  save(store: string, abilities: S3Abilities): Promise<void>;
}

/** One request deletes so many. */
const DELETE_BATCH = 1_000;

/** Files in a bucket of any store that speaks S3, in path style. See `ObjectStore` for what each operation does and throws. */
export function createS3Store(options: S3StoreOptions, dependencies: S3Dependencies): ObjectStore {
  const { maxFileBytes, memory } = options;
  const signer = createSigner(options, dependencies.now);
  const send = createTransport(signer, dependencies);
  const lifecycle = lifecycleOf(send);

  let asked: Promise<S3Abilities> | null = null;
  async function find(call: StoreCall): Promise<S3Abilities> {
    const name = `${options.endpoint}/${options.bucket}`;
    // A memory that fails is as good as none.
    const known = await memory?.load(name).catch(() => null) ?? null;
    if (known !== null) return known;
    const found = await probe({
      presign,
      lifecycle,
      remove,
      fetch: dependencies.fetch,
      clock: dependencies.clock,
    }, call);
    await memory?.save(name, found).catch(() => {});
    return found;
  }
  function abilities(call: StoreCall = {}): Promise<S3Abilities> {
    if (asked !== null) return asked;
    // Anyone who asks first may go away: the others wait for the same answer, and none of them ends it.
    const { timeoutMs } = call;
    const asking = find(timeoutMs === undefined ? {} : { timeoutMs });
    asked = asking;
    asking.catch(() => asked = null);
    return asking;
  }

  async function presign(key: string, object: PresignedObject, terms: PutTerms): Promise<PresignedRequest> {
    checkSize(object.sizeBytes, maxFileBytes);
    const headers: Record<string, string> = {
      "content-length": String(object.sizeBytes),
      "content-type": object.contentType,
      ...encodingHeaders(object.contentEncoding),
      ...(terms.ifNoneMatch ? { "if-none-match": "*" } : {}),
      ...hashHeaders(terms.hashHeader, object.sha256),
    };
    const request = { method: "PUT", key: checkedKey(key), headers };
    const signed = await signer.query(request, checkedExpiry(object.expiresIn));
    return { method: "PUT", ...signed, headers };
  }

  async function remove(key: string, call: StoreCall = {}): Promise<void> {
    const request = { operation: "delete", method: "DELETE", key: addressableKey(key) };
    await send(request, call, {
      read: discard,
      refused: ({ code }) => code === "NoSuchKey" ? true as const : undefined,
    });
  }

  async function list(
    { prefix = "", limit = MAX_LIST, after, cursor = null }: ListOptions = {},
    call: StoreCall = {},
  ): Promise<ListPage> {
    const query: Record<string, string> = {
      "list-type": "2",
      "max-keys": String(checkedLimit(limit)),
      "encoding-type": "url",
      ...(prefix === "" ? {} : { prefix }),
      ...(cursor !== null
        ? { "continuation-token": cursor }
        : after !== undefined
        ? { "start-after": after }
        : {}),
    };
    const request = { operation: "list", method: "GET", query };
    const page = await send(request, call, {
      read: (response) => xmlOf(response, "list", "ListBucketResult"),
    });
    const decode = keyDecoder(page.value("EncodingType"));
    const objects = page.all("Contents").map((entry): ListedObject => {
      const key = entry.value("Key");
      const sizeBytes = Number(entry.value("Size") ?? NaN);
      if (key === null || !Number.isSafeInteger(sizeBytes)) {
        throw failed("list", "an object without key or size");
      }
      return {
        key: decode(key),
        sizeBytes,
        etag: unquoted(entry.value("ETag")),
        lastModified: dateOf(entry.value("LastModified")),
      };
    });
    const more = page.value("IsTruncated") === "true";
    const next = page.value("NextContinuationToken");
    if (more && !next) throw failed("list", "a page that is not the last, and no way to the next");
    return { objects, cursor: more ? next : null };
  }

  /** What an answer says of an object. One that the runtime has unpacked has lost its length, which a list tells. */
  async function described(
    response: Response,
    key: string,
    call: StoreCall,
  ): Promise<{ facts: ObjectFacts; unpacked: boolean }> {
    const facts = factsOf(response);
    if (facts !== null) return { facts, unpacked: false };
    const { objects } = await list({ prefix: key, limit: 1 }, call);
    if (objects[0]?.key === key) {
      return { facts: factsOfUnpacked(response, objects[0].sizeBytes), unpacked: true };
    }
    response.body?.cancel().catch(() => {});
    throw failed("get", "an object without a length");
  }

  return {
    kind: "s3",
    abilities,

    async ping(call = {}) {
      const request = { operation: "ping", method: "GET", query: { "list-type": "2", "max-keys": "1" } };
      await send(request, call, {
        read: (response) => xmlOf(response, "ping", "ListBucketResult"),
        attempts: 1,
      });
    },

    async put(key, { body, sha256, contentType, contentEncoding }, call = {}) {
      checkSize(body.byteLength, maxFileBytes);
      // Supabase Storage signs the hash and does not look at the body.
      if (await sha256Of(body) !== checkedSha256(sha256)) throw new GatewayError("content_mismatch");
      const { ifNoneMatch } = await unlessAborted(abilities(call), call.signal);
      const request: S3Request = {
        operation: "put",
        method: "PUT",
        key: checkedKey(key),
        headers: {
          "content-type": contentType,
          ...encodingHeaders(contentEncoding),
          ...(ifNoneMatch ? { "if-none-match": "*" } : {}),
        },
        body,
        sha256,
      };
      return await send<PutResult>(request, call, {
        read: async (response) => {
          await discard(response);
          return { created: true, sizeBytes: body.byteLength };
        },
        refused: ({ status }) =>
          ifNoneMatch && status === 412 ? { created: false, sizeBytes: body.byteLength } : undefined,
      });
    },

    async get(key, { range } = {}, call = {}) {
      const request: S3Request = {
        operation: "get",
        method: "GET",
        key: addressableKey(key),
        // A piece of what was packed is nothing that the runtime could unpack, so it is not to know of it.
        ...(range === undefined ? {} : {
          headers: { range: rangeHeader(range) },
          query: { "response-content-encoding": "identity" },
        }),
      };
      return await send(request, call, {
        read: async (response) => {
          if (range !== undefined && response.status !== 206) {
            response.body?.cancel().catch(() => {});
            throw failed("get", "a whole object where a range was asked for");
          }
          const { facts, unpacked } = await described(response, key, call);
          const contentEncoding = range === undefined ? facts.contentEncoding : null;
          const packed = contentEncoding === "gzip" && !unpacked;
          const stored = response.body ?? new Blob([]).stream();
          const body = packed ? stored.pipeThrough(new DecompressionStream("gzip")) : stored;
          return { ...facts, contentEncoding, body: watchedBody(body, "get", call, dependencies.clock) };
        },
      });
    },

    async head(key, call = {}) {
      const request = { operation: "head", method: "HEAD", key: addressableKey(key) };
      return await send<ObjectFacts | null>(request, call, {
        read: async (response) => (await described(response, key, call)).facts,
        // An answer to HEAD has no body, so a bucket that is not there looks the same; every other operation would say so.
        refused: ({ status }) => status === 404 ? null : undefined,
      });
    },

    delete: remove,

    async deleteMany(keys, call = {}) {
      const failures: DeleteManyResult["failed"] = [];
      const sayable = keys.filter((key) => {
        if (key !== "" && key.isWellFormed() && !UNSAYABLE.test(key)) return true;
        failures.push({ key, code: "storage_key_invalid" });
        return false;
      });
      for (let at = 0; at < sayable.length; at += DELETE_BATCH) {
        failures.push(...await deleteBatch(send, sayable.slice(at, at + DELETE_BATCH), call));
      }
      return { failed: failures };
    },

    list,

    async presignGet(key, { expiresIn, contentDisposition, contentType, contentEncoding }) {
      const query: Record<string, string> = {
        ...(contentDisposition === undefined ? {} : { "response-content-disposition": contentDisposition }),
        ...(contentType === undefined ? {} : { "response-content-type": contentType }),
        ...(contentEncoding === undefined ? {} : { "response-content-encoding": contentEncoding }),
      };
      const request = { method: "GET", key: addressableKey(key), query };
      return { method: "GET", ...await signer.query(request, checkedExpiry(expiresIn)), headers: {} };
    },

    async presignPut(key, object, call = {}) {
      return await presign(key, object, await unlessAborted(abilities(call), call.signal));
    },

    multipart: multipartOf({ send, signer, abilities, maxFileBytes }),
    lifecycle,
  };
}

async function deleteBatch(send: Send, keys: string[], call: StoreCall): Promise<DeleteManyResult["failed"]> {
  const objects = keys.map((key) => `<Object><Key>${escaped(key)}</Key></Object>`).join("");
  const body = new TextEncoder().encode(
    `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${objects}<Quiet>true</Quiet></Delete>`,
  );
  const request: S3Request = {
    operation: "delete_many",
    method: "POST",
    query: { delete: "" },
    ...await xmlBody(body),
  };
  const answer = await send(request, call, {
    read: (response) => xmlOf(response, "delete_many", "DeleteResult"),
  });
  return answer.all("Error").filter((error) => error.value("Code") !== "NoSuchKey")
    .map((error) => ({ key: error.value("Key") ?? "", code: error.value("Code") ?? "unknown" }));
}

function unlessAborted<Value>(promise: Promise<Value>, signal: AbortSignal | undefined): Promise<Value> {
  if (signal === undefined) return promise;
  const first = Promise.withResolvers<Value>();
  const onAbort = () => first.reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  promise.then(first.resolve, first.reject);
  return first.promise.finally(() => signal.removeEventListener("abort", onAbort));
}
