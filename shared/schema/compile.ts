import { fieldName, invalidRequest } from "../contract/invalid_request.ts";
import { isCheckedFormat } from "./format.ts";
import { compilePattern, MAX_PATTERN_SIZE, type Pattern, PatternFault } from "./pattern.ts";
import { canonical, heldBeside, type Place, type SchemaNode, type TypeName, TYPES } from "./schema_node.ts";
import { isObject } from "../contract/is_object.ts";

/**
 * How much a schema may be. OpenAI's strict mode takes 5,000 properties, 1,000 values of enums and 120,000 characters of
 * names and values; a schema that a model can follow is far below.
 */
export const SCHEMA_LIMITS = {
  /** Schemas in it, each property and each alternative being one. */
  schemas: 5_000,
  /** How deep they nest, references not followed. */
  depth: 32,
  /** `$ref`s. */
  references: 1_000,
  /** Schemas that one value is checked against at once, references followed: alternatives of alternatives multiply. */
  atOnce: 1_000,
  /** Values in all enums. */
  values: 10_000,
  /** Characters in names of properties and in values. */
  chars: 120_000,
  /** All its regular expressions written out, in instructions. */
  patterns: 10 * MAX_PATTERN_SIZE,
} as const;

type Json = Record<string, unknown>;

class SchemaFault extends Error {
  constructor(readonly place: Place, readonly problem: string) {
    super(problem);
  }
}

/**
 * A schema that a caller sends, read for checking answers against it. Keywords that say what an answer must be are those
 * of the table below; those that only describe it are ignored; any other is refused, since a keyword that is not
 * understood would not be checked. Gemini's spelling (types in capitals, numbers as texts, snake case, `nullable`) is
 * read as well.
 * @param field where the request has it
 * @throws GatewayError `invalid_request`, naming the place in the schema
 */
export function compileSchema(schema: unknown, field: string): SchemaNode {
  try {
    return new Compiler().compile(schema);
  } catch (thrown) {
    if (!(thrown instanceof SchemaFault)) throw thrown;
    const inner = fieldName(thrown.place);
    throw invalidRequest([{
      field: inner === "" || inner.startsWith("[") ? field + inner : `${field}.${inner}`,
      problem: thrown.problem,
    }]);
  }
}

/** Keywords that describe; what they hold is not looked at. */
export const ANNOTATIONS: ReadonlySet<string> = new Set([
  "$schema",
  "$id",
  "id",
  "$anchor",
  "$comment",
  "title",
  "description",
  "default",
  "example",
  "examples",
  "deprecated",
  "readOnly",
  "writeOnly",
  "contentEncoding",
  "contentMediaType",
  "contentSchema",
  "propertyOrdering",
  // OpenAPI's, as pydantic writes them beside a `oneOf` that says the same.
  "discriminator",
  "externalDocs",
  "xml",
  // Editors'.
  "markdownDescription",
  "enumDescriptions",
  "errorMessage",
]);

type Read = (compiler: Compiler, node: SchemaNode, value: unknown, place: Place) => void;

/** A keyword's own field of the node, made by `make`. */
const field = <Name extends keyof SchemaNode>(
  name: Name,
  make: (compiler: Compiler, value: unknown, place: Place) => SchemaNode[Name],
): [string, Read] => [
  name,
  (compiler, node, value, place) => void (node[name] = make(compiler, value, place)),
];

const one = (name: "not" | "if" | "then" | "else" | "additionalProperties" | "propertyNames" | "contains") =>
  field(name, (compiler, value, place) => compiler.node(value, place));
const several = (name: "anyOf" | "oneOf" | "allOf" | "prefixItems") =>
  field(name, (compiler, value, place) => compiler.nodes(value, place));
const count = (
  name: `${"min" | "max"}${"Length" | "Items" | "Properties" | "Contains"}`,
) =>
  field(name, (_, value, place) => {
    const read = numberIn(value, place);
    if (!Number.isInteger(read) || read < 0) throw new SchemaFault(place, "must be a whole number from 0");
    return read;
  });
