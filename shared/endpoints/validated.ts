import * as z from "zod";
import { ZodArray } from "zod";
import * as core from "zod/v4/core";
import { bytesOf, jsonbBytes } from "../runtime/byte_size.ts";
import type { IgnoredFields } from "./ignored_fields.ts";
import { type Fault, fieldName, invalidRequest, MAX_FAULTS } from "../contract/invalid_request.ts";

export { type Fault, invalidRequest, MAX_FAULTS };

/**
 * A body that matches its schema.
 * @param ignored takes the names of fields that `knownFields` does not know; null: they are refused
 * @throws GatewayError `invalid_request`, naming each field that does not
 */
export function validated<Shape extends z.ZodType>(
  shape: Shape,
  body: unknown,
  ignored: IgnoredFields | null = null,
): z.output<Shape> {
  // Like `safeParse`, but with few issues: a body of a hundred kilobytes may have tens of thousands, and formatting
  // them all takes a second in which nobody else is served.
  const context = { async: false as const, ...(ignored !== null && { ignored }) };
  const parsed = shape._zod.run({ value: body, issues: [] }, context);
  if (parsed instanceof Promise) throw new core.$ZodAsyncError();
  if (parsed.issues.length === 0) return parsed.value as z.output<Shape>;
  const worded = parsed.issues.slice(0, MAX_FAULTS).map((issue) =>
    core.util.finalizeIssue(issue, context, core.config())
  );
  throw invalidRequest(worded.flatMap(faultsOf), parsed.issues.length);
}

function faultsOf(issue: core.$ZodIssue): Fault[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.slice(0, MAX_FAULTS).map((key) => ({
      field: fieldName([...issue.path, key]),
      problem: "this endpoint knows no such field",
    }));
  }
  return [{ field: fieldName(issue.path), problem: lowerFirst(issue.message) }];
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/**
 * A list that is not checked beyond the faults that are reported: 12,000 empty objects take a tenth of a second of the
 * processor otherwise, in 36 kB.
 */
const List = core.$constructor("EveList", (list: z.ZodArray, def: core.$ZodArrayDef) => {
  ZodArray.init(list, def);
  list._zod.parse = (payload, context) => {
    const items = payload.value as unknown;
    if (!Array.isArray(items)) {
      payload.issues.push({ expected: "array", code: "invalid_type", input: items, inst: list });
      return payload;
    }
    const values: unknown[] = payload.value = new Array(items.length);
    for (let i = 0; i < items.length && payload.issues.length < MAX_FAULTS; i++) {
      const item = def.element._zod.run({ value: items[i], issues: [] }, context);
      if (item instanceof Promise) throw new core.$ZodAsyncError();
      payload.issues.push(...core.util.prefixIssues(i, item.issues));
      values[i] = item.value;
    }
    return payload;
  };
});

/** `z.array`, for lists of which a client may send many. */
export function listOf<Item extends z.ZodType>(
  item: Item,
  params?: { error: string },
): z.ZodArray<Item> {
  return new List({ type: "array", element: item, ...core.util.normalizeParams(params) }) as z.ZodArray<
    Item
  >;
}

/** A text of at most so many bytes in UTF-8, as a table bounds it with `octet_length`. */
export const textOfBytes = (most: number, least = 0) =>
  // No text has fewer bytes than units: what is far too long is not measured.
  z.string().min(least).max(most).refine((text) => bytesOf(text) <= most, `must have at most ${most} bytes`);

/** Any JSON of at most so many bytes, as a table bounds it with `octet_length(column::text)`. */
export const jsonOfAtMost = <Shape extends z.ZodType>(most: number, shape: Shape) =>
  shape.refine((value) => jsonbBytes(value) <= most, `must have at most ${most} bytes as JSON`);
