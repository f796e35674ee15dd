import type { BatchFiles } from "../batches/batch_files.ts";
import type { Batches, BatchFile } from "../database/jobs/batches.ts";
import { toBase64 } from "../runtime/base64.ts";
import type { RequestContext } from "./endpoint.ts";
import { invalidRequest } from "./validated.ts";

/** Of all files that a prompt names, together: as large as one upload. */
const MAX_BYTES = 8 * 1024 * 1024;

/** Where callers' files are kept. */
export interface KeptFiles {
  batches: Pick<Batches, "file">;
  files: Pick<BatchFiles, "open">;
}

/**
 * The content of files that a prompt names: they are known to the gateway alone, so they go upstream inline.
 * @param named files by their UUIDs, each with the field that names it
 * @throws GatewayError `not_found`, `invalid_request`, `gateway_busy`, `storage_unavailable`
 */
export async function contentOfFiles(
  named: ReadonlyMap<string, string>,
  { caller, takeMemory }: Pick<RequestContext, "caller" | "takeMemory">,
  { batches, files }: KeptFiles,
): Promise<Map<string, { mimeType: string; data: string }>> {
  const found = new Map<string, BatchFile>();
  for (const id of named.keys()) found.set(id, await batches.file(id, caller));
  const bytes = [...found.values()].reduce((sum, file) => sum + file.bytes, 0);
  if (bytes > MAX_BYTES) {
    throw invalidRequest([{
      field: [...named.values()][0] ?? "",
      problem: `is of files of ${bytes} bytes, and a prompt may name ${MAX_BYTES}: they are sent with it`,
    }]);
  }
  takeMemory(bytes);
  const content = new Map<string, { mimeType: string; data: string }>();
  for (const [id, { tenant_id, sha256, parts, mime_type }] of found) {
    if (tenant_id === null) {
      throw invalidRequest([{ field: named.get(id)!, problem: "names what came of a batch: download it" }]);
    }
    const stored = await files.open({ tenant_id, sha256, parts });
    const data = toBase64(new Uint8Array(await new Response(stored).arrayBuffer()));
    content.set(id, { mimeType: mime_type, data });
  }
  return content;
}
