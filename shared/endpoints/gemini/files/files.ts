import { hexToBytes } from "@noble/hashes/utils.js";
import type { BatchFiles } from "../../../batches/batch_files.ts";
import { contentOf } from "../../../batches/content.ts";
import type { Uploads } from "../../../batches/uploads.ts";
import type { Batches, BatchFile } from "../../../database/jobs/batches.ts";
import { answerHeaders } from "../../../http/answer_headers.ts";
import { jsonResponse } from "../../../http/json_response.ts";
import { toBase64 } from "../../../runtime/base64.ts";
import type { RequestContext } from "../../endpoint.ts";
import { nextPage, pageOf, resourceName, uuidOf } from "../resources.ts";
import type { UploadAddresses } from "./upload_address.ts";

/** What files and batches are kept and found with. */
export interface GeminiFiles {
  batches: Batches;
  files: BatchFiles;
  /** Of files that come in several pieces. */
  uploads: Uploads;
  addresses: UploadAddresses;
  /** Where clients reach the function, without a slash at its end. */
  functionUrl: string;
  maxBodyBytes: number;
  /** Calls the function worker, after the response has gone. */
  wake: () => void;
  newId: () => string;
}

/** `GET /v1beta/files`: the newest first. */
export async function listFiles(
  { request, requestId, caller }: RequestContext,
  parts: GeminiFiles,
): Promise<Response> {
  const { limit, after } = pageOf("files", request.url);
  const { files, hasMore } = await parts.batches.files(caller, {
    purpose: null,
    after,
    limit,
    oldestFirst: false,
  });
  const page = { files: files.map((file) => fileJson(file, parts)), ...nextPage(files, hasMore) };
  return jsonResponse(200, page, requestId);
}

/** `GET` and `DELETE` of `/v1beta/files/{id}`. */
export async function oneFile(
  { request, requestId, caller }: RequestContext,
  name: string,
  parts: GeminiFiles,
): Promise<Response> {
  const id = uuidOf("files", name);
  if (request.method === "GET") {
    return jsonResponse(200, fileJson(await parts.batches.file(id, caller), parts), requestId);
  }
  await parts.files.remove(id, caller);
  return jsonResponse(200, {}, requestId);
}

/** `GET /v1beta/files/{id}:download`. */
export async function download(
  { requestId, caller }: RequestContext,
  name: string,
  parts: GeminiFiles,
): Promise<Response> {
  const file = await parts.batches.file(uuidOf("files", name), caller);
  return new Response(await contentOf(parts, file, caller), {
    // It came from elsewhere: a browser must not guess another type than the declared one.
    headers: answerHeaders("application/octet-stream", requestId, { "x-content-type-options": "nosniff" }),
  });
}

/** A file as the API describes one. */
export function fileJson(file: BatchFile, { functionUrl }: Pick<GeminiFiles, "functionUrl">) {
  const name = resourceName("files", file.id);
  const uri = [functionUrl, "v1beta", name].join("/");
  return {
    name,
    displayName: file.filename,
    mimeType: file.mime_type,
    sizeBytes: String(file.bytes),
    createTime: timeOf(file.created_at),
    updateTime: timeOf(file.created_at),
    expirationTime: timeOf(file.expires_at),
    ...(file.sha256 !== null && { sha256Hash: toBase64(hexToBytes(file.sha256)) }),
    uri,
    downloadUri: `${uri}:download?alt=media`,
    state: "ACTIVE",
    source: file.purpose === "batch_output" ? "GENERATED" : "UPLOADED",
  };
}

/** As Google writes times. */
export function timeOf(time: string): string {
  return new Date(time).toISOString();
}
