import * as z from "zod";
import type { BatchFiles, FileToKeep } from "../../../batches/batch_files.ts";
import { contentOf } from "../../../batches/content.ts";
import type { Uploads } from "../../../batches/uploads.ts";
import type { Batches, BatchFile } from "../../../database/jobs/batches.ts";
import { answerHeaders } from "../../../http/answer_headers.ts";
import { jsonResponse } from "../../../http/json_response.ts";
import type { EndpointRoute, RequestContext } from "../../endpoint.ts";
import { invalidRequest, validated } from "../../validated.ts";
import { idHeaders } from "../headers.ts";
import { typeOfFile } from "../media.ts";
import { fieldsOf, objectId, pageOf, secondsOf, uuidIn } from "../objects.ts";

/** What files and batches are kept and found with. */
export interface OpenaiBatches {
  batches: Batches;
  files: BatchFiles;
  uploads: Uploads;
  /** Calls the function worker, after the response has gone. */
  wake: () => void;
  newId: () => string;
}

/** Of a file's name, as the database keeps it. */
const MAX_NAME = 255;

const listQuery = pageOf(10_000).extend({
  purpose: z.string().max(100).optional(),
  order: z.enum(["asc", "desc"]).default("desc"),
});

/** `/files`: those that batches read, and what came of them. */
export function fileRoutes(parts: OpenaiBatches): EndpointRoute[] {
  const { batches, files } = parts;
  return [{
    path: "/files",
    methods: ["GET", "POST"],
    serve: (context) => context.request.method === "POST" ? upload(context) : list(context),
  }, {
    path: "/files/:id",
    methods: ["GET", "DELETE"],
    async serve({ request, requestId, caller, param }) {
      const id = uuidIn("file", param("id"));
      if (request.method === "GET") return answer(fileJson(await batches.file(id, caller)), requestId);
      await files.remove(id, caller);
      return answer({ id: objectId("file", id), object: "file", deleted: true }, requestId);
    },
  }, {
    path: "/files/:id/content",
    methods: ["GET"],
    async serve({ requestId, caller, param }) {
      const file = await batches.file(uuidIn("file", param("id")), caller);
      return new Response(await contentOf({ batches, files }, file, caller), {
        headers: answerHeaders("application/octet-stream", requestId, {
          ...idHeaders(requestId),
          // It came from elsewhere: a browser must not guess another type than the declared one.
          "x-content-type-options": "nosniff",
        }),
      });
    },
  }];

  async function upload(context: RequestContext): Promise<Response> {
    const file = await uploaded(await context.readForm());
    return answer(fileJson(await files.keep(file, context.caller)), context.requestId);
  }

  async function list({ request, requestId, caller }: RequestContext): Promise<Response> {
    const { purpose, order, after, limit } = validated(listQuery, queryOf(request));
    const page = await batches.files(caller, {
      purpose: purpose ?? null,
      after: after === undefined ? null : uuidIn("file", after),
      limit: Math.min(limit ?? 1_000, 1_000),
      oldestFirst: order === "asc",
    });
    return answer(listJson(page.files.map(fileJson), page.hasMore), requestId);
  }
}

/** What files that prompts name are brought for, in OpenAI's words: to us they are all `user_data`. */
const FOR_PROMPTS = ["user_data", "vision", "assistants"];

async function uploaded(form: FormData): Promise<FileToKeep> {
  const { file, purpose } = fieldsOf(form, ["file", "purpose"]);
  const isForPrompts = typeof purpose === "string" && FOR_PROMPTS.includes(purpose);
  if (purpose !== "batch" && !isForPrompts) {
    throw invalidRequest([{ field: "purpose", problem: `must be batch, ${FOR_PROMPTS.join(" or ")}` }]);
  }
  if (!(file instanceof File)) throw invalidRequest([{ field: "file", problem: "must be a file" }]);
  if (file.size === 0) throw invalidRequest([{ field: "file", problem: "is empty" }]);
  const filename = plainName(file.name);
  const bytes = new Uint8Array(await file.arrayBuffer());
  return isForPrompts ? { filename, bytes, mimeType: typeOfFile(file) } : { filename, bytes };
}

/** A file's name as the database keeps it. */
export function plainName(name: string): string {
  return name.replaceAll(/\p{Cc}/gu, "").toWellFormed().slice(0, MAX_NAME) || "file.jsonl";
}

export function fileJson({ id, purpose, filename, bytes, created_at, expires_at }: BatchFile) {
  return {
    id: objectId("file", id),
    object: "file",
    bytes,
    created_at: secondsOf(created_at),
    expires_at: secondsOf(expires_at),
    filename,
    purpose,
    status: "processed",
  };
}

/** A page as OpenAI's clients turn it. */
export function listJson<Item extends { id: string }>(data: Item[], hasMore: boolean) {
  return {
    object: "list",
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: hasMore,
  };
}

export function answer(body: unknown, requestId: string): Response {
  return jsonResponse(200, body, requestId, idHeaders(requestId));
}

/** The query, without a credential or options of the gateway's own that some clients send in it. */
export function queryOf(request: Request): Record<string, string> {
  const query = Object.fromEntries(new URL(request.url).searchParams);
  return Object.fromEntries(
    Object.entries(query).filter(([name]) => name !== "key" && !name.startsWith("x-eve-")),
  );
}
