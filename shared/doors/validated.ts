import { z } from "zod";
import { type Fault, fieldName, invalidRequest, MAX_FAULTS } from "../contract/invalid_request.ts";

export { type Fault, invalidRequest };

/**
 * A body that matches its schema.
 * @throws GatewayError `invalid_request`, naming each field that does not
 */
export function validated<Shape extends z.ZodType>(shape: Shape, body: unknown): z.output<Shape> {
  // As `safeParse`, but for the issues: a body of a hundred kilobytes may have tens of thousands, and to word them all
  // takes a second in which nobody else is served.
  const context = { async: false as const };
  const parsed = shape._zod.run({ value: body, issues: [] }, context);
  if (parsed instanceof Promise) throw new z.core.$ZodAsyncError();
  if (parsed.issues.length === 0) return parsed.value as z.output<Shape>;
  const worded = parsed.issues.slice(0, MAX_FAULTS).map((issue) =>
    z.core.util.finalizeIssue(issue, context, z.core.config())
  );
  throw invalidRequest(worded.flatMap(faultsOf), parsed.issues.length);
}

function faultsOf(issue: z.core.$ZodIssue): Fault[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({
      field: fieldName([...issue.path, key]),
      problem: "this door knows no such field",
    }));
  }
  return [{ field: fieldName(issue.path), problem: lowerFirst(issue.message) }];
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
