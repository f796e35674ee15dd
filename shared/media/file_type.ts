// Pinned: the packages below ask for ranges of these, and the bundler of a function takes what is loaded already.
import "@borewit/text-codec";
import "@tokenizer/inflate";
import "debug";
import "ieee754";
import "ms";
import "strtok3";
import "token-types";
import "uint8array-extras";
import { fileTypeFromBuffer } from "file-type";
import { GatewayError } from "../contract/gateway_error.ts";

/** So much of a file's beginning tells its type. */
export const SNIFFED_BYTES = 4_100;

/** A MIME type as RFC 6838 writes it, without parameters. */
const MIME_TYPE = /^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$/;

/** Other names of a type: what people and programs send, and what the file says. */
const SAME: Readonly<Record<string, string>> = {
  "image/jpg": "image/jpeg",
  "image/pjpeg": "image/jpeg",
  "image/x-png": "image/png",
  "image/x-ms-bmp": "image/bmp",
  "audio/x-wav": "audio/wav",
  "audio/wave": "audio/wav",
  "audio/vnd.wave": "audio/wav",
  "audio/mp3": "audio/mpeg",
  "audio/x-m4a": "audio/mp4",
  "audio/m4a": "audio/mp4",
  "audio/x-flac": "audio/flac",
  "video/x-m4v": "video/mp4",
  "application/x-zip-compressed": "application/zip",
  "application/x-gzip": "application/gzip",
  "application/ogg": "audio/ogg",
  "audio/opus": "audio/ogg",
  "video/ogg": "audio/ogg",
  "text/xml": "application/xml",
};

/** Types whose files do not tell them: they are taken at the sender's word, as long as the file is none that tells another. */
const UNTOLD =
  /^(text\/|application\/(.+\+)?(json|xml|x-ndjson|javascript|yaml|octet-stream|x-www-form-urlencoded|vnd\.|x-)|image\/svg\+xml$|model\/)/;

/** Archives that other formats are made of: the file may tell no more than that. */
const MADE_OF: Readonly<Record<string, RegExp>> = {
  "application/zip": /^application\/(vnd\.|epub|java-archive|x-)/,
  "application/x-cfb": /^application\/(msword|vnd\.ms-|x-)/,
  "application/xml": /(\+xml$|^text\/xml$|^text\/html$)/,
};

/** What a browser may show in place; everything else is downloaded, above all what can run: HTML, SVG, XML, scripts. */
const INLINE =
  /^(image\/(jpeg|png|gif|webp|avif|bmp|tiff|heic|heif)|(audio|video)\/[a-z0-9.+-]+|text\/plain|application\/(pdf|json))$/;

/** JSON and HTML are stored packed. */
const PACKED = /^(text\/html|application\/xhtml\+xml|application\/(.+\+)?json)$/;

const EXTENSIONS: Readonly<Record<string, string>> = {
  "image/jpeg": "jpg",
  "image/png": "png",
  "image/gif": "gif",
  "image/webp": "webp",
  "image/avif": "avif",
  "image/bmp": "bmp",
  "image/tiff": "tif",
  "image/heic": "heic",
  "image/svg+xml": "svg",
  "audio/mpeg": "mp3",
  "audio/ogg": "ogg",
  "audio/wav": "wav",
  "audio/mp4": "m4a",
  "audio/flac": "flac",
  "video/mp4": "mp4",
  "video/webm": "webm",
  "video/quicktime": "mov",
  "application/pdf": "pdf",
  "application/zip": "zip",
  "application/json": "json",
  "application/xml": "xml",
  "text/html": "html",
  "text/plain": "txt",
  "text/csv": "csv",
  "text/markdown": "md",
  "application/msword": "doc",
  "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
  "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
};

/** The type without its parameters, in small letters, by its usual name. @throws GatewayError `invalid_request` */
export function mimeTypeOf(declared: string): string {
  const type = (declared.split(";")[0] ?? "").trim().toLowerCase();
  if (!MIME_TYPE.test(type)) {
    throw new GatewayError("invalid_request", {
      message:
        "The file's type must be a MIME type such as image/jpeg: send it as `content-type` or `mime_type`.",
    });
  }
  return SAME[type] === undefined || type.startsWith("text/") || type.startsWith("video/") ||
      type === "audio/opus"
    ? type
    : SAME[type];
}

/**
 * The type that a file has: the declared one, if its beginning does not tell another. `application/octet-stream` declares none.
 * @throws GatewayError `media_type_mismatch`, with both types
 */
export async function checkedType(beginning: Uint8Array, declared: string): Promise<string> {
  const type = mimeTypeOf(declared);
  const detected = (await fileTypeFromBuffer(beginning.subarray(0, SNIFFED_BYTES)).catch(() => undefined))
    ?.mime;
  if (detected === undefined) {
    if (UNTOLD.test(type)) return type;
    throw mismatch(type, null);
  }
  if (type === "application/octet-stream") return mimeTypeOf(detected);
  const same = (one: string) => SAME[one] ?? one;
  if (same(type) === same(detected)) return type;
  if (MADE_OF[detected]?.test(type)) return type;
  // A container of sound alone, or of pictures too.
  if (detected.replace(/^(audio|video)\//, "") === type.replace(/^(audio|video)\//, "")) return type;
  throw mismatch(type, detected);
}

function mismatch(declared: string, found: string | null): GatewayError {
  return new GatewayError("media_type_mismatch", {
    message: found === null
      ? `The file was declared as ${declared}, and does not begin like one.`
      : `The file was declared as ${declared}, and is ${found}. Declare the type that it has.`,
    details: { declared, found },
  });
}

/** Whether a file of that type is stored packed. */
export function isPacked(mimeType: string): boolean {
  return PACKED.test(mimeType);
}

/** How a file is served: in place or as a download, under a name that says nothing of the sender. */
export function dispositionOf(mimeType: string | null, sha256: string): string | undefined {
  if (mimeType !== null && INLINE.test(mimeType)) return undefined;
  return `attachment; filename="${sha256.slice(0, 16)}.${extensionOf(mimeType ?? "")}"`;
}

/** The end of the storage key. */
export function extensionOf(mimeType: string): string {
  return EXTENSIONS[mimeType] ?? "bin";
}
