import { isOfFormat } from "./format.ts";
import { canonical, type SchemaNode, type TypeName } from "./schema_node.ts";

/*
 * Why not a library: none counts its steps. The packages there are (@cfworker/json-schema, which this replaces, ajv) follow
 * references through alternatives for as long as it takes, and a caller who writes both the schema and, through the model,
 * the value can make it take minutes; ajv also compiles to code, which the hosted runtime does not allow.
 */

/**
 * Steps of one check; a step is one keyword checked against a value. An answer of 100,000 characters against a schema of
 * some hundred properties takes some ten thousand.
 */
export const MAX_STEPS = 1_000_000;

/** How deep a check may go, values and references together: each level takes some of the stack. */
const MAX_CHECK_DEPTH = 500;

/** Characters that are checked in one step where each is checked once. */
const CHARS_A_STEP = 32;

/** Names that are looked up in one step. */
const NAMES_A_STEP = 4;

/** What it takes to write a value down so that it can be compared. */
const CANONICAL_STEPS = 3;

/** Instructions of a regular expression, times characters, that make a step. */
const PATTERN_WORK_A_STEP = 4;

export type Checked =
  & {
    /** Counted, so that a test need not measure time. */
    steps: number;
  }
  & (
    | { outcome: "fits" }
    /** `fault`: the place in the value and what is wrong there. */
    | { outcome: "broken"; fault: string }
    /** More steps than allowed. */
    | { outcome: "given_up" }
  );

/** Checks a value against a schema, in a bounded number of steps whatever both are. */
export function checkValue(schema: SchemaNode, value: unknown, maxSteps = MAX_STEPS): Checked {
  const check = new Check(maxSteps);
  try {
    const fault = check.faultOf(schema, value, null, 0);
    const steps = Math.ceil(check.steps);
    return fault === null ? { outcome: "fits", steps } : { outcome: "broken", fault: wordsOf(fault), steps };
  } catch (thrown) {
    if (!(thrown instanceof GivenUp)) throw thrown;
    return { outcome: "given_up", steps: Math.ceil(check.steps) };
  }
}

class GivenUp extends Error {}

/** A place in a value; null: the whole. */
type At = { up: At; step: string | number; depth: number } | null;

interface Fault {
  at: At;
  /** Formatted only where they are reported: most faults are of alternatives that did not match. */
  problem: () => string;
}

class Check {
  steps = 0;
  readonly #maxSteps: number;

  constructor(maxSteps: number) {
    this.#maxSteps = maxSteps;
  }

  #spend(steps: number): void {
    this.steps += steps;
    if (this.steps > this.#maxSteps) throw new GivenUp();
  }

  /** The first thing that is wrong; null: nothing. */
  faultOf(node: SchemaNode, value: unknown, at: At, depth: number): Fault | null {
    this.#spend(1);
    if (depth > MAX_CHECK_DEPTH) throw new GivenUp();
    if (node.never) return { at, problem: () => "is not allowed" };
    if (value === null && node.nullable) return null;
    const type = typeOf(value);
    const wanted = node.type;
    if (wanted !== undefined && !wanted.some((one) => isOfType(one, type, value))) {
      return { at, problem: () => `must be ${wanted.join(" or ")}, not ${type}` };
    }
    return this.#ofValues(node, value, at) ??
      this.#ofKind(node, value, at, depth) ??
      this.#ofOthers(node, value, at, depth);
  }

