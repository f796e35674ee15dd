import { GatewayError } from "../../contract/gateway_error.ts";
import type { ObjectToDelete, UnprovenObject } from "../../database/media/media.ts";
import { deleteObjects } from "../delete.ts";
import { sha256Of, sha256Stream } from "../hash.ts";
import { type Media, storeOf } from "../storage.ts";

type Unproven =
  & Pick<ObjectToDelete, "tenant_id" | "sha256" | "s3_key" | "stored_in">
  & Partial<Pick<UnprovenObject, "proof" | "content_encoding">>
  & { stored_bytes?: number; bytes?: number };

/** Up to here an object is read whole and hashed by the runtime, at a fifth of what hashing it in pieces costs. */
const WHOLE_BYTES = 32_000_000;
const READ_TIMEOUT_MS = 60_000;
/** Read and hashed by one run: half of the two seconds of computing that a hosted function has. */
export const PROOF_BYTES = 200_000_000;

export type ProofOutcome = "verified" | "matching" | "deleted" | "missing" | "wrong" | "unfinished";

/**
 * Reads an object whose content the store did not hold to its hash. What has the hash is `verified`; what has another is deleted, or,
 * where something refers to it already or another program wrote its row, `wrong`: logged and left. A large one takes several runs: it is `unfinished`, and how far it is has been kept.
 * isOver: nobody holds an address to send it to any more; before that, what has the hash is only `matching`, as it may still change, and
 * a large one is left alone.
 * @param bytes to read at most, of a large object
 * @throws GatewayError where the store or the database does not answer
 */
export async function proveObject(
  media: Media,
  object: Unproven,
  isOver: boolean,
  bytes = PROOF_BYTES,
): Promise<ProofOutcome> {
  const { tenant_id: tenantId, sha256, s3_key: key, stored_in: storedIn } = object;
  if (key === null) return "missing";
  const size = sizeOf(object);
  let found: string | null;
  try {
    found = await hashOf(media, { ...object, key, size }, isOver, bytes);
  } catch (thrown) {
    if (thrown instanceof GatewayError && thrown.code === "object_not_found") return "missing";
    throw thrown;
  }
  if (found === null) return "unfinished";
  if (found === sha256 && !isOver) return "matching";
  if (found === sha256) {
    await media.registry.stored({ tenantId, sha256, state: "verified", storedBytes: size, storedIn });
    if (object.proof) await media.registry.keepProof({ tenantId, sha256 }, null);
    return "verified";
  }
  media.log("error", "media_content_mismatch", { tenant_id: tenantId, key, found });
  const failed = await media.registry.failed(tenantId, sha256);
  if (failed === null) return "wrong";
  await deleteObjects(media, [failed]);
  return "deleted";
}

/** What is to be read of it, in bytes. */
export const sizeOf = (object: Unproven): number => object.stored_bytes ?? object.bytes ?? 0;

/** Null: it goes on in another run. */
async function hashOf(
  media: Media,
  object: Unproven & { key: string; size: number },
  isOver: boolean,
  bytes: number,
): Promise<string | null> {
  const { tenant_id: tenantId, sha256, key, size, proof } = object;
  const store = storeOf(media, object.stored_in);
  const call = { timeoutMs: READ_TIMEOUT_MS };
  if (size <= WHOLE_BYTES) {
    const { body } = await store.get(key, {}, call);
    return await sha256Of(new Uint8Array(await new Response(body).arrayBuffer()));
  }
  // What is packed is unpacked as it comes and has no ranges; only what was adopted can be packed and large.
  if (object.content_encoding != null) {
    const hash = await sha256Stream();
    for await (const piece of (await store.get(key, {}, call)).body) hash.update(piece);
    return hash.digest();
  }
  if (!isOver) return null;
  const hash = await sha256Stream(proof?.state);
  const from = proof?.hashed_bytes ?? 0;
  const end = Math.min(size, from + bytes);
  const part = await store.get(key, { range: { from, to: end - 1 } }, call);
  let read = 0;
  for await (const piece of part.body) {
    hash.update(piece);
    read += piece.byteLength;
  }
  // Of another size it has another content, whatever its beginning is.
  if (part.sizeBytes !== size) return "";
  if (read !== end - from) {
    throw new GatewayError("storage_unavailable", { detail: `${read} bytes of ${end - from} came` });
  }
  if (end === size) return hash.digest();
  await media.registry.keepProof({ tenantId, sha256 }, { hashedBytes: end, state: hash.state() });
  return null;
}
