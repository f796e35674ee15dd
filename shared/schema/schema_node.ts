import type { Pattern } from "./pattern.ts";

/** A place in a schema or in a value, from its root. */
export type Place = readonly (string | number)[];

export const TYPES = ["string", "number", "integer", "boolean", "array", "object", "null"] as const;
export type TypeName = typeof TYPES[number];

/** A schema read: what it asks of a value, by JSON Schema's keywords. What is absent asks for nothing. */
export interface SchemaNode {
  readonly place: Place;
  /** The schema `false`. */
  never?: true;
  nullable?: boolean;
  type?: readonly TypeName[];
  /** `enum` and `const`, in their canonical form. */
  enum?: ReadonlySet<string>;
  const?: string;

  ref?: SchemaNode;
  anyOf?: SchemaNode[];
  oneOf?: SchemaNode[];
  allOf?: SchemaNode[];
  not?: SchemaNode;
  if?: SchemaNode;
  then?: SchemaNode;
  else?: SchemaNode;

  properties?: ReadonlyMap<string, SchemaNode>;
  patternProperties?: readonly (readonly [Pattern, SchemaNode])[];
  additionalProperties?: SchemaNode;
  propertyNames?: SchemaNode;
  required?: readonly string[];
  dependentRequired?: ReadonlyMap<string, readonly string[]>;
  minProperties?: number;
  maxProperties?: number;

  prefixItems?: SchemaNode[];
  items?: SchemaNode;
  contains?: SchemaNode;
  minContains?: number;
  maxContains?: number;
  minItems?: number;
  maxItems?: number;
  uniqueItems?: boolean;

  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  multipleOf?: number;

  minLength?: number;
  maxLength?: number;
  pattern?: Pattern;
  format?: string;
}

/** The schemas that look at the same value as the schema itself. */
export function heldBeside(node: SchemaNode): SchemaNode[] {
  const one = [node.ref, node.not, node.if, node.then, node.else].filter((inner) => inner !== undefined);
  return [...one, ...(node.anyOf ?? []), ...(node.oneOf ?? []), ...(node.allOf ?? [])];
}

/**
 * A value as a text that equal values share, whatever the order of their fields.
 * @param spend is called for each value inside, with how deep it is and how many characters it has
 */
export function canonical(value: unknown, spend: (depth: number, chars: number) => void, depth = 0): string {
  spend(depth, typeof value === "string" ? value.length : 0);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item, spend, depth + 1)).join()}]`;
  const fields = Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1);
  return `{${
    fields.map(([name, inner]) => `${JSON.stringify(name)}:${canonical(inner, spend, depth + 1)}`).join()
  }}`;
}
