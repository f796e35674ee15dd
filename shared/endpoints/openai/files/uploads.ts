import * as z from "zod";
import { MAX_UPLOAD_BYTES, type Uploads } from "../../../batches/uploads.ts";
import { GatewayError } from "../../../contract/gateway_error.ts";
import type { BatchFile } from "../../../database/jobs/batches.ts";
import type { Upload } from "../../../database/jobs/uploads.ts";
import type { EndpointRoute, RequestContext } from "../../endpoint.ts";
import { invalidRequest, validated } from "../../validated.ts";
import { answer, fileJson, plainName } from "./files.ts";
import { fieldsOf, objectId, secondsOf, uuidIn } from "../objects.ts";

/** As many as one upload may have. */
const MAX_PARTS = 1_000;

const toCreate = z.strictObject({
  bytes: z.int({ error: "must be a whole number" }).min(1, "must be at least 1")
    .max(MAX_UPLOAD_BYTES, `must be at most ${MAX_UPLOAD_BYTES}`),
  filename: z.string().min(1).max(1_000),
  mime_type: z.string().max(255),
  purpose: z.literal("batch", { error: "must be batch: no other files are kept here" }),
});
const toComplete = z.strictObject({
  part_ids: z.array(z.string().max(100)).min(1).max(MAX_PARTS),
  md5: z.string().regex(/^[0-9a-f]{32}$/i, "must have 32 hexadecimal digits").nullish(),
});

/** `/uploads`: files for batches that are larger than a body may be, in parts. */
export function uploadRoutes(uploads: Uploads): EndpointRoute[] {
  return [{
    path: "/uploads",
    methods: ["POST"],
    async serve(context) {
      const { bytes, filename } = validated(toCreate, await context.readJson());
      const upload = await uploads.create({ bytes, filename: plainName(filename) }, context.caller);
      return answer(uploadJson(upload, null), context.requestId);
    },
  }, {
    path: "/uploads/:id/parts",
    methods: ["POST"],
    async serve(context) {
      const uploadId = uuidIn("upload", context.param("id"));
      const part = await uploads.addPart(uploadId, await partIn(context), context.caller);
      return answer({
        id: objectId("part", part.id),
        object: "upload.part",
        created_at: secondsOf(part.createdAt),
        upload_id: objectId("upload", uploadId),
      }, context.requestId);
    },
  }, {
    path: "/uploads/:id/complete",
    methods: ["POST"],
    async serve(context) {
      const uploadId = uuidIn("upload", context.param("id"));
      const { part_ids, md5 } = validated(toComplete, await context.readJson());
      const { upload, file } = await uploads.complete(uploadId, {
        partIds: part_ids.map((id) => uuidIn("part", id)),
        md5: md5?.toLowerCase() ?? null,
      }, context.caller);
      return answer(uploadJson(upload, file), context.requestId);
    },
  }, {
    path: "/uploads/:id/cancel",
    methods: ["POST"],
    serve: async ({ caller, requestId, param }) =>
      answer(uploadJson(await uploads.cancel(uuidIn("upload", param("id")), caller), null), requestId),
  }];
}

async function partIn({ readForm }: RequestContext): Promise<Uint8Array<ArrayBuffer>> {
  const form = await readForm().catch((thrown) => {
    if (!(thrown instanceof GatewayError) || thrown.code !== "body_too_large") throw thrown;
    const { max_bytes: most } = Object(thrown.details) as { max_bytes?: number };
    throw new GatewayError("body_too_large", {
      message: `A part may have a little less than ${most} bytes here: send the file in smaller ones.`,
      details: thrown.details,
    });
  });
  const { data } = fieldsOf(form, ["data"]);
  if (!(data instanceof File)) throw invalidRequest([{ field: "data", problem: "must be a file" }]);
  if (data.size === 0) throw invalidRequest([{ field: "data", problem: "is empty" }]);
  return new Uint8Array(await data.arrayBuffer());
}

function uploadJson(upload: Upload, file: BatchFile | null) {
  return {
    id: objectId("upload", upload.id),
    object: "upload",
    bytes: upload.bytes,
    created_at: secondsOf(upload.created_at),
    expires_at: secondsOf(upload.expires_at),
    filename: upload.filename,
    purpose: "batch",
    status: upload.state,
    file: file === null ? null : fileJson(file),
  };
}
