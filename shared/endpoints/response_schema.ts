import { compileSchema } from "../schema/compile.ts";
import { isObject } from "../contract/is_object.ts";

/** What Gemini's `responseSchema` understands: a part of OpenAPI 3.0. */
const OPENAPI_WORDS = new Set([
  "type",
  "format",
  "title",
  "description",
  "nullable",
  "enum",
  "maxItems",
  "minItems",
  "properties",
  "required",
  "minProperties",
  "maxProperties",
  "minLength",
  "maxLength",
  "pattern",
  "example",
  "anyOf",
  "propertyOrdering",
  "default",
  "items",
  "minimum",
  "maximum",
]);

type Schema = Record<string, unknown>;

/**
 * Generation settings that ask for JSON of a schema: as `responseSchema`, which every model with JSON mode takes, unless
 * the schema uses more than that knows (`$ref`, `additionalProperties`, a list of types); then as `responseJsonSchema`.
 * @param from the field of the request that holds it
 * @throws GatewayError `invalid_request` for a schema that no answer can be checked against
 */
export function schemaSettings(schema: Schema, from: string): Record<string, unknown> {
  compileSchema(schema, from);
  const field = isOpenApi(schema) ? "responseSchema" : "responseJsonSchema";
  return { responseMimeType: "application/json", [field]: schema };
}

/** Whether a schema stays within that part. */
export function isOpenApi(schema: unknown): boolean {
  if (!isObject(schema)) return false;
  return Object.entries(schema).every(([word, value]) => {
    if (!OPENAPI_WORDS.has(word)) return false;
    switch (word) {
      case "type":
        return typeof value === "string";
      case "items":
        return isOpenApi(value);
      case "anyOf":
        return Array.isArray(value) && value.every(isOpenApi);
      case "properties":
        // An object without properties is refused there.
        return isObject(value) && Object.keys(value).length > 0 && Object.values(value).every(isOpenApi);
      case "enum":
        return Array.isArray(value) && value.every((item) => typeof item === "string");
      default:
        return true;
    }
  });
}