const bound = (name: "minimum" | "maximum") => field(name, (_, value, place) => numberIn(value, place));

export const KEYWORDS: ReadonlyMap<string, Read> = new Map<string, Read>([
  field("type", (_, value, place) => typesIn(value, place)),
  field("nullable", (_, value, place) => booleanIn(value, place)),
  field("enum", (compiler, value, place) => {
    if (!Array.isArray(value)) throw new SchemaFault(place, "must be a list of values");
    return new Set(value.map((item) => compiler.value(item, place)));
  }),
  field("const", (compiler, value, place) => compiler.value(value, place)),
  field("format", (_, value, place) => textIn(value, place)),
  ["pattern", (compiler, node, value, place) => {
    compiler.pattern(value, place, node.format !== undefined && isCheckedFormat(node.format), (pattern) => {
      node.pattern = pattern;
    });
  }],
  ["$ref", (compiler, node, value, place) => compiler.refer(node, textIn(value, place), place)],
  ["$defs", (compiler, _, value, place) => void compiler.named(value, place)],
  ["definitions", (compiler, _, value, place) => void compiler.named(value, place)],
  several("anyOf"),
  several("oneOf"),
  several("allOf"),
  one("not"),
  one("if"),
  one("then"),
  one("else"),
  field("properties", (compiler, value, place) => compiler.named(value, place)),
  field("patternProperties", (compiler, value, place) => {
    const read: [Pattern, SchemaNode][] = [];
    for (const [source, inner] of compiler.named(value, place)) {
      compiler.pattern(source, [...place, source], false, (pattern) => read.push([pattern, inner]));
    }
    return read;
  }),
  one("additionalProperties"),
  one("propertyNames"),
  field("required", (compiler, value, place) => compiler.names(value, place)),
  field("dependentRequired", (compiler, value, place) => {
    const lists = Object.entries(objectIn(value, place));
    return new Map(lists.map(([name, list]) => [name, compiler.names(list, [...place, name])]));
  }),
  several("prefixItems"),
  ["items", (compiler, node, value, place) => {
    // Until 2019 a list of schemas meant what `prefixItems` does.
    if (Array.isArray(value)) node.prefixItems = compiler.nodes(value, place);
    else node.items = compiler.node(value, place);
  }],
  ["additionalItems", (compiler, node, value, place) => {
    const inner = compiler.node(value, place);
    if (node.items === undefined && node.prefixItems !== undefined) node.items = inner;
  }],
  one("contains"),
  count("minContains"),
  count("maxContains"),
  count("minItems"),
  count("maxItems"),
  count("minLength"),
  count("maxLength"),
  count("minProperties"),
  count("maxProperties"),
  field("uniqueItems", (_, value, place) => booleanIn(value, place)),
  bound("minimum"),
  bound("maximum"),
  field("multipleOf", (_, value, place) => {
    const read = numberIn(value, place);
    if (read <= 0) throw new SchemaFault(place, "must be above 0");
    return read;
  }),
  [
    "exclusiveMinimum",
    (_, node, value, place) => exclusive(node, "minimum", "exclusiveMinimum", value, place),
  ],
  [
    "exclusiveMaximum",
    (_, node, value, place) => exclusive(node, "maximum", "exclusiveMaximum", value, place),
  ],
]);

/** Keywords of which null is a value like any other; elsewhere null is a keyword that is not set, as Google's API has it. */
const MAY_BE_NULL = new Set(["const"]);

class Compiler {
  /** By JSON Pointer: what a `$ref` may lead to. */
  readonly #nodes = new Map<string, SchemaNode>();
  readonly #references: { from: SchemaNode; to: string; place: Place }[] = [];
  /** By source: clients write the same one for each field of a kind. */
  readonly #compiled = new Map<string, Pattern>();
  #values = 0;
  #chars = 0;
  #patterns = 0;
  #depth = 0;

