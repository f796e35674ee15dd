import type { Actor } from "../../contract/actor.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { MediaKind, MediaLinks, MediaObject } from "../../database/media/media.ts";
import { deleteObjects } from "../delete.ts";
import { checkedType, isPacked, mimeTypeOf, SNIFFED_BYTES } from "../file_type.ts";
import { checkedKey } from "../object_key.ts";
import type { ObjectFacts, ObjectStore, PresignedRequest } from "../object_store.ts";
import { completeParts, partsToSend, type PartToSend } from "./parts.ts";
import { firstStore, isAway, type Media } from "../storage.ts";
import { checkFileSize, objectName } from "./upload.ts";

export interface AnnouncedFile {
  tenantId: string | null;
  /** Of the bytes that will be sent. */
  sha256: string;
  sizeBytes: number;
  mimeType: string;
  kind: MediaKind;
  metadata: Record<string, unknown>;
  links: MediaLinks;
}

export type Announced =
  | { status: "present"; object: MediaObject }
  | { status: "upload"; object: MediaObject; upload: PresignedRequest }
  /** Those that have arrived already are left out. */
  | { status: "parts"; object: MediaObject; parts: PartToSend[] };

/** An address to send a file or a part to: 5 GB at 12 Mbit/s take an hour. */
const UPLOAD_ADDRESS_SECONDS = 3_600;

/**
 * Takes room for a file that the caller sends to the store themselves, and answers the address to send it to, or of each part of a large
 * one: or that it is there. Asked again about a file that is half there, it answers the parts that have not arrived.
 * @param spoolBytes what the function itself takes in one body: files up to that may go to the database while S3 is away
 * @throws GatewayError as `uploadFile`
 */
export async function announceUpload(
  media: Media,
  actor: Actor,
  file: AnnouncedFile,
  spoolBytes: number,
): Promise<Announced> {
  const { tenantId, sha256, sizeBytes, kind, metadata, links } = file;
  const mimeType = mimeTypeOf(file.mimeType);
  checkFileSize(media, sizeBytes);
  if (media.s3 === null) checkFileSize({ ...media, maxFileBytes: spoolBytes }, sizeBytes);
  // What the function cannot take in one body is stored as it is.
  if (kind === "vision" || (isPacked(mimeType) && sizeBytes <= spoolBytes)) {
    throw new GatewayError("invalid_request", {
      message: "JSON and HTML are stored packed, and are sent through the function: POST /v1/media.",
    });
  }
  if (links.key !== undefined) checkedKey(links.key);
  const inParts = media.s3?.multipart != null && sizeBytes > media.partBytes;
  const { status, object, multipart } = await media.registry.reserve(actor, {
    tenantId,
    sha256,
    sizeBytes,
    storedBytes: sizeBytes,
    mimeType,
    contentEncoding: null,
    kind,
    name: objectName(sha256, mimeType),
    metadata,
    links,
    inSpool: media.s3 === null,
    ttlSeconds: null,
    // The addresses of parts end with their upload: with the object's completion, or before its room is free.
    addressSeconds: inParts ? null : UPLOAD_ADDRESS_SECONDS,
  });
  if (status === "present") return { status, object };
  if (inParts) return { status: "parts", object, parts: await partsToSend(media, object, multipart) };
  const key = keyOf(object);
  const terms = { sha256, sizeBytes, contentType: mimeType, expiresIn: UPLOAD_ADDRESS_SECONDS };
  const mayWait = media.mode === "s3 with spool" && sizeBytes <= spoolBytes;
  try {
    const store = mayWait && media.absence.isRecent() ? media.spool : firstStore(media);
    return { status: "upload", object, upload: await store.presignPut(key, terms) };
  } catch (thrown) {
    // A store that was never met is asked first what it can do.
    if (!isAway(thrown) || !mayWait) throw thrown;
    return { status: "upload", object, upload: await media.spool.presignPut(key, terms) };
  }
}

/**
 * Says that an announced file has been sent: it is looked for, and its size and beginning are held against what was announced. Where the
 * store did not hold it to its hash it is `stored`, and read later; else `verified`. Twice is the same as once.
 * @throws GatewayError `object_not_found`: nothing has arrived; `content_mismatch`, `media_type_mismatch`: it is deleted again
 */
