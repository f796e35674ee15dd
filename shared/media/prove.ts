import { GatewayError } from "../contract/gateway_error.ts";
import type { ObjectToDelete } from "../database/media.ts";
import { deleteObjects } from "./delete.ts";
import { sha256Of, sha256Stream } from "./hash.ts";
import { type Media, storeOf } from "./storage.ts";

type Unproven = Pick<ObjectToDelete, "tenant_id" | "sha256" | "s3_key" | "stored_in"> & {
  stored_bytes?: number;
  bytes?: number;
};

/** Up to here an object is read whole and hashed by the runtime, at a twentieth of what hashing it in pieces costs. */
const WHOLE_BYTES = 32_000_000;
const READ_TIMEOUT_MS = 60_000;

/**
 * Reads an object whose content the store did not hold to its hash. What has the hash is `verified`; what has another is deleted, or,
 * where something refers to it already, logged. isOver: nobody holds an address to send it to any more; before that, what has the hash
 * is only `matching`, as it may still change.
 * @throws GatewayError where the store or the database does not answer
 */
export async function proveObject(
  media: Media,
  object: Unproven,
  isOver: boolean,
): Promise<"verified" | "matching" | "deleted" | "missing" | "wrong"> {
  const { tenant_id: tenantId, sha256, s3_key: key, stored_in: storedIn } = object;
  if (key === null) return "missing";
  const size = object.stored_bytes ?? object.bytes ?? 0;
  let found: string;
  try {
    const { body } = await storeOf(media, storedIn).get(key, {}, { timeoutMs: READ_TIMEOUT_MS });
    found = size <= WHOLE_BYTES
      ? await sha256Of(new Uint8Array(await new Response(body).arrayBuffer()))
      : await hashOf(body);
  } catch (thrown) {
    if (thrown instanceof GatewayError && thrown.code === "object_not_found") return "missing";
    throw thrown;
  }
  if (found === sha256 && !isOver) return "matching";
  if (found === sha256) {
    await media.registry.stored({ tenantId, sha256, state: "verified", storedBytes: size, storedIn });
    return "verified";
  }
  media.log("error", "media_content_mismatch", { tenant_id: tenantId, key, found });
  const failed = await media.registry.failed(tenantId, sha256);
  if (failed === null) return "wrong";
  await deleteObjects(media, [failed]);
  return "deleted";
}

async function hashOf(body: ReadableStream<Uint8Array>): Promise<string> {
  const hash = sha256Stream();
  for await (const piece of body) hash.update(piece);
  return hash.digest();
}
