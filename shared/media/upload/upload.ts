import type { Actor } from "../../contract/actor.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { MediaKind, MediaLinks, MediaObject } from "../../database/media/media.ts";
import { deleteObjects } from "../delete.ts";
import { checkedType, extensionOf, isPacked } from "../file_type.ts";
import { sha256Of } from "../hash.ts";
import { checkedKey, visionKey } from "../object_key.ts";
import type { NewObject, ObjectStore } from "../object_store.ts";
import { firstStore, isAway, type Media } from "../storage.ts";

export interface Upload {
  tenantId: string | null;
  kind: MediaKind;
  /** Declared; the file's beginning must not tell another. */
  mimeType: string;
  body: Uint8Array<ArrayBuffer>;
  metadata: Record<string, unknown>;
  links: MediaLinks;
  /** Of kind `vision`: what was looked at and how, from which its key follows. */
  vision: VisionSource | null;
}

export interface VisionSource {
  sourceSha256: string;
  model: string;
  schemaVersion: string;
}

/** An upload through the function is over in a minute; a process that dies in it holds the room for so long. */
const UPLOAD_TTL_SECONDS = 900;

/**
 * Stores a file that is here: room is taken first, then it is sent to the store, then the registry says that it is there. A file that is
 * there already is not sent again.
 * @throws GatewayError `file_too_large`, `media_type_mismatch`, `invalid_request`, `storage_quota_exceeded`, `upload_busy`,
 * `storage_unavailable` and what refuses the actor
 */
export async function uploadFile(
  media: Media,
  actor: Actor,
  upload: Upload,
): Promise<{ object: MediaObject; created: boolean }> {
  const { kind, body, links, tenantId, metadata } = upload;
  const mimeType = await checkedType(body, upload.mimeType);
  if (links.key !== undefined) checkedKey(links.key);
  const sha256 = await sha256Of(body);
  const packs = isPacked(mimeType);
  const stored = packs ? await packed(body) : body;
  checkFileSize(media, Math.max(stored.byteLength, body.byteLength));
  const name = nameOf(upload, sha256, mimeType);
  const { status, object } = await media.registry.reserve(actor, {
    tenantId,
    sha256,
    sizeBytes: body.byteLength,
    storedBytes: stored.byteLength,
    mimeType,
    contentEncoding: packs ? "gzip" : null,
    kind,
    name,
    metadata,
    links,
    inSpool: media.s3 === null,
    ttlSeconds: UPLOAD_TTL_SECONDS,
    addressSeconds: null,
  });
  const wantedKey = `${kind}/${object.tenant_id}/${name}`;
  // The same answer about another picture: it is found under that key as well.
  const alsoKnownAs = kind === "vision" && object.s3_key !== wantedKey ? wantedKey : undefined;
  if (status === "present") {
    if (alsoKnownAs !== undefined) await link(media, object, { key: alsoKnownAs });
    return { object, created: false };
  }
  const newObject: NewObject = {
    body: stored,
    sha256: packs ? await sha256Of(stored) : sha256,
    contentType: mimeType,
    ...(packs && { contentEncoding: "gzip" as const }),
  };
  const { store, storedBytes } = await send(media, object, newObject, sha256);
  const kept = await media.registry.stored({
    tenantId: object.tenant_id,
    sha256,
    state: "verified",
    storedBytes,
    storedIn: store.kind,
    links,
  });
  if (kept.status === "gone") throw new GatewayError("upload_busy", { retryAfterMs: 1_000 });
  if (alsoKnownAs !== undefined) await link(media, object, { key: alsoKnownAs });
  return { object: kept.object, created: true };
}

async function link({ registry }: Media, object: MediaObject, links: MediaLinks): Promise<void> {
  await registry.stored({
    tenantId: object.tenant_id,
    sha256: object.sha256,
    state: "stored",
    storedBytes: object.stored_bytes,
    storedIn: object.stored_in,
    links,
  });
}

/** To S3, or to the database while S3 is away. Gives the room back where the file cannot be stored at all. */
async function send(
  media: Media,
  object: MediaObject,
  file: NewObject,
  sha256: string,
): Promise<{ store: ObjectStore; storedBytes: number }> {
  const key = object.s3_key;
  if (key === null) throw new GatewayError("internal", { detail: "a reserved object without a key" });
  const first = firstStore(media);
  try {
    try {
      return { store: first, storedBytes: await put(first, key, file, sha256) };
    } catch (thrown) {
      if (!isAway(thrown) || media.mode !== "s3 with spool") throw thrown;
      media.log("warn", "media_spooled", { key, detail: thrown instanceof Error ? thrown.message : "" });
      return { store: media.spool, storedBytes: await put(media.spool, key, file, sha256) };
    }
  } catch (thrown) {
    // Where nobody knows whether it arrived, the reservation's end tidies up.
    if (!isAway(thrown)) await giveUp(media, object);
    throw thrown;
  }
}

/** Bytes as stored. */
async function put(store: ObjectStore, key: string, file: NewObject, sha256: string): Promise<number> {
  const { created } = await store.put(key, file);
  if (created) return file.body.byteLength;
  // Something is there: from an upload that died before it was registered, as a rule. Packed again it may have another size.
  const { hashBoundPut } = await store.abilities();
  const there = await store.head(key);
  if (there !== null && (hashBoundPut || await contentHash(store, key) === sha256)) return there.sizeBytes;
  await store.delete(key);
  await store.put(key, file);
  return file.body.byteLength;
}

async function contentHash(store: ObjectStore, key: string): Promise<string> {
  const { body } = await store.get(key);
  return await sha256Of(new Uint8Array(await new Response(body).arrayBuffer()));
}

async function giveUp(media: Media, object: MediaObject): Promise<void> {
  try {
    const failed = await media.registry.failed(object.tenant_id, object.sha256);
    if (failed !== null) await deleteObjects(media, [failed]);
  } catch {
    // The reservation ends by itself.
  }
}

/** @throws GatewayError `file_too_large`, with both sizes */
export function checkFileSize({ maxFileBytes }: Media, sizeBytes: number): void {
  if (sizeBytes <= maxFileBytes) return;
  throw new GatewayError("file_too_large", {
    message: `Size of file exceeds limit: ${sizeBytes} bytes of at most ${maxFileBytes}.`,
    details: { size_bytes: sizeBytes, limit_bytes: maxFileBytes },
  });
}

/** The storage key's part behind kind and tenant. */
function nameOf({ kind, vision }: Upload, sha256: string, mimeType: string): string {
  if (kind !== "vision") return objectName(sha256, mimeType);
  if (vision === null) {
    throw new GatewayError("invalid_request", {
      message:
        "An object of kind vision needs source_sha256, model and schema_version: its key follows from them.",
    });
  }
  const { sourceSha256, model, schemaVersion } = vision;
  return visionKey("tenant", sourceSha256, model, schemaVersion).split("/").slice(2).join("/");
}

/** Of kinds `media` and `crawl`: `{sha256[:2]}/{sha256}.{ext}`. */
export function objectName(sha256: string, mimeType: string): string {
  return `${sha256.slice(0, 2)}/${sha256}.${extensionOf(mimeType)}`;
}

async function packed(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