  #ofKind(node: SchemaNode, value: unknown, at: At, depth: number): Fault | null {
    if (typeof value === "string") return this.#ofText(node, value, at);
    if (typeof value === "number") return ofNumber(node, value, at);
    if (Array.isArray(value)) return this.#ofList(node, value, at, depth);
    if (typeof value === "object" && value !== null) {
      return this.#ofObject(node, value as Record<string, unknown>, at, depth);
    }
    return null;
  }

  #ofValues(node: SchemaNode, value: unknown, at: At): Fault | null {
    if (node.enum === undefined && node.const === undefined) return null;
    const form = this.#canonical(value);
    if (node.const !== undefined && form !== node.const) {
      const wanted = node.const;
      return { at, problem: () => `must be ${short(wanted)}` };
    }
    if (node.enum === undefined || node.enum.has(form)) return null;
    // Gemini writes the values of an enum as texts, those of numbers too.
    if (typeof value === "number" && node.type !== undefined && node.enum.has(JSON.stringify(form))) {
      return null;
    }
    const allowed = node.enum;
    return { at, problem: () => `must be one of ${short([...allowed].join(", "))}` };
  }

  #ofText(node: SchemaNode, text: string, at: At): Fault | null {
    const { minLength, maxLength, pattern, format } = node;
    if (minLength !== undefined || maxLength !== undefined) {
      this.#spend(text.length / CHARS_A_STEP);
      const length = lengthOf(text);
      if (minLength !== undefined && length < minLength) {
        return { at, problem: () => `must have at least ${minLength} characters` };
      }
      if (maxLength !== undefined && length > maxLength) {
        return { at, problem: () => `must have at most ${maxLength} characters` };
      }
    }
    if (format !== undefined) {
      this.#spend(text.length / CHARS_A_STEP);
      if (!isOfFormat(format, text)) return { at, problem: () => `is not of the format ${format}` };
    }
    if (pattern !== undefined) {
      this.#spend((text.length + 1) * pattern.size / PATTERN_WORK_A_STEP);
      if (!pattern.matches(text)) return { at, problem: () => "does not match its pattern" };
    }
    return null;
  }

  #ofList(node: SchemaNode, list: unknown[], at: At, depth: number): Fault | null {
    const { minItems, maxItems, prefixItems = [], items, contains, uniqueItems } = node;
    if (minItems !== undefined && list.length < minItems) {
      return { at, problem: () => `must have at least ${minItems} items` };
    }
    if (maxItems !== undefined && list.length > maxItems) {
      return { at, problem: () => `must have at most ${maxItems} items` };
    }
    if (uniqueItems) {
      const seen = new Set<string>();
      for (const [index, item] of list.entries()) {
        const form = this.#canonical(item);
        if (seen.has(form)) return { at: below(at, index), problem: () => "is there twice" };
        seen.add(form);
      }
    }
    for (const [index, item] of list.entries()) {
      const inner = prefixItems[index] ?? items;
      if (inner === undefined) break;
      const fault = this.faultOf(inner, item, below(at, index), depth + 1);
      if (fault !== null) return fault;
    }
    if (contains === undefined) return null;
    const { minContains = 1, maxContains = Infinity } = node;
    const found = list.filter((item) => this.faultOf(contains, item, null, depth + 1) === null).length;
    if (found >= minContains && found <= maxContains) return null;
    return { at, problem: () => `holds ${found} items of those that it must contain` };
  }

  #ofObject(node: SchemaNode, object: Record<string, unknown>, at: At, depth: number): Fault | null {
    const { required = [], dependentRequired, minProperties, maxProperties } = node;
    this.#spend(required.length / NAMES_A_STEP);
    const missing = (names: readonly string[]) => names.find((name) => !Object.hasOwn(object, name));
    const lacking = missing(required);
    if (lacking !== undefined) return { at, problem: () => `lacks ${JSON.stringify(lacking)}` };
    for (const [name, others] of dependentRequired ?? []) {
      this.#spend(1 + others.length / NAMES_A_STEP);
      const other = Object.hasOwn(object, name) ? missing(others) : undefined;
      if (other !== undefined) {
        return { at, problem: () => `lacks ${JSON.stringify(other)}, which ${JSON.stringify(name)} needs` };
      }
    }
    const names = Object.keys(object);
    this.#spend(names.length / NAMES_A_STEP);
    if (minProperties !== undefined && names.length < minProperties) {
      return { at, problem: () => `must have at least ${minProperties} fields` };
    }
    if (maxProperties !== undefined && names.length > maxProperties) {
      return { at, problem: () => `must have at most ${maxProperties} fields` };
    }
    for (const name of names) {
      const fault = this.#ofField(node, name, object[name], at, depth + 1);
      if (fault !== null) return fault;
    }
    return null;
  }

  #ofField(node: SchemaNode, name: string, value: unknown, at: At, depth: number): Fault | null {
    this.#spend(1);
    const { propertyNames, properties, patternProperties = [], additionalProperties } = node;
    const place = below(at, name);
    if (propertyNames !== undefined) {
      const fault = this.faultOf(propertyNames, name, place, depth);
      if (fault !== null) return { at: place, problem: () => `has a name that ${fault.problem()}` };
    }
    const own = properties?.get(name);
    let known = own !== undefined;
    let fault = own === undefined ? null : this.faultOf(own, value, place, depth);
    for (const [pattern, inner] of patternProperties) {
      this.#spend((name.length + 1) * pattern.size / PATTERN_WORK_A_STEP);
      if (!pattern.matches(name)) continue;
      known = true;
      fault ??= this.faultOf(inner, value, place, depth);
    }
    if (fault !== null || known || additionalProperties === undefined) return fault;
    return this.faultOf(additionalProperties, value, place, depth);
  }

  /** The schemas that look at the same value. */
  #ofOthers(node: SchemaNode, value: unknown, at: At, depth: number): Fault | null {
    const faultOf = (inner: SchemaNode) => this.faultOf(inner, value, at, depth + 1);
    if (node.ref !== undefined) {
      const fault = faultOf(node.ref);
      if (fault !== null) return fault;
    }
    for (const inner of node.allOf ?? []) {
      const fault = faultOf(inner);
      if (fault !== null) return fault;
    }
    if (node.anyOf !== undefined) {
      const fault = anyOf(node.anyOf, faultOf, at);
      if (fault !== null) return fault;
    }
    if (node.oneOf !== undefined) {
      const fitting: SchemaNode[] = [];
      const fault = anyOf(
        node.oneOf,
        (inner) => {
          const fault = faultOf(inner);
          if (fault === null) fitting.push(inner);
          return fault;
        },
        at,
        true,
      );
      if (fitting.length > 1) {
        return {
          at,
          problem: () => `fits ${fitting.length} alternatives, and must fit one`,
        };
      }
      if (fault !== null) return fault;
    }
    if (node.not !== undefined && faultOf(node.not) === null) {
      return {
        at,
        problem: () => "is what it must not be",
      };
    }
    if (node.if !== undefined) {
      const branch = faultOf(node.if) === null ? node.then : node.else;
      if (branch !== undefined) return faultOf(branch);
    }
    return null;
  }

  #canonical(value: unknown): string {
    return canonical(value, (depth, chars) => {
      this.#spend(CANONICAL_STEPS + chars / CHARS_A_STEP);
      if (depth > MAX_CHECK_DEPTH) throw new GivenUp();
    });
  }
}

