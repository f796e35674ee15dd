import { base64url } from "jose";
import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import {
  MEDIA_KINDS,
  type MediaAlias,
  type MediaLinks,
  type MediaObject,
  mediaObject,
} from "../database/media/media.ts";
import { answerHeaders } from "../http/answer_headers.ts";
import { BODY_TIMEOUT_MS, readBody } from "../http/body.ts";
import { CORS_HEADERS } from "../http/cors.ts";
import { jsonResponse } from "../http/json_response.ts";
import { deleteObjects } from "../media/delete.ts";
import { announceUpload, giveUpUpload, verifyUpload } from "../media/upload/direct_upload.ts";
import { sha256Of } from "../media/hash.ts";
import { proveObject } from "../media/upload/prove.ts";
import type { PresignedRequest } from "../media/object_store.ts";
import { addressOf, REDIRECT_SECONDS } from "../media/read.ts";
import type { AddressTerms } from "../media/signed_address.ts";
import { uploadFile, type VisionSource } from "../media/upload/upload.ts";
import { type ApiContext, type ApiRoute, apiRoute, MAX_METADATA_BYTES, metadata, tenantId } from "./route.ts";
import { readFile } from "./upload_body.ts";

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "must have 64 hexadecimal digits, in small letters");
const links = {
  /** A key that the program chooses: the file is found by it as well. */
  key: z.string().min(1).max(1_024).optional(),
  metadata: metadata.optional(),
  /** What uses the file, such as chat_message: as long as there is a use, the file stays. */
  ref_kind: z.string().regex(/^[a-z][a-z0-9_]{0,39}$/, "must be a word of small letters, digits and _")
    .optional(),
  ref_id: z.string().min(1).max(200).optional(),
};
/** Query and fields are texts. */
const metadataText = z.string().max(MAX_METADATA_BYTES).transform((text, context) => {
  try {
    return metadata.parse(JSON.parse(text));
  } catch {
    context.addIssue("must be a JSON object");
    return z.NEVER;
  }
});

const uploadFields = z.strictObject({
  tenant_id: tenantId.optional(),
  kind: z.enum(MEDIA_KINDS).default("media"),
  /** The file's type; without it the body's own `content-type`. `content_type` is understood, too. */
  mime_type: z.string().max(255).optional(),
  content_type: z.string().max(255).optional(),
  ...links,
  metadata: metadataText.optional(),
  /** Of kind vision: the hash of the picture that was looked at, the model, and the version of the answer's schema. */
  source_sha256: sha256.optional(),
  model: z.string().min(1).max(100).optional(),
  schema_version: z.string().min(1).max(40).optional(),
});

const fileObject = mediaObject.extend({
  /** The key that it was asked for by. */
  key: z.string().optional(),
});
const address = z.object({ url: z.string(), expires_at: z.string() });
const uploaded = fileObject.extend({
  /** False: it was there already. */
  created: z.boolean(),
  /** Where it can be read for five minutes. */
  url: z.string(),
});
const sending = z.object({
  method: z.literal("PUT"),
  url: z.string(),
  headers: z.record(z.string(), z.string()),
  expires_at: z.string(),
});
const partToSend = sending.extend({
  part_number: z.number(),
  /** Where it begins in the file, and how long it is, in bytes. */
  offset: z.number(),
  size_bytes: z.number(),
});
const action = z.object({
  method: z.literal("POST"),
  url: z.string(),
  body: z.record(z.string(), z.unknown()),
});
const announced = z.object({
  status: z.enum(["present", "upload"]),
  object: fileObject,
  /** Send the file so: in one, or in parts in any order. Of parts those that have arrived already are left out. */
  upload: z.union([sending, z.object({ parts: z.array(partToSend) })]).optional(),
  /** Then say so. */
  verify: action.optional(),
  /** Or that it will not be sent. */
  abort: action.optional(),
});

