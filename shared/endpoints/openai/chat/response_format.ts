import type { GenerationConfig } from "../../../contract/content.ts";
import type { Chat } from "./chat_request.ts";
import { schemaSettings } from "../../response_schema.ts";

/** `response_format` as generation settings. Upstream holds every answer to its schema, so `strict` asks for nothing more. */
export function formatSettings(format: Chat["response_format"]): GenerationConfig {
  switch (format?.type) {
    case undefined:
    case "text":
      return {};
    case "json_object":
      return { responseMimeType: "application/json" };
    case "json_schema": {
      const { schema, description } = format.json_schema;
      return schemaSettings(
        { ...(description !== undefined && { description }), ...withoutDialect(schema) },
        "response_format.json_schema.schema",
      );
    }
  }
}

/** A schema without the line that names its dialect, which upstream does not know; clients write it, models never see it. */
export function withoutDialect({ $schema: _, ...schema }: Record<string, unknown>): Record<string, unknown> {
  return schema;
}
