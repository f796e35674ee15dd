/**
 * Where objects are kept: one interface, served by S3 (`s3/`) and by a table in Postgres. What is above it (registry, quota,
 * references) decides which objects there are; a store only keeps bytes under keys.
 *
 * Every operation throws `GatewayError` and nothing else but the signal's reason when the caller's signal aborts:
 * - `storage_unavailable`: no answer, too late, broken off, or the store is busy; it was tried again within the call's time
 * - `storage_misconfigured`: the store answers, and refuses us: keys, bucket, region or address are wrong
 * - `storage_failed`: an answer that makes no sense, or that no setting explains
 * - `storage_full`: it takes no more
 * - `storage_key_invalid`: a key that not every store takes, see `object_key.ts`; reading and deleting take also those that
 *   other programs chose, unless no URL can name them
 * - `object_not_found`, `file_too_large`, `content_mismatch` where an operation names them
 * No error holds a secret, a presigned URL, or what the store said beyond its code and its request id.
 */
export interface ObjectStore {
  readonly kind: "s3" | "postgres";

  /**
   * What this store can do, asked once and then remembered; a failure is not remembered.
   * Where something is missing the operations do without it, in the way that each names.
   */
  abilities(call?: StoreCall): Promise<StoreAbilities>;

  /** Whether it answers and lets us in. Throws as every operation. Tried once. */
  ping(call?: StoreCall): Promise<void>;

  /**
   * Keeps the bytes under the key: all of them or nothing. An object that is there already is left as it is where the store
   * knows `If-None-Match`, and otherwise written again: the same bytes, as keys follow from the content.
   * @throws GatewayError also `file_too_large`; `content_mismatch`: the bytes have another SHA-256 than was said
   */
  put(key: string, object: NewObject, call?: StoreCall): Promise<PutResult>;

  /**
   * The content, unpacked if it was stored packed (`Content-Encoding: gzip`). With a range: those bytes as they are stored.
   * Read the body to its end or cancel it. It ends with the call's signal; its time is that until the answer begins.
   * @throws GatewayError also `object_not_found`; `invalid_request`: the range begins behind the end
   */
  get(key: string, options?: { range?: ByteRange }, call?: StoreCall): Promise<ReadObject>;

  /** Null: there is no such object. */
  head(key: string, call?: StoreCall): Promise<ObjectFacts | null>;

  /** No error where there is nothing. */
  delete(key: string, call?: StoreCall): Promise<void>;

  /** Any number of keys, in requests of at most 1,000. What is not in `failed` is gone; nothing there counts as gone. */
  deleteMany(keys: readonly string[], call?: StoreCall): Promise<DeleteManyResult>;

  /** Objects whose keys begin with the prefix, in the order of their keys' bytes, a page at a time. */
  list(options?: ListOptions, call?: StoreCall): Promise<ListPage>;

  /** An address at which anybody may read the object for a while. It is not looked whether there is one. */
  presignGet(key: string, options: PresignGetOptions): Promise<PresignedRequest>;

  /**
   * An address to which anybody may send exactly these bytes for a while. Signed are the SHA-256, the length and the type, and,
   * where the store knows it, that nothing is there yet (`If-None-Match: *`, a second PUT gets 412). Where the store does not
   * hold a PUT to the hash (`abilities().hashBoundPut` is false) the object has to be read and hashed before it is trusted.
   * @throws GatewayError also `file_too_large`
   */
  presignPut(key: string, object: PresignedObject, call?: StoreCall): Promise<PresignedRequest>;

  /** Uploads in parts, for files above 100 MB. Null: this store has none. */
  readonly multipart: MultipartUploads | null;

  /** Rules that the store follows by itself. Null: this store has none. */
  readonly lifecycle: StoreLifecycle | null;
}

/** How long a call may take and who ends it. */
export interface StoreCall {
  signal?: AbortSignal;
  /** Milliseconds for all attempts and the pauses between them; absent: the store's own limit. */
  timeoutMs?: number;
}

export interface StoreAbilities {
  /** A presigned PUT takes no other body than the one whose SHA-256 is signed. */
  hashBoundPut: boolean;
  /** `If-None-Match: *` holds: a second PUT gets 412. */
  ifNoneMatch: boolean;
  /** Rules can be put on the bucket. */
  lifecycle: boolean;
}

export interface NewObject {
  /** As they are to be stored: packed already where `contentEncoding` says so. */
  body: Uint8Array<ArrayBuffer>;
  /** Of `body`, 64 hexadecimal digits. */
  sha256: string;
  contentType: string;
  contentEncoding?: "gzip";
}

