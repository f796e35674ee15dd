import * as z from "zod";
import { MAX_UPLOAD_BYTES } from "../../../batches/uploads.ts";
import { GatewayError } from "../../../contract/gateway_error.ts";
import type { BatchFile } from "../../../database/jobs/batches.ts";
import { jsonResponse } from "../../../http/json_response.ts";
import type { RequestContext } from "../../endpoint.ts";
import { invalidRequest, validated } from "../../validated.ts";
import { fileJson, type GeminiFiles } from "./files.ts";
import { multipartRelated } from "./multipart_related.ts";
import { camelFields, changed } from "../spelling.ts";
import type { AnnouncedUpload, BegunUpload } from "./upload_address.ts";

/** Google's clients cut larger files into pieces of this size, and send them one after the other: each is stored as it comes. */
const PIECE_BYTES = 8 * 1024 * 1024;
/** As the database keeps a file's name, and its type. */
const MAX_NAME = 255;

const described = z.looseObject({
  file: z.looseObject({
    displayName: z.string().max(MAX_NAME).optional(),
    mimeType: z.string().max(MAX_NAME).optional(),
    sizeBytes: z.union([z.string(), z.number()]).optional(),
    name: z.never({ error: "must be left out: the gateway names files itself" }).optional(),
  }).optional(),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

/**
 * `POST /upload/v1beta/files`, as Google's clients send files: resumable, which is an address that is asked for and then sent to; or all at
 * once, as multipart/related. What an address stands for is in the address; a file of one piece is written down when that has come, one of
 * several with its beginning.
 * @throws GatewayError `invalid_request`, `file_too_large`, `content_mismatch` and what refuses the caller or the file
 */
export async function upload(
  context: RequestContext,
  parts: GeminiFiles,
): Promise<Response> {
  const { request, caller, requestId } = context;
  const begun = await parts.addresses.verify(request.url);
  if (begun !== null) return await proceed(context, begun, parts);
  const protocol = request.headers.get("x-goog-upload-protocol")?.toLowerCase();
  if (protocol === "resumable" && commandsOf(request).has("start")) {
    // The address goes by no credential any more.
    await context.confirmCaller();
    const file = announced(await context.readJson(), request.headers, parts);
    if (isInPieces(file)) await parts.uploads.create({ ...file, bytes: file.sizeBytes }, caller);
    const url = await parts.addresses.sign({ caller, file });
    return jsonResponse(200, {}, requestId, {
      ...status("active"),
      "x-goog-upload-url": url,
      // Of pieces, if there are several.
      "x-goog-upload-chunk-granularity": String(PIECE_BYTES),
    });
  }
  if (protocol === "multipart") {
    const { json, mimeType, bytes } = multipartRelated(
      request.headers.get("content-type") ?? "",
      await context.readBytes(),
    );
    const headers = new Headers({
      "x-goog-upload-header-content-type": mimeType,
      "x-goog-upload-header-content-length": String(bytes.byteLength),
    });
    const file = announced(json, headers, parts, Math.min(PIECE_BYTES, parts.maxBodyBytes));
    return uploaded(await parts.files.keep({ ...file, bytes }, caller), requestId, parts);
  }
  throw invalidRequest([{
    field: "X-Goog-Upload-Protocol",
    problem: "must be resumable, with X-Goog-Upload-Command: start, or multipart",
  }]);
}

/** What comes to the address of an upload. */
async function proceed(
  context: RequestContext,
  { caller, file }: BegunUpload,
  parts: GeminiFiles,
): Promise<Response> {
  const { request, requestId } = context;
  const commands = commandsOf(request);
  if (!["upload", "finalize", "query"].some((one) => commands.has(one))) {
    throw invalidRequest([{
      field: "X-Goog-Upload-Command",
      problem: "must be `upload`, `upload, finalize`, `finalize` or `query`",
    }]);
  }
  if (isInPieces(file)) return await proceedInPieces(context, { caller, file }, commands, parts);
  if (commands.has("upload") && commands.has("finalize")) {
    if (offsetIn(request) !== 0) throw inOnePiece();
    const bytes = await context.readBytes();
    if (bytes.byteLength !== file.sizeBytes) throw notWhole(bytes.byteLength, file);
    return uploaded(await parts.files.keep({ ...file, bytes }, caller), requestId, parts);
  }
  if (commands.has("upload")) throw inOnePiece();
  const kept = await keptFile({ caller, file }, parts);
  if (kept !== null) return uploaded(kept, requestId, parts);
  if (commands.has("finalize")) throw inOnePiece();
  return goOn(0, requestId);
}

/** Of a file that comes in several. A piece that is sent again, since its answer was not heard, is the same piece. */
async function proceedInPieces(
  { request, requestId, readBytes }: RequestContext,
  { caller, file }: BegunUpload,
  commands: ReadonlySet<string>,
  parts: GeminiFiles,
): Promise<Response> {
  const kept = await keptFile({ caller, file }, parts);
  if (kept !== null) return uploaded(kept, requestId, parts);
  if (commands.has("upload")) {
    const atByte = offsetIn(request);
    const bytes = await readBytes();
    if (bytes.byteLength > 0) await parts.uploads.addPart(file.id, bytes, caller, atByte);
  }
  const { parts: pieces } = await parts.uploads.find(file.id, caller);
  const received = pieces.reduce((sum, { bytes }) => sum + bytes, 0);
  if (!commands.has("finalize")) return goOn(received, requestId);
  if (received !== file.sizeBytes) throw notWhole(received, file);
  const partIds = pieces.map(({ id }) => id);
  return uploaded(
    (await parts.uploads.complete(file.id, { partIds, md5: null }, caller)).file,
    requestId,
    parts,
  );
}

/** Null: it has not all come. */
async function keptFile({ caller, file }: BegunUpload, { batches }: GeminiFiles): Promise<BatchFile | null> {
  return await batches.file(file.id, caller).catch((thrown) => {
    if (thrown instanceof GatewayError && thrown.code === "not_found") return null;
    throw thrown;
  });
}

function isInPieces({ sizeBytes }: AnnouncedUpload): boolean {
  return sizeBytes > PIECE_BYTES;
}

function offsetIn({ headers }: Request): number {
  const offset = headers.get("x-goog-upload-offset") ?? "0";
  if (/^\d{1,15}$/.test(offset)) return Number(offset);
  throw invalidRequest([{
    field: "X-Goog-Upload-Offset",
    problem: "must be the byte at which the piece begins",
  }]);
}

function commandsOf({ headers }: Request): Set<string> {
  return new Set(
    (headers.get("x-goog-upload-command") ?? "").toLowerCase().split(",").map((one) => one.trim()),
  );
}

/** @param limit of its bytes; where a piece has no room in a body, a file has no more than a body */
function announced(
  body: unknown,
  headers: Headers,
  { maxBodyBytes, newId }: GeminiFiles,
  limit = maxBodyBytes < PIECE_BYTES ? maxBodyBytes : MAX_UPLOAD_BYTES,
): AnnouncedUpload {
  const { file } = validated(described, changed(camelFields(body), { file: camelFields }));
  const size = headers.get("x-goog-upload-header-content-length") ?? String(file?.sizeBytes ?? "");
  const mimeType = headers.get("x-goog-upload-header-content-type") || file?.mimeType;
  const sizeBytes = Number(size);
  if (!/^\d{1,15}$/.test(size) || sizeBytes === 0) {
    throw invalidRequest([{
      field: "X-Goog-Upload-Header-Content-Length",
      problem: "must be the file's bytes, at least one",
    }]);
  }
  if (sizeBytes > limit) {
    throw new GatewayError("file_too_large", {
      message: `The file has ${sizeBytes} bytes, and this endpoint takes ${limit}.`,
      details: { size_bytes: sizeBytes, limit_bytes: limit },
    });
  }
  if (mimeType === undefined || mimeType.length > MAX_NAME) {
    throw invalidRequest([{ field: "file.mimeType", problem: "must be the file's type" }]);
  }
  const filename = (file?.displayName ?? headers.get("x-goog-upload-file-name") ?? "")
    .replaceAll(/\p{Cc}/gu, "").toWellFormed().slice(0, MAX_NAME);
  return { id: newId(), filename: filename || "file", mimeType, sizeBytes };
}

function uploaded(file: BatchFile, requestId: string, parts: GeminiFiles): Response {
  return jsonResponse(200, { file: fileJson(file, parts) }, requestId, {
    ...status("final"),
    "x-goog-upload-size-received": String(file.bytes),
  });
}

/** So much has come, and the rest is waited for. */
function goOn(received: number, requestId: string): Response {
  return jsonResponse(200, {}, requestId, {
    ...status("active"),
    "x-goog-upload-size-received": String(received),
  });
}

/** Clients ask again where it is missing. */
function status(said: "active" | "final") {
  return { "x-goog-upload-status": said };
}

function notWhole(came: number, { sizeBytes }: AnnouncedUpload): GatewayError {
  return new GatewayError("content_mismatch", {
    message: `${came} bytes came, and ${sizeBytes} were announced. Send the file again.`,
    details: { size_bytes: came, announced_bytes: sizeBytes },
  });
}

function inOnePiece() {
  return invalidRequest([{
    field: "X-Goog-Upload-Command",
    problem:
      `must be \`upload, finalize\` with the whole file, from offset 0: up to ${PIECE_BYTES} bytes come in one piece`,
  }]);
}
