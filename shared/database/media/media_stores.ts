import * as z from "zod";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

const abilities = z.object({
  hashHeader: z.enum(["x-amz-content-sha256", "x-amz-checksum-sha256"]).nullable(),
  hashBoundPut: z.boolean(),
  ifNoneMatch: z.boolean(),
  lifecycle: z.boolean(),
});

/** What object stores can do, kept for a week under their addresses: each instance of a function would have to find out for itself. */
export interface KeptAbilities {
  /** Null: it is not known, or was found out too long ago. */
  load(store: string): Promise<z.output<typeof abilities> | null>;
  save(store: string, found: z.output<typeof abilities>): Promise<void>;
}

/** Anyone who asks has a file to send: without an answer the store itself is asked. */
const TIMEOUT_MS = 5_000;

export function keptAbilities(transport: Transport): KeptAbilities {
  return {
    load: (store) => call(transport, "eve_media_abilities", { store }, abilities.nullable(), TIMEOUT_MS),
    async save(store, found) {
      await call(transport, "eve_media_abilities_save", { store, abilities: found }, z.unknown(), TIMEOUT_MS);
    },
  };
}

/** Whether the project's files are, or were in the last week, kept in S3. @throws GatewayError `database_unavailable` */
export async function filesAreInS3(transport: Transport): Promise<boolean> {
  return (await call(transport, "eve_media_in_s3", {}, z.object({ in_s3: z.boolean() }), TIMEOUT_MS)).in_s3;
}