export async function verifyUpload(
  media: Media,
  actor: Actor,
  { tenantId, sha256, links, key }: {
    tenantId: string | null;
    sha256: string;
    links: MediaLinks;
    /** Where it was to be sent, if the caller says so: it is looked for there while the database is asked. */
    key?: string;
  },
): Promise<{ object: MediaObject; isFinal: boolean }> {
  const early = key === undefined || media.s3 === null ? null : beginningOf(media.s3, key);
  // Whose it is, is not known yet: nothing of it is told to anybody, not even that it is late.
  early?.catch(() => {});
  const found = await media.registry.find(actor, tenantId, sha256, { unfinished: true });
  if (found === null || found.object.sha256 !== sha256) {
    throw new GatewayError("object_not_found", {
      message: "No such upload was begun, or its time is over. Begin it again.",
    });
  }
  const { object, multipart } = found;
  if (links.key !== undefined) checkedKey(links.key);
  const isAwaited = object.state === "reserved" || object.missing_since !== null;
  if (isAwaited && multipart !== null) await completeParts(media, object, multipart);
  const proof = isAwaited
    ? await verifyFile(media, object, object.s3_key === key && multipart === null ? early : null)
    : null;
  const kept = await media.registry.stored({
    tenantId: object.tenant_id,
    sha256,
    // A hash holds a part, not what it is a part of.
    state: proof?.isBound && multipart === null ? "verified" : "stored",
    storedBytes: proof?.sizeBytes ?? object.stored_bytes,
    storedIn: proof?.store.kind ?? object.stored_in,
    links,
  });
  if (kept.status === "gone") throw new GatewayError("upload_busy", { retryAfterMs: 1_000 });
  return kept;
}

/** Gives up an announced upload: what has arrived of it is deleted, and its room is free. False: there is none. */
export async function giveUpUpload(
  media: Media,
  actor: Actor,
  { tenantId, sha256 }: { tenantId: string | null; sha256: string },
): Promise<boolean> {
  const found = await media.registry.find(actor, tenantId, sha256, { unfinished: true });
  if (found === null || found.object.sha256 !== sha256 || found.object.state !== "reserved") return false;
  await refuse(media, found.object);
  return true;
}

async function verifyFile(
  media: Media,
  object: MediaObject,
  early: Promise<Found | null> | null,
): Promise<{ store: ObjectStore; sizeBytes: number; isBound: boolean }> {
  const announced = object.size_bytes ?? object.stored_bytes;
  const { store, facts, beginning } = await whereItIs(media, keyOf(object), early);
  if (facts.sizeBytes !== announced) {
    await refuse(media, object);
    throw new GatewayError("content_mismatch", {
      message:
        `The file has ${facts.sizeBytes} bytes, and ${announced} were announced. It is deleted; send it again.`,
      details: { size_bytes: facts.sizeBytes, announced_bytes: announced },
    });
  }
  if (facts.sizeBytes > 0 && object.mime_type !== null) {
    try {
      await checkedType(beginning, object.mime_type);
    } catch (thrown) {
      await refuse(media, object);
      throw thrown;
    }
  }
  return { store, sizeBytes: facts.sizeBytes, isBound: (await store.abilities()).hashBoundPut };
}

async function whereItIs(
  media: Media,
  key: string,
  early: Promise<Found | null> | null,
): Promise<Found & { store: ObjectStore }> {
  let away: unknown = null;
  for (const store of media.s3 === null ? [media.spool] : [media.s3, media.spool]) {
    try {
      const found = await (store === media.s3 && early !== null ? early : beginningOf(store, key));
      if (found !== null) return { store, ...found };
    } catch (thrown) {
      if (!isAway(thrown)) throw thrown;
      away = thrown;
    }
  }
  if (away !== null) throw away;
  throw new GatewayError("object_not_found", {
    message: "Nothing has arrived yet. Send the file to the address of the upload, then verify.",
  });
}

interface Found {
  facts: ObjectFacts;
  beginning: Uint8Array<ArrayBuffer>;
}

/** Its size and its beginning, in one request. Null: there is no such object. */
async function beginningOf(store: ObjectStore, key: string): Promise<Found | null> {
  try {
    const { body, ...facts } = await store.get(key, { range: { from: 0, to: SNIFFED_BYTES - 1 } });
    return { facts, beginning: new Uint8Array(await new Response(body).arrayBuffer()) };
  } catch (thrown) {
    const code = thrown instanceof GatewayError ? thrown.code : null;
    if (code === "object_not_found") return null;
    // Nothing has no first byte.
    if (code !== "invalid_request") throw thrown;
  }
  const facts = await store.head(key);
  return facts === null ? null : { facts, beginning: new Uint8Array() };
}

/** What arrived is not what was announced. */
async function refuse(media: Media, object: MediaObject): Promise<void> {
  const failed = await media.registry.failed(object.tenant_id, object.sha256);
  if (failed !== null) await deleteObjects(media, [failed]).catch(() => {});
  // Its row stays, with its uses: it goes on missing the right content.
  else if (object.missing_since !== null) await media.s3?.delete(keyOf(object)).catch(() => {});
}

function keyOf({ s3_key }: MediaObject): string {
  if (s3_key !== null) return s3_key;
  throw new GatewayError("internal", { detail: "an object without a key" });
}