/** Null if one matches; else the fault of the one that came furthest, as it is probably the one that was meant. */
function anyOf(
  alternatives: SchemaNode[],
  faultOf: (inner: SchemaNode) => Fault | null,
  at: At,
  all = false,
): Fault | null {
  let furthest: Fault | null = null;
  let fits = alternatives.length === 0;
  for (const inner of alternatives) {
    const fault = faultOf(inner);
    if (fault === null) {
      if (!all) return null;
      fits = true;
    } else if (furthest === null || depthOf(fault.at) > depthOf(furthest.at)) furthest = fault;
  }
  if (fits || furthest === null) return null;
  if (alternatives.length === 1 || depthOf(furthest.at) > depthOf(at)) return furthest;
  const { problem } = furthest;
  return {
    at,
    problem: () => `fits none of ${alternatives.length} alternatives; by the first it ${problem()}`,
  };
}

function ofNumber(node: SchemaNode, value: number, at: At): Fault | null {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = node;
  if (minimum !== undefined && value < minimum) return { at, problem: () => `must be at least ${minimum}` };
  if (maximum !== undefined && value > maximum) return { at, problem: () => `must be at most ${maximum}` };
  if (exclusiveMinimum !== undefined && value <= exclusiveMinimum) {
    return { at, problem: () => `must be above ${exclusiveMinimum}` };
  }
  if (exclusiveMaximum !== undefined && value >= exclusiveMaximum) {
    return { at, problem: () => `must be below ${exclusiveMaximum}` };
  }
  if (multipleOf !== undefined && !isMultiple(value, multipleOf)) {
    return { at, problem: () => `must be a multiple of ${multipleOf}` };
  }
  return null;
}

/** 0.3 is a multiple of 0.1 for people, and not quite in binary. */
function isMultiple(value: number, of: number): boolean {
  const quotient = value / of;
  return Math.abs(quotient - Math.round(quotient)) <= 1e-9 * Math.max(1, Math.abs(quotient));
}

function typeOf(value: unknown): Exclude<TypeName, "integer"> {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return typeof value as "string" | "number" | "boolean" | "object";
}

function isOfType(wanted: TypeName, type: TypeName, value: unknown): boolean {
  return wanted === type || (wanted === "integer" && Number.isInteger(value));
}

/** In characters as JSON Schema counts them: code points. */
function lengthOf(text: string): number {
  let pairs = 0;
  for (let at = 0; at < text.length; at++) if (text.codePointAt(at)! > 0xffff) pairs++, at++;
  return text.length - pairs;
}

function below(up: At, step: string | number): At {
  return { up, step, depth: depthOf(up) + 1 };
}

function depthOf(at: At): number {
  return at?.depth ?? 0;
}

function wordsOf({ at, problem }: Fault): string {
  if (at === null) return `the whole: ${problem()}`;
  const steps: (string | number)[] = [];
  for (let place: At = at; place !== null; place = place.up) steps.unshift(place.step);
  return `#/${steps.join("/")}: ${problem()}`;
}

function short(text: string): string {
  return text.length <= 200 ? text : `${text.slice(0, 200)}…`;
}