  compile(schema: unknown): SchemaNode {
    const root = this.node(schema, []);
    for (const { from, to, place } of this.#references) {
      const found = this.#nodes.get(to);
      if (found === undefined) {
        throw new SchemaFault(
          place,
          "leads to no schema inside this one; only references such as #/$defs/NAME are followed",
        );
      }
      from.ref = found;
    }
    const counted = new Map<SchemaNode, number>();
    for (const node of this.#nodes.values()) heldAtOnce(node, counted);
    return root;
  }

  node(schema: unknown, place: Place): SchemaNode {
    const node: SchemaNode = { place };
    this.#nodes.set(pointerTo(place), node);
    this.#withTimeout("schemas", this.#nodes.size, place);
    if (typeof schema === "boolean") {
      if (!schema) node.never = true;
      return node;
    }
    if (!isObject(schema)) {
      throw new SchemaFault(place, "must be a schema: an object, true or false");
    }
    this.#withTimeout("depth", ++this.#depth, place);
    const given = schema;
    const known = new Map<string, string>();
    for (const word of Object.keys(given)) {
      const name = KEYWORDS.has(word) || ANNOTATIONS.has(word) ? word : camel(word);
      if (KEYWORDS.has(name)) {
        if (given[word] !== null || MAY_BE_NULL.has(name)) known.set(name, word);
      } else if (!ANNOTATIONS.has(name) && !word.startsWith("x-")) {
        throw new SchemaFault(
          [...place, word],
          "is a keyword that answers are not checked for here: leave it out",
        );
      }
    }
    // In the table's order: some are read in the light of others.
    for (const [name, read] of KEYWORDS) {
      const word = known.get(name);
      if (word !== undefined) read(this, node, given[word], [...place, word]);
    }
    this.#depth--;
    return node;
  }

  nodes(list: unknown, place: Place): SchemaNode[] {
    if (!Array.isArray(list)) throw new SchemaFault(place, "must be a list of schemas");
    return list.map((inner, index) => this.node(inner, [...place, index]));
  }

  named(schemas: unknown, place: Place): Map<string, SchemaNode> {
    return new Map(
      Object.entries(objectIn(schemas, place)).map(([name, inner]) => {
        this.#spendChars(name.length, place);
        return [name, this.node(inner, [...place, name])];
      }),
    );
  }

  names(list: unknown, place: Place): string[] {
    if (!Array.isArray(list) || !list.every((name) => typeof name === "string")) {
      throw new SchemaFault(place, "must be a list of names");
    }
    for (const name of list) this.#spendChars(name.length, place);
    return list;
  }

  /** A value of an enum. */
  value(value: unknown, place: Place): string {
    return canonical(value, (_, chars) => {
      this.#withTimeout("values", ++this.#values, place);
      this.#spendChars(chars, place);
    });
  }

  /** @param optional what it says is said by a format as well: then it may be more than can be run here */
  pattern(source: unknown, place: Place, optional: boolean, use: (pattern: Pattern) => void): void {
    try {
      const text = textIn(source, place);
      let pattern = this.#compiled.get(text);
      if (pattern === undefined) {
        pattern = compilePattern(text);
        this.#withTimeout("patterns", this.#patterns += pattern.size, place);
        this.#compiled.set(text, pattern);
      }
      use(pattern);
    } catch (thrown) {
      if (!(thrown instanceof PatternFault)) throw thrown;
      if (!optional) throw new SchemaFault(place, thrown.message);
    }
  }

  refer(from: SchemaNode, reference: string, place: Place): void {
    this.#references.push({ from, to: pointerIn(reference), place });
    this.#withTimeout("references", this.#references.length, place);
  }

  #spendChars(chars: number, place: Place): void {
    this.#withTimeout("chars", this.#chars += chars + 1, place);
  }

  #withTimeout(limit: keyof typeof SCHEMA_LIMITS, used: number, place: Place): void {
    if (used > SCHEMA_LIMITS[limit]) throw new SchemaFault(place, TOO_MUCH[limit]);
  }
}

