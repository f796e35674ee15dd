import type { Batches, BatchFile } from "../database/jobs/batches.ts";
import type { JobCaller } from "../database/jobs/jobs.ts";
import { streamOfTexts } from "../http/stream_of.ts";
import type { BatchFiles } from "./batch_files.ts";

/**
 * What a file holds, as it is read. What goes wrong with its beginning is thrown.
 * @throws GatewayError `not_found`, `storage_unavailable`
 */
export async function contentOf(
  { batches, files }: { batches: Pick<Batches, "piece">; files: Pick<BatchFiles, "open"> },
  { id, tenant_id, sha256, parts }: BatchFile,
  caller: JobCaller,
): Promise<ReadableStream<Uint8Array>> {
  if (tenant_id !== null) return await files.open({ tenant_id, sha256, parts });
  return await streamOfTexts(piecesOf(batches, id, caller));
}

/** What came of a batch, some whole lines at a time. */
export async function* piecesOf(
  batches: Pick<Batches, "piece">,
  id: string,
  caller: JobCaller,
): AsyncGenerator<string> {
  for (let from: number | null = 0; from !== null;) {
    const { text, next } = await batches.piece(id, from, caller);
    if (text !== "") yield text;
    from = next;
  }
}
