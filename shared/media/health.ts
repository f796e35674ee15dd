import * as z from "zod";
import { asGatewayError } from "../contract/gateway_error.ts";
import type { ObjectStore } from "./object_store.ts";
import { type Media, STORAGE_MODES } from "./storage.ts";

const part = z.object({
  is_configured: z.boolean(),
  is_connected: z.boolean(),
  error: z.string().optional(),
});
export const storageHealth = z.object({
  storage: z.enum(STORAGE_MODES),
  /** Whether files can be stored. */
  is_connected: z.boolean(),
  s3: part,
  postgres: part,
});

/** Anyone who asks waits for it. */
const PING_TIMEOUT_MS = 5_000;

/** Which part of the storage answers. */
export async function healthOf({ mode, s3, spool }: Media): Promise<z.output<typeof storageHealth>> {
  const [bucket, database] = await Promise.all([s3 === null ? null : ping(s3), ping(spool)]);
  return {
    storage: mode,
    is_connected: mode === "s3"
      ? bucket?.is_connected ?? false
      : (bucket?.is_connected ?? false) || database.is_connected,
    s3: bucket ?? { is_configured: false, is_connected: false },
    postgres: { ...database, is_configured: mode !== "s3" },
  };
}

async function ping(store: ObjectStore): Promise<z.output<typeof part>> {
  try {
    await store.ping({ timeoutMs: PING_TIMEOUT_MS });
    return { is_configured: true, is_connected: true };
  } catch (thrown) {
    return { is_configured: true, is_connected: false, error: asGatewayError(thrown).code };
  }
}
