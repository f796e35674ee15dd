import * as z from "zod";
import { type ErrorCode, errorRow, ERRORS } from "../contract/errors.ts";
import { VERSION } from "../contract/version.ts";
import type { ApiRoute } from "./route.ts";

const errorShape = z.object({
  error: z.object({
    code: z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]),
    message: z.string(),
    request_id: z.string(),
    retryable: z.boolean(),
    details: z.unknown().optional(),
  }),
});

type Json = Record<string, unknown>;

/** The OpenAPI 3.1 document of the routes: its shapes are those that requests are held against. */
export function openApiDocument(routes: readonly ApiRoute[], baseUrl: string): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    (paths[route.path] ??= {})[route.method] = operationOf(route);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "EVE Gateway: api",
      version: VERSION,
      description:
        "Files within a quota: each once, in S3 or in the database. Chats, with their messages, pictures and search results.",
    },
    servers: [{ url: baseUrl }],
    security: [{ apikey: [] }, { bearer: [] }],
    paths,
    components: {
      securitySchemes: {
        apikey: { type: "apiKey", in: "header", name: "apikey" },
        bearer: { type: "http", scheme: "bearer" },
      },
      schemas: { Error: schemaOf(errorShape, "output") },
      responses: {
        Error: {
          description: `An error. Codes and their status: ${
            (Object.keys(ERRORS) as ErrorCode[]).map((code) => `${code} ${errorRow(code).status}`).join(", ")
          }.`,
          content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
        },
      },
    },
  };
}

function operationOf({ summary, tag, path, query, body, formField, answers, isSigned }: ApiRoute): Json {
  const parameters: Json[] = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
  if (query !== undefined) {
    const { properties = {}, required = [] } = schemaOf(query, "input") as {
      properties?: Json;
      required?: string[];
    };
    for (const [name, schema] of Object.entries(properties)) {
      parameters.push({ name, in: "query", required: required.includes(name), schema });
    }
  }
  return {
    summary,
    tags: [tag],
    ...(isSigned && { security: [] }),
    ...(parameters.length > 0 && { parameters }),
    ...(body !== undefined && { requestBody: { required: true, content: contentOf(body, formField) } }),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, { description, shape }]) => [status, {
          description,
          ...(shape !== null && { content: { "application/json": { schema: schemaOf(shape, "output") } } }),
        }]),
      ),
      default: { $ref: "#/components/responses/Error" },
    },
  };
}

function contentOf(body: z.ZodType | "file", formField?: string): Json {
  if (body !== "file") {
    const json = { "application/json": { schema: schemaOf(body, "input") } };
    if (formField === undefined) return json;
    const file = { type: "string", contentMediaType: "application/octet-stream" };
    return {
      ...json,
      "multipart/form-data": {
        schema: {
          type: "object",
          required: [formField],
          properties: { [formField]: schemaOf(body, "input"), media: { type: "array", items: file } },
        },
        encoding: { [formField]: { contentType: "application/json" } },
      },
    };
  }
  return {
    "*/*": { schema: {} },
    "multipart/form-data": {
      schema: {
        type: "object",
        required: ["file"],
        properties: { file: { type: "string", contentMediaType: "application/octet-stream" } },
      },
    },
  };
}

function schemaOf(shape: z.ZodType, io: "input" | "output"): Json {
  const { $schema: _, ...schema } = z.toJSONSchema(shape, { io, unrepresentable: "any" });
  return schema;
}
