import { GatewayError } from "../../contract/gateway_error.ts";
import { addressableKey, checkedKey } from "../object_key.ts";
import type { MultipartUploads, StoreCall, UploadedPart } from "../object_store.ts";
import { checkedExpiry, checkedLimit, checkSize } from "../store_arguments.ts";
import { hashHeaders } from "./arguments.ts";
import { dateOf, encodingHeaders, unquoted } from "./answers.ts";
import type { S3Abilities } from "./probe.ts";
import type { Signer } from "./sign.ts";
import { discard, failed, type S3Request, type Send, xmlOf } from "./transport.ts";
import { escaped } from "./xml.ts";
import { xmlBody } from "./xml_body.ts";

const MAX_PARTS = 10_000;
/** Pages of 1,000 parts: more than there can be. */
const MAX_PART_PAGES = 20;

/** Uploads in parts: the bytes go straight to the store, each part by an address of its own. */
export function multipartOf(
  { send, signer, abilities, maxFileBytes }: {
    send: Send;
    signer: Signer;
    abilities: (call: StoreCall) => Promise<S3Abilities>;
    maxFileBytes: number;
  },
): MultipartUploads {
  return {
    async create(key, { contentType, contentEncoding }, call = {}) {
      const request: S3Request = {
        operation: "multipart_create",
        method: "POST",
        key: checkedKey(key),
        query: { uploads: "" },
        headers: {
          "content-type": contentType,
          ...encodingHeaders(contentEncoding),
        },
      };
      const answer = await send(request, call, {
        read: (response) => xmlOf(response, "multipart_create", "InitiateMultipartUploadResult"),
      });
      const uploadId = answer.value("UploadId");
      if (!uploadId) throw failed("multipart_create", "an upload without an id");
      return { key, uploadId };
    },

    async presignPart({ key, uploadId }, { partNumber, sha256, sizeBytes, expiresIn }, call = {}) {
      checkSize(sizeBytes, maxFileBytes);
      const headers: Record<string, string> = { "content-length": String(sizeBytes) };
      if (sha256 !== undefined) {
        Object.assign(headers, hashHeaders((await abilities(call)).hashHeader, sha256));
      }
      const query = { partNumber: String(checkedPart(partNumber)), uploadId };
      const request = { method: "PUT", key: addressableKey(key), query, headers };
      return { method: "PUT", ...await signer.query(request, checkedExpiry(expiresIn)), headers };
    },

    async parts({ key, uploadId }, call = {}) {
      const found: (UploadedPart & { sizeBytes: number })[] = [];
      let marker: string | null = null;
      for (let page = 0; page < MAX_PART_PAGES; page++) {
        const query: Record<string, string> = {
          uploadId,
          "max-parts": "1000",
          ...(marker === null ? {} : { "part-number-marker": marker }),
        };
        const request = { operation: "multipart_parts", method: "GET", key: addressableKey(key), query };
        const answer = await send(request, call, {
          read: (response) => xmlOf(response, "multipart_parts", "ListPartsResult"),
        });
        for (const part of answer.all("Part")) {
          const partNumber = Number(part.value("PartNumber") ?? NaN);
          const sizeBytes = Number(part.value("Size") ?? NaN);
          const etag = unquoted(part.value("ETag"));
          if (!Number.isSafeInteger(partNumber) || !Number.isSafeInteger(sizeBytes) || etag === null) {
            throw failed("multipart_parts", "a part without number, size or etag");
          }
          found.push({ partNumber, etag, sizeBytes });
        }
        marker = answer.value("NextPartNumberMarker");
        if (answer.value("IsTruncated") !== "true") return found.sort((a, b) => a.partNumber - b.partNumber);
        if (!marker) break;
      }
      throw failed("multipart_parts", "pages without an end");
    },

    async complete({ key, uploadId }, parts, call = {}) {
      const list = [...parts].sort((a, b) => a.partNumber - b.partNumber).map(({ partNumber, etag }) =>
        `<Part><PartNumber>${checkedPart(partNumber)}</PartNumber><ETag>${escaped(`"${etag}"`)}</ETag></Part>`
      ).join("");
      const { body, sha256, headers } = await xmlBody(
        new TextEncoder().encode(
          `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${list}</CompleteMultipartUpload>`,
        ),
      );
      const request: S3Request = {
        operation: "multipart_complete",
        method: "POST",
        key: addressableKey(key),
        query: { uploadId },
        headers,
        body,
        sha256,
      };
      await send(request, call, {
        read: async (response) => {
          await xmlOf(response, "multipart_complete", "CompleteMultipartUploadResult");
          return true as const;
        },
        refused: async ({ status, code }) => {
          // RGW says 500 where there is no such upload.
          if (code !== "NoSuchUpload" && (status !== 500 || await isOpen())) return;
          // The answer to an earlier attempt may have been lost: then the upload is gone, and its object is there.
          if (await isThere()) return true as const;
          throw new GatewayError("object_not_found", { detail: "S3 multipart_complete: no such upload" });
        },
      });

      async function isOpen(): Promise<boolean> {
        const request = {
          operation: "multipart_parts",
          method: "GET",
          key: addressableKey(key),
          query: { uploadId },
        };
        return await send<boolean>(request, call, {
          read: discard,
          refused: ({ code }) => code === "NoSuchUpload" ? false : undefined,
        });
      }

      async function isThere(): Promise<boolean> {
        const request = { operation: "head", method: "HEAD", key: addressableKey(key) };
        return await send<boolean>(request, call, {
          read: discard,
          refused: ({ status }) => status === 404 ? false : undefined,
        });
      }
    },

    async abort({ key, uploadId }, call = {}) {
      const request = {
        operation: "multipart_abort",
        method: "DELETE",
        key: addressableKey(key),
        query: { uploadId },
      };
      await send(request, call, {
        read: discard,
        refused: ({ code }) => code === "NoSuchUpload" ? true as const : undefined,
      });
    },

    async list({ prefix = "", limit = 1_000, cursor = null } = {}, call = {}) {
      const query: Record<string, string> = {
        // Not with `encoding-type`: RGW encodes the keys and does not say so.
        uploads: "",
        "max-uploads": String(checkedLimit(limit)),
        ...(prefix === "" ? {} : { prefix }),
        ...(cursor === null ? {} : readCursor(cursor)),
      };
      const page = await send({ operation: "multipart_list", method: "GET", query }, call, {
        read: (response) => xmlOf(response, "multipart_list", "ListMultipartUploadsResult"),
      });
      const uploads = page.all("Upload").map((upload) => {
        const [key, uploadId] = [upload.value("Key"), upload.value("UploadId")];
        if (key === null || uploadId === null) throw failed("multipart_list", "an upload without key or id");
        return { key, uploadId, startedAt: dateOf(upload.value("Initiated")) };
      });
      if (page.value("IsTruncated") !== "true") return { uploads, cursor: null };
      const next = page.value("NextKeyMarker");
      if (next === null) {
        throw failed("multipart_list", "a page that is not the last, and no way to the next");
      }
      const markers = [next, page.value("NextUploadIdMarker") ?? ""];
      return { uploads, cursor: JSON.stringify(markers) };
    },
  };
}

function readCursor(cursor: string): Record<string, string> {
  try {
    const [key, uploadId] = JSON.parse(cursor) as unknown[];
    if (typeof key === "string" && typeof uploadId === "string") {
      return { "key-marker": key, ...(uploadId === "" ? {} : { "upload-id-marker": uploadId }) };
    }
  } catch {
    // Said below.
  }
  throw new GatewayError("invalid_request", { message: "The cursor is none that a page of this list had." });
}

function checkedPart(partNumber: number): number {
  if (Number.isInteger(partNumber) && partNumber >= 1 && partNumber <= MAX_PARTS) return partNumber;
  throw new GatewayError("invalid_request", { message: `Parts have the numbers 1 to ${MAX_PARTS}.` });
}