export interface PutResult {
  /** False: an object was there and has been left as it was. True where the store cannot tell. */
  created: boolean;
  /** Bytes as stored. */
  sizeBytes: number;
}

/** Both ends included, as in HTTP: `{ from: 0, to: 99 }` are the first hundred bytes. Without `to`: up to the end. */
export interface ByteRange {
  from: number;
  to?: number;
}

export interface ObjectFacts {
  /** Bytes as stored. */
  sizeBytes: number;
  contentType: string | null;
  contentEncoding: string | null;
  /** Without its quotes. An MD5 in hexadecimal where the object was put in one piece and the store does so; any text otherwise. */
  etag: string | null;
  lastModified: Date | null;
}

export interface ReadObject extends ObjectFacts {
  /** Of a range, `sizeBytes` counts the whole object, and `contentEncoding` is null. */
  body: ReadableStream<Uint8Array<ArrayBuffer>>;
}

export interface DeleteManyResult {
  failed: { key: string; code: string }[];
}

export interface ListOptions {
  prefix?: string;
  /** 1 to 1,000; default 1,000. */
  limit?: number;
  /** Only keys behind this one. */
  after?: string;
  /** Of the page before; it holds for the same prefix, and goes before `after`. */
  cursor?: string | null;
}

export interface ListedObject {
  key: string;
  /** Bytes as stored. */
  sizeBytes: number;
  etag: string | null;
  lastModified: Date | null;
}

export interface ListPage {
  objects: ListedObject[];
  /** Null: this was the last page. A page may be empty and not be the last. */
  cursor: string | null;
}

export interface PresignGetOptions {
  /** Seconds, 1 to 604,800 (a week). */
  expiresIn: number;
  /** The `Content-Disposition` of the answer, such as `attachment; filename="a.pdf"`. */
  contentDisposition?: string;
  /** The `Content-Type` of the answer instead of the stored one. */
  contentType?: string;
  /** To be said of what was stored packed, so that anyone who reads unpacks it: some stores forget it. */
  contentEncoding?: "gzip";
}

export interface PresignedObject {
  /** Of the bytes that will be sent, 64 hexadecimal digits. */
  sha256: string;
  sizeBytes: number;
  contentType: string;
  contentEncoding?: "gzip";
  /** Seconds, 1 to 604,800 (a week). */
  expiresIn: number;
}

export interface PresignedRequest {
  method: "GET" | "PUT";
  /** Anyone who has it may do it: it goes into no log. */
  url: string;
  /** To be sent as they are; `content-length` is here too, though a browser sets it by itself. */
  headers: Record<string, string>;
  expiresAt: Date;
}

export interface MultipartUpload {
  key: string;
  uploadId: string;
}

export interface UploadedPart {
  /** 1 to 10,000. */
  partNumber: number;
  etag: string;
}

export interface MultipartUploads {
  /** Until it is completed or aborted its parts take room and show in no list of objects. */
  create(
    key: string,
    object: { contentType: string; contentEncoding?: "gzip" },
    call?: StoreCall,
  ): Promise<MultipartUpload>;
  /**
   * An address for one part of exactly that length, and, if one is given, of exactly that hash (where the store holds to it). Its
   * answer has the `etag` that `complete` wants. Parts but the last have 5 MiB or more.
   */
  presignPart(
    upload: MultipartUpload,
    part: { partNumber: number; sha256?: string; sizeBytes: number; expiresIn: number },
    call?: StoreCall,
  ): Promise<PresignedRequest>;
  /** The parts that have arrived, all of them, by number. @throws GatewayError also `object_not_found`: no such upload */
  parts(upload: MultipartUpload, call?: StoreCall): Promise<(UploadedPart & { sizeBytes: number })[]>;
  /** Makes the object. Of an upload that was completed before, the object is there: done. @throws GatewayError also `object_not_found`, `content_mismatch`: a part is missing or another */
  complete(upload: MultipartUpload, parts: readonly UploadedPart[], call?: StoreCall): Promise<void>;
  /** No error where there is none. */
  abort(upload: MultipartUpload, call?: StoreCall): Promise<void>;
  /** Uploads that are neither completed nor aborted, a page at a time. */
  list(
    options?: ListOptions,
    call?: StoreCall,
  ): Promise<{ uploads: (MultipartUpload & { startedAt: Date | null })[]; cursor: string | null }>;
}

export interface StoreLifecycle {
  /** The longest time that an upload to one of our folders has; null: one of them has no rule of that kind. */
  abortUnfinishedAfterDays(call?: StoreCall): Promise<number | null>;
  /** Sets the rules that we use, one for each of our folders, and leaves no other of ours; rules that others made stay. */
  setAbortUnfinishedAfterDays(days: number, call?: StoreCall): Promise<void>;
}