export const mediaRoutes: readonly ApiRoute[] = [
  apiRoute({
    method: "post",
    path: "/v1/media/uploads",
    tag: "media",
    summary:
      "Announces a file that is sent straight to the store: answers that it is there, or where to send it",
    body: z.strictObject({
      tenant_id: tenantId.optional(),
      sha256,
      size_bytes: z.int().min(0).max(5_000_000_000),
      content_type: z.string().max(255).optional(),
      mime_type: z.string().max(255).optional(),
      kind: z.enum(MEDIA_KINDS).default("media"),
      ...links,
    }),
    answers: { 200: { description: "`present`, or `upload` with what to do", shape: announced } },
    async serve({ dependencies: { media, baseUrl, maxBodyBytes }, actor, requestId }, { body }) {
      const mimeType = body.mime_type ?? body.content_type;
      if (mimeType === undefined) {
        throw new GatewayError("invalid_request", { message: "Say the file's type as `content_type`." });
      }
      const linked = linksOf(body);
      const answer = await announceUpload(media, actor, {
        tenantId: body.tenant_id ?? null,
        sha256: body.sha256,
        sizeBytes: body.size_bytes,
        mimeType,
        kind: body.kind,
        metadata: body.key === undefined ? body.metadata ?? {} : {},
        links: linked,
      }, maxBodyBytes);
      if (answer.status === "present") {
        return jsonResponse(200, { status: "present", object: shown(answer.object) }, requestId);
      }
      const toSend = ({ method, url, headers, expiresAt }: PresignedRequest) => ({
        method,
        url,
        headers,
        expires_at: expiresAt.toISOString(),
      });
      const upload = answer.status === "upload" ? toSend(answer.upload) : {
        parts: answer.parts.map((part) => ({
          part_number: part.partNumber,
          offset: part.offset,
          size_bytes: part.sizeBytes,
          ...toSend(part),
        })),
      };
      const place = `${baseUrl}/v1/media/uploads/${body.sha256}`;
      const { tenant_id, s3_key } = answer.object;
      return jsonResponse(200, {
        status: "upload",
        object: shown(answer.object),
        upload,
        verify: {
          method: "POST",
          url: `${place}/verify`,
          body: { tenant_id, ...(answer.status === "upload" && s3_key !== null && { s3_key }), ...linked },
        },
        abort: { method: "POST", url: `${place}/abort`, body: { tenant_id } },
      }, requestId);
    },
  }),
  apiRoute({
    method: "post",
    path: "/v1/media/uploads/{sha256}/abort",
    tag: "media",
    summary: "Gives up an announced file: what has arrived of it is deleted, and its room is free",
    body: z.strictObject({ tenant_id: tenantId.optional() }),
    answers: {
      200: {
        description: "`aborted`; `none`: nothing of it is under way",
        shape: z.object({ status: z.enum(["aborted", "none"]) }),
      },
    },
    async serve({ dependencies: { media }, actor, requestId }, { path, body }) {
      const aborted = await giveUpUpload(media, actor, {
        tenantId: body.tenant_id ?? null,
        sha256: sha256.safeParse(path.sha256).data ?? "",
      });
      return jsonResponse(200, { status: aborted ? "aborted" : "none" }, requestId);
    },
  }),
  apiRoute({
    method: "post",
    path: "/v1/media/uploads/{sha256}/verify",
    tag: "media",
    summary:
      "Says that an announced file has been sent: it is looked for and held against what was announced",
    body: z.strictObject({
      tenant_id: tenantId.optional(),
      /** The object's, as the announcement answered it: it is looked for at once. */
      s3_key: z.string().min(1).max(1_024).optional(),
      ...links,
    }),
    answers: { 200: { description: "The file", shape: fileObject } },
    async serve({ dependencies: { media, background }, actor, requestId }, { path, body }) {
      const { object, isFinal } = await verifyUpload(media, actor, {
        tenantId: body.tenant_id ?? null,
        sha256: sha256.safeParse(path.sha256).data ?? "",
        links: linksOf(body),
        ...(body.s3_key !== undefined && { key: body.s3_key }),
      });
      if (object.state === "stored") {
        // What the store did not hold to its hash is read once the answer is out; should this end early, maintenance does it.
        background(proveObject(media, object, isFinal).then(() => {}, () => {}));
      }
      return jsonResponse(200, shown(object), requestId);
    },
  }),
  apiRoute({
    method: "post",
    path: "/v1/media",
    tag: "media",
    summary:
      "Stores a file, once: raw with its content-type, or the field `file` of a multipart form with the others as fields",
    query: uploadFields,
    body: "file",
    answers: {
      200: { description: "It was there already", shape: uploaded },
      201: { description: "It is stored now", shape: uploaded },
    },
    async serve(context, { query }) {
      const { dependencies: { media, maxBodyBytes }, actor, requestId, request, clock, work, confirmCaller } =
        context;
      const file = await readFile(request, {
        maxBytes: maxBodyBytes,
        clock,
        work,
        confirmCaller,
        fields: uploadFields,
        query,
      });
      const { fields } = file;
      const linked = linksOf(fields);
      const { object, created } = await uploadFile(media, actor, {
        tenantId: fields.tenant_id ?? null,
        kind: fields.kind,
        mimeType: fields.mime_type ?? fields.content_type ?? file.mimeType,
        body: file.bytes,
        metadata: fields.key === undefined ? fields.metadata ?? {} : {},
        links: linked,
        vision: visionOf(fields),
      });
      const { url } = await addressOf(media, object, REDIRECT_SECONDS);
      return jsonResponse(created ? 201 : 200, { ...shown(object), created, url }, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/media",
    tag: "media",
    summary:
      "A page of a tenant's files in the order of their keys; with a prefix or aliases=true by the keys that programs chose",
    query: z.strictObject({
      tenant_id: tenantId.optional(),
      prefix: z.string().max(1_024).default(""),
      kind: z.enum(MEDIA_KINDS).optional(),
      aliases: z.enum(["true", "false"]).default("false"),
      limit: z.string().regex(/^\d{1,4}$/, "must be 1 to 1000").transform(Number).pipe(
        z.number().min(1).max(1_000),
      )
        .default(100),
      cursor: z.string().max(4_000).optional(),
    }),
    answers: {
      200: {
        description: "Files, and the cursor of the next page",
        shape: z.object({
          tenant_id: z.string(),
          files: z.array(fileObject),
          next_cursor: z.string().nullable(),
        }),
      },
    },
    async serve({ dependencies, actor, requestId }, { query }) {
      const page = await dependencies.media.registry.list(actor, {
        tenantId: query.tenant_id ?? null,
        prefix: query.prefix,
        kind: query.kind ?? null,
        aliases: query.aliases === "true",
        after: query.cursor === undefined ? null : fromCursor(query.cursor),
        limit: query.limit,
      });
      return jsonResponse(200, {
        tenant_id: page.tenant_id,
        files: page.entries.map(({ key, object, metadata }) => ({
          ...shown(object),
          key,
          ...(metadata !== undefined && { metadata }),
        })),
        next_cursor: page.next === null ? null : toCursor(page.next),
      }, requestId);
    },
  }),
  apiRoute({
    method: "post",
    path: "/v1/media/{name}/url",
    tag: "media",
    summary: "An address at which anybody may read the file for a while; `name` is its sha256 or a key",
    query: z.strictObject({ tenant_id: tenantId.optional() }),
    body: z.strictObject({ expires_in: z.int().min(1).max(604_800).default(3_600) }),
    answers: { 200: { description: "The address", shape: address } },
    async serve(context, { path, query, body }) {
      const { object } = await found(context, path.name, query.tenant_id);
      const { url, expiresAt } = await addressOf(context.dependencies.media, object, body.expires_in);
      return jsonResponse(200, { url, expires_at: expiresAt.toISOString() }, context.requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/media/{name}",
    tag: "media",
    summary:
      "Redirects to an address of the file, which is its sha256 or a key; with info=true what is known of it",
    query: z.strictObject({
      tenant_id: tenantId.optional(),
      info: z.enum(["true", "false"]).default("false"),
    }),
    answers: {
      200: { description: "With info=true", shape: fileObject },
      302: { description: "To an address that is valid for five minutes", shape: null },
    },
    async serve(context, { path, query }) {
      const isInfo = query.info === "true";
      const { object, alias } = await found(context, path.name, query.tenant_id, { uses: !isInfo });
      if (isInfo) return jsonResponse(200, shown(object, alias), context.requestId);
      const { url } = await addressOf(context.dependencies.media, object, REDIRECT_SECONDS);
      return new Response(null, {
        status: 302,
        headers: { ...answerHeaders("text/plain", context.requestId), location: url },
      });
    },
  }),
  apiRoute({
    method: "delete",
    path: "/v1/media/{name}",
    tag: "media",
    summary:
      "Drops a use of the file (ref_kind and ref_id) or the key that it is asked for by; with none left the file goes",
    query: z.strictObject({ tenant_id: tenantId.optional(), ref_kind: links.ref_kind, ref_id: links.ref_id }),
    answers: {
      200: {
        description:
          "`deleted`; `deleting`: the store did not answer, and maintenance goes on; `kept`: something uses it",
        shape: z.object({ status: z.enum(["deleted", "deleting", "kept"]), object: fileObject }),
      },
    },
    async serve({ dependencies: { media }, actor, requestId }, { path, query }) {
      const { ref_kind, ref_id } = query;
      if ((ref_kind === undefined) !== (ref_id === undefined)) {
        throw new GatewayError("invalid_request", {
          message: "Give ref_kind and ref_id together, or neither.",
        });
      }
      const reference = ref_kind !== undefined && ref_id !== undefined
        ? { kind: ref_kind, id: ref_id }
        : null;
      const answer = await media.registry.remove(actor, query.tenant_id ?? null, path.name ?? "", reference);
      if (answer.status === "none") throw new GatewayError("object_not_found");
      if (answer.status === "kept") {
        return jsonResponse(200, { status: "kept", object: shown(answer.object) }, requestId);
      }
      const gone = await deleteObjects(media, [answer.delete]).then(
        ({ objects }) => objects > 0,
        () => false,
      );
      return jsonResponse(
        200,
        { status: gone ? "deleted" : "deleting", object: shown(answer.object) },
        requestId,
      );
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/blobs/{key}",
    tag: "addresses",
    summary: "A file that the database holds, at an address that this API has signed",
    isSigned: true,
    answers: {
      200: { description: "The file", shape: null },
      206: { description: "The bytes of the range that was asked for", shape: null },
    },
    async serve({ dependencies: { media, addresses }, request, requestId }, { path }) {
      const key = path.key ?? "";
      const terms = await addresses.verify("GET", key, new URL(request.url).searchParams);
      const facts = await media.spool.head(key);
      if (facts === null) return await elsewhere(media, key, terms);
      const range = facts.contentEncoding === null
        ? rangeOf(request.headers.get("range"), facts.sizeBytes)
        : null;
      const { body } = await media.spool.get(key, range === null ? {} : { range });
      return new Response(body, {
        status: range === null ? 200 : 206,
        headers: {
          ...CORS_HEADERS,
          "content-type": terms.contentType ?? facts.contentType ?? "application/octet-stream",
          ...(terms.contentDisposition !== undefined && { "content-disposition": terms.contentDisposition }),
          ...(facts.contentEncoding === null && { "accept-ranges": "bytes" }),
          ...(range !== null && { "content-range": `bytes ${range.from}-${range.to}/${facts.sizeBytes}` }),
          // It runs nothing, wherever it is opened.
          "content-security-policy": "default-src 'none'; sandbox",
          "x-content-type-options": "nosniff",
          "cache-control": "private, max-age=300",
          "x-eve-request-id": requestId,
        },
      });
    },
  }),
  apiRoute({
    method: "put",
    path: "/v1/blobs/{key}",
    tag: "addresses",
    summary: "Takes a file at an address that this API has signed: exactly the bytes that were announced",
    isSigned: true,
    body: "file",
    answers: {
      200: { description: "It is there; verify it now", shape: z.object({ size_bytes: z.number() }) },
    },
    async serve(
      { dependencies: { media, addresses, maxBodyBytes }, request, requestId, clock, work },
      { path },
    ) {
      const key = path.key ?? "";
      const terms = await addresses.verify("PUT", key, new URL(request.url).searchParams);
      if (terms.contentType !== undefined && request.headers.get("content-type") !== terms.contentType) {
        throw new GatewayError("content_mismatch", {
          message:
            `Send the file with the headers that the upload names: its content-type is ${terms.contentType}.`,
        });
      }
      const bytes = await readBody(request, {
        maxBytes: Math.min(maxBodyBytes, terms.sizeBytes ?? 0),
        timeoutMs: BODY_TIMEOUT_MS,
        clock,
        onBytes: (count) => work.add(count * 2),
      }) as Uint8Array<ArrayBuffer>;
      if (bytes.byteLength !== terms.sizeBytes || await sha256Of(bytes) !== terms.sha256) {
        throw new GatewayError("content_mismatch");
      }
      const { sizeBytes } = await media.spool.put(key, {
        body: bytes,
        sha256: terms.sha256,
        contentType: terms.contentType ?? "application/octet-stream",
        ...(terms.contentEncoding === "gzip" && { contentEncoding: "gzip" as const }),
      });
      return jsonResponse(200, { size_bytes: sizeBytes }, requestId);
    },
  }),
];

/** @param options.uses it is being read, and stays for its time: to ask whether there is one is none */
async function found(
  { dependencies: { media }, actor }: ApiContext,
  name = "",
  tenant: string | undefined,
  { uses = true } = {},
) {
  const known = await media.registry.find(actor, tenant ?? null, name, { uses });
  if (known === null) throw new GatewayError("object_not_found");
  return known;
}

/** It has moved to S3 since its address was given. */
async function elsewhere(
  { s3 }: ApiContext["dependencies"]["media"],
  key: string,
  terms: AddressTerms,
): Promise<Response> {
  if (s3 === null) throw new GatewayError("object_not_found");
  const { url } = await s3.presignGet(key, {
    expiresIn: REDIRECT_SECONDS,
    ...(terms.contentType !== undefined && { contentType: terms.contentType }),
    ...(terms.contentDisposition !== undefined && { contentDisposition: terms.contentDisposition }),
    ...(terms.contentEncoding === "gzip" && { contentEncoding: "gzip" as const }),
  });
  return new Response(null, {
    status: 302,
    headers: { ...CORS_HEADERS, location: url, "cache-control": "no-store" },
  });
}

/** One range, as players of sound and pictures ask; anything else is answered whole. */
function rangeOf(header: string | null, sizeBytes: number): { from: number; to: number } | null {
  const [, first = "", last = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? "") ?? [];
  if (first === "" && last === "") return null;
  const from = first === "" ? Math.max(0, sizeBytes - Number(last)) : Number(first);
  const to = first === "" || last === "" ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1);
  return from <= to && from < sizeBytes ? { from, to } : null;
}

function shown(object: MediaObject, alias: MediaAlias | null = null) {
  return { ...object, ...(alias !== null && { key: alias.key, metadata: alias.metadata }) };
}

function linksOf(given: MediaLinks): MediaLinks {
  const { key, metadata, ref_kind, ref_id } = given;
  if ((ref_kind === undefined) !== (ref_id === undefined)) {
    throw new GatewayError("invalid_request", { message: "Give ref_kind and ref_id together, or neither." });
  }
  return {
    ...(key !== undefined && { key, ...(metadata !== undefined && { metadata }) }),
    ...(ref_kind !== undefined && { ref_kind }),
    ...(ref_id !== undefined && { ref_id }),
  };
}

function visionOf(
  { source_sha256, model, schema_version }: z.output<typeof uploadFields>,
): VisionSource | null {
  if (source_sha256 === undefined || model === undefined || schema_version === undefined) return null;
  return { sourceSha256: source_sha256, model, schemaVersion: schema_version };
}

/** Not readable, so that nobody builds on what is in it. */
function toCursor(key: string): string {
  return base64url.encode(new TextEncoder().encode(key));
}

function fromCursor(cursor: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(base64url.decode(cursor));
  } catch {
    throw new GatewayError("invalid_request", { message: "This cursor is none of ours. Begin without one." });
  }
}