const TOO_MUCH: Record<keyof typeof SCHEMA_LIMITS, string> = {
  schemas: `is one schema more than the ${SCHEMA_LIMITS.schemas} that a schema may hold`,
  depth: `nests deeper than ${SCHEMA_LIMITS.depth} schemas`,
  references: `is one reference more than the ${SCHEMA_LIMITS.references} that a schema may hold`,
  atOnce:
    `holds one value against more than ${SCHEMA_LIMITS.atOnce} schemas at once: use fewer alternatives, and fewer alternatives of alternatives`,
  values: `is beyond the ${SCHEMA_LIMITS.values} values that a schema's enums may hold`,
  chars: `is beyond the ${SCHEMA_LIMITS.chars} characters that names and values of a schema may have`,
  patterns: "is beyond what a schema's regular expressions may come to: use fewer or smaller ones",
};

/**
 * How many schemas a value is checked against when it is checked against this one.
 * @param counted those known; 0: being counted
 */
function heldAtOnce(node: SchemaNode, counted: Map<SchemaNode, number>, depth = 0): number {
  const known = counted.get(node);
  if (known === 0) throw new SchemaFault(node.place, "refers to itself without end");
  if (known !== undefined) return known;
  counted.set(node, 0);
  let sum = 1;
  if (depth > SCHEMA_LIMITS.atOnce) sum = Infinity;
  else for (const inner of heldBeside(node)) sum += heldAtOnce(inner, counted, depth + 1);
  if (sum > SCHEMA_LIMITS.atOnce) throw new SchemaFault(node.place, TOO_MUCH.atOnce);
  counted.set(node, sum);
  return sum;
}

function pointerTo(place: Place): string {
  return place.map((step) => `/${String(step).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
}

/** `#/$defs/Event` -> `/$defs/Event`; what is no pointer into this schema leads nowhere. */
function pointerIn(reference: string): string {
  if (!reference.startsWith("#")) return reference;
  try {
    return decodeURIComponent(reference.slice(1));
  } catch {
    return reference;
  }
}

/** `max_items` -> `maxItems` */
function camel(word: string): string {
  return word.replace(/(?<=[a-z])_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function typesIn(value: unknown, place: Place): TypeName[] | undefined {
  const names: unknown[] = Array.isArray(value) ? value : [value];
  const types = names.map((name) => typeof name === "string" ? name.toLowerCase() : "")
    .filter((name) => name !== "type_unspecified");
  if (!types.every(isTypeName)) {
    throw new SchemaFault(place, `must be one of ${TYPES.join(", ")}, or a list of them`);
  }
  return types.length > 0 ? types : undefined;
}

function isTypeName(name: string): name is TypeName {
  return (TYPES as readonly string[]).includes(name);
}

/** Number, or its text: so Google's clients write 64 bits. */
function numberIn(value: unknown, place: Place): number {
  const read = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof read !== "number" || !Number.isFinite(read)) throw new SchemaFault(place, "must be a number");
  return read;
}

/** A bound of its own; or, as it was until 2017 and is in OpenAPI 3.0, a word about the other one. */
function exclusive(
  node: SchemaNode,
  inclusive: "minimum" | "maximum",
  own: "exclusiveMinimum" | "exclusiveMaximum",
  value: unknown,
  place: Place,
): void {
  if (value === true) node[own] = node[inclusive];
  else if (value !== false) node[own] = numberIn(value, place);
}

function booleanIn(value: unknown, place: Place): boolean {
  if (typeof value !== "boolean") throw new SchemaFault(place, "must be true or false");
  return value;
}

function textIn(value: unknown, place: Place): string {
  if (typeof value !== "string") throw new SchemaFault(place, "must be a text");
  return value;
}

function objectIn(value: unknown, place: Place): Json {
  if (!isObject(value)) throw new SchemaFault(place, "must be an object");
  return value;
}
