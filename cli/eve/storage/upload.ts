import { createHash } from "node:crypto";
import type { MediaKind, MediaObject } from "../../../shared/database/media/media.ts";
import type { CommandDependencies } from "../command.ts";
import type { Connection } from "../connection.ts";
import { CliFailure, EXIT } from "../failure.ts";
import { type FunctionAnswer, readAnswer } from "../function_call.ts";
import { apiPath, postToApi, succeeded } from "./api.ts";
import { isPackedType } from "./mime_type.ts";
import { progressBar } from "./progress_bar.ts";
import { sendFile } from "./send_file.ts";

export interface FileToUpload {
  path: string;
  /** For people. */
  name: string;
  sizeBytes: number;
  mimeType: string;
  kind: MediaKind;
  tenantId: string | undefined;
  key: string | undefined;
  metadata: Record<string, unknown> | undefined;
}

interface Sending {
  method: string;
  url: string;
  headers: Record<string, string>;
}

/** What `POST /v1/media/uploads` answers. */
interface Announced {
  status: "present" | "upload";
  object: MediaObject;
  /** A large file goes in parts; those that have arrived already are left out. */
  upload?: Sending | { parts: (Sending & { offset: number; size_bytes: number })[] };
  verify?: { body: Record<string, unknown> };
}

export interface Uploaded {
  object: MediaObject;
  /** False: it was there already. */
  created: boolean;
}

type Around = Pick<CommandDependencies, "progress" | "signal">;

/**
 * Stores a file: straight to the store at an address that the gateway signs, or through the function what the gateway stores packed
 * (JSON and HTML that it takes in one body). What is there already is not sent, of a large file that broke off neither.
 * @throws CliFailure
 */
export async function uploadFile(
  connection: Connection,
  file: FileToUpload,
  around: Around,
): Promise<Uploaded> {
  if (isPackedType(file.mimeType)) {
    const answer = await sendToTheFunction(connection, file, around);
    if (answer.status !== 413) return uploaded(answer);
  }
  return await straightToTheStore(connection, file, around);
}

async function straightToTheStore(
  connection: Connection,
  file: FileToUpload,
  around: Around,
): Promise<Uploaded> {
  const { signal } = around;
  const sha256 = await sha256OfFile(file, around);
  const announced = await postToApi<Announced>(connection, "media/uploads", {
    tenant_id: file.tenantId,
    sha256,
    size_bytes: file.sizeBytes,
    content_type: file.mimeType,
    kind: file.kind,
    key: file.key,
    metadata: file.metadata,
  }, { signal });
  const { upload, verify } = announced;
  if (announced.status === "present" || upload === undefined) {
    return { object: announced.object, created: false };
  }
  try {
    await sendPieces(file, upload, around);
  } catch (thrown) {
    if (!(thrown instanceof StoreAway) || "parts" in upload) throw thrown;
    // The store is away and the gateway is not: the function keeps the file for it.
    around.progress(`${thrown.message} Sending it through the function.`);
    const answer = await sendToTheFunction(connection, file, around);
    // More than a body may have.
    if (answer.status === 413) throw thrown;
    return uploaded(answer);
  }
  around.progress("Verifying ...");
  const object = await postToApi<MediaObject>(
    connection,
    `media/uploads/${sha256}/verify`,
    verify?.body ?? {},
    { signal },
  );
  return { object, created: true };
}

/** @throws CliFailure; StoreAway: it is for want of the store */
async function sendPieces(
  file: FileToUpload,
  upload: NonNullable<Announced["upload"]>,
  { progress, signal }: Around,
): Promise<void> {
  const pieces = "parts" in upload ? upload.parts : [{ ...upload, offset: 0, size_bytes: file.sizeBytes }];
  const show = progressBar(progress, `Sending ${file.name}`, file.sizeBytes);
  let there = file.sizeBytes - pieces.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
  for (const { size_bytes: sizeBytes, ...piece } of pieces) {
    const before = there;
    const onBytes = (sent: number) => show(before + sent);
    const answer = await sendFile({ ...piece, path: file.path, sizeBytes, signal, onBytes })
      .catch((thrown: unknown) => {
        throw thrown instanceof CliFailure && thrown.exitCode === EXIT.unreachable
          ? new StoreAway(thrown.message, thrown.exitCode)
          : thrown;
      });
    // 412: it is there, from an upload that did not come to its end.
    if (!answer.ok && answer.status !== 412) {
      throw await storeRefusal(answer, piece.url, "parts" in upload);
    }
    there += sizeBytes;
  }
}

/** The store does not answer, or says that it cannot now. */
class StoreAway extends CliFailure {}

async function sendToTheFunction(
  connection: Connection,
  file: FileToUpload,
  { progress, signal }: Around,
): Promise<FunctionAnswer> {
  const path = apiPath("media", {
    tenant_id: file.tenantId,
    kind: file.kind,
    key: file.key,
    metadata: file.metadata === undefined ? undefined : JSON.stringify(file.metadata),
  });
  const answer = await sendFile({
    method: "POST",
    url: `${connection.functions}${path}`,
    headers: { apikey: connection.secretKey, "content-type": file.mimeType },
    path: file.path,
    sizeBytes: file.sizeBytes,
    signal,
    onBytes: progressBar(progress, `Sending ${file.name}`, file.sizeBytes),
  });
  return await readAnswer(answer);
}

function uploaded(answer: FunctionAnswer): Uploaded {
  const { created, url: _, ...object } = succeeded<MediaObject & { created: boolean; url: string }>(answer);
  return { object, created };
}

/** Read in pieces: a file may be larger than the memory. */
async function sha256OfFile(file: FileToUpload, { progress, signal }: Around): Promise<string> {
  const hash = createHash("sha256");
  const show = progressBar(progress, `Reading ${file.name}`, file.sizeBytes);
  const opened = await Deno.open(file.path);
  let done = 0;
  for await (const piece of opened.readable) {
    signal.throwIfAborted();
    hash.update(piece);
    show(done += piece.byteLength);
  }
  if (done !== file.sizeBytes) throw new CliFailure(`${file.path} has changed while it was read. Try again.`);
  return hash.digest("hex");
}

/** Of S3, in XML, or of our function, in JSON. */
async function storeRefusal(answer: Response, url: string, isInParts: boolean): Promise<CliFailure> {
  const text = await answer.text();
  const code = /<Code>([^<]{1,100})<\/Code>/.exec(text)?.[1] ?? /"code":\s*"(\w{1,100})"/.exec(text)?.[1];
  const Failure = answer.status >= 500 || answer.status === 429 ? StoreAway : CliFailure;
  return new Failure(
    `The store at ${new URL(url).host} answered ${answer.status}${code === undefined ? "" : ` (${code})`}. ${
      isInParts ? "Try again: parts that have arrived are not sent again." : "Nothing was stored; try again."
    }`,
  );
}
